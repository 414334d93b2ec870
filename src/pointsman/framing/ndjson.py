"""Newline-delimited JSON: an incremental splitter. Lines end with LF or CRLF; blank lines mean nothing."""

from typing import Final

from pointsman.errors import GatewayError, Kind

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class NdjsonSplitter:
    """Bytes in any pieces to whole lines, without their ends."""

    __slots__ = ("_held", "_limit", "_pieces", "_started")

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._pieces: list[bytes] = []  # the beginning of a line, not yet whole
        self._held = 0
        self._started = False
        self._limit = max_line_bytes

    @property
    def pending(self) -> bool:
        """True when bytes of an unfinished line wait, other than white space."""
        return bool(b"".join(self._pieces).strip())

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes. Raises GatewayError(UPSTREAM_ERROR) at a line without measure."""
        cut = data.rfind(b"\n") + 1
        if cut == 0:
            self._keep(data)
            return []
        self._pieces.append(data[:cut])
        whole = b"".join(self._pieces)
        self._pieces = []
        self._held = 0
        if cut < len(data):
            self._keep(data[cut:])
        return self._lines(whole)

    def finish(self) -> list[bytes]:
        """The last line when the stream ended without its line feed; an empty list when there is none."""
        whole = b"".join(self._pieces)
        self._pieces = []
        self._held = 0
        return self._lines(whole)

    def _keep(self, data: bytes) -> None:
        self._held += len(data)
        if self._held > self._limit:
            raise GatewayError(Kind.UPSTREAM_ERROR, f"the upstream sent a line of more than {self._limit} bytes")
        if data:
            self._pieces.append(data)

    def _lines(self, whole: bytes) -> list[bytes]:
        if not self._started and whole:
            self._started = True
            whole = whole.removeprefix(_BOM)
        return [line for part in whole.split(b"\n") if (line := part.strip())]
