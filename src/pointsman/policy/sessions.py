"""Which conversations clients name in a header, and where their last call went. In memory of one process, bounded."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from pointsman.canonical.record import RequestRecord

# OmniRoute's, in its order. Names are in lower case.
SESSION_HEADERS: Final = (b"x-session-id", b"x_session_id", b"x-omniroute-session", b"session-id")
PREFIX: Final = "ext:"
MAX_NAME: Final = 64
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


class SessionTable:
    """The sessions that were active in the last half hour, the longest silent first."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str], Session] = {}

    def count(self, headers: Mapping[bytes, bytes], record: RequestRecord, now: int) -> None:
        """Count a call that has ended, when its client names a session. Strangers have none."""
        name = session_named(headers)
        if name is not None and record.key_id is not None:
            self.note(name, record.workspace_id, record.key_id, record.connection_id, now)

    def note(self, name: str, workspace_id: str, key_id: str, connection_id: str | None, now: int) -> None:
        """A call of a session has ended at ``now`` (us)."""
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
