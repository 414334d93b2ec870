"""Which conversations clients name in a header, and where their last call went. In memory of one process, bounded."""

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pointsman.canonical.record import RequestRecord
from pointsman.errors import GatewayError, Kind
from pointsman.routing.wants import Wants

# OmniRoute's, in its order. Names are in lower case.
SESSION_HEADERS: Final = (b"x-session-id", b"x_session_id", b"x-omniroute-session", b"session-id")
PREFIX: Final = "ext:"
MAX_NAME: Final = 64
MAX_DIGEST: Final = 16
MAX_SESSIONS: Final = 10_000
IDLE_US: Final = 1800 * 1_000_000
_ODD: Final = re.compile(r"[^!-~]")


class Session(msgspec.Struct, kw_only=True):
    """One conversation of a workspace. Instants in us."""

    id: str
    workspace_id: str
    key_id: str
    created_at: int
    last_active: int
    requests: int = 0
    connection_id: str | None = None


def session_named(headers: Mapping[bytes, bytes]) -> str | None:
    """The id that the client gives its conversation, with ``ext:`` before it; None when it gives none."""
    for name in SESSION_HEADERS:
        value = headers.get(name)
        if value:
            return PREFIX + _ODD.sub("?", value[:MAX_NAME].decode("latin-1"))
    return None


def session_planned(wants: Wants) -> str | None:
    """The id of a conversation whose headers name none, by what its plan knows of it; None: nothing."""
    if wants.session is not None:
        return PREFIX + _ODD.sub("?", wants.session[:MAX_NAME])
    return _ODD.sub("?", wants.conversation[:MAX_DIGEST]) if wants.conversation is not None else None


def session_line(name: str) -> bytes:
    """The header line that tells a client the id of its conversation."""
    return b"X-OmniRoute-Session-Id: " + name.encode("ascii", "replace") + b"\r\n"


class SessionTable:
    """The sessions that were active in the last half hour, the longest silent first. ``most``: so many a key may have
    at a time; 0: any number.
    """

    def __init__(self, most: int = 0) -> None:
        self.most = most
        self._sessions: dict[tuple[str, str], Session] = {}
        self._active: dict[str, OrderedDict[str, int]] = {}  # by key: when each was active last

    def allowed(self, settings: Mapping[str, Any]) -> int:
        """How many a key with these settings may have (its own ``maxSessions`` counts first); 0: any number."""
        own = settings.get("maxSessions")
        return own if isinstance(own, int) and own >= 0 else self.most

    def admit(self, name: str, key_id: str, now: int, most: int) -> None:
        """A call of a session begins at ``now`` (us, on a clock that never goes back).

        Raises GatewayError(RATE_LIMITED) when it is new and its key has enough.
        """
        active = self._active.get(key_id)
        if active is None:
            if len(self._active) >= MAX_SESSIONS:
                self._active.pop(next(iter(self._active)))
            active = self._active[key_id] = OrderedDict()
        while active and (oldest := next(iter(active.values()))) <= now - IDLE_US:
            active.popitem(last=False)
        if name not in active and len(active) >= most:
            raise GatewayError(
                Kind.RATE_LIMITED,
                f"SESSION_LIMIT_EXCEEDED: {len(active)} sessions of this key are active, and {most} are allowed",
                retry_after_seconds=max(1.0, (oldest + IDLE_US - now) / 1e6),
            )
        active[name] = now
        active.move_to_end(name)

    def count(self, name: str, record: RequestRecord, now: int) -> None:
        """Count a call of a session that has ended. Strangers have none."""
        if record.key_id is not None:
            self.note(name, record.workspace_id, record.key_id, record.connection_id, now)

    def note(self, name: str, workspace_id: str, key_id: str, connection_id: str | None, now: int) -> None:
        """A call of a session has ended at ``now`` (us, the time of day)."""
        place = (workspace_id, name)
        found = self._sessions.pop(place, None)
        if found is None:
            if len(self._sessions) >= MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            found = Session(id=name, workspace_id=workspace_id, key_id=key_id, created_at=now, last_active=now)
        found.last_active, found.requests, found.key_id = now, found.requests + 1, key_id
        found.connection_id = connection_id or found.connection_id
        self._sessions[place] = found

    def active(self, now: int) -> list[Session]:
        """Those that are not idle, the last active first."""
        while self._sessions:
            oldest = next(iter(self._sessions))
            if self._sessions[oldest].last_active > now - IDLE_US:
                break
            del self._sessions[oldest]
        return list(reversed(self._sessions.values()))
