"""Other names for models, made while running: checked and stored, beside those of the configuration file."""

from typing import Final

import msgspec

from pointsman.clock import Clock
from pointsman.settings import ModelSettings
from pointsman.storage.aliases import AliasRepository, AliasRow
from pointsman.storage.configuration import TooManyError

MAX_ALIASES: Final = 2000
MAX_NAME: Final = 200
MAX_TARGET: Final = 500
MOST_STARS: Final = 4


class AliasRefusedError(Exception):
    """An alias can't be so. ``field`` is ``name`` or ``target``; the message says why."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class AliasNotFoundError(Exception):
    """There is no such alias."""


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """A name, what it stands for, and whether the configuration file has it (``file``) or the ``database``."""

    name: str
    target: str
    source: str


class AliasService:
    """Sets, lists and removes aliases. Those of the file win over stored ones of the same name."""

    def __init__(self, repository: AliasRepository, clock: Clock, declared: list[ModelSettings]) -> None:
        self._repository = repository
        self._clock = clock
        self._file = {row.name: row.target for row in declared}

    async def list_all(self) -> list[Alias]:
        """Every alias, those of the file first. Raises StorageError."""
        stored = [row for row in await self._repository.list() if row.name not in self._file]
        return [
            *(Alias(name=name, target=target, source="file") for name, target in self._file.items()),
            *(Alias(name=row.name, target=row.target, source="database") for row in stored),
        ]

    async def put(self, name: str, target: str) -> int:
        """Have ``name`` stand for ``target``, whatever it stood for; gives the configuration revision.

        Raises AliasRefusedError, StorageError.
        """
        _check("name", name, MAX_NAME)
        _check("target", target, MAX_TARGET)
        if name.count("*") > MOST_STARS:
            raise AliasRefusedError("name", f"must have at most {MOST_STARS} stars")
        if "*" in target and "*" not in name:
            raise AliasRefusedError("target", "has a '*', and the name has none")
        if name == target:
            raise AliasRefusedError("target", "is the name itself")
        if name in self._file:
            raise AliasRefusedError("name", "is declared in the configuration file; change it there")
        row = AliasRow(name=name, target=target, created_at=self._clock.now_us())
        try:
            return await self._repository.put(row, MAX_ALIASES)
        except TooManyError:
            raise AliasRefusedError("name", f"there are {MAX_ALIASES} aliases already") from None

    async def remove(self, name: str) -> int:
        """Delete an alias; gives the configuration revision. Raises AliasNotFoundError, AliasRefusedError."""
        if name in self._file:
            raise AliasRefusedError("name", "is declared in the configuration file; change it there")
        revision = await self._repository.remove(name)
        if revision is None:
            raise AliasNotFoundError(name)
        return revision


def _check(field: str, text: str, most: int) -> None:
    if not 0 < len(text) <= most or not text.isprintable() or text != text.strip():
        raise AliasRefusedError(field, f"must be 1 to {most} printable characters without space around them")
