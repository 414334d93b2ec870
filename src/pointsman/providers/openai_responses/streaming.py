"""A streamed response in our own words."""

from typing import Any, Final

import msgspec

from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    CitationAdded,
    Ended,
    Failed,
    LogprobsAdded,
    OpaqueSet,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    SummaryDelta,
    UsageReported,
)
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import AnyPart, NativePart, ReasoningPart, RefusalPart, TextPart, ToolCallPart
from pointsman.errors import GatewayError, Kind
from pointsman.framing.sse import SseSplitter
from pointsman.providers.openai_responses.failures import failure_of
from pointsman.providers.openai_responses.parsing import (
    all_logprobs,
    beyond,
    created_of,
    finish_of,
    read_ending,
)
from pointsman.wire.members import Members, read_answer, wrong_answer
from pointsman.wire.openai_responses.content import read_citation, read_logprobs
from pointsman.wire.openai_responses.items import read_output_item
from pointsman.wire.openai_responses.usage import read_usage

_TRUNCATED: Final = "the upstream's stream ended before its answer was whole"


class _OpenPart:
    """A part that is being read: its number among all parts, what it began as, what came of its text so far."""

    def __init__(self, index: int, part: AnyPart) -> None:
        self.index = index
        self.part = part
        self.text: list[str] = []
        self.sections: list[list[str]] = []
        self.citations = 0


class StreamParser:
    """Reads a streamed response. Items begin with little and end whole: whatever of the whole did not come before
    its end is given out then, so that a stream adds up to the buffered answer even where hosts leave events out.
    """

    def __init__(self, identity: Identity) -> None:
        self._splitter = SseSplitter()
        self._events: list[AnyEvent] = []
        self._open: dict[tuple[int, int], _OpenPart] = {}  # (output_index, content_index) -> part
        self._done: set[int] = set()
        self._parts: list[AnyPart] = []
        self._added: dict[int, dict[str, Any]] = {}
        self._logprobs = 0
        self._started = self._over = False

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events that ``data`` completes. Never raises: what can't be read becomes `Failed`."""
        try:
            for event in self._splitter.feed(data):
                if not self._over and event.data != b"[DONE]":
                    self._read(read_answer(event.data, "event"))
        except GatewayError as error:
            self._fail(error)
        return self._taken()

    def finish(self) -> list[AnyEvent]:
        """The upstream closed cleanly: a failure, unless its answer ended before."""
        self._fail(GatewayError(Kind.UPSTREAM_ERROR, _TRUNCATED))
        return self._taken()

    def _taken(self) -> list[AnyEvent]:
        events, self._events = self._events, []
        return events

    def _fail(self, error: GatewayError) -> None:
        if self._over:
            return
        self._over = True
        if not self._started:
            self._events.append(Started())
        self._events.append(Failed(error))

    def _read(self, event: Members) -> None:
        name = event.string("type") or ""
        if name == "error" or "type" not in event:
            error = event.value.get("error")
            if name == "error" or isinstance(error, dict):
                raise failure_of(error if isinstance(error, dict) else event.value)
            return
        response = event.object("response")
        if response is not None:
            self._read_response(name, response)
            return
        reader = _READERS.get(name)
        if reader is not None:
            reader(self, event)

    def _read_response(self, name: str, response: Members) -> None:
        if not self._started:
            self._started = True
            model = response.string("model")
            self._events.append(Started(id=response.string("id"), model=model, created=created_of(response)))
        if name in ("response.completed", "response.incomplete", "response.failed", "response.cancelled"):
            if name in ("response.failed", "response.cancelled"):
                response.value.setdefault("status", name.removeprefix("response."))
            self._end(response)

    def _end(self, response: Members) -> None:
        reason, native = read_ending(response)
        for index, item in enumerate(response.objects("output")):
            if index not in self._done:
                self._end_item(index, item)
        for index in sorted({place for place, _ in self._open}):
            self._end_item(index, Members(self._added.get(index, {}), "", wrong_answer))
        tokens = all_logprobs(response)
        if len(tokens) > self._logprobs:
            self._events.append(LogprobsAdded(0, tokens[self._logprobs :]))
        self._events.append(ChoiceEnded(0, finish_of(self._parts, reason), native))
        usage = read_usage(response)
        tier = response.string("service_tier")
        if usage is not None:
            self._events.append(UsageReported(usage, beyond(response) or None, tier))
        self._over = True
        self._events.append(Ended())

    def _item_added(self, event: Members) -> None:
        index, item = _place(event), event.object("item")
        if item is None:
            return
        self._added[index] = item.value
        kind = item.value.get("type")
        if kind in ("function_call", "custom_tool_call", "reasoning"):
            self._begin(index, 0, read_output_item(item)[0])

    def _item_done(self, event: Members) -> None:
        index, item = _place(event), event.object("item")
        if item is not None and index not in self._done:
            self._end_item(index, item)

    def _content_added(self, event: Members) -> None:
        self._content(event, event.value.get("part"))

    def _delta(self, event: Members) -> None:
        """More of a text, a refusal, a call's arguments, reasoning."""
        text = event.string("delta")
        kind = event.value.get("type")
        part: dict[str, Any] = {"type": "refusal", "refusal": ""} if kind == "response.refusal.delta" else {}
        found = self._content(event, part or {"type": "output_text", "text": ""})
        if found is None:
            return
        if text:
            found.text.append(text)
            self._events.append(PartDelta(0, found.index, text))
        if kind == "response.output_text.delta" and event.value.get("logprobs"):
            tokens = read_logprobs(event)
            self._logprobs += len(tokens)
            self._events.append(LogprobsAdded(0, tokens))

    def _summary_delta(self, event: Members) -> None:
        section = event.integer("summary_index", 0, 10_000) or 0
        found = self._content(event, None)
        text = event.string("delta")
        if found is None or not text:
            return
        while len(found.sections) <= section:
            found.sections.append([])
        found.sections[section].append(text)
        self._events.append(SummaryDelta(0, found.index, section, text))

    def _annotation(self, event: Members) -> None:
        found = self._content(event, {"type": "output_text", "text": ""})
        annotation = event.object("annotation")
        if found is not None and annotation is not None:
            found.citations += 1
            self._events.append(CitationAdded(0, found.index, read_citation(annotation)))

    def _content(self, event: Members, part: Any) -> _OpenPart | None:
        """The open part that an event is about, begun as ``part`` when it is new; None when it can't be."""
        index = _place(event)
        number = event.integer("content_index", 0, 10_000) or 0
        added = self._added.get(index)
        if added is not None and added.get("type") != "message":
            number = 0
        found = self._open.get((index, number))
        if found is not None or index in self._done or added is None or added.get("type") != "message":
            return found
        if not isinstance(part, dict):
            return None
        item = {**added, "content": [part]}
        parts = read_output_item(Members(item, "item", wrong_answer))
        if number > 0:
            parts[0].item_id = None
            parts[0].extra = None
        return self._begin(index, number, parts[0])

    def _begin(self, index: int, number: int, part: AnyPart) -> _OpenPart:
        """A part begins, empty: its text follows."""
        start = msgspec.structs.replace(part)
        if isinstance(start, TextPart | RefusalPart | ReasoningPart):
            start.text = ""
        if isinstance(start, TextPart):
            start.citations = None
        elif isinstance(start, ReasoningPart):
            start.summary = start.opaque = None
        elif isinstance(start, ToolCallPart):
            start.arguments = ""
        found = self._open[index, number] = _OpenPart(len(self._parts), start)
        self._parts.append(start)
        self._events.append(PartStarted(0, found.index, start))
        return found

    def _end_item(self, index: int, item: Members) -> None:
        """An item is whole: what of it did not come yet comes now, and its parts end."""
        self._done.add(index)
        for number, part in enumerate(read_output_item(item)):
            found = self._open.pop((index, number), None)
            if found is None:
                if isinstance(part, NativePart):
                    self._whole(part)
                    continue
                found = self._begin(index, number, part)
                self._open.pop((index, number))
            self._complete(found, part)
            self._events.append(PartEnded(0, found.index))
        for place in [place for place in self._open if place[0] == index]:
            self._events.append(PartEnded(0, self._open.pop(place).index))

    def _whole(self, part: NativePart) -> None:
        index = len(self._parts)
        self._parts.append(part)
        self._events += (PartStarted(0, index, part), PartEnded(0, index))

    def _complete(self, found: _OpenPart, part: AnyPart) -> None:
        """The rest of a part, known from its whole."""
        whole = part.arguments if isinstance(part, ToolCallPart) else getattr(part, "text", "")
        rest = _rest(whole, found.text)
        if isinstance(part, ReasoningPart):
            for section, summary in enumerate(part.summary or ()):
                told = found.sections[section] if section < len(found.sections) else []
                if more := _rest(summary, told):
                    self._events.append(SummaryDelta(0, found.index, section, more))
            if part.opaque is not None:
                self._events.append(OpaqueSet(0, found.index, part.opaque))
        if rest:
            self._events.append(PartDelta(0, found.index, rest))
        if isinstance(part, TextPart):
            for citation in (part.citations or [])[found.citations :]:
                self._events.append(CitationAdded(0, found.index, citation))


def _rest(whole: str, told: list[str]) -> str:
    """What of ``whole`` was not told yet; nothing when something else was told."""
    text = "".join(told)
    return whole[len(text) :] if whole.startswith(text) else ""


def _place(event: Members) -> int:
    return event.integer("output_index", 0, 100_000) or 0


_READERS: Final = {
    "response.output_item.added": StreamParser._item_added,
    "response.output_item.done": StreamParser._item_done,
    "response.content_part.added": StreamParser._content_added,
    "response.output_text.delta": StreamParser._delta,
    "response.refusal.delta": StreamParser._delta,
    "response.function_call_arguments.delta": StreamParser._delta,
    "response.custom_tool_call_input.delta": StreamParser._delta,
    "response.reasoning_text.delta": StreamParser._delta,
    "response.reasoning_summary_text.delta": StreamParser._summary_delta,
    "response.output_text.annotation.added": StreamParser._annotation,
}
