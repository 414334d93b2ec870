"""Heads of requests that came before: what a client sends letter by letter with each of its calls is parsed once.

A program's HTTP client repeats its head; only the digits of content-length differ. So a head is named by hashes of
all its other bytes, and one that came twice is known from then on: a request with it is served without the parser.
Whatever is not quite usual is never known, and goes the parser's way each time.

The target and the values of all but a few harmless fields are not kept: they are cut out of each request anew, so that
no credential stays in memory for longer than its request.
"""

import secrets
from typing import Final, NamedTuple

import httptools

MOST_HEADS: Final = 1024
MOST_BYTES: Final = 8 * 1024  # of one head
MOST_SEEN: Final = 4096  # heads that came once
# When there are as many as may be, every so many-th head that comes again takes the oldest one's place. To read one
# costs what knowing it saves of eight requests, so that more would cost those who call more than it gives them.
NEWCOMERS: Final = 16
MOST_DIGITS: Final = 15
_LENGTHS: Final = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")
END_OF_HEAD: Final = b"\r\n\r\n"
MANY_HEADS: Final = 128  # in one read
# Fields whose values are kept: they say what a program is, never who calls.
_KEPT: Final = frozenset(
    (
        b"accept", b"accept-encoding", b"accept-language", b"anthropic-beta", b"anthropic-version", b"connection",
        b"content-type", b"host", b"user-agent", b"x-stainless-arch", b"x-stainless-async", b"x-stainless-lang",
        b"x-stainless-os", b"x-stainless-package-version", b"x-stainless-read-timeout", b"x-stainless-retry-count",
        b"x-stainless-runtime", b"x-stainless-runtime-version", b"x-stainless-timeout",
    )
)  # fmt: skip
# Given twice, these would let two readers of one request disagree about who asks for what.
SINGULAR: Final = frozenset(
    (b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key", b"host", b"content-length", b"content-type")
)
# What changes how a request is framed or what it asks of its connection.
_UNUSUAL: Final = (b"content-encoding", b"expect", b"transfer-encoding", b"upgrade", b"trailer", b"te", b"keep-alive")


# The name of a head: of what is before the digits and behind them. Python's hash of bytes is SipHash with a key of the
# process, 64 bits each; the salt keeps it unpredictable where somebody has fixed that key (PYTHONHASHSEED).
Mark = tuple[int, int]


class KnownHead(NamedTuple):
    """A head without the digits of its content-length. Places count from the head's beginning; negative ones from the
    end of its last line.
    """

    method: bytes
    target: tuple[int, int]
    kept: dict[bytes, bytes]
    cut: tuple[tuple[bytes, int, int], ...]  # further fields: name, and where the value begins and ends


# Of a whole request as it arrived: where its head ends, the digits of its length, its name, and what is known of it.
Sighting = tuple[int, bytes, Mark, KnownHead | None]


def has_many(data: bytes) -> bool:
    """Whether a read may hold so many requests that each should not be kept apart."""
    return data.count(END_OF_HEAD) > MANY_HEADS


class KnownHeads:
    """The heads that one process knows, the oldest of which make room for new ones."""

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(16)
        self._heads: dict[Mark, KnownHead | None] = {}  # None: an unusual one
        self._seen: set[Mark] = set()
        self._newcomers = 0  # since one of them took a place

    def look(self, data: bytes) -> Sighting | None:
        """What is known of ``data``; None when it is not one whole request whose body has a length."""
        end = data.find(END_OF_HEAD, 0, MOST_BYTES)
        if end < 0:
            return None
        at = data.find(_LENGTHS[0], 0, end)
        if at < 0:
            at = data.find(_LENGTHS[1], 0, end)
            if at < 0:
                return None
        start = at + len(_LENGTHS[0])
        stop = data.find(b"\r", start)
        digits = data[start:stop]
        if not digits.isdigit() or len(digits) > MOST_DIGITS or len(data) - end - len(END_OF_HEAD) != int(digits):
            return None
        mark = hash(self._salt + data[:start]), hash(self._salt + data[stop:end])
        return end, digits, mark, self._heads.get(mark)

    def learn(self, data: bytes, sighting: Sighting) -> None:
        """A request with this head was taken: know it, if it has come before and there is nothing unusual about it."""
        end, _, mark, _ = sighting
        if mark not in self._seen:
            if len(self._seen) >= MOST_SEEN:
                self._seen.clear()
            self._seen.add(mark)
            return
        if mark in self._heads:
            return
        if len(self._heads) >= MOST_HEADS:
            self._newcomers += 1
            if self._newcomers < NEWCOMERS:
                return
            self._newcomers = 0
            del self._heads[next(iter(self._heads))]
        self._heads[mark] = _read(data[: end + len(END_OF_HEAD)])

    def __len__(self) -> int:
        return len(self._heads)


def headers_of(data: bytes, end: int, digits: bytes, known: KnownHead) -> dict[bytes, bytes]:
    """The header fields of a request whose head is known; ``end`` and ``digits`` as in its `Sighting`."""
    headers = known.kept.copy()
    headers[b"content-length"] = digits
    for name, start, stop in known.cut:
        headers[name] = data[start:stop] if start > 0 else data[end + start : end + stop]
    return headers


class _Fields:
    """What the parser tells of one head."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        """The target, possibly in parts."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field as it is spelled."""
        self.fields.append((name, value))


def _read(head: bytes) -> KnownHead | None:
    """A head that the parser of its connection has taken, in parts; None for an unusual one."""
    told = _Fields()
    parser = httptools.HttpRequestParser(told)
    try:
        parser.feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    if parser.get_http_version() != "1.1" or not parser.should_keep_alive() or parser.should_upgrade():
        return None
    names = [name.lower() for name, _ in told.fields]
    if len(set(names)) < len(names) or not told.url.startswith(b"/") or b"#" in told.url:
        return None
    if any(name in names for name in _UNUSUAL):
        return None
    at = head.find(told.url)
    lines, kept, cut = len(head) - len(END_OF_HEAD), {}, []
    length = names.index(b"content-length")
    place = head.find(b"\r\n")
    for number, (name, (spelled, value)) in enumerate(zip(names, told.fields, strict=True)):
        line = b"\r\n%b: %b\r\n" % (spelled, value)
        if not head.startswith(line, place):
            return None  # other blanks around the value
        stop = place + len(line) - 2
        if name in _KEPT:
            kept[name] = value
        elif number < length:
            cut.append((name, stop - len(value), stop))
        elif number > length:
            cut.append((name, stop - len(value) - lines, stop - lines))
        place = stop
    if place != lines:
        return None
    return KnownHead(parser.get_method(), (at, at + len(told.url)), kept, tuple(cut))
