"""When, for what and with which combos a key may be used: conditions beside the models and connections it may have.

Only keys that have any pay for it (`Key.restricted`).
"""

import datetime
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pointsman.errors import GatewayError, Kind
from pointsman.identity.keys import Key
from pointsman.routing.targets import Connection, Target

_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_MEMBERS: Final = frozenset(("enabled", "from", "until", "days", "tz"))


def check_conditions(key: Key, operation: str, combo: str | None, now_us: int) -> None:
    """Raises GatewayError(PERMISSION_DENIED) when a key may not be used now, for this, or with this combo."""
    settings = key.settings
    schedule = settings.get("accessSchedule")
    if schedule and not is_open(schedule, now_us):
        hours = f"{schedule['from']} to {schedule['until']} ({schedule['tz']})"
        raise GatewayError(Kind.PERMISSION_DENIED, f"This API key may be used from {hours} on its days only")
    endpoints = settings.get("allowedEndpoints")
    if endpoints and operation not in endpoints:
        raise GatewayError(Kind.PERMISSION_DENIED, f'Endpoint "{operation}" is not allowed for this API key')
    combos = settings.get("allowedCombos")
    if combos and combo is not None and combo not in combos:
        raise GatewayError(Kind.PERMISSION_DENIED, f'Combo "{combo[:100]}" is not allowed for this API key')


def check_target(key: Key, target: Target, operation: str, now_us: int) -> None:
    """As `check_conditions`, and whether the key may use the target: for calls that no plan is made for."""
    if not key.restricted:
        return
    check_conditions(key, operation, None, now_us)
    names = (target.id, target.model, target.facts.slug or "")
    patterns = key.allowed_models
    if patterns and not any(fnmatchcase(name, pattern) for name in names for pattern in patterns):
        raise GatewayError(Kind.PERMISSION_DENIED, f'Model "{target.model[:100]}" is not allowed for this API key')
    check_connection(key, target.connection)


def check_connection(key: Key, connection: Connection) -> None:
    """Raises GatewayError(PERMISSION_DENIED) when a key may not use a connection."""
    allowed = {name.lower() for name in key.allowed_connections}
    if allowed and allowed.isdisjoint((connection.id.lower(), connection.vendor.lower())):
        raise GatewayError(Kind.PERMISSION_DENIED, f'Connection "{connection.id}" is not allowed for this API key')


def is_open(schedule: Mapping[str, Any], now_us: int) -> bool:
    """Whether a schedule lets anybody in now. Hours over midnight belong to the day on which they begin."""
    if not schedule["enabled"]:
        return True
    now = datetime.datetime.fromtimestamp(now_us / 1e6, _zone(schedule["tz"]))
    minute, start, end = now.hour * 60 + now.minute, _minutes(schedule["from"]), _minutes(schedule["until"])
    today = now.isoweekday() % 7  # Sunday is 0
    days = schedule["days"]
    if start < end:
        return today in days and start <= minute < end
    return (today in days and minute >= start) or ((today - 1) % 7 in days and minute < end)


def read_schedule(value: Any) -> dict[str, Any] | None:
    """``{enabled, from, until, days, tz}`` or null. Raises ValueError that says what is wrong."""
    if value is None:
        return None
    if not isinstance(value, dict) or not value.keys() <= _MEMBERS:
        raise ValueError("must have enabled, from, until, days and tz, or be null")
    found = {"enabled": True, "days": list(range(7)), "tz": "UTC", **value}
    if not isinstance(found["enabled"], bool):
        raise ValueError("enabled must be true or false")
    for name in ("from", "until"):
        if not isinstance(found.get(name), str) or _CLOCK.fullmatch(found[name]) is None:
            raise ValueError(f"{name} must be a time like 09:30")
    days = found["days"]
    if not isinstance(days, list) or not all(type(day) is int and 0 <= day <= 6 for day in days) or len(days) > 7:
        raise ValueError("days must be numbers from 0, which is Sunday, to 6")
    try:
        _zone(found["tz"])
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise ValueError("tz must be the name of a time zone, such as Europe/Berlin") from None
    return found


@lru_cache(64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _minutes(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])
