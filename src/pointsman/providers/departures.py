"""What a host takes otherwise than the API it speaks has it: requests that hold such a thing are written anew."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pointsman.canonical.halves import Upstream
from pointsman.providers import openai_chat
from pointsman.providers.hosts import Host

CHAT_PATH: Final = "chat_path"  # where an operator's host has its chat completions
CACHE_MARKS: Final = "cache_marks"  # the quirk that an operator may know better, as a connection's option


class Departures(msgspec.Struct, frozen=True, kw_only=True):
    """Whole members, and JSON texts inside of them. Hosts that take everything have none."""

    members: frozenset[str] = frozenset()
    marks: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.members or self.marks)

    def concern(self, fields: Mapping[str, msgspec.Raw], body: bytes) -> bool:
        """True when a request, whole and by its members, has to be written anew for this host."""
        if not self.members.isdisjoint(fields):
            return True
        for mark in self.marks:  # noqa: SIM110 - a generator costs more than the search
            if mark in body:
                return True
        return False


NO_DEPARTURES: Final = Departures()


def quirks_of(host: Host, options: Mapping[str, str]) -> dict[str, Any]:
    """The host's quirks, with what a connection's ``options`` say of them."""
    quirks = host.quirk_map()
    if CACHE_MARKS in options:
        quirks[CACHE_MARKS] = options[CACHE_MARKS] == "true"
    if CHAT_PATH in options:
        quirks[CHAT_PATH] = options[CHAT_PATH]
    return quirks


def departures_of(host: Host, quirks: Mapping[str, Any]) -> Departures:
    """Those of a host with ``quirks`` from OpenAI's chat API; none where it speaks another."""
    if host.format != openai_chat.WIRE:
        return NO_DEPARTURES
    upstream = Upstream(model="", quirks=quirks)
    return Departures(members=openai_chat.departures(upstream), marks=openai_chat.marks(upstream))
