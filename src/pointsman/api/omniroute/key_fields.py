"""What can be said of an OmniRoute key: each field's reader, and what of the key it changes.

A limit that this gateway does not hold is refused and not stored: nobody shall believe in one that binds nothing.
"""

import datetime
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from pointsman.api.omniroute.management import invalid
from pointsman.canonical.limits import Limits
from pointsman.errors import ConfigError
from pointsman.identity.keys import KeyChange
from pointsman.policy.budget_service import nano_of
from pointsman.policy.key_conditions import read_schedule
from pointsman.storage.keys import KeyRow

MAX_NAME: Final = 100  # of a key's name
MAX_TEXT: Final = 200  # of a model's, a combo's, an endpoint's name
MINUTE, DAY = 60, 86_400  # the windows in which requests are counted
Reader = Callable[[Any], Any]
# Both mean the key's columns and not its settings.
_COLUMNS: Final = frozenset(("name", "label", "expiresAt", "scopes"))
BUDGETS: Final = ("dailyUsageLimitUsd", "weeklyUsageLimitUsd")


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _off(value: Any) -> bool:
    """What isn't here can't be turned on."""
    if value is not False:
        raise ValueError("must be false: there is no such thing here")
    return value


def _names(most: int) -> Reader:
    def read(value: Any) -> list[str]:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError(f"must be a list of at most {most} texts")
        if not all(isinstance(one, str) and 1 <= len(one) <= MAX_TEXT and one.isprintable() for one in value):
            raise ValueError(f"must be a list of texts of 1 to {MAX_TEXT} printable characters")
        return list(dict.fromkeys(value))

    return read


def _whole(most: int, *, empty: bool = False) -> Reader:
    def read(value: Any) -> int | None:
        if value is None and empty:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise ValueError(f"must be a whole number from 0 to {most}{' or null' if empty else ''}")
        return value

    return read


def _one_of(*words: str) -> Reader:
    def read(value: Any) -> str:
        if value not in words or not isinstance(value, str):
            raise ValueError(f"must be one of {', '.join(words)}")
        return value

    return read


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME or not value.isprintable() or not value.strip():
        raise ValueError(f"must be 1 to {MAX_NAME} printable characters")
    return value


def _instant(value: Any) -> int | None:
    """ISO 8601 with an offset, in us; without one it is UTC."""
    if value is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(value)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
        found = round(moment.timestamp() * 1e6)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("must be an instant in ISO 8601, or null") from None
    if found <= 0:
        raise ValueError("must be later than 1970")
    return found


def _rates(value: Any) -> list[dict[str, int]] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > 50:
        raise ValueError("must be a list of at most 50 limits, or null")
    found = []
    for one in value:
        limit, window = (one.get("limit"), one.get("window")) if isinstance(one, dict) else (None, None)
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 10**9:
            raise ValueError("every limit needs 'limit', a whole number from 1")
        if window not in (MINUTE, DAY) or isinstance(window, bool):
            raise ValueError(f"every limit needs 'window', which is {MINUTE} or {DAY} seconds here")
        found.append({"limit": limit, "window": int(window)})
    return found


def _dollars(value: Any) -> float | int | None:
    if value is None:
        return None
    try:
        right = not isinstance(value, str) and 0 <= nano_of(value) <= 2**59
    except ConfigError as error:
        raise ValueError(str(error).partition(": ")[2]) from None
    if not right:
        raise ValueError("must be an amount in dollars from 0, or null")
    found: float | int = value
    return found


READERS: Final[Mapping[str, Reader]] = MappingProxyType(
    {
        "name": _name,
        "label": _name,
        "isActive": _flag,
        "isBanned": _flag,
        "modelAccessMode": _one_of("all", "restricted"),
        "allowedModels": _names(1000),
        "allowedCombos": _names(500),
        "allowedConnections": _names(100),
        "preferredConnections": _names(100),
        "allowedEndpoints": _names(20),
        "noLog": _flag,
        "autoResolve": _flag,
        "throttleDelayMs": _whole(300_000),
        "expiresAt": _instant,
        "maxSessions": _whole(10_000),
        "accessSchedule": read_schedule,
        "rateLimits": _rates,
        "maxRequestsPerMinute": _whole(10**9, empty=True),
        "maxRequestsPerDay": _whole(10**9, empty=True),
        "scopes": _names(32),
        "streamDefaultMode": _one_of("legacy", "json"),
        "cacheDefaultMode": _one_of("legacy", "bypass"),
        "compressionEnabled": _off,
        "disableNonPublicModels": _flag,
        "allowUsageCommand": _off,
        "chaosModeEnabled": _off,
        "usageLimitEnabled": _flag,
        "dailyUsageLimitUsd": _dollars,
        "weeklyUsageLimitUsd": _dollars,
    }
)


def read_fields(members: Mapping[str, Any]) -> dict[str, Any]:
    """The known members, as they are kept. Raises ManagementError that names every field at fault."""
    faults: list[tuple[str, str]] = []
    found: dict[str, Any] = {}
    for name, value in members.items():
        reader = READERS.get(name)
        if reader is None:
            continue
        try:
            found[name] = reader(value)
        except ValueError as error:
            faults.append((name, str(error)))
    if faults:
        raise invalid(faults)
    return found


def changed(fields: Mapping[str, Any], before: Mapping[str, Any] | None) -> KeyChange:
    """What ``fields`` make of a key with the settings ``before``. Raises ManagementError for what contradicts."""
    settings = {**(before or {}), **{name: value for name, value in fields.items() if name not in _COLUMNS}}
    if "allowedModels" in fields and "modelAccessMode" not in fields:
        settings["modelAccessMode"] = "restricted" if settings["allowedModels"] else "all"
    models, mode = settings.get("allowedModels"), settings.get("modelAccessMode")
    if mode is not None and (mode == "restricted") != bool(models):
        raise invalid([("modelAccessMode", "must be 'restricted' with allowedModels, and 'all' without")])
    allowed, preferred = settings.get("allowedConnections"), settings.get("preferredConnections")
    if allowed and preferred and not set(preferred) <= set(allowed):
        raise invalid([("preferredConnections", "must be among allowedConnections")])
    kept: dict[str, Any] = {"settings": settings, "limits": _limits(settings)}
    kept["disabled"] = settings.get("isActive") is False or settings.get("isBanned") is True
    if "name" in fields or "label" in fields:
        kept["name"] = fields.get("name", fields.get("label"))
    if "expiresAt" in fields:
        kept["expires_at"] = fields["expiresAt"]
    if "scopes" in fields:
        kept["scopes"] = tuple(fields["scopes"])
    return KeyChange(**kept)


def _limits(settings: Mapping[str, Any]) -> Limits:
    """The tightest of those for a minute and of those for a day; 0 is none."""
    rates = settings.get("rateLimits") or ()

    def least(window: int, own: str) -> int | None:
        found = [one["limit"] for one in rates if one["window"] == window]
        return min((*found, *filter(None, (settings.get(own),))), default=None)

    return Limits(
        requests_per_minute=least(MINUTE, "maxRequestsPerMinute"), requests_per_day=least(DAY, "maxRequestsPerDay")
    )


def scopes_after(row: KeyRow, change: KeyChange) -> tuple[str, ...]:
    """The scopes that a key has once it is changed."""
    return row.scopes if change.scopes is msgspec.UNSET else change.scopes
