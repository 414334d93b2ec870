"""Anthropic's streamed answers in our words."""

from typing import Any, Final

import msgspec

from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    CitationAdded,
    Ended,
    Failed,
    OpaqueSet,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    UsageReported,
)
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import AnyPart, Extra, NativePart, ReasoningPart, TextPart, ToolCallPart
from pointsman.errors import GatewayError, Kind
from pointsman.framing.sse import ServerSentEvent, SseSplitter
from pointsman.providers.anthropic.answer import details_of, part_of
from pointsman.providers.anthropic.errors import stream_failure
from pointsman.wire.anthropic.blocks import read_citation
from pointsman.wire.anthropic.signatures import unwrap
from pointsman.wire.anthropic.stop_reasons import read as read_reason
from pointsman.wire.anthropic.token_usage import read_extra, read_tier, read_usage
from pointsman.wire.members import Members, read_answer, wrong_answer

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_ENVELOPE: Final = ("id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "usage")


class _Open:
    """A block that has begun. ``index`` is ours, None while a native block is held back until it is whole."""

    __slots__ = ("given", "index", "part", "pieces")

    def __init__(self, part: AnyPart) -> None:
        self.part = part
        self.index: int | None = None
        self.given = ""  # the input that a call began with
        self.pieces: list[str] = []


class StreamParser:
    """Reads a streamed answer. Any split of the same bytes gives the same events."""

    def __init__(self, identity: Identity) -> None:
        self._splitter = SseSplitter()
        self._blocks: dict[int, _Open] = {}
        self._parts = 0
        self._started = False
        self._usage: dict[str, Any] = {}
        self._extra: Extra = {}
        self._end: ChoiceEnded | None = None
        self._over = False

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events that ``data`` completes. Never raises: what can't be read becomes `Failed`."""
        events: list[AnyEvent] = []
        try:
            for one in () if self._over else self._splitter.feed(data):
                self._read(one, events)
        except GatewayError as error:
            self._fail(error, events)
        return events

    def finish(self) -> list[AnyEvent]:
        """The upstream closed cleanly: without ``message_stop`` its answer isn't whole."""
        events: list[AnyEvent] = []
        if not self._over:
            self._fail(
                GatewayError(Kind.UPSTREAM_ERROR, "the upstream's stream ended before the answer was complete"), events
            )
        return events

    def _fail(self, error: GatewayError, events: list[AnyEvent]) -> None:
        self._over = True
        events.append(Failed(error))

    def _read(self, one: ServerSentEvent, events: list[AnyEvent]) -> None:
        if self._over or one.name == "ping":
            return
        event = read_answer(one.data, "event")
        kind = event.value.get("type")
        if kind == "error" or one.name == "error":
            self._fail(stream_failure(event), events)
        elif kind == "content_block_delta" and self._add_text(event.value, events):
            return
        elif kind == "message_start":
            self._start(event, events)
        elif not self._started:
            return  # nothing that we know comes before message_start
        elif kind == "content_block_start":
            self._begin(event, events)
        elif kind == "content_block_delta":
            self._add(event, events)
        elif kind == "content_block_stop":
            self._close(self._number(event), events)
        elif kind == "message_delta":
            self._note_end(event)
        elif kind == "message_stop":
            self._complete(events)

    def _start(self, event: Members, events: list[AnyEvent]) -> None:
        message = event.object("message")
        if message is None:
            raise event.wrong("message", "is missing")
        if self._started:
            return
        self._started = True
        self._take_usage(message)
        used = Members(self._usage, "usage", wrong_answer)
        message.ignore(*_ENVELOPE)
        events.append(
            Started(
                id=message.string("id"),
                model=message.string("model"),
                service_tier=read_tier(used),
                extra=message.rest(),
            )
        )
        usage = read_usage(used)
        if usage is not None:
            events.append(UsageReported(usage, read_extra(used) or None))

    def _take_usage(self, holder: Members) -> None:
        """Figures are totals: later ones take the place of earlier ones, and those that are left out stay."""
        used = holder.mapping("usage")
        if used is not None:
            self._usage |= {name: value for name, value in used.items() if value is not None}

    def _number(self, event: Members) -> int:
        number = event.integer("index", 0)
        return 0 if number is None else number

    def _begin(self, event: Members, events: list[AnyEvent]) -> None:
        block = event.object("content_block")
        if block is None:
            raise event.wrong("content_block", "is missing")
        number = self._number(event)
        self._close(number, events)
        part = part_of(block)
        opened = self._blocks[number] = _Open(part)
        if isinstance(part, NativePart):
            return
        opened.index = self._parts
        self._parts += 1
        text, citations = _emptied(part, opened)
        events.append(PartStarted(0, opened.index, part))
        if text:
            events.append(PartDelta(0, opened.index, text))
        events += [CitationAdded(0, opened.index, citation) for citation in citations]

    def _add_text(self, event: dict[str, Any], events: list[AnyEvent]) -> bool:
        """The short way for what most events are: a little more text of a block. False when it isn't that."""
        number, delta = event.get("index"), event.get("delta")
        opened = self._blocks.get(number) if type(number) is int else None
        if opened is None or opened.index is None or type(delta) is not dict or delta.get("type") != "text_delta":
            return False
        text = delta.get("text")
        if type(text) is not str:
            return False
        if text:
            events.append(PartDelta(0, opened.index, text))
        return True

    def _add(self, event: Members, events: list[AnyEvent]) -> None:
        opened = self._blocks.get(self._number(event))
        delta = event.object("delta")
        if opened is None or delta is None:
            return
        if opened.index is None:
            _add_to_native(opened, delta)
            return
        added = _delta_event(opened, opened.index, delta)
        if added is not None:
            events.append(added)

    def _close(self, number: int, events: list[AnyEvent]) -> None:
        opened = self._blocks.pop(number, None)
        if opened is None:
            return
        if opened.index is None:
            opened.index = self._parts
            self._parts += 1
            events.append(PartStarted(0, opened.index, _whole_native(opened)))
        elif isinstance(opened.part, ToolCallPart) and not opened.pieces:
            events.append(PartDelta(0, opened.index, opened.given))
        events.append(PartEnded(0, opened.index))

    def _note_end(self, event: Members) -> None:
        self._take_usage(event)
        delta = event.object("delta")
        if delta is None:
            return
        reason = delta.string("stop_reason")
        if reason is not None:
            self._end = ChoiceEnded(0, read_reason(reason), reason, delta.string("stop_sequence"), details_of(delta))
        delta.ignore("stop_reason", "stop_sequence", "stop_details")
        event.ignore("type", "usage", "delta")
        self._extra |= (delta.rest() or {}) | (event.rest() or {})

    def _complete(self, events: list[AnyEvent]) -> None:
        for number in list(self._blocks):
            self._close(number, events)
        if self._end is None:
            raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's stream ended without a stop reason")
        events.append(self._end)
        used = Members(self._usage, "usage", wrong_answer)
        usage = read_usage(used)
        extra = self._extra | read_extra(used)
        if usage is not None:
            events.append(UsageReported(usage, extra or None))
        self._over = True
        events.append(Ended())


def _emptied(part: AnyPart, opened: _Open) -> tuple[str, list[Any]]:
    """Take out of a part what is to come as deltas: its text and citations; a call's input waits for its pieces."""
    if isinstance(part, ToolCallPart):
        opened.given, part.arguments = part.arguments, ""
        return "", []
    if isinstance(part, TextPart):
        text, part.text = part.text, ""
        citations, part.citations = part.citations or [], None
        return text, citations
    if isinstance(part, ReasoningPart):
        text, part.text = part.text, ""
        return text, []
    return "", []


def _delta_event(opened: _Open, index: int, delta: Members) -> AnyEvent | None:
    """The event of a delta; None for an empty one, and for kinds that we don't know."""
    kind = delta.value.get("type")
    if kind == "text_delta":
        text = delta.text("text")
    elif kind == "thinking_delta":
        text = delta.text("thinking")
    elif kind == "input_json_delta":
        text = delta.text("partial_json")
        if text:
            opened.pieces.append("")  # that there were pieces is enough
    elif kind == "signature_delta":
        opaque = unwrap(delta.text("signature"), "signature")
        return OpaqueSet(0, index, opaque) if opaque is not None else None
    elif kind == "citations_delta":
        citation = delta.mapping("citation")
        return CitationAdded(0, index, read_citation(citation)) if citation is not None else None
    else:
        return None
    return PartDelta(0, index, text) if text else None


def _add_to_native(opened: _Open, delta: Members) -> None:
    """A piece of a block that Anthropic alone has: of its input, or of members that come later (compaction)."""
    if delta.value.get("type") == "input_json_delta":
        opened.pieces.append(delta.text("partial_json"))
        return
    if isinstance(opened.part, NativePart):
        later = {name: value for name, value in delta.value.items() if name != "type" and value is not None}
        opened.part = NativePart(wire=opened.part.wire, type=opened.part.type, value={**opened.part.value, **later})


def _whole_native(opened: _Open) -> AnyPart:
    part, text = opened.part, "".join(opened.pieces)
    if not text or not isinstance(part, NativePart):
        return part
    try:
        given = _decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream sent a call whose input is no JSON object") from None
    return NativePart(wire=part.wire, type=part.type, value={**part.value, "input": given})
