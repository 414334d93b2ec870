"""An answer whose upstream dies after it has begun, and that another one goes on with where it stopped.

The text given so far is sent as the beginning of the assistant's answer to a target that is known to go on with such a
text (providers/prefilling.py); what it says is joined on, and the seam is told in the stream. Half-given tool calls and
hidden thoughts can't be gone on with, nor answers bound to a schema or given several at once.
"""

import copy
from typing import Any, Final

from pointsman.accounting.estimation import tokens_of
from pointsman.canonical.collect import Collector
from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    Failed,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    UsageReported,
)
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import StreamParser, StreamRenderer
from pointsman.canonical.parts import ReasoningPart, TextPart
from pointsman.canonical.request import Message, ReasoningOptions, Request
from pointsman.canonical.usage import TokenUsage
from pointsman.dialects.seams import Seam, Stream, write_seam
from pointsman.errors import GatewayError, let_go
from pointsman.hub.answer import PassageAnswer
from pointsman.hub.emulation import added
from pointsman.hub.passage import Passage
from pointsman.hub.reader import PassageReader
from pointsman.routing.failures import classify_broken

LONGEST_TEXT: Final = 1_000_000  # characters that are sent as a beginning


def is_joinable(request: Request) -> bool:
    """Whether an answer to the request is one that another upstream can go on with: one, of free text."""
    form, choice = request.output_format, request.tool_choice
    free = form is None or form.kind == "text"
    return free and (request.choices or 1) == 1 and (choice is None or choice.mode in ("auto", "none"))


class Continuation:
    """One streamed answer, by whomever its parts are given. ``begun``: the client has some of it."""

    def __init__(self) -> None:
        self.begun = False
        self.fidelity: Fidelity | None = None
        self.collector: Collector
        self._renderer: StreamRenderer
        self._stream: Stream
        self._usage: TokenUsage | None = None  # of the parts whose upstreams broke off
        self._reason = ""
        self._reset()

    def _reset(self) -> None:
        self._open: tuple[int, ...] = ()  # the text part that may go on
        self._ended = False  # its end was told; the client hears of it when something else comes
        self._next = 0  # the index of the next part
        self._places: dict[int, int] = {}  # of the present upstream's parts, in the whole
        self._text: list[str] = []
        self._spaces = ""  # white space that was given and is not part of what is sent as the beginning
        self._can = True
        self._joining = False
        self._seam: Seam | None = None

    # the lane's side

    def enter(self, passage: Passage, stream: Stream, wire: str) -> None:
        """The first upstream, or another one before the client has anything: all is as new."""
        if not self.begun:
            self._reset()
            self.collector = Collector(wire)
            self.fidelity, self._renderer, self._stream = passage.fidelity, passage.renderer(), stream

    def begin_again(self, request: Request, target: str) -> Request:
        """The request for another upstream, with what was given so far as the beginning of its answer."""
        text = "".join(self._text)
        begun = text.rstrip()
        self._spaces, self._places, self._joining = text[len(begun) :], {}, True
        self._seam = Seam(continued_by=target, after_characters=len(text), reason=self._reason)
        request = copy.copy(request)
        request.messages = [*request.messages]
        last = request.messages[-1] if request.messages else None
        if last is not None and last.role == "assistant" and last.parts and isinstance(last.parts[-1], TextPart):
            own = last.parts[-1]
            last = request.messages[-1] = copy.copy(last)
            last.parts = [*last.parts[:-1], TextPart(text=own.text + begun, path=own.path)]
        else:
            request.messages.append(Message(role="assistant", parts=[TextPart(text=begun)]))
        if request.reasoning is not None:
            request.reasoning = ReasoningOptions(enabled=False)
        if request.max_output_tokens is not None:
            request.max_output_tokens = max(1, request.max_output_tokens - tokens_of(len(begun.encode())))
        return request

    def end(self, error: GatewayError) -> bytes:
        """Nobody goes on: the end of the client's stream."""
        return b"".join([self._render(one) for one in (*self._close(), Failed(error))])

    def broke(self, error: GatewayError, usage: TokenUsage) -> None:
        """The present upstream broke off, and used so much."""
        self._reason = classify_broken(error.kind).word
        self._usage = usage if self._usage is None else added(self._usage, usage)

    # the reader's side

    def may_go_on(self, error: GatewayError) -> bool:
        """Whether another upstream can go on with what was given."""
        given = sum(map(len, self._text))
        can = self.begun and self._can and bool(self._open) and 0 < given <= LONGEST_TEXT
        return can and classify_broken(error.kind).next

    def seam(self) -> bytes:
        """What tells the client that another upstream goes on, once."""
        seam, self._seam = self._seam, None
        if seam is None:
            return b""
        if self.fidelity is not None:
            said = f"{seam.continued_by} goes on after {seam.after_characters} characters ({seam.reason})"
            self.fidelity.synthesised("response", said)
        return write_seam(seam, self._stream)

    def write(self, event: AnyEvent) -> bytes:
        """The bytes for the client that an event of the present upstream gives."""
        out = b"".join([self._render(one) for one in self._placed(event)])
        self.begun = self.begun or bool(out)
        return out

    def _render(self, event: AnyEvent) -> bytes:
        self.collector.feed(event)
        return self._renderer.feed(event)

    def _placed(self, event: AnyEvent) -> list[AnyEvent]:
        """An event as one of the whole answer."""
        match event:
            case Started():
                return [] if self._joining else [event]
            case UsageReported() if self._usage is not None:
                usage = added(self._usage, event.usage) or event.usage
                return [UsageReported(usage, event.extra, event.service_tier)]
            case PartStarted():
                return self._start(event)
            case PartDelta():
                return self._say(event)
            case ChoiceEnded() | Failed():
                self._can = False
                return [*self._close(), event]
        index = getattr(event, "index", None)
        if index is None:
            return [event]
        place = self._places.get(index)
        if place is None:
            return []
        if isinstance(event, PartEnded) and self._open == (place,):
            self._ended = True
            return []
        return [_at(event, place)]

    def _start(self, event: PartStarted) -> list[AnyEvent]:
        part = event.part
        self._can = self._can and not event.choice and isinstance(part, TextPart | ReasoningPart)
        if isinstance(part, ReasoningPart) and self._joining:
            return []  # it was told not to think; what it thinks all the same would stand behind the words
        if isinstance(part, TextPart) and self._joining and self._open:
            self._places[event.index] = self._open[0]
            return self._say(PartDelta(event.choice, event.index, part.text)) if part.text else []
        alone = self._joining and bool(self._open) and self._open[0] not in self._places.values()
        closed = self._close() if self._ended or alone else []
        self._places[event.index] = place = self._next
        self._next += 1
        if isinstance(part, TextPart):
            self._open = (place,)
            self._text.append(part.text)
        return [*closed, _at(event, place)]

    def _say(self, event: PartDelta) -> list[AnyEvent]:
        place = self._places.get(event.index)
        if place is None:
            return []
        text = event.text
        if self._open == (place,):
            if self._spaces:
                text, self._spaces = self._without_spaces(text)
            self._text.append(text)
        return [PartDelta(event.choice, place, text)] if text else []

    def _without_spaces(self, text: str) -> tuple[str, str]:
        """The text without the white space that the client has already, and what of that may still come."""
        spaces = self._spaces
        if text.startswith(spaces):
            return text[len(spaces) :], ""
        if spaces.startswith(text):
            return "", spaces[len(text) :]
        return text, ""

    def _close(self) -> list[AnyEvent]:
        closed: list[AnyEvent] = [PartEnded(0, place) for place in self._open]
        self._open, self._ended = (), False
        return closed


def _at(event: Any, place: int) -> AnyEvent:
    """The event for a part at another place."""
    if event.index == place:
        return event  # type: ignore[no-any-return]
    values = {name: getattr(event, name) for name in event.__struct_fields__}
    return type(event)(**{**values, "index": place})  # type: ignore[no-any-return]


class ContinuedReader(PassageReader):
    """Writes events anew, and keeps the news from the client that an upstream broke when another may go on.

    Nothing is written before there is content: then an upstream that fails before has left no trace.
    ``broken`` is the error that the client wasn't told.
    """

    def __init__(self, parser: StreamParser, continuation: Continuation) -> None:
        super().__init__(parser)
        self._continuation = continuation
        self._held: list[AnyEvent] | None = []
        self.broken: GatewayError | None = None

    def fail(self, error: GatewayError) -> bytes:
        """The connection broke."""
        self.failed, self.error = True, error
        if self._continuation.may_go_on(error):
            self.broken = error
            return b""
        return self._continuation.write(Failed(error))

    def _write(self, events: list[AnyEvent], data: bytes, *, last: bool) -> bytes:
        if self._held is not None:
            self._held += events
            if not (self.events > 1 or self.begun or self.finish_reason is not None or self.done):
                if self.error is not None:
                    raise self.error
                return b""
            events, self._held = self._held, None
        out = [self._continuation.seam()]
        for event in events:
            if isinstance(event, Failed) and self._continuation.may_go_on(event.error):
                self.broken = event.error
                let_go(event.error)
                break
            out.append(self._continuation.write(event))
        return b"".join(out)


class ContinuedAnswer(PassageAnswer):
    """A sink that leaves the client's stream open when another upstream may go on, and raises how this one broke."""

    __slots__ = ("_continued",)

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        reader = parts[1]
        assert isinstance(reader, ContinuedReader)
        self._continued = reader

    def fail(self, error: GatewayError) -> None:
        """The call broke."""
        reader = self._continued
        if self.done or not self.started or reader.done or reader.failed:
            super().fail(error)
            return
        told = reader.fail(error)
        if reader.broken is not None:
            self._complete()
            return
        self._settle_once(error, len(told))
        self._receiver.write(told)
        self._finish()

    def _complete(self) -> None:
        broken = self._continued.broken
        if broken is not None and not self.done:
            broken.begun = True
            self.break_off(broken)
        else:
            super()._complete()
