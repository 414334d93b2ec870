"""The resilience settings in effect: those of the file, overlaid by what was changed while running."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pointsman.resilience import ResilienceSettings
from pointsman.storage.health import HealthRepository

MAX_CONNECTIONS: Final = 10_000


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored: changed settings, and by connection whether its learned limits are obeyed."""

    settings: dict[str, Any] = {}
    protection: dict[str, bool] = {}


class Resilience(msgspec.Struct, frozen=True, kw_only=True):
    """What is in effect."""

    settings: ResilienceSettings
    protection: Mapping[str, bool]


class ResilienceService:
    """Reads and changes them."""

    def __init__(self, repository: HealthRepository, declared: ResilienceSettings) -> None:
        self._repository = repository
        self._declared = declared

    async def current(self) -> Resilience:
        """What is in effect. Raises StorageError."""
        stored = msgspec.json.decode(await self._repository.overrides(), type=Overrides)
        return Resilience(settings=self._with(stored.settings), protection=stored.protection)

    async def patch(self, changes: Mapping[str, Any]) -> int:
        """Change settings, given as in the file; gives the new configuration revision.

        Raises msgspec.ValidationError that names the place of a wrong value or an unknown name.
        """

        def change(text: str) -> str:
            stored = msgspec.json.decode(text, type=Overrides)
            settings = _merged(stored.settings, changes)
            self._with(settings)
            return msgspec.json.encode(msgspec.structs.replace(stored, settings=settings)).decode()

        return await self._repository.change_overrides(change)

    async def protect(self, connection_id: str, enabled: bool) -> int:
        """Obey a connection's learned limits or don't; gives the new configuration revision."""

        def change(text: str) -> str:
            stored = msgspec.json.decode(text, type=Overrides)
            protection = {**stored.protection, connection_id: enabled}
            kept = dict(list(protection.items())[-MAX_CONNECTIONS:])
            return msgspec.json.encode(msgspec.structs.replace(stored, protection=kept)).decode()

        return await self._repository.change_overrides(change)

    def _with(self, changes: Mapping[str, Any]) -> ResilienceSettings:
        return msgspec.convert(_merged(msgspec.to_builtins(self._declared), changes), ResilienceSettings)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changes.items():
        before = merged.get(name)
        merged[name] = _merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged
