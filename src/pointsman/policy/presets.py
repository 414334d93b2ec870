"""Presets made while running: checked and stored."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.routing.presets import CHAT, PARAMETERS, Preset, Presets
from pointsman.routing.wishes import read_wishes
from pointsman.storage.configuration import TooManyError
from pointsman.storage.presets import PresetRepository, PresetRow

MAX_PRESETS: Final = 1000
MAX_MODELS: Final = 32
MAX_NAME: Final = 256
MAX_SYSTEM: Final = 100_000  # characters
MAX_TOOLS: Final = 128
MEMBERS: Final = frozenset(Preset.__struct_fields__)
_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


class PresetService:
    """Puts, lists and removes presets."""

    def __init__(self, repository: PresetRepository, clock: Clock) -> None:
        self._repository = repository
        self._clock = clock

    async def list(self) -> tuple[PresetRow, ...]:
        """Every preset, by slug. Raises StorageError."""
        return await self._repository.list()

    async def find(self, slug: str) -> PresetRow:
        """One preset. Raises GatewayError(NOT_FOUND)."""
        for row in await self._repository.list():
            if row.slug == slug:
                return row
        raise _missing(slug)

    async def table(self) -> Presets:
        """What requests are filled in with, by slug. Raises StorageError."""
        found = {}
        for row in await self._repository.list():
            try:
                found[row.slug] = msgspec.convert(row.document, Preset)
            except msgspec.ValidationError:
                continue  # another version's
        return found

    async def put(self, slug: str, body: Mapping[str, Any]) -> tuple[PresetRow, int]:
        """Store a preset; gives it and the configuration revision.

        Raises GatewayError(INVALID_REQUEST) that names the field at fault.
        """
        if not _SLUG.fullmatch(slug):
            raise _invalid("slug", "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit first and last")
        preset = checked(body)
        rows = {row.slug: row for row in await self._repository.list()}
        now = self._clock.now_us()
        created = rows[slug].created_at if slug in rows else now
        document = msgspec.to_builtins(preset)
        row = PresetRow(slug=slug, document=document, created_at=created, updated_at=now)
        try:
            return row, await self._repository.put(row, MAX_PRESETS)
        except TooManyError:
            raise _invalid("slug", f"there are {MAX_PRESETS} presets already") from None

    async def remove(self, slug: str) -> int:
        """Delete a preset; gives the configuration revision. Raises GatewayError(NOT_FOUND)."""
        revision = await self._repository.remove(slug)
        if revision is None:
            raise _missing(slug)
        return revision


def checked(body: Mapping[str, Any]) -> Preset:
    """What a body says of a preset. Raises GatewayError(INVALID_REQUEST) that names the field at fault."""
    unknown = next((name for name in body if name not in MEMBERS), None)
    if unknown is not None:
        raise _invalid(unknown[:100], "is not known here")
    try:
        preset = msgspec.convert(dict(body), Preset)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        raise _invalid(place.rstrip("`") or "body", f"is wrong: {message}") from None
    names = [name for name in (preset.model, *preset.models) if name is not None]
    if len(names) > MAX_MODELS or not all(0 < len(name) <= MAX_NAME and "@preset/" not in name for name in names):
        raise _invalid("models", f"must be at most {MAX_MODELS} names of models of 1 to {MAX_NAME} characters")
    if preset.system is not None and len(preset.system) > MAX_SYSTEM:
        raise _invalid("system", f"must have at most {MAX_SYSTEM} characters")
    if len(preset.tools) > MAX_TOOLS:
        raise _invalid("tools", f"must be at most {MAX_TOOLS}")
    odd = next((name for name in preset.parameters if name not in PARAMETERS), None)
    if odd is not None:
        raise _invalid(f"parameters.{odd[:100]}", "is not known here")
    read_wishes(msgspec.json.encode({"model": "m", "provider": preset.provider}), CHAT)  # checks the preferences
    return preset


def _invalid(field: str, message: str) -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, f"'{field}' {message}", param=field)


def _missing(slug: str) -> GatewayError:
    return GatewayError(Kind.NOT_FOUND, f"there is no preset '{slug[:64]}'", param="slug")
