"""``/api/settings/ip-filter``: which addresses may call at all. Every field of a change is optional."""

from typing import Any, Final

from litestar import Response, get, put
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.management import invalid, read_object
from pointsman.api.omniroute.moments import instant, wait_ms
from pointsman.api.omniroute.resilience import Apply
from pointsman.clock import Clock
from pointsman.policy.ip_filter import (
    LONGEST_BAN_MS,
    MAX_ENTRIES,
    MAX_REASON,
    Ban,
    IpFilterService,
    IpRules,
    address_of,
    entry_of,
)

USUAL_BAN_MS: Final = 3_600_000
USUAL_REASON: Final = "Manual ban"
_LISTS: Final = ("blacklist", "whitelist")
_ADD: Final = {"addBlacklist": "blacklist", "addWhitelist": "whitelist"}
_REMOVE: Final = {"removeBlacklist": "blacklist", "removeWhitelist": "whitelist", "removeBan": "bans"}
_KNOWN: Final = frozenset(("enabled", "mode", "tempBan", *_LISTS, *_ADD, *_REMOVE))


class IpFilterViews:
    """The views."""

    def __init__(self, service: IpFilterService, clock: Clock, apply: Apply) -> None:
        self._service = service
        self._clock = clock
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/settings/ip-filter")
        async def show() -> Response[bytes]:
            return answer(self._shown(await self._service.rules()))

        @put("/api/settings/ip-filter")
        async def change(request: HttpRequest) -> Response[bytes]:
            asked = await read_object(request)
            changes, dropped = _read(asked, self._clock.now_us())
            try:
                rules, revision = await self._service.change(changes, dropped)
            except ValueError as error:
                raise invalid([("body", str(error))]) from None
            await self._apply(revision)
            return answer(self._shown(rules))

        return [show, change]

    def _shown(self, rules: IpRules) -> dict[str, Any]:
        now = self._clock.now_us()
        return {
            "enabled": rules.enabled,
            "mode": rules.mode,
            "blacklist": list(rules.blacklist),
            "whitelist": list(rules.whitelist),
            "tempBans": [
                {
                    "ip": ban.ip,
                    "until": instant(ban.until),
                    "reason": ban.reason,
                    "remainingMs": wait_ms(ban.until, now),
                }
                for ban in rules.bans
            ],
        }


def _read(asked: dict[str, Any], now: int) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """What is to be set and added, and what is to go. Raises ManagementError that names every field at fault."""
    faults = [(name, "is not known") for name in asked if name not in _KNOWN]
    changes: dict[str, Any] = {}
    added: dict[str, list[Any]] = {}
    dropped: dict[str, set[str]] = {}
    for name, value in asked.items():
        try:
            if name in ("enabled", "mode"):
                changes[name] = _plain(name, value)
            elif name in _LISTS:
                changes[name] = _entries(value)
            elif name in _ADD:
                added[_ADD[name]] = [_entry(value)]
            elif name in _REMOVE:
                dropped[_REMOVE[name]] = {_entry(value)}
            elif name == "tempBan":
                added["bans"] = [_ban(value, now)]
        except ValueError as error:
            faults.append((name, str(error)))
    if faults:
        raise invalid(faults)
    return {**changes, "added": added}, dropped


def _plain(name: str, value: Any) -> Any:
    if name == "enabled" and not isinstance(value, bool):
        raise ValueError("must be true or false")
    if name == "mode" and value not in _LISTS:
        raise ValueError("must be 'blacklist' or 'whitelist'")
    return value


def _entries(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        raise ValueError(f"must be a list of at most {MAX_ENTRIES} addresses")
    return tuple(dict.fromkeys(_entry(one) for one in value))


def _entry(value: Any) -> str:
    try:
        if isinstance(value, str) and len(value) <= 100:
            return entry_of(value)
    except ValueError:
        pass
    raise ValueError("must be an address, a network such as 10.0.0.0/8, or a beginning such as 10.0.*")


def _ban(value: Any, now: int) -> Ban:
    if not isinstance(value, dict) or not value.keys() <= {"ip", "durationMs", "reason"}:
        raise ValueError("must have ip, and may have durationMs and reason")
    ip, duration, reason = value.get("ip"), value.get("durationMs", USUAL_BAN_MS), value.get("reason", USUAL_REASON)
    address = address_of(ip) if isinstance(ip, str) else None
    if address is None:
        raise ValueError("ip must be an address")
    if isinstance(duration, bool) or not isinstance(duration, int) or not 1 <= duration <= LONGEST_BAN_MS:
        raise ValueError(f"durationMs must be a whole number from 1 to {LONGEST_BAN_MS}")
    if not isinstance(reason, str) or not 1 <= len(reason) <= MAX_REASON or not reason.isprintable():
        raise ValueError(f"reason must be 1 to {MAX_REASON} printable characters")
    return Ban(ip=str(address), until=now + duration * 1000, reason=reason)
