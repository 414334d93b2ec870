"""Passwords as argon2id hashes (RFC 9106), in threads and not many at once: each takes memory and tens of milliseconds.

Cost: 19 MiB, two passes, one lane, the second of OWASP's equal choices (Password Storage Cheat Sheet). The hash tells
its own cost, so that a later choice is taken over when a person next signs in.
"""

import asyncio
import secrets
from typing import Final

from pointsman.errors import ConfigError
from pointsman.keyring import Secret

MEMORY_KIB: Final = 19 * 1024
PASSES: Final = 2
LANES: Final = 1
AT_ONCE: Final = 2
MIN_LENGTH: Final = 4  # what OmniRoute's clients expect to be allowed; the lock-out is what guards short ones
MAX_LENGTH: Final = 200


class Passwords:
    """Hashes and checks."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._nobodys: str | None = None

    async def hash(self, password: Secret) -> str:
        """The hash, as a PHC string. Raises ConfigError for a length that is not allowed."""
        if not MIN_LENGTH <= len(password.reveal()) <= MAX_LENGTH:
            raise ConfigError(f"a password must have {MIN_LENGTH} to {MAX_LENGTH} characters")
        async with self._turns:
            return await asyncio.to_thread(_hash, password)

    async def check(self, stored: str | None, password: Secret) -> bool:
        """Whether it is the password of ``stored``; without a hash as much is computed, and the answer is no."""
        if len(password.reveal()) > MAX_LENGTH:
            return False
        async with self._turns:
            if stored is not None:
                return await asyncio.to_thread(_is_right, stored, password)
            if self._nobodys is None:
                self._nobodys = await asyncio.to_thread(_hash, Secret(secrets.token_hex(16)))
            await asyncio.to_thread(_is_right, self._nobodys, password)
            return False

    def is_outdated(self, stored: str) -> bool:
        """Whether a new hash of the same password would cost something else."""
        from argon2 import PasswordHasher

        return PasswordHasher(PASSES, MEMORY_KIB, LANES).check_needs_rehash(stored)


def _hash(password: Secret) -> str:
    from argon2 import PasswordHasher

    return PasswordHasher(PASSES, MEMORY_KIB, LANES).hash(_bytes(password))


def _is_right(stored: str, password: Secret) -> bool:
    from argon2 import PasswordHasher
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return PasswordHasher(PASSES, MEMORY_KIB, LANES).verify(stored, _bytes(password))
    except (VerificationError, InvalidHashError):
        return False


def _bytes(password: Secret) -> bytes:
    return password.reveal().encode("utf-8", "surrogatepass")
