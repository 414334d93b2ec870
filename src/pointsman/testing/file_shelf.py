"""The files that a simulated upstream keeps, whatever its API."""

import hmac
import time
from itertools import count
from typing import Any

import msgspec


class KeptFile(msgspec.Struct, kw_only=True):
    """One file. ``told`` is the API's own object of it; ``created`` in seconds since 1970."""

    id: str
    content: bytes
    media_type: str
    told: dict[str, Any]
    created: float
    downloadable: bool = True
    purpose: str = ""


class FileShelf:
    """Files by id, in the order of their making. Ids are ``prefix`` and ``length`` of the letters."""

    def __init__(self, prefix: str, alphabet: str, length: int) -> None:
        self._prefix = prefix
        self._alphabet = alphabet
        self._length = length
        self._numbers = count(1)
        self._seed = b"%d" % time.time_ns()
        self.files: dict[str, KeptFile] = {}

    def new_id(self) -> str:
        """An id that was never given before."""
        digest = hmac.digest(self._seed, b"%d" % next(self._numbers), "sha256")
        letters = self._alphabet
        return self._prefix + "".join(letters[byte % len(letters)] for byte in digest[: self._length])

    def put(self, file: KeptFile) -> None:
        """Keep a file."""
        self.files[file.id] = file

    def newest_first(self) -> list[KeptFile]:
        """All files."""
        return list(reversed(self.files.values()))
