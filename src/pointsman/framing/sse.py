"""Server-sent events: an incremental splitter and an encoder.

Source: WHATWG HTML, "Server-sent events", 9.2.6: lines end with LF, CR or CRLF, a blank line ends an event, a line that
begins with a colon is a comment, several data lines are joined with LF, a byte order mark at the start is skipped.
"""

from typing import Final

import msgspec

from pointsman.errors import GatewayError, Kind

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One event: its name (``message`` when it gave none) and its data."""

    data: bytes
    name: str = "message"


class SseSplitter:
    """Bytes in any pieces to whole events. An event that the end of the stream cuts off is never given out."""

    __slots__ = ("_limit", "_rest", "_searched", "_started")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._rest = b""
        self._searched = 0  # how far the rest holds no end of an event
        self._started = False
        self._limit = max_event_bytes

    @property
    def pending(self) -> bool:
        """True when bytes of an unfinished event wait, other than blank lines and comments."""
        return any(line and not line.startswith(b":") for line in _lines(self._rest))

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that ``data`` completes. Raises GatewayError(UPSTREAM_ERROR) at an event without measure."""
        rest = self._rest + data if self._rest else data
        if not self._started:
            if len(rest) < len(_BOM) and _BOM.startswith(rest):
                self._rest = rest
                return []
            self._started = True
            rest = rest.removeprefix(_BOM)
        if b"\r" in rest:
            return self._feed_with_returns(rest)
        end = rest.rfind(b"\n\n")
        if end < 0:
            self._keep(rest)
            return []
        self._keep(rest[end + 2 :])
        return [event for block in rest[:end].split(b"\n\n") if (event := _event(block.split(b"\n"))) is not None]

    def _feed_with_returns(self, rest: bytes) -> list[ServerSentEvent]:
        """The slow way, for CR and CRLF. A CR at the very end may be half of a CRLF: it waits for the next byte."""
        tail = b""
        if rest.endswith(b"\r"):
            rest, tail = rest[:-1], b"\r"
        plain = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = plain.rfind(b"\n\n")
        if end < 0:
            self._keep(plain + tail)
            return []
        self._keep(plain[end + 2 :] + tail)
        return [event for block in plain[:end].split(b"\n\n") if (event := _event(block.split(b"\n"))) is not None]

    def _keep(self, rest: bytes) -> None:
        if len(rest) > self._limit:
            raise GatewayError(Kind.UPSTREAM_ERROR, f"the upstream sent an event of more than {self._limit} bytes")
        self._rest = rest


def encode_event(data: bytes, name: str | None = None) -> bytes:
    """One event on the wire. ``data`` is JSON in one line."""
    if name is None:
        return b"data: %b\n\n" % data
    return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), data)


def _lines(data: bytes) -> list[bytes]:
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")


def _event(lines: list[bytes]) -> ServerSentEvent | None:
    """The event of these lines; None when they hold no data."""
    data: list[bytes] = []
    name = "message"
    for line in lines:
        if line.startswith(b"data:"):
            data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(b"event:"):
            name = (line[7:] if line[6:7] == b" " else line[6:]).decode("utf-8", "replace")
        elif line == b"data":
            data.append(b"")
    if not data:
        return None
    return ServerSentEvent(data[0] if len(data) == 1 else b"\n".join(data), name)


def end_of_events(data: bytes) -> int:
    """Where the last whole event of ``data`` ends; 0 when there is none. Lines may end with LF or CRLF."""
    return max(data.rfind(b"\n\n") + 2, data.rfind(b"\n\r\n") + 3, 2) if b"\n\n" in data or b"\n\r\n" in data else 0
