"""The operator's words on models: those of the configuration file, and those that came by command or over the API.

What the file says of a model can be changed there alone. A word on a model by its exact name wins over a pattern.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import structlog

from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.fact_settings import FactSettings, check_fact
from pointsman.storage.model_words import ModelWordsRepository, WordsRow

MOST_MODELS: Final = 5000  # that words are stored on
PLACE: Final = "facts"
NAMES: Final = tuple(name for name in FactSettings.__struct_fields__ if name != "model")
LISTS: Final = ("inputs", "outputs", "parameters")
_decode: Final = msgspec.json.Decoder(FactSettings)
_encode: Final = msgspec.json.Encoder().encode
log = structlog.get_logger("pointsman.models")


class UnknownWordsError(ConfigError):
    """Nobody has said anything of that model by command or over the API."""


class WordsOfFileError(ConfigError):
    """The configuration file has words on that model, where alone they can be changed."""


class ModelWords:
    """Reads and changes them."""

    def __init__(self, repository: ModelWordsRepository, clock: Clock, declared: Iterable[FactSettings] = ()) -> None:
        self._repository = repository
        self._clock = clock
        self.declared = tuple(declared)

    async def rows(self) -> list[FactSettings]:
        """All words there are, those of the file last: of two on one model they win."""
        return [*filter(None, map(_read, await self._repository.page(MOST_MODELS))), *self.declared]

    async def page(self, limit: int, after: str = "") -> list[FactSettings]:
        """Stored words by model."""
        return [*filter(None, map(_read, await self._repository.page(limit, after)))]

    async def set(self, model: str, words: Mapping[str, Any], *, replace: bool = False) -> tuple[FactSettings, int]:
        """Say this of a model beside what was said of it, or instead; gives all of it and the new revision.

        Values are as in the file; text is taken for numbers and switches, too, and None takes a word back. Raises
        ConfigError that names the field at fault, WordsOfFileError.
        """
        self._refuse_declared(model)

        def make(before: str | None) -> str:
            known = msgspec.json.decode(before) if before is not None and not replace else {}
            found = {name: value for name, value in {**known, **words}.items() if value is not None}
            return _encode(_checked(model, found)).decode()

        changed = await self._repository.change(model, make, self._clock.now_us(), MOST_MODELS)
        if changed is None:
            raise ConfigError(f"{PLACE}: there are words on {MOST_MODELS} models already; remove some first")
        return _decode.decode(changed[0]), changed[1]

    async def unset(self, model: str) -> int:
        """Take back all that was said of a model; gives the new revision.

        Raises UnknownWordsError, WordsOfFileError.
        """
        self._refuse_declared(model)
        revision = await self._repository.remove(model)
        if revision is None:
            raise UnknownWordsError(f"nothing was said of '{model[:100]}'; pointsman models words shows what was")
        return revision

    def _refuse_declared(self, model: str) -> None:
        if any(row.model == model for row in self.declared):
            raise WordsOfFileError(
                f"{PLACE}.model: the configuration file has facts of '{model[:100]}'; change or remove them there"
            )


def _checked(model: str, words: Mapping[str, Any]) -> FactSettings:
    unknown = next((name for name in words if name not in FactSettings.__struct_fields__), None)
    if unknown is not None:
        raise ConfigError(f"{PLACE}.{unknown[:100]}: is none of {', '.join(NAMES)}")
    try:
        row = msgspec.convert({**words, "model": model}, FactSettings, strict=False)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise ConfigError(f"{PLACE}{where.removesuffix('`')}: {message}") from None
    check_fact(row, PLACE)
    if row == FactSettings(model=model):
        raise ConfigError(f"{PLACE}: says nothing of '{model[:100]}'")
    return row


def _read(row: WordsRow) -> FactSettings | None:
    try:
        return _decode.decode(row.words)
    except msgspec.DecodeError:
        log.warning("stored words on a model can't be read and are left out", model=row.model)
        return None
