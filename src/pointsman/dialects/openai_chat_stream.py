"""Writes a streamed answer of our own words as chat completion chunks."""

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
    TranscriptDelta,
    UsageReported,
)
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    Extra,
    ImagePart,
    Opaque,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
)
from pointsman.canonical.request import Request
from pointsman.canonical.usage import TokenUsage
from pointsman.dialects.openai_chat_response import AnswerWriter, answer_id, image, unwrapped
from pointsman.dialects.openai_errors import render_stream_error
from pointsman.errors import GatewayError
from pointsman.wire.openai_chat_parts import WIRE, write_logprobs, write_usage

Json = dict[str, Any]
_encode: Final = msgspec.json.Encoder().encode
DONE: Final = b"data: [DONE]\n\n"


class _Choice:
    """What a choice has said so far."""

    __slots__ = ("calls", "parts", "refused", "spoke")

    def __init__(self) -> None:
        self.parts: dict[int, _Part] = {}
        self.calls = 0
        self.spoke = False
        self.refused = False


class _Part:
    """An open part: what the last piece of it will need."""

    __slots__ = ("held", "length", "part", "place", "sections", "start")

    def __init__(self, part: AnyPart, place: int) -> None:
        self.part = part
        self.place = place  # a call's index
        self.held: list[str] = []  # text that can't go out yet, or is needed whole at the end
        self.sections: list[str] = []
        self.start = b""  # of a chunk that holds more of this part's text
        self.length = 0


class StreamRenderer:
    """Writes chunks for one client. After `Failed` or `Ended` nothing more comes. ``writer``: of the whole parts."""

    writer: type[AnswerWriter] = AnswerWriter

    def __init__(self, request: Request, identity: Identity, fidelity: Fidelity) -> None:
        self._request = request
        self._identity = identity
        self._fidelity = fidelity
        self._writer = self.writer(request, fidelity, WIRE)
        self._choices: dict[int, _Choice] = {}
        self._usage: TokenUsage | None = None
        self._usage_extra: Extra | None = None
        self._tail = b',"usage":null}\n\n' if request.include_usage else b"}\n\n"
        self._head = b""
        self._over = False

    def feed(self, event: AnyEvent) -> bytes:
        """The chunks that an event gives."""
        if self._over:
            return b""
        match event:
            case PartDelta():
                return self._delta(event)
            case PartStarted():
                return self._start(event)
            case PartEnded():
                return self._end(event)
            case SummaryDelta():
                return self._summary(event)
            case TranscriptDelta():
                return self._chunk(event.choice, {"audio": {"transcript": event.text}})
            case OpaqueSet():
                return self._opaque(event.choice, event.index, event.opaque)
            case CitationAdded():
                return self._citation(event)
        return self._feed_whole(event)

    def _feed_whole(self, event: AnyEvent) -> bytes:
        """Events about a choice or the whole answer."""
        match event:
            case Started():
                self._begin(event)
            case LogprobsAdded():
                logged = b',"logprobs":%b' % _encode(write_logprobs(event.tokens))
                return self._role(event.choice, True) + self._chunk(event.choice, {}, logged)
            case ChoiceEnded():
                return self._end_choice(event)
            case UsageReported():
                self._usage, self._usage_extra = event.usage, event.extra
            case Failed():
                self._over = True
                return self._fail(event.error)
            case Ended():
                self._over = True
                return self._last() + DONE
        return b""

    def _fail(self, error: GatewayError) -> bytes:
        """The end of a stream that broke."""
        return render_stream_error(error, self._identity.request_id)

    def _begin(self, event: Started) -> None:
        request, identity = self._request, self._identity
        out: Json = {
            "id": answer_id(event.id, identity),
            "object": "chat.completion.chunk",
            "created": event.created or identity.created,
            "model": event.model or request.model,
        }
        if event.service_tier is not None:
            out["service_tier"] = event.service_tier
        for name, value in (event.extra or {}).items():
            if name in ("system_fingerprint", "provider"):
                out[name] = value
            else:
                self._fidelity.unplaced(f"response.{name}", value, "chunks have no such member")
        self._head = b'data: %b,"choices":[' % _encode(out)[:-1]

    def _chunk(self, choice: int, delta: Json, more: bytes = b',"logprobs":null', reason: str | None = None) -> bytes:
        if not self._head:
            self._begin(Started())
        return b'%b{"index":%d,"delta":%b%b,"finish_reason":%b}]%b' % (
            self._head, choice, _encode(delta), more, _encode(reason), self._tail,
        )  # fmt: skip

    def _of(self, choice: int) -> _Choice:
        found = self._choices.get(choice)
        if found is None:
            found = self._choices[choice] = _Choice()
        return found

    def _role(self, choice: int, text: bool) -> bytes:
        """The first chunk of a choice: who speaks."""
        state = self._of(choice)
        if state.spoke:
            return b""
        state.spoke = True
        return self._chunk(choice, {"role": "assistant", "content": "" if text else None, "refusal": None})

    def _start(self, event: PartStarted) -> bytes:
        state, part = self._of(event.choice), event.part
        opened = state.parts[event.index] = _Part(part, state.calls)
        out = self._role(event.choice, isinstance(part, TextPart))
        match part:
            case TextPart():
                out += self._open_text(event.choice, opened, "content", part.text)
            case RefusalPart():
                state.refused = True
                out += self._open_text(event.choice, opened, "refusal", part.text)
            case ReasoningPart():
                out += self._open_text(event.choice, opened, self._writer.thought_member, part.text)
                opened.held.append(part.text)
            case ToolCallPart():
                state.calls += 1
                out += self._open_call(event.choice, opened, part)
            case ImagePart():
                out += self._chunk(event.choice, {"images": [image(part)]})
            case AudioPart():
                out += self._open_audio(event.choice, part)
            case _:
                kind = getattr(part, "type", type(part).__name__)
                self._fidelity.dropped(f"response.{kind}", "no such part in Chat Completions")
        if part.opaque is not None and not isinstance(part, ToolCallPart):
            out += self._opaque(event.choice, event.index, part.opaque)
        return out

    def _open_text(self, choice: int, opened: _Part, member: str, text: str) -> bytes:
        opened.start = b'%b{"index":%d,"delta":{"%b":' % (self._head, choice, member.encode())
        opened.length = len(text)
        return self._chunk(choice, {member: text}) if text else b""

    def _open_call(self, choice: int, opened: _Part, part: ToolCallPart) -> bytes:
        if self._is_wrapped(part) or (self._writer.legacy and opened.place):
            opened.held.append(part.arguments)  # goes out whole at its end, or not at all
            return b""
        if self._writer.legacy:
            return self._chunk(choice, {"function_call": {"name": part.name, "arguments": part.arguments}})
        if part.kind == "custom":
            inner: Json = {"type": "custom", "custom": {"name": part.name, "input": part.arguments}}
        else:
            inner = {"type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        opened.length = len(part.arguments)
        call = {"index": opened.place, "id": part.id, **inner, **self._writer.call_state(part.opaque)}
        return self._chunk(choice, {"tool_calls": [call]})

    def _is_wrapped(self, part: ToolCallPart) -> bool:
        """True for a custom tool's call that comes as a function's with one text."""
        return part.kind == "function" and part.name in self._writer.custom

    def _open_audio(self, choice: int, part: AudioPart) -> bytes:
        opening: Json = {} if part.id is None else {"id": part.id}
        if part.source.data:
            opening["data"] = part.source.data
        if part.transcript:
            opening["transcript"] = part.transcript
        return self._chunk(choice, {"audio": opening}) if opening else b""

    def _delta(self, event: PartDelta) -> bytes:
        opened = self._of(event.choice).parts.get(event.index)
        if opened is None:
            return b""
        if opened.start:
            opened.length += len(event.text)
            if isinstance(opened.part, ReasoningPart):
                opened.held.append(event.text)
            return b'%b%b},"logprobs":null,"finish_reason":null}]%b' % (opened.start, _encode(event.text), self._tail)
        if isinstance(opened.part, AudioPart):
            return self._chunk(event.choice, {"audio": {"data": event.text}})
        if not isinstance(opened.part, ToolCallPart):
            return b""
        if opened.held:
            opened.held.append(event.text)
            return b""
        opened.length += len(event.text)
        return self._chunk(event.choice, self._more_of_call(opened, event.text))

    def _more_of_call(self, opened: _Part, text: str) -> Json:
        assert isinstance(opened.part, ToolCallPart)
        if self._writer.legacy:
            return {"function_call": {"arguments": text}}
        if opened.part.kind == "custom":
            return {"tool_calls": [{"index": opened.place, "custom": {"input": text}}]}
        return {"tool_calls": [{"index": opened.place, "function": {"arguments": text}}]}

    def _summary(self, event: SummaryDelta) -> bytes:
        opened = self._of(event.choice).parts.get(event.index)
        if opened is None:
            return b""
        text = event.text
        if len(opened.sections) <= event.section:
            if opened.sections:
                text = f"\n\n{text}"
            opened.sections.append("")
        opened.sections[-1] += event.text
        return self._chunk(event.choice, {self._writer.thought_member: text})

    def _opaque(self, choice: int, index: int, opaque: Opaque) -> bytes:
        """State goes out with the whole text it belongs to, so that a client that only appends can send it back."""
        opened = self._of(choice).parts.get(index)
        if opened is None:
            return b""
        if isinstance(opened.part, ToolCallPart):
            return self._call_state(choice, opened, opaque)
        whole: AnyPart
        if isinstance(opened.part, ReasoningPart):
            whole = ReasoningPart(text="".join(opened.held), summary=opened.sections or None, opaque=opaque)
        else:
            whole = TextPart(text="", opaque=opaque)
        details = self._writer.details(whole, index)
        return self._chunk(choice, {"reasoning_details": details}) if details else b""

    def _call_state(self, choice: int, opened: _Part, opaque: Opaque) -> bytes:
        if opened.held:
            opened.part = msgspec.structs.replace(opened.part, opaque=opaque)  # goes out with the call
            return b""
        state = self._writer.call_state(opaque)
        if not state or self._writer.legacy:
            return b""
        piece = self._more_of_call(opened, "")["tool_calls"][0]  # without a function, some clients refuse the chunk
        return self._chunk(choice, {"tool_calls": [piece | state]})

    def _citation(self, event: CitationAdded) -> bytes:
        opened = self._of(event.choice).parts.get(event.index)
        written = self._writer.annotation(event.citation, opened.length if opened is not None else 0)
        return self._chunk(event.choice, {"annotations": [written]}) if written is not None else b""

    def _end(self, event: PartEnded) -> bytes:
        opened = self._of(event.choice).parts.pop(event.index, None)
        if opened is None or not isinstance(opened.part, ToolCallPart):
            if opened is not None and isinstance(opened.part, AudioPart) and opened.part.expires_at is not None:
                return self._chunk(event.choice, {"audio": {"expires_at": opened.part.expires_at}})
            return b""
        if self._writer.legacy and opened.place:
            self._fidelity.dropped("response.tool_calls", f"one function call alone fits here, not {opened.part.name}")
            return b""
        if opened.held:
            given = unwrapped("".join(opened.held))
            inner = {"type": "custom", "custom": {"name": opened.part.name, "input": given}}
            state = self._writer.call_state(opened.part.opaque)
            call = {"index": opened.place, "id": opened.part.id, **inner, **state}
            return self._chunk(event.choice, {"tool_calls": [call]})
        if opened.length or opened.part.kind == "custom":
            return b""
        return self._chunk(event.choice, self._more_of_call(opened, "{}"))

    def _end_choice(self, event: ChoiceEnded) -> bytes:
        state = self._of(event.choice)
        out = self._role(event.choice, True)
        reason = self._writer.reason(event.finish_reason, bool(state.calls), state.refused)
        for name, value in (event.extra or {}).items():
            self._fidelity.unplaced(f"response.choices[{event.choice}].{name}", value, "chunks have no such member")
        return out + self._chunk(event.choice, {}, reason=reason)

    def _last(self) -> bytes:
        """The usage that the client asked for."""
        if not self._request.include_usage or self._usage is None:
            return b""
        if not self._head:
            self._begin(Started())
        return b'%b],"usage":%b}\n\n' % (self._head, _encode(write_usage(self._usage)))
