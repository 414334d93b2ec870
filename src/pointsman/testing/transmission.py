"""From a reply to the bytes on the wire and their times: what a fault of the wire can cut, delay or break."""

import time
from collections.abc import Iterator
from email.utils import formatdate
from enum import StrEnum
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import msgspec

from .behaviour import Behaviour
from .reply import Event, EventKind, Reply, Request

LAST_CHUNK: Final = b"0\r\n\r\n"

# A part of the body and how many seconds after the part before it is due.
Part = tuple[float, bytes]

# 529 is Anthropic's own.
_REASONS: Final = {**{int(status): status.phrase for status in HTTPStatus}, 529: "Overloaded"}
_AT_ONCE: Final = frozenset({EventKind.USAGE, EventKind.DONE, EventKind.ERROR})


class Ending(StrEnum):
    """What happens to the connection after the last byte."""

    KEEP = "keep"  # stays open for the next request
    CLOSE = "close"  # FIN after what was written
    RESET = "reset"  # RST
    HANG = "hang"  # stays open, and nothing more is ever said


class Transmission(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as timed bytes: the head, the framed body in parts, the ending.

    ``faulty`` marks an ending that a fault brought about. A streamed body has one part per event and one for the last
    chunk; a buffered body has two halves, so that "in the middle" means something there too.
    """

    status: int
    head: bytes
    head_after_s: float
    parts: Iterator[Part]
    streamed: bool
    chunked: bool
    ending: Ending
    faulty: bool = False


def transmit(reply: Reply, request: Request, behaviour: Behaviour) -> Transmission:
    """Frame ``reply`` for ``request``'s HTTP version: streams are chunked, or end with the connection on 1.0."""
    streamed = reply.events is not None
    modern = request.http_version != "1.0"
    chunked = modern and (streamed or reply.force_chunked)
    keep = request.keep_alive and (modern or not streamed)
    if reply.events is not None:
        parts = _streamed(iter(reply.events), behaviour, chunked)
    else:
        parts = _buffered(reply.body, chunked)
    return Transmission(
        status=reply.status,
        head=_head(reply, chunked, keep),
        head_after_s=0.0 if streamed else behaviour.first_token_ms / 1000,
        parts=parts,
        streamed=streamed,
        chunked=chunked,
        ending=Ending.KEEP if keep else Ending.CLOSE,
    )


def chunk(data: bytes) -> bytes:
    """``data`` as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _head(reply: Reply, chunked: bool, keep: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Unknown')}",
        f"date: {_date(int(time.time()))}",
        f"content-type: {reply.content_type}",
    ]
    if chunked:
        lines.append("transfer-encoding: chunked")
    elif reply.events is None:
        lines.append(f"content-length: {len(reply.body)}")
    lines.append(f"connection: {'keep-alive' if keep else 'close'}")
    lines += [f"{name}: {value}" for name, value in reply.headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _streamed(events: Iterator[Event], behaviour: Behaviour, chunked: bool) -> Iterator[Part]:
    pace_s = behaviour.pace_ms / 1000
    wait_s = behaviour.first_token_ms / 1000
    for event in events:
        yield 0.0 if event.kind in _AT_ONCE else wait_s, chunk(event.data) if chunked else event.data
        wait_s = pace_s
    if chunked:
        yield 0.0, LAST_CHUNK


def _buffered(body: bytes, chunked: bool) -> Iterator[Part]:
    middle = len(body) // 2
    for half in filter(None, (body[:middle], body[middle:])):
        yield 0.0, chunk(half) if chunked else half
    if chunked:
        yield 0.0, LAST_CHUNK
