"""The master key from which every purpose gets a key of its own.

Each purpose ("api-key-pepper", "connection-secret", ...) has its own key by HKDF-SHA-256 (RFC 5869), so that a value
sealed or hashed for one can't be used for another. Sealing is AES-256-GCM with a random 96-bit nonce and the owner's id
as associated data: a row copied onto another row does not open.

The master key can be changed (docs/secrets.md). Meanwhile two are known, and what is sealed says with which.
"""

import hmac
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pointsman.errors import ConfigError
from pointsman.secret import Secret as Secret

KEY_BYTES: Final = 32
KEY_FILE: Final = "secret.key"
NONCE_BYTES: Final = 12
MINIMUM_SECRET_LENGTH: Final = 32
ID_BYTES: Final = 8
# Purposes whose keys name things that are looked up again: digests of credentials, names of entries, marks. Their keys
# are those of the first master key for ever (docs/secrets.md says why that is safe). All others follow the current one.
LASTING: Final = frozenset(
    (
        "api-key-pepper",
        "audit-digest",
        "cached-answer-names",
        "connection-mark",
        "kept-answer-names",
        "machine-id",
        "omniroute-key-check",
        "opaque-state-names",
        "sign-in-source",
    )
)
AUDIT_PURPOSE: Final = "audit-seal"  # each generation's is kept: rows of the audit log are never sealed anew
_FORMAT: Final = b"\x02"  # then the master key's id
_FIRST_FORMAT: Final = b"\x01"  # of before master keys could be changed: which one it was, is to be tried


class MasterKey:
    """The installation's root secret (32 bytes), from which every other key derives.

    While it is being changed it stands for two: `adopt` says which are known and which one seals.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ConfigError("the master key must have 32 bytes")
        self.id = key_id_of(key)  # of the one that seals
        self._keys: Mapping[str, bytes] = {self.id: key}
        self._kept: Mapping[str, tuple[tuple[str, bytes], ...]] = {}
        self._sealers: dict[tuple[str, str], AESGCM] = {}

    def __repr__(self) -> str:
        return "MasterKey(****)"

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all master keys that are known."""
        return frozenset(self._keys)

    def raw(self, key_id: str) -> bytes:
        """One of the master keys itself, to be sealed with its successor."""
        return self._keys[key_id]

    @property
    def prefix(self) -> bytes:
        """How everything begins that is sealed now."""
        return _FORMAT + bytes.fromhex(self.id)

    def adopt(self, keys: Mapping[str, bytes], current: str, kept: Mapping[str, tuple[tuple[str, bytes], ...]]) -> None:
        """From now on ``keys`` (by id) open and ``current`` seals; ``kept``: of a purpose the keys of generations that
        are gone, the oldest first, each with the id of its master key.
        """
        self._keys, self.id, self._kept = dict(keys), current, dict(kept)
        self._sealers.clear()

    def derive(self, purpose: str) -> bytes:
        """32 bytes that belong to ``purpose`` alone; of the first master key when it is one of `LASTING`."""
        if purpose in LASTING and purpose in self._kept:
            return self._kept[purpose][0][1]
        return _derived(self._keys[self.id], purpose)

    def derive_of(self, key_id: str, purpose: str) -> bytes | None:
        """The key that ``purpose`` had under this master key; None when nobody knows it any more."""
        key = self._keys.get(key_id)
        if key is not None:
            return _derived(key, purpose)
        return next((kept for name, kept in self._kept.get(purpose, ()) if name == key_id), None)

    def accepted(self, purpose: str) -> tuple[bytes, ...]:
        """The keys of ``purpose`` under all master keys that are known, the current one's first."""
        others = [key for name, key in self._keys.items() if name != self.id]
        return tuple(_derived(key, purpose) for key in (self._keys[self.id], *others))

    def mark(self, purpose: str, text: str) -> str:
        """16 hex digits that tell ``text`` from other texts, and nothing about it without the master key."""
        return hmac.digest(self.derive(purpose), text.encode("utf-8", "surrogatepass"), "sha256").hex()[:16]

    def seal(self, purpose: str, owner: str, secret: Secret) -> bytes:
        """Encrypt ``secret`` for ``purpose`` and the row ``owner``: format, key's id, nonce, ciphertext with tag."""
        return self.seal_bytes(purpose, owner, secret.reveal().encode())

    def seal_bytes(self, purpose: str, owner: str, data: bytes) -> bytes:
        """As `seal`, for what is no text."""
        return self.seal_with(self.id, purpose, owner, data)

    def seal_with(self, key_id: str, purpose: str, owner: str, data: bytes) -> bytes:
        """As `seal_bytes` with another of the known master keys."""
        nonce, head = os.urandom(NONCE_BYTES), _FORMAT + bytes.fromhex(key_id)
        return head + nonce + self._sealer(key_id, purpose).encrypt(nonce, data, head + owner.encode())

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
        if sealed[:1] == _FIRST_FORMAT:
            tries = [(key_id, 1, owner.encode()) for key_id in (self.id, *(self._keys.keys() - {self.id}))]
        elif sealed[:1] == _FORMAT and sealed[1 : 1 + ID_BYTES].hex() in self._keys:
            place = 1 + ID_BYTES
            tries = [(sealed[1:place].hex(), place, sealed[:place] + owner.encode())]
        else:
            raise _unreadable(owner)
        for key_id, place, bound in tries:
            nonce, ciphertext = sealed[place : place + NONCE_BYTES], sealed[place + NONCE_BYTES :]
            try:
                return self._sealer(key_id, purpose).decrypt(nonce, ciphertext, bound)
            except (InvalidTag, ValueError):
                continue
        raise _unreadable(owner)

    def _sealer(self, key_id: str, purpose: str) -> AESGCM:
        sealer = self._sealers.get((key_id, purpose))
        if sealer is None:
            sealer = self._sealers[key_id, purpose] = AESGCM(_derived(self._keys[key_id], purpose))
        return sealer


def key_id_of(key: bytes) -> str:
    """16 hex digits that name a master key and tell nothing about it."""
    return _derived(key, "key-id")[:ID_BYTES].hex()


def _derived(key: bytes, purpose: str) -> bytes:
    info = b"pointsman/" + purpose.encode()
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


def _unreadable(owner: str) -> ConfigError:
    return ConfigError(
        f"the stored secret of '{owner}' can't be decrypted: it was sealed with another master key "
        "(POINTSMAN_SECRET_KEY or secret.key in the data directory), or it was changed"
    )


def load_master_key(data_dir: Path, configured: Secret | None) -> MasterKey:
    """The master key: from POINTSMAN_SECRET_KEY when set, else from ``secret.key`` in ``data_dir``, made at first use.

    A configured key is any text of 32 characters or more. Raises ConfigError when it is shorter or the file is broken.
    """
    return MasterKey(load_key(data_dir, configured))


def configured_key(secret: Secret, place: str = "POINTSMAN_SECRET_KEY") -> bytes:
    """The 32 bytes of a master key that an operator chose. Raises ConfigError that names ``place``."""
    text = secret.reveal()
    if len(text) < MINIMUM_SECRET_LENGTH:
        raise ConfigError(f"{place} must have 32 characters or more, e.g. from: openssl rand -hex 32")
    try:
        material = text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{place} is not valid UTF-8") from error
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=b"pointsman/master").derive(material)


def load_key(data_dir: Path, configured: Secret | None) -> bytes:
    """As `load_master_key`, the bytes alone."""
    if configured is not None:
        return configured_key(configured)
    path = data_dir / KEY_FILE
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        text = _create_key_file(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read the master key {path}: {type(error).__name__}") from error
    try:
        key = bytes.fromhex(text)
    except ValueError as error:
        raise ConfigError(f"the master key file {path} is damaged: restore it from a backup") from error
    if len(key) != KEY_BYTES:
        raise ConfigError(f"the master key file {path} is damaged: the master key must have 32 bytes")
    return key


def replace_key_file(data_dir: Path, key: bytes) -> None:
    """Put another key into the key file, all at once: whoever reads it has either. Raises ConfigError."""
    path = data_dir / KEY_FILE
    try:
        draft = _draft(path, key.hex())
        os.replace(draft, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(f"can't write the master key {path}: {error.strerror}") from error


def _create_key_file(path: Path) -> str:
    """Write a new key with owner-only access; when another process was first, take that one's. Raises ConfigError."""
    text = os.urandom(KEY_BYTES).hex()
    try:
        draft = _draft(path, text)
        try:
            os.link(draft, path)
        except FileExistsError:
            text = path.read_text(encoding="ascii").strip()
        finally:
            draft.unlink()
        _sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(f"can't write the master key {path}: {error.strerror}") from error
    return text


def _draft(path: Path, text: str) -> Path:
    """A file beside ``path`` with this line in it, safe on the disk, for its owner alone."""
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, text.encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return draft


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
