"""The master key from which every purpose gets a key of its own.

Each purpose ("api-key-pepper", "connection-secret", ...) has its own key by HKDF-SHA-256 (RFC 5869), so that a value
sealed or hashed for one can't be used for another. Sealing is AES-256-GCM with a random 96-bit nonce and the owner's id
as associated data: a row copied onto another row does not open.
"""

import hmac
import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pointsman.errors import ConfigError
from pointsman.secret import Secret as Secret

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
MINIMUM_SECRET_LENGTH: Final = 32
_FORMAT: Final = b"\x01"


class MasterKey:
    """The installation's one root secret (32 bytes); every other key derives from it."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ConfigError("the master key must have 32 bytes")
        self._key = key
        self._sealers: dict[str, AESGCM] = {}

    def __repr__(self) -> str:
        return "MasterKey(****)"

    def derive(self, purpose: str) -> bytes:
        """32 bytes that belong to ``purpose`` alone."""
        info = b"pointsman/" + purpose.encode()
        return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self._key)

    def mark(self, purpose: str, text: str) -> str:
        """16 hex digits that tell ``text`` from other texts, and nothing about it without the master key."""
        return hmac.digest(self.derive(purpose), text.encode(), "sha256").hex()[:16]

    def seal(self, purpose: str, owner: str, secret: Secret) -> bytes:
        """Encrypt ``secret`` for ``purpose`` and the row ``owner``: format byte, nonce, ciphertext with tag."""
        return self.seal_bytes(purpose, owner, secret.reveal().encode())

    def seal_bytes(self, purpose: str, owner: str, data: bytes) -> bytes:
        """As `seal`, for what is no text."""
        nonce = os.urandom(NONCE_BYTES)
        return _FORMAT + nonce + self._sealer(purpose).encrypt(nonce, data, owner.encode())

    def open(self, purpose: str, owner: str, sealed: bytes) -> Secret:
        """Decrypt what `seal` wrote.

        Raises ConfigError when the master key is another one, or the value was changed or moved between rows.
        """
        try:
            return Secret(self.open_bytes(purpose, owner, sealed).decode())
        except UnicodeDecodeError as error:
            raise _unreadable(owner) from error

    def open_bytes(self, purpose: str, owner: str, sealed: bytes) -> bytes:
        """Decrypt what `seal_bytes` wrote. Raises ConfigError as `open` does."""
        nonce, ciphertext = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            if sealed[:1] != _FORMAT:
                raise InvalidTag
            return self._sealer(purpose).decrypt(nonce, ciphertext, owner.encode())
        except (InvalidTag, ValueError) as error:
            raise _unreadable(owner) from error

    def _sealer(self, purpose: str) -> AESGCM:
        sealer = self._sealers.get(purpose)
        if sealer is None:
            sealer = self._sealers[purpose] = AESGCM(self.derive(purpose))
        return sealer


def _unreadable(owner: str) -> ConfigError:
    return ConfigError(
        f"the stored secret of '{owner}' can't be decrypted: it was sealed with another master key "
        "(POINTSMAN_SECRET_KEY or secret.key in the data directory), or it was changed"
    )


def load_master_key(data_dir: Path, configured: Secret | None) -> MasterKey:
    """The master key: from POINTSMAN_SECRET_KEY when set, else from ``secret.key`` in ``data_dir``, made at first use.

    A configured key is any text of 32 characters or more. Raises ConfigError when it is shorter or the file is broken.
    """
    if configured is not None:
        text = configured.reveal()
        if len(text) < MINIMUM_SECRET_LENGTH:
            raise ConfigError("POINTSMAN_SECRET_KEY must have 32 characters or more, e.g. from: openssl rand -hex 32")
        try:
            secret = text.encode()
        except UnicodeEncodeError as error:
            raise ConfigError("POINTSMAN_SECRET_KEY is not valid UTF-8") from error
        material = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=b"pointsman/master")
        return MasterKey(material.derive(secret))
    path = data_dir / "secret.key"
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        text = _create_key_file(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read the master key {path}: {type(error).__name__}") from error
    try:
        return MasterKey(bytes.fromhex(text))
    except ValueError as error:
        raise ConfigError(f"the master key file {path} is damaged: restore it from a backup") from error


def _create_key_file(path: Path) -> str:
    """Write a new key with owner-only access; when another process was first, take that one's. Raises ConfigError."""
    text = os.urandom(KEY_BYTES).hex()
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, text.encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(draft, path)
        except FileExistsError:
            text = path.read_text(encoding="ascii").strip()
        finally:
            draft.unlink()
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(f"can't write the master key {path}: {error.strerror}") from error
    return text
