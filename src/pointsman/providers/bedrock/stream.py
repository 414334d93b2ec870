"""Bedrock's streamed answers: messages of an event stream, told apart by their headers."""

import base64
import binascii
from typing import Any, Final

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
from pointsman.canonical.parts import (
    AnyPart,
    ImagePart,
    NativePart,
    Opaque,
    ReasoningPart,
    Source,
    TextPart,
    ToolCallPart,
)
from pointsman.errors import GatewayError, Kind
from pointsman.framing.aws_event_stream import EventMessage, EventStreamSplitter
from pointsman.providers.bedrock.answers import finish_reason, told_beyond
from pointsman.wire.bedrock import WIRE, read_citation, read_usage
from pointsman.wire.members import Members, read_answer

_CUT: Final = "the upstream's stream ended before the answer was complete"
_FAILURES: Final = {
    "throttlingException": Kind.RATE_LIMITED,
    "serviceUnavailableException": Kind.OVERLOADED,
    "validationException": Kind.INVALID_REQUEST,
    "modelTimeoutException": Kind.UPSTREAM_TIMEOUT,
}


class _Open:
    """A block that is being streamed: our index of its part, the part, and opaque state in pieces."""

    __slots__ = ("hidden", "index", "part", "signature")

    def __init__(self, index: int, part: AnyPart) -> None:
        self.index = index
        self.part = part
        self.signature = ""
        self.hidden = b""


class StreamParser:
    """The answer is whole with ``messageStop``; ``metadata`` with the usage follows it."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._splitter = EventStreamSplitter()
        self._started = False
        self._over = False
        self._parts = 0
        self._open: dict[int, _Open] = {}  # by Bedrock's index of the block
        self._reason: str | None = None
        self._events: list[AnyEvent] = []

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events that ``data`` completes; what can't be read becomes `Failed`."""
        if self._over:
            return []
        self._events = []
        try:
            for message in self._splitter.feed(data):
                self._read(message)
            if self._splitter.error is not None and not self._over:
                raise self._splitter.error
        except GatewayError as error:
            self._fail(error)
        return self._events

    def finish(self) -> list[AnyEvent]:
        """The upstream closed: without ``messageStop`` the answer is cut; the usage may be missing."""
        if self._over:
            return []
        self._events = []
        if self._reason is not None and not self._splitter.pending:
            self._end(self._reason)
        else:
            self._fail(GatewayError(Kind.UPSTREAM_ERROR, _CUT))
        return self._events

    def _read(self, message: EventMessage) -> None:
        if self._over:
            return
        headers = message.headers
        if headers.get(":message-type") in ("exception", "error"):
            name = headers.get(":exception-type", "")
            kind = _FAILURES.get(name, Kind.UPSTREAM_ERROR)
            raise GatewayError(kind, f"the upstream broke its answer off ({name or 'error'})"[:200])
        members = read_answer(message.payload, "event")
        match headers.get(":event-type"):
            case "messageStart":
                self._start()
            case "contentBlockStart":
                self._begin_block(members)
            case "contentBlockDelta":
                self._delta(members)
            case "contentBlockStop":
                self._close(members.integer("contentBlockIndex") or 0)
            case "messageStop":
                self._reason = members.string("stopReason") or ""
            case "metadata":
                self._metadata(members)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._events.append(Started())

    def _begin(self, index: int, part: AnyPart) -> _Open:
        self._start()
        found = self._open[index] = _Open(self._parts, part)
        self._parts += 1
        self._events.append(PartStarted(0, found.index, part))
        return found

    def _begin_block(self, members: Members) -> None:
        index = members.integer("contentBlockIndex") or 0
        start = members.object("start") or Members({}, "start")
        call = start.object("toolUse")
        if call is not None:
            name = call.string("toolUseId") or self._identity.derive("call_", index)
            self._begin(index, ToolCallPart(id=name, name=call.text("name")))
        elif start.value.get("toolResult") is not None:
            self._begin(index, NativePart(wire=WIRE, type="toolResult", value=start.value))

    def _delta(self, members: Members) -> None:
        index = members.integer("contentBlockIndex") or 0
        delta = members.object("delta") or Members({}, "delta")
        if (text := delta.string("text")) is not None:
            self._text(index, text, TextPart)
        elif (call := delta.object("toolUse")) is not None:
            found = self._open.get(index)
            if found is None:
                raise delta.wrong("toolUse", "belongs to no call that has begun")
            if arguments := call.string("input"):
                self._events.append(PartDelta(0, found.index, arguments))
        elif (thought := delta.object("reasoningContent")) is not None:
            self._thought(index, thought)
        elif (citation := read_citation(delta.raw("citation"))) is not None:
            found = self._open.get(index) or self._begin(index, TextPart(text=""))
            self._events.append(CitationAdded(0, found.index, citation))
        elif (image := delta.object("image")) is not None:
            self._image(index, image)

    def _text(self, index: int, text: str, kind: type[TextPart] | type[ReasoningPart]) -> None:
        if not text:
            return
        found = self._open.get(index)
        if found is None:
            found = self._begin(index, TextPart(text="") if kind is TextPart else ReasoningPart())
        self._events.append(PartDelta(0, found.index, text))

    def _thought(self, index: int, thought: Members) -> None:
        self._text(index, thought.string("text") or "", ReasoningPart)
        signature, hidden = thought.string("signature"), thought.string("redactedContent")
        if signature is None and hidden is None:
            return
        found = self._open.get(index) or self._begin(index, ReasoningPart())
        found.signature += signature or ""
        try:
            found.hidden += base64.b64decode(hidden or "", validate=True)
        except (binascii.Error, ValueError):
            raise thought.wrong("redactedContent", "is no base64") from None

    def _image(self, index: int, image: Members) -> None:
        source = image.object("source")
        data = source.string("bytes") if source is not None else None
        if data is not None and index not in self._open:
            self._begin(index, ImagePart(source=Source(data=data)))

    def _close(self, index: int) -> None:
        found = self._open.pop(index, None)
        if found is None:
            return
        if found.hidden:
            data = base64.b64encode(found.hidden).decode()
            self._events.append(OpaqueSet(0, found.index, Opaque(origin=WIRE, kind="redacted", data=data)))
        elif found.signature:
            opaque = Opaque(origin=WIRE, kind="signature", data=found.signature)
            self._events.append(OpaqueSet(0, found.index, opaque))
        self._events.append(PartEnded(0, found.index))

    def _metadata(self, members: Members) -> None:
        if self._reason is None:
            return
        usage = read_usage(members.raw("usage"))
        if usage is not None:
            extra: dict[str, Any] = told_beyond(members)
            self._events.append(UsageReported(usage, extra or None))
        self._end(self._reason)

    def _end(self, reason: str) -> None:
        self._over = True
        self._start()
        for index in sorted(self._open):
            self._close(index)
        self._events += (ChoiceEnded(0, finish_reason(reason), reason), Ended())

    def _fail(self, error: GatewayError) -> None:
        self._over = True
        self._start()
        self._events.append(Failed(error))
