"""One choice of a Chat Completions answer as it comes in: deltas in, events out. A whole message is one large delta."""

from typing import Any

from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    CitationAdded,
    LogprobsAdded,
    OpaqueSet,
    PartDelta,
    PartEnded,
    PartStarted,
    SummaryDelta,
    TranscriptDelta,
)
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    Extra,
    ImagePart,
    Opaque,
    ReasoningPart,
    RefusalPart,
    Source,
    TextPart,
    ToolCallPart,
)
from pointsman.canonical.response import FinishReason
from pointsman.providers.think_tags import ThinkSplitter
from pointsman.wire.members import Members, wrong_answer
from pointsman.wire.openai_chat_parts import (
    REASONS,
    WIRE,
    encode_text,
    read_annotation,
    read_logprobs,
    read_opaque,
    read_source,
    read_thought_signature,
)
from pointsman.wire.openai_chat_reasoning import NAMES


class ChoiceReader:
    """Reads one choice. ``ended`` is true after its finish reason."""

    def __init__(self, number: int, identity: Identity) -> None:
        self._number = number
        self._identity = identity
        self._count = 0  # parts so far
        self._open: dict[str, int] = {}  # what kind of part is open, and its index
        self._calls: dict[int, _Call] = {}  # by the upstream's index
        self._called = 0
        self._thought: list[str] = []  # text of the open reasoning part
        self._sections = 0
        self._splitter: ThinkSplitter | None = ThinkSplitter()
        self._refused = False
        self._signatures: dict[str, Opaque] = {}  # Gemini's, by the call they belong to
        self._extra: Extra = {}
        self.ended = False

    def feed(self, delta: Members, choice: Members) -> list[AnyEvent]:
        """The events of one delta (or message) and of what stands beside it."""
        out: list[AnyEvent] = []
        content = delta.raw("content")
        more = holds_more(delta.value)
        if more and not delta.value.keys().isdisjoint(NAMES):
            self._read_reasoning(delta, out)
        if isinstance(content, str):
            if content:
                self._say(content, out)
        elif isinstance(content, list):
            self._read_parts(delta, out)
        if more:
            if delta.value.get("annotations"):
                self._cite(delta, out)
            else:
                delta.ignore("annotations")
            self._read_others(delta, out)
            for item in delta.objects("tool_calls"):
                self._read_call(item, out)
            legacy = delta.object("function_call")
            if legacy is not None:
                self._read_function_call(legacy, out)
            self._read_beside(delta, out)
        logprobs = choice.object("logprobs")
        if logprobs is not None and (tokens := read_logprobs(logprobs)):
            out.append(LogprobsAdded(self._number, tokens))
        return out

    def more_text(self, text: str, out: list[AnyEvent]) -> bool:
        """More of a text that is plain and open; False when `feed` has to look at it."""
        index = self._open.get("text")
        if index is None or self.ended or not (self._splitter is None or self._splitter.settled):
            return False
        if text:
            out.append(PartDelta(self._number, index, text))
        return True

    def finish(self, native: str | None, choice_extra: Extra | None) -> list[AnyEvent]:
        """Every open part ended, then the choice."""
        out: list[AnyEvent] = []
        self._flush(out)
        for kind in list(self._open):
            self._close(kind, out)
        for call in self._calls.values():
            if call.index is None:
                self._start_call(call, out)
        for call in sorted(self._calls.values(), key=lambda one: one.index or 0):
            out.append(PartEnded(self._number, call.index or 0))
        self.ended = True
        extra = {**self._extra, **(choice_extra or {})} or None
        out.append(ChoiceEnded(self._number, self._reason(native), native, None, extra))
        return out

    def _reason(self, native: str | None) -> FinishReason:
        reason = REASONS.get(native or "", FinishReason.STOP)
        if reason is FinishReason.STOP and self._called:
            return FinishReason.TOOL_CALLS
        return FinishReason.REFUSAL if reason is FinishReason.STOP and self._refused else reason

    def _start(self, kind: str, part: AnyPart, out: list[AnyEvent]) -> int:
        index = self._open[kind] = self._new()
        out.append(PartStarted(self._number, index, part))
        return index

    def _new(self) -> int:
        self._count += 1
        return self._count - 1

    def _close(self, kind: str, out: list[AnyEvent]) -> None:
        index = self._open.pop(kind, None)
        if index is None:
            return
        if kind == "reasoning" and self._thought:
            text = "".join(self._thought)
            out.append(OpaqueSet(self._number, index, Opaque(origin=WIRE, kind="reasoning_content", data=text)))
        if kind in ("reasoning", "tagged"):
            self._thought, self._sections = [], 0
        out.append(PartEnded(self._number, index))

    def _say(self, text: str, out: list[AnyEvent]) -> None:
        if self._splitter is None or self._splitter.settled:
            self._text(text, out)
            return
        for thought, piece in self._splitter.feed(text):
            self._piece(thought, piece, out)

    def _piece(self, thought: bool, piece: str, out: list[AnyEvent]) -> None:
        if not thought:
            self._text(piece, out)
            return
        index = self._open.get("tagged")
        if index is None:
            index = self._start("tagged", ReasoningPart(), out)
        out.append(PartDelta(self._number, index, piece))

    def _flush(self, out: list[AnyEvent]) -> None:
        if self._splitter is not None:
            splitter, self._splitter = self._splitter, None
            for thought, piece in splitter.finish():
                self._piece(thought, piece, out)

    def _text(self, text: str, out: list[AnyEvent]) -> None:
        index = self._open.get("text")
        if index is None:
            self._end_thinking(out)
            index = self._start("text", TextPart(text=""), out)
        out.append(PartDelta(self._number, index, text))

    def _end_thinking(self, out: list[AnyEvent]) -> None:
        self._close("reasoning", out)
        self._close("tagged", out)

    def _read_parts(self, delta: Members, out: list[AnyEvent]) -> None:
        """Mistral's content in parts, and others' that hold text or pictures."""
        for item in delta.objects("content"):
            match item.string("type"):
                case "text":
                    self._splitter = None
                    if text := item.string("text"):
                        self._text(text, out)
                case "thinking":
                    self._think("".join(one.string("text") or "" for one in item.objects("thinking")), out)
                case "image_url":
                    self._image(item, out)
                case kind:
                    self._extra.setdefault("message", {}).setdefault("content", []).append({"type": kind, **item.value})

    def _think(self, text: str, out: list[AnyEvent]) -> None:
        if not text:
            return
        index = self._open.get("reasoning")
        if index is None:
            index = self._start("reasoning", ReasoningPart(), out)
        self._splitter = None
        self._thought.append(text)
        out.append(PartDelta(self._number, index, text))

    def _read_reasoning(self, delta: Members, out: list[AnyEvent]) -> None:
        text = delta.string("reasoning_content") or delta.string("reasoning")
        delta.ignore("reasoning_content", "reasoning")
        details = delta.objects("reasoning_details")
        if not details:
            self._think(text or "", out)
            return
        for detail in details:
            self._read_detail(detail, out)
        if text and not any(one.value.get("text") or one.value.get("summary") for one in details):
            self._think(text, out)

    def _read_detail(self, detail: Members, out: list[AnyEvent]) -> None:
        """One entry of ``reasoning_details``: text, a summary, or the state behind what came before."""
        self._splitter = None
        kind, opaque = detail.string("type"), read_opaque(detail)
        if kind == "reasoning.summary":
            index = self._open.get("reasoning")
            if index is None:
                index = self._start("reasoning", ReasoningPart(), out)
            if summary := detail.string("summary"):
                out.append(SummaryDelta(self._number, index, self._sections, summary))
                self._sections += 1
        elif kind == "reasoning.text" and (text := detail.string("text")) and text != "".join(self._thought):
            self._think(text, out)  # a signed entry may hold once more what came before it
        if opaque is None:
            return
        if opaque.kind == "thought_signature" and opaque.id is not None:
            self._signatures[opaque.id] = opaque
            return
        index = self._open.get("reasoning")
        if index is None:
            index = self._start("reasoning", ReasoningPart(), out)
        self._thought = []  # its own state stands for it
        out.append(OpaqueSet(self._number, index, opaque))
        self._close("reasoning", out)

    def _cite(self, delta: Members, out: list[AnyEvent]) -> None:
        """Sources of the open text, before calls end it; those of a text that is over stay as they are."""
        self._flush(out)
        index = self._open.get("text")
        if index is not None:
            out += [CitationAdded(self._number, index, read_annotation(item)) for item in delta.objects("annotations")]

    def _read_others(self, delta: Members, out: list[AnyEvent]) -> None:
        refusal = delta.string("refusal")
        if refusal:
            self._refused = True
            index = self._open.get("refusal")
            if index is None:
                self._end_thinking(out)
                index = self._start("refusal", RefusalPart(text=""), out)
            out.append(PartDelta(self._number, index, refusal))
        audio = delta.object("audio")
        if audio is not None:
            self._hear(audio, out)
        for image in delta.objects("images"):
            self._image(image, out)

    def _image(self, item: Members, out: list[AnyEvent]) -> None:
        inner = item.value.get("image_url")
        url = inner.get("url") if isinstance(inner, dict) else inner
        if isinstance(url, str):
            index = self._new()
            out += [
                PartStarted(self._number, index, ImagePart(source=read_source(url))),
                PartEnded(self._number, index),
            ]

    def _hear(self, audio: Members, out: list[AnyEvent]) -> None:
        """Sound: its name comes first, its end last."""
        index = self._open.get("audio")
        if index is None:
            self._end_thinking(out)
            part = AudioPart(source=Source(), id=audio.string("id"), expires_at=audio.integer("expires_at"))
            index = self._start("audio", part, out)
        elif (expires := audio.integer("expires_at")) is not None:
            self._extra.setdefault("message", {})["audio"] = {"expires_at": expires}  # a part's start is past
        if transcript := audio.string("transcript"):
            out.append(TranscriptDelta(self._number, index, transcript))
        if data := audio.string("data"):
            out.append(PartDelta(self._number, index, data))

    def _read_call(self, item: Members, out: list[AnyEvent]) -> None:
        """A piece of a call. Calls are told apart by index; where hosts give all the same one, by their ids."""
        place, identifier = item.integer("index"), item.string("id") or None
        if place is None:
            place = self._place_of(identifier, item)
        call = self._calls.get(place)
        if call is not None and identifier is not None and call.id not in (None, identifier):
            place = self._place_of(identifier, item)
            call = self._calls.get(place)
        if call is None:
            call = self._calls[place] = _Call(item)
        call.id = call.id or identifier
        inner = item.object("custom") or item.object("function") or Members({}, item.path, wrong_answer)
        if "custom" in item:
            call.kind = "custom"
        call.name = call.name or inner.string("name")
        text = _arguments(inner)
        if call.index is None:
            call.held += text
            if call.name is not None:
                self._start_call(call, out)
        elif text:
            out.append(PartDelta(self._number, call.index, text))

    def _place_of(self, identifier: str | None, item: Members) -> int:
        named = item.object("function") or item.object("custom")
        begins = named is not None and "name" in named
        if identifier is not None or begins:
            known = (place for place, call in self._calls.items() if identifier is not None and call.id == identifier)
            return next(known, max(self._calls, default=-1) + 1)
        return max(self._calls, default=0)

    def _start_call(self, call: "_Call", out: list[AnyEvent]) -> None:
        self._flush(out)
        for kind in list(self._open):
            self._close(kind, out)
        call.index = self._new()
        if call.id is None:
            call.id = self._identity.derive("call_", self._number * 1000 + self._called)
        self._called += 1
        part = ToolCallPart(id=call.id, name=call.name or "", kind=call.kind)  # type: ignore[arg-type]
        part.opaque = call.opaque or self._signatures.pop(call.id, None)
        out.append(PartStarted(self._number, call.index, part))
        if call.held:
            out.append(PartDelta(self._number, call.index, call.held))

    def _read_function_call(self, legacy: Members, out: list[AnyEvent]) -> None:
        self._read_call(Members({"index": 0, "function": legacy.value}, legacy.path, wrong_answer), out)

    def _read_beside(self, delta: Members, out: list[AnyEvent]) -> None:
        delta.ignore("role")
        rest = delta.rest()
        if rest:
            self._extra["message"] = {**self._extra.get("message", {}), **rest}


def holds_more(delta: Extra) -> bool:
    """Whether there is anything in a delta beside its content: most hold nothing else."""
    for name, value in delta.items():
        if value is not None and name not in ("role", "content") and (value or name != "annotations"):
            return True
    return False


class _Call:
    """A tool call that is coming in; ``index`` is its part's once it was started."""

    __slots__ = ("held", "id", "index", "kind", "name", "opaque")

    def __init__(self, item: Members) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.kind = "function"
        self.held = ""
        self.index: int | None = None
        self.opaque = read_thought_signature(item)


def _arguments(inner: Members) -> str:
    value: Any = inner.raw("arguments")
    if value is None:
        value = inner.raw("input")
    if isinstance(value, str):
        return value
    return "" if value is None else encode_text(value)
