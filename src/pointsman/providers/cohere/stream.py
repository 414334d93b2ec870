"""Cohere's streamed answers."""

from typing import Any, Final

from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    CitationAdded,
    Ended,
    Failed,
    LogprobsAdded,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    UsageReported,
)
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import AnyPart, ReasoningPart, TextPart
from pointsman.errors import GatewayError, Kind
from pointsman.framing.sse import ServerSentEvent, SseSplitter
from pointsman.providers.cohere.answers import call_part, finish_reason
from pointsman.wire.cohere import read_citations, read_logprobs, read_usage, usage_beyond
from pointsman.wire.members import Members, read_answer

_DONE: Final = b"[DONE]"
_CUT: Final = "the upstream's stream ended before the answer was complete"
_TOLD: Final = "the upstream reported an error in its stream"


class StreamParser:
    """Reads typed events; the answer is whole with ``message-end``.

    A part stays open until the next one begins, since citations of a text may follow its end.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._splitter = SseSplitter()
        self._started = False
        self._over = False
        self._parts = 0
        self._open: AnyPart | None = None
        self._calls = 0
        self._planning = False
        self._texts: dict[int, int] = {}  # Cohere's index of a block: ours
        self._events: list[AnyEvent] = []

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events that ``data`` completes; what can't be read becomes `Failed`."""
        if self._over:
            return []
        self._events = []
        try:
            for event in self._splitter.feed(data):
                self._read(event)
        except GatewayError as error:
            self._fail(error)
        return self._events

    def finish(self) -> list[AnyEvent]:
        """The upstream closed: without ``message-end`` the answer is cut."""
        if self._over:
            return []
        self._events = []
        self._fail(GatewayError(Kind.UPSTREAM_ERROR, _CUT))
        return self._events

    def _read(self, event: ServerSentEvent) -> None:
        if self._over or event.data == _DONE or not event.data.strip():
            return
        members = read_answer(event.data, "event")
        kind = members.string("type") or event.name
        if kind == "message-start":
            self._start(members.string("id"))
            return
        delta = members.object("delta") or Members({}, "delta")
        if kind == "message-end":
            self._end(delta)
            return
        message = delta.object("message") or Members({}, "delta.message")
        match kind:
            case "content-start":
                self._content(members, message, begins=True)
            case "content-delta":
                self._content(members, message, begins=False)
            case "tool-plan-delta":
                self._plan(message.string("tool_plan") or "")
            case "tool-call-start" | "tool-call-delta":
                self._call(message, begins=kind == "tool-call-start")
            case "citation-start":
                self._cite(message)
            case _ if "message" in members.value and "type" not in members.value:
                raise GatewayError(Kind.UPSTREAM_ERROR, _TOLD)  # a refusal instead of an event

    def _start(self, name: str | None) -> None:
        if not self._started:
            self._started = True
            self._events.append(Started(id=name))

    def _content(self, members: Members, message: Members, *, begins: bool) -> None:
        content = message.object("content") or Members({})
        index = members.integer("index") or 0
        thinking = content.string("thinking")
        thinks = thinking is not None or content.string("type") == "thinking"
        if begins:
            self._close()
        self._text(thinking or content.string("text") or "", ReasoningPart if thinks else TextPart)
        if self._open is not None:
            self._texts[index] = self._parts
        if (tokens := read_logprobs(members.raw("logprobs"))) is not None:
            self._events.append(LogprobsAdded(0, tokens))

    def _plan(self, text: str) -> None:
        """The plan before tool calls is a text of its own."""
        if text and not self._planning:
            self._planning = True
            self._close()
        self._text(text, TextPart)

    def _text(self, text: str, kind: type[TextPart] | type[ReasoningPart]) -> None:
        """More text for a part of this kind, which begins with its first text."""
        if not text:
            return
        if not isinstance(self._open, kind):
            self._begin(TextPart(text="") if kind is TextPart else ReasoningPart())
        self._events.append(PartDelta(0, self._parts, text))

    def _begin(self, part: AnyPart) -> None:
        self._close()
        self._start(None)
        self._open = part
        self._events.append(PartStarted(0, self._parts, part))

    def _close(self) -> None:
        if self._open is not None:
            self._events.append(PartEnded(0, self._parts))
            self._parts += 1
            self._open = None

    def _call(self, message: Members, *, begins: bool) -> None:
        call = message.object("tool_calls") or Members({}, "delta.message.tool_calls")
        if begins:
            self._begin(call_part(call, self._identity, self._calls, begun=True))
            self._calls += 1
        elif self._open is None:
            raise call.wrong("function", "belongs to no call that has begun")
        function = call.object("function") or Members({})
        if arguments := function.string("arguments"):
            self._events.append(PartDelta(0, self._parts, arguments))

    def _cite(self, message: Members) -> None:
        found: Any = message.raw("citations")
        index = found.get("content_index") if isinstance(found, dict) else None
        place = self._texts.get(index, self._parts) if type(index) is int else self._parts
        if place == self._parts and not isinstance(self._open, TextPart):
            return  # of thoughts, or of nothing that was said
        self._events += [CitationAdded(0, place, citation) for citation in read_citations(found)]

    def _end(self, delta: Members) -> None:
        native = delta.string("finish_reason") or ""
        if delta.raw("error") is not None and not native:
            raise GatewayError(Kind.UPSTREAM_ERROR, _TOLD)
        reason = finish_reason(native)
        self._close()
        self._start(None)
        found = delta.raw("usage")
        if (usage := read_usage(found)) is not None:
            self._events.append(UsageReported(usage, usage_beyond(found) or None))
        self._events += (ChoiceEnded(0, reason, native), Ended())
        self._over = True

    def _fail(self, error: GatewayError) -> None:
        self._over = True
        self._start(None)
        self._events.append(Failed(error))
