"""The fault wall: everything that an upstream can do wrong, as one table of names.

A fault acts at one of four depths: on the behaviour, as a refusal in the API's own error shape, on the reply
(events, body, headers), or on the bytes and the connection.
"""

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from types import MappingProxyType
from typing import Final

import msgspec

from .behaviour import Behaviour
from .reply import Event, EventKind, Reply
from .transmission import Ending, Part, Transmission, chunk

OVERSIZED_HEADER_BYTES: Final = 200_000

_TERMINATORS: Final = frozenset({EventKind.FINISH, EventKind.USAGE, EventKind.DONE})
_HTML: Final = b"<!doctype html><html><head><title>Just a moment...</title></head><body>Checking</body></html>\n"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One way to fail. ``refusal``: the API answers with its own error of this name; the others change an answer."""

    name: str
    summary: str
    refusal: bool = False
    behave: Callable[[Behaviour], Behaviour] | None = None
    rewrite: Callable[[Reply, Behaviour], Reply] | None = None
    disturb: Callable[[Transmission, Behaviour], Transmission] | None = None


def _halved(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _malformed_json(reply: Reply, behaviour: Behaviour) -> Reply:
    def broken(events: Iterable[Event]) -> Iterator[Event]:
        for position, event in enumerate(events):
            if position == behaviour.after_events:
                line_feeds = event.data[len(event.data.rstrip(b"\r\n")) :]
                yield Event(event.kind, event.data[: len(event.data) * 2 // 3].rstrip() + line_feeds)
            else:
                yield event

    if reply.events is None:
        return msgspec.structs.replace(reply, body=_halved(reply.body))
    return msgspec.structs.replace(reply, events=broken(reply.events))


def _without_terminators(reply: Reply, behaviour: Behaviour) -> Reply:
    if reply.events is None:
        return msgspec.structs.replace(reply, body=_halved(reply.body), force_chunked=True)
    return msgspec.structs.replace(reply, events=(event for event in reply.events if event.kind not in _TERMINATORS))


def _without_done(reply: Reply, behaviour: Behaviour) -> Reply:
    if reply.events is None:
        return reply
    return msgspec.structs.replace(reply, events=(event for event in reply.events if event.kind is not EventKind.DONE))


def _error_event(reply: Reply, behaviour: Behaviour) -> Reply:
    def interrupted(events: Iterable[Event]) -> Iterator[Event]:
        yield from islice(events, behaviour.after_events)
        yield Event(EventKind.ERROR, reply.failure_event or b"data: %b\n\n" % reply.failure)

    if reply.events is None:
        return msgspec.structs.replace(reply, body=reply.failure)
    return msgspec.structs.replace(reply, events=interrupted(reply.events))


def _oversized_headers(reply: Reply, behaviour: Behaviour) -> Reply:
    return msgspec.structs.replace(reply, headers=(*reply.headers, ("x-oversized", "x" * OVERSIZED_HEADER_BYTES)))


def _gzip(reply: Reply, behaviour: Behaviour) -> Reply:
    def compressed(events: Iterable[Event]) -> Iterator[Event]:
        stream = zlib.compressobj(wbits=31)
        for event in events:
            yield Event(event.kind, stream.compress(event.data) + stream.flush(zlib.Z_SYNC_FLUSH))
        yield Event(EventKind.DONE, stream.flush())

    headers = (*reply.headers, ("content-encoding", "gzip"))
    if reply.events is None:
        return msgspec.structs.replace(reply, headers=headers, body=gzip.compress(reply.body))
    return msgspec.structs.replace(reply, headers=headers, events=compressed(reply.events))


def _html(reply: Reply, behaviour: Behaviour) -> Reply:
    return msgspec.structs.replace(reply, status=200, content_type="text/html; charset=utf-8", body=_HTML, events=None)


def _chunked(reply: Reply, behaviour: Behaviour) -> Reply:
    return msgspec.structs.replace(reply, force_chunked=True)


def _unanswered(ending: Ending) -> Callable[[Transmission, Behaviour], Transmission]:
    def disturb(transmission: Transmission, behaviour: Behaviour) -> Transmission:
        return msgspec.structs.replace(transmission, head=b"", parts=iter(()), ending=ending, faulty=True)

    return disturb


def _first_parts(transmission: Transmission, behaviour: Behaviour) -> Iterator[Part]:
    return islice(transmission.parts, behaviour.after_events if transmission.streamed else 1)


def _cut_short(ending: Ending) -> Callable[[Transmission, Behaviour], Transmission]:
    def disturb(transmission: Transmission, behaviour: Behaviour) -> Transmission:
        parts = _first_parts(transmission, behaviour)
        return msgspec.structs.replace(transmission, parts=parts, ending=ending, faulty=True)

    return disturb


def _cut_at_byte(transmission: Transmission, behaviour: Behaviour) -> Transmission:
    def up_to(left: int) -> Iterator[Part]:
        for wait_s, data in transmission.parts:
            if left <= 0:
                return
            yield wait_s, data[:left]
            left -= len(data)

    head = transmission.head[: behaviour.at_byte]
    parts = up_to(behaviour.at_byte - len(head))
    return msgspec.structs.replace(transmission, head=head, parts=parts, ending=Ending.CLOSE, faulty=True)


def _malformed_chunk(transmission: Transmission, behaviour: Behaviour) -> Transmission:
    def broken() -> Iterator[Part]:
        yield from _first_parts(transmission, behaviour)
        yield 0.0, b"not-a-size\r\n" + chunk(b"data: lost\n\n")

    return msgspec.structs.replace(transmission, parts=broken(), ending=Ending.CLOSE, faulty=True)


def _slow_headers(transmission: Transmission, behaviour: Behaviour) -> Transmission:
    return msgspec.structs.replace(transmission, head_after_s=behaviour.headers_ms / 1000)


def _without_usage(behaviour: Behaviour) -> Behaviour:
    return msgspec.structs.replace(behaviour, usage="none")


def _filtered(behaviour: Behaviour) -> Behaviour:
    return msgspec.structs.replace(behaviour, filtered="answer")


def _slow_to_begin(behaviour: Behaviour) -> Behaviour:
    return msgspec.structs.replace(behaviour, first_token_ms=max(behaviour.first_token_ms, behaviour.headers_ms))


def _with_wrong_usage(behaviour: Behaviour) -> Behaviour:
    return msgspec.structs.replace(behaviour, usage="wrong")


_TABLE: Final = (
    Fault(name="rate_limit", summary="429 with Retry-After (retry_after=seconds)", refusal=True),
    Fault(name="rate_limit_bare", summary="429 without Retry-After or any hint when to come back", refusal=True),
    Fault(name="http_500", summary="500", refusal=True),
    Fault(name="http_503", summary="503, or what the API has instead (Anthropic: 529)", refusal=True),
    Fault(name="unauthorized", summary="401 whose message shows part of the key", refusal=True),
    Fault(name="bad_request", summary="400 that names the parameter at fault", refusal=True),
    Fault(name="context_length", summary="400, the prompt is longer than the model's context", refusal=True),
    Fault(
        name="content_filter",
        summary="the prompt is refused for its content (OpenAI and others: 400; Gemini: 200 and a blockReason)",
        refusal=True,
    ),
    Fault(
        name="content_filter_mid_stream",
        summary="a content filter ends the answer after after_events tokens (Ollama has none: a short answer)",
        behave=_filtered,
    ),
    Fault(
        name="no_credit",
        summary="402, or what the API has instead (Anthropic: 400, Gemini and Bedrock: 403): the account has no credit",
        refusal=True,
    ),
    Fault(
        name="quota", summary="429 without a hint: the plan's quota is used up (Anthropic, Bedrock: 400)", refusal=True
    ),
    Fault(name="daily_quota", summary="429, the limit of a day is reached", refusal=True),
    Fault(name="model_not_found", summary="404, or what the API has instead: there is no such model", refusal=True),
    Fault(name="overloaded", summary="503, the model is overloaded (Anthropic: 529)", refusal=True),
    Fault(name="reset", summary="RST before the head", disturb=_unanswered(Ending.RESET)),
    Fault(name="close", summary="FIN before the head", disturb=_unanswered(Ending.CLOSE)),
    Fault(name="silence", summary="the request is read and never answered", disturb=_unanswered(Ending.HANG)),
    Fault(name="slow_headers", summary="the head comes headers_ms late", disturb=_slow_headers),
    Fault(
        name="slow_first_token",
        summary="the first event comes headers_ms after the head; a buffered answer's head comes as late",
        behave=_slow_to_begin,
    ),
    Fault(
        name="stall",
        summary="nothing more after after_events events or half of a body",
        disturb=_cut_short(Ending.HANG),
    ),
    Fault(
        name="cut_mid_stream",
        summary="FIN after after_events events or half of a body",
        disturb=_cut_short(Ending.CLOSE),
    ),
    Fault(
        name="reset_mid_stream",
        summary="RST after after_events events or half of a body",
        disturb=_cut_short(Ending.RESET),
    ),
    Fault(name="cut_at_byte", summary="FIN after at_byte bytes of the response, head included", disturb=_cut_at_byte),
    Fault(
        name="malformed_chunk",
        summary="a chunk-size line that is no number, after after_events events or half of a body",
        rewrite=_chunked,
        disturb=_malformed_chunk,
    ),
    Fault(
        name="malformed_json", summary="one event, or the body, is cut JSON in sound framing", rewrite=_malformed_json
    ),
    Fault(
        name="missing_terminator",
        summary="a clean HTTP end without finish, usage and [DONE] events, or after half of a body",
        rewrite=_without_terminators,
    ),
    Fault(name="missing_done", summary="a complete stream without [DONE]", rewrite=_without_done),
    Fault(
        name="error_event",
        summary="an error object after after_events events, or as a body with 200",
        rewrite=_error_event,
    ),
    Fault(name="oversized_headers", summary="one response header of 200,000 bytes", rewrite=_oversized_headers),
    Fault(name="gzip", summary="a gzip body that nobody asked for", rewrite=_gzip),
    Fault(name="html", summary="200 with an HTML page", rewrite=_html),
    Fault(name="no_usage", summary="usage is left out", behave=_without_usage),
    Fault(name="wrong_usage", summary="usage contradicts the answer and itself", behave=_with_wrong_usage),
)

FAULTS: Final = MappingProxyType({fault.name: fault for fault in _TABLE})
