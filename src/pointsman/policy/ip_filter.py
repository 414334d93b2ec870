"""Which addresses may call at all: lists of addresses and networks, and bans that end by themselves.

Stored in the settings of the installation's own account. This machine itself is never kept out.
"""

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, Literal

import msgspec

from pointsman.clock import Clock
from pointsman.storage.accounts import DEFAULT, AccountRepository

SETTING: Final = "ipFilter"
MAX_ENTRIES: Final = 1000  # of each list
MAX_REASON: Final = 200
LONGEST_BAN_MS: Final = 365 * 86_400_000
MAX_JUDGED: Final = 10_000  # addresses whose verdict is remembered
_WILDCARD: Final = re.compile(r"((?:[0-9]{1,3}\.){1,3})\*")
Network = IPv4Network | IPv6Network


class Ban(msgspec.Struct, frozen=True, kw_only=True):
    """An address that is kept out until ``until`` (us)."""

    ip: str
    until: int
    reason: str


class IpRules(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept: in ``whitelist`` mode only those listed may call, in ``blacklist`` mode all others may."""

    enabled: bool = False
    mode: Literal["blacklist", "whitelist"] = "blacklist"
    blacklist: tuple[str, ...] = ()
    whitelist: tuple[str, ...] = ()
    bans: tuple[Ban, ...] = ()


class IpFilter:
    """The rules of one configuration, for the request path."""

    def __init__(self, rules: IpRules) -> None:
        self._admits = rules.mode == "whitelist"
        listed = rules.whitelist if self._admits else rules.blacklist
        self._networks = tuple(network_of(entry) for entry in listed) if rules.enabled else ()
        self._enabled = rules.enabled
        self._bans = {ban.ip: ban.until for ban in rules.bans}
        self._judged: dict[str, bool] = {}

    def is_blocked(self, peer: str, now_us: int) -> bool:
        """Whether this address may not call now. Sockets without an address are this machine's own."""
        blocked = self._judged.get(peer)
        if blocked is None:
            if len(self._judged) >= MAX_JUDGED:
                self._judged.clear()
            blocked = self._judged[peer] = self._is_listed_out(peer)
        if blocked or not self._bans:
            return blocked
        address = address_of(peer)
        return address is not None and not address.is_loopback and self._bans.get(str(address), 0) > now_us

    def _is_listed_out(self, peer: str) -> bool:
        address = address_of(peer)
        if not self._enabled or address is None or address.is_loopback:
            return False
        listed = any(address in network for network in self._networks)
        return listed is not self._admits


class IpFilterService:
    """Keeps the rules."""

    def __init__(self, accounts: AccountRepository, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock

    async def rules(self) -> IpRules:
        """What is kept now, without bans that are over."""
        account = await self._accounts.find(DEFAULT)
        return self._read(account.settings if account is not None else {})

    async def filter(self) -> IpFilter | None:
        """A snapshot for the request path; None when everybody may call."""
        rules = await self.rules()
        return IpFilter(rules) if rules.enabled or rules.bans else None

    async def change(self, changes: Mapping[str, Any], dropped: Mapping[str, Iterable[str]]) -> tuple[IpRules, int]:
        """Give fields of `IpRules` new values, where lists and bans are added to; take ``dropped`` out of them.

        Fields that are to be replaced whole are in ``changes`` under their names; ``added`` has what is added to which.
        Gives the rules and the configuration's revision. Raises ValueError when a list becomes too long.
        """
        found: list[IpRules] = []

        def merged(settings: Mapping[str, Any]) -> dict[str, Any]:
            found.append(_merge(self._read(settings), changes, dropped))
            return {**settings, SETTING: msgspec.to_builtins(found[-1])}

        revision = await self._accounts.change_settings(DEFAULT, merged, self._clock.now_us())
        return found[-1], revision

    def _read(self, settings: Mapping[str, Any]) -> IpRules:
        kept = settings.get(SETTING)
        if kept is None:
            return IpRules()
        rules = msgspec.convert(kept, IpRules)
        now = self._clock.now_us()
        return msgspec.structs.replace(rules, bans=tuple(ban for ban in rules.bans if ban.until > now))


def _merge(rules: IpRules, changes: Mapping[str, Any], dropped: Mapping[str, Iterable[str]]) -> IpRules:
    values = {name: value for name, value in changes.items() if name != "added"}
    rules = msgspec.structs.replace(rules, **values)
    for name, entries in dict(changes.get("added", {})).items():
        more = {_key(one): one for one in (*getattr(rules, name), *entries)}
        rules = msgspec.structs.replace(rules, **{name: tuple(more.values())})
    for name, gone in dropped.items():
        left = tuple(one for one in getattr(rules, name) if _key(one) not in gone)
        rules = msgspec.structs.replace(rules, **{name: left})
    for name in ("blacklist", "whitelist", "bans"):
        if len(getattr(rules, name)) > MAX_ENTRIES:
            raise ValueError(f"{name} can have {MAX_ENTRIES} entries at most")
    return rules


def _key(entry: str | Ban) -> str:
    return entry.ip if isinstance(entry, Ban) else entry


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """An address; one of version 4 that is written as of version 6 (``::ffff:``) as what it is. None: it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def entry_of(text: str) -> str:
    """An entry as it is kept: an address, a network (``10.0.0.0/8``), or ``10.0.*``. Raises ValueError for others."""
    text = text.strip().removeprefix("::ffff:")
    if _WILDCARD.fullmatch(text) is None:
        address = address_of(text)
        if address is not None:
            return str(address)
    network = network_of(text)
    return text if "*" in text else str(network)


def network_of(entry: str) -> Network:
    """The network that an entry means. Raises ValueError."""
    found = _WILDCARD.fullmatch(entry)
    if found is None:
        return ip_network(entry, strict=False)
    parts = found[1].rstrip(".").split(".")
    return ip_network(f"{'.'.join([*parts, *['0'] * (4 - len(parts))])}/{8 * len(parts)}", strict=False)
