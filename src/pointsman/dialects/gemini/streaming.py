"""Gemini answers as streams: chunks that are answers themselves, in server-sent events or as one array's elements."""

from typing import Any, Final

import msgspec

from pointsman.canonical.collect import Collector
from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    Ended,
    Failed,
    LogprobsAdded,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    SummaryDelta,
)
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import AnyPart, ReasoningPart, RefusalPart, TextPart
from pointsman.canonical.request import Request
from pointsman.canonical.response import Choice
from pointsman.canonical.sequence import Sequencer
from pointsman.dialects.gemini.answer import Frame, PartWriter, ending_of, is_blocked, logprobs_of, told, usage_of
from pointsman.dialects.gemini.errors import in_one_line, render_error
from pointsman.wire.gemini import ANSWER_EXTRA, WIRE

_encode: Final = msgspec.json.Encoder().encode
Json = dict[str, Any]


class StreamRenderer:
    """Writes server-sent events. Text goes out as it comes, calls and media when they are whole, as Google has them.

    The chunks with the finish reasons are held back until the usage is known, and given out only for a whole answer.
    """

    OPENING = b"data: "
    FOLLOWING = b"data: "
    CLOSING = b"\r\n\r\n"
    END = b""

    def __init__(self, request: Request, identity: Identity, fidelity: Fidelity) -> None:
        self._request = request
        self._identity = identity
        self._fidelity = fidelity
        self._frame = Frame(identity.derive("", length=22), request.model)
        self._sequencer = Sequencer()
        self._collector = Collector(WIRE)  # what can't go out in pieces is put together here
        self._writers: dict[int, PartWriter] = {}
        self._spoken: dict[tuple[int, int], int | None] = {}  # parts with text gone out, and of which summary last
        self._endings: list[int] = []
        self._opened = False
        self._over = False

    def feed(self, event: AnyEvent) -> bytes:
        """The bytes of whole chunks that ``event`` gives; often none."""
        if self._over:
            return b""
        return b"".join(self._feed(one) for one in self._sequencer.feed(event))

    def _feed(self, event: AnyEvent) -> bytes:
        self._collector.feed(event)
        match event:
            case PartDelta():
                return self._say(event.choice, event.index, event.text)
            case SummaryDelta():
                return self._say(event.choice, event.index, event.text, section=event.section)
            case PartStarted():
                return self._say(event.choice, event.index, getattr(event.part, "text", None) or "")
            case Started():
                self._frame = Frame(
                    event.id or self._identity.derive("", length=22), event.model or self._request.model
                )
            case PartEnded():
                return self._part(event)
            case LogprobsAdded():
                return self._candidate(event.choice, [], {"logprobsResult": logprobs_of(event.tokens)})
            case ChoiceEnded():
                self._endings.append(event.choice)
            case Failed():
                self._over = True
                return self._raw(in_one_line(render_error(event.error, self._identity.request_id))) + self.END
            case Ended():
                self._over = True
                return self._finish()
        return b""

    def _say(self, choice: int, index: int, text: str, section: int | None = None) -> bytes:
        """Text as it comes, of the parts whose text may go out in pieces; summaries and texts of a thought apart."""
        key = (choice, index)
        part = self._part_at(choice, index)
        if (
            not text
            or not isinstance(part, TextPart | RefusalPart | ReasoningPart)
            or not self._writer(choice).shows(part)
        ):
            return b""
        said: Json = {"text": text}
        if isinstance(part, ReasoningPart):
            between = "\n\n" if self._spoken.get(key, section) != section else ""
            said = {"text": between + text, "thought": True}
        self._spoken[key] = section
        return self._candidate(choice, [said], {})

    def _part(self, event: PartEnded) -> bytes:
        """A part that was held back, or the signature of one whose text has gone out."""
        part = self._part_at(event.choice, event.index)
        writer = self._writer(event.choice)
        if (event.choice, event.index) not in self._spoken:
            parts = writer.parts(part, event.index)
            return self._candidate(event.choice, parts, {}) if parts else b""
        if isinstance(part, RefusalPart):
            writer.note_refusal(event.index)
        signature = writer.signature(part, event.index)
        if not signature:
            return b""
        thought = {"thought": True} if isinstance(part, ReasoningPart) else {}
        return self._candidate(event.choice, [{"text": "", **thought, **signature}], {})

    def _finish(self) -> bytes:
        response = self._collector.response
        extra = told(response.extra, ANSWER_EXTRA, self._fidelity)
        for choice in response.choices:
            extra.update(told(choice.extra, ANSWER_EXTRA))
        usage = usage_of(response.usage, extra.pop("usageMetadata", None), self._fidelity)
        ended = [one for one in response.choices if one.index in self._endings]
        last = ended.pop() if ended else None
        written = b"".join(self._raw(_encode(self._ending(choice, None))) for choice in ended)
        chunk = self._frame.around([], usage) if last is None else self._ending(last, usage)
        return written + self._raw(_encode({**chunk, **extra})) + self.END

    def _ending(self, choice: Choice, usage: Json | None) -> Json:
        if is_blocked(choice):
            return self._frame.around([], usage)
        ending = ending_of(choice, self._writer(choice.index))
        return self._frame.around([{"index": choice.index, **ending}], usage)

    def _part_at(self, choice: int, index: int) -> AnyPart:
        found = next(one for one in self._collector.response.choices if one.index == choice)
        return found.parts[index]

    def _writer(self, choice: int) -> PartWriter:
        writer = self._writers.get(choice)
        if writer is None:
            writer = self._writers[choice] = PartWriter(self._request, self._fidelity, choice)
        return writer

    def _candidate(self, choice: int, parts: list[Json], more: Json) -> bytes:
        content: Json = {"content": {"parts": parts, "role": "model"}} if parts else {}
        return self._raw(_encode(self._frame.around([{**content, "index": choice, **more}], None)))

    def _raw(self, data: bytes) -> bytes:
        opening = self.FOLLOWING if self._opened else self.OPENING
        self._opened = True
        return opening + data + self.CLOSING


class ArrayRenderer(StreamRenderer):
    """Writes one JSON array whose elements come as they are known: what Google sends without ``alt=sse``."""

    OPENING = b"["
    FOLLOWING = b",\r\n"
    CLOSING = b"\n"
    END = b"]\n"
