"""The journal: an append-only file per process that holds a line for every finished request.

A line is 8 hex digits of the CRC-32 of the JSON, a space, the JSON of a RequestRecord, a newline. It goes out with one
plain write, so it survives the death of the process (kill -9) from the moment `Journal.append` returns; it does not
survive a power cut within the seconds until the kernel writes it out.

A process writes to a segment of its own and holds an exclusive flock on it: a segment that can be locked is one that
nobody will ever append to. A flock belongs to an open file, not to a process, so the question has the same answer when
the writer asks it about its own segment. A segment gets its final name only after it is locked: no reader ever sees a
new one unlocked and takes it for finished.
"""

import fcntl
import os
import re
from pathlib import Path
from typing import Final, Literal
from zlib import crc32

import msgspec

from pointsman.canonical.record import RequestRecord
from pointsman.clock import Clock

SUFFIX: Final = ".journal"
DRAFT_SUFFIX: Final = ".draft"
MAX_LINE_BYTES: Final = 1024 * 1024
PREFIX_BYTES: Final = 9
TAG_BYTES: Final = 5
_CHUNK_BYTES: Final = 64 * 1024
_SEGMENT_NAME: Final = re.compile(r"\d+-\d+-[0-9a-f]{16}\.journal")
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(RequestRecord)


class JournalError(Exception):
    """A record could not be appended; nothing of it will be read. The message says why and names no content."""


class UnwritableRecordError(JournalError):
    """This record can never be written, however healthy the disk: it is too large or can't be encoded."""


class Journal:
    """The writing side; one object per process, used by one thread. Raises OSError when ``directory`` can't be used."""

    def __init__(self, directory: Path, clock: Clock, segment_bytes: int) -> None:
        self._directory = directory
        self._clock = clock
        self._segment_bytes = segment_bytes
        self.tag = os.urandom(TAG_BYTES).hex()  # of this process, in the names of all its segments
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open_segment()

    def _open_segment(self) -> None:
        """Begin a new file; on failure the old one stays in use."""
        name = f"{self._clock.now_us() // 1000:013d}-{os.getpid()}-{self.tag}{os.urandom(8 - TAG_BYTES).hex()}"
        draft, path = self._directory / (name + DRAFT_SUFFIX), self._directory / (name + SUFFIX)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(draft, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(draft, path)
        except OSError:
            os.close(descriptor)
            raise
        self.path = path
        self._descriptor = descriptor
        self._size = 0
        self._limit = self._segment_bytes
        self._torn = False

    def append(self, record: RequestRecord) -> bytes:
        """Write one record; gives its JSON, for whoever wants to show it too.

        Raises JournalError when the disk is full or failing, or the record can't be encoded. The journal stays usable:
        lines before and after are whole.
        """
        try:
            payload = _ENCODER.encode(record)
        except (ValueError, OverflowError, TypeError) as error:  # lone surrogates, numbers beyond 64 bits
            raise UnwritableRecordError(f"a request record can't be encoded: {type(error).__name__}") from error
        line = b"%08x %b\n" % (crc32(payload), payload)
        size = len(line)
        if self._size + size > self._limit or size > MAX_LINE_BYTES:
            self._prepare(size)
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            raise JournalError(f"can't write the request journal {self.path}: {error.strerror}") from error
        if written != size:
            self._finish(line, written)
        self._size += size
        return payload

    def _prepare(self, size: int) -> None:
        """What is seldom needed before a line: a new segment, because this one is full or ends in a torn piece."""
        if size > MAX_LINE_BYTES:
            raise UnwritableRecordError(f"a request record has more than {MAX_LINE_BYTES} bytes")
        if self._size == 0:
            return
        old = self._descriptor
        try:
            self._open_segment()
        except OSError:
            self._end_torn_piece()  # go on with the old segment and try again later
            self._limit = self._size + size + self._segment_bytes
        else:
            os.close(old)

    def _end_torn_piece(self) -> None:
        """Make a line of the piece; its checksum lets readers skip it."""
        if not self._torn:
            return
        try:
            os.write(self._descriptor, b"\n")
        except OSError as error:
            raise JournalError(f"can't write the request journal {self.path}: {error.strerror}") from error
        self._torn = False
        self._size += 1

    def _finish(self, line: bytes, written: int) -> None:
        """Write the rest of a line after a short write, or take its beginning back."""
        start = self._size
        try:
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError as error:
            try:
                os.ftruncate(self._descriptor, start)
            except OSError:
                self._torn = True
                self._size += written
                self._limit = 0  # the next append begins a new segment
            raise JournalError(f"can't write the request journal {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """End the segment; whoever projects may now finish it. Harmless when called twice. An empty one is removed."""
        if self._descriptor < 0:
            return
        if self._size == 0:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a segment that is no record: ``length`` bytes from ``offset``.

    torn: a last line without its end, of a writer that died; checksum: bytes changed; undecodable: bytes as written,
    but not a record that this program understands; too_long: no end of line where there must be one.
    """

    segment: str
    offset: int
    length: int
    reason: Literal["torn", "checksum", "undecodable", "too_long"]


class SegmentPart(msgspec.Struct, frozen=True, kw_only=True):
    """What was read from a segment: go on at ``position``; ``at_end``: there was nothing whole behind it."""

    records: list[RequestRecord]
    damages: list[Damage]
    position: int
    at_end: bool


def list_segments(directory: Path) -> list[str]:
    """The names of the segments in ``directory``, oldest first; none when there is no such directory."""
    try:
        return sorted(name for name in os.listdir(directory) if _SEGMENT_NAME.fullmatch(name))
    except FileNotFoundError:
        return []


def tag_of(name: str) -> str:
    """The tag of the process that wrote the segment of this name; see `Journal.tag`."""
    return name.rpartition("-")[2][: 2 * TAG_BYTES]


def is_live(path: Path) -> bool:
    """Whether some process, this one included, may still append to the segment. Raises FileNotFoundError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_segment(path: Path, position: int, limit: int, *, live: bool) -> SegmentPart:
    """Read up to ``limit`` lines from ``position``, which must be 0 or the position of an earlier part.

    ``live`` must have been asked before: if so, an unfinished last line is "not yet", else it is reported as torn. What
    is damaged is reported and skipped; a damaged byte costs at most the line it stands in and, when it was a
    newline, the next line. Raises OSError when the file can't be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = _read_lines(descriptor, position)
    finally:
        os.close(descriptor)
    part = _Part(path.name, position)
    start = 0
    while part.lines < limit:
        end = data.find(b"\n", start)
        if end < 0:
            break
        part.take(data[start:end], position + start)
        start = end + 1
    rest = len(data) - start
    if part.lines < limit and rest:
        if rest > MAX_LINE_BYTES:
            part.damage(position + start, rest, "too_long")
            start = len(data)
        elif not live and not part.lines:
            # A rest behind whole lines is looked at again from its own beginning, with all of the file in view.
            part.damage(position + start, rest, "torn")
            start = len(data)
    at_end = part.lines < limit and start == 0
    return SegmentPart(records=part.records, damages=part.damages, position=position + start, at_end=at_end)


class _Part:
    """Collects what lines give."""

    def __init__(self, segment: str, position: int) -> None:
        self.segment = segment
        self.position = position
        self.lines = 0
        self.records: list[RequestRecord] = []
        self.damages: list[Damage] = []

    def take(self, line: bytes, offset: int) -> None:
        """Judge one line without its newline."""
        self.lines += 1
        payload = line[PREFIX_BYTES:]
        if line[:PREFIX_BYTES] != b"%08x " % crc32(payload):
            self.damage(offset, len(line) + 1, "checksum")
            return
        try:
            self.records.append(_DECODER.decode(payload))
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.damage(offset, len(line) + 1, "undecodable")

    def damage(self, offset: int, length: int, reason: Literal["torn", "checksum", "undecodable", "too_long"]) -> None:
        """Note what can't be read."""
        self.damages.append(Damage(segment=self.segment, offset=offset, length=length, reason=reason))


def _read_lines(descriptor: int, position: int) -> bytes:
    """Bytes from ``position`` with at least one newline in them, unless the file or MAX_LINE_BYTES comes first."""
    data = os.pread(descriptor, _CHUNK_BYTES, position)
    while data and b"\n" not in data and len(data) <= MAX_LINE_BYTES:
        more = os.pread(descriptor, MAX_LINE_BYTES, position + len(data))
        if not more:
            break
        data += more
    return data
