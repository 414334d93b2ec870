"""Writes a whole answer of our own words as a chat completion."""

from typing import Any, Final

import msgspec

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
from pointsman.canonical.response import Choice, FinishReason, Response
from pointsman.wire.openai_chat_parts import (
    WIRE,
    encode_text,
    overlay,
    write_annotation,
    write_details,
    write_logprobs,
    write_source,
    write_thought_signature,
    write_usage,
)

Json = dict[str, Any]
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
_WORDS: Final = {
    FinishReason.STOP: "stop",
    FinishReason.STOP_SEQUENCE: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTEXT_LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.REFUSAL: "content_filter",
    FinishReason.PAUSE: "stop",
    FinishReason.MALFORMED_CALL: "error",
    FinishReason.ERROR: "error",
}
_NEARLY: Final = frozenset((FinishReason.PAUSE, FinishReason.MALFORMED_CALL, FinishReason.CONTEXT_LENGTH))


def write_response(response: Response, request: Request, identity: Identity, fidelity: Fidelity) -> bytes:
    """A chat completion; what has no place in it is noted."""
    return _encode(answer_of(AnswerWriter(request, fidelity, response.wire), response, request, identity))


def answer_of(writer: "AnswerWriter", response: Response, request: Request, identity: Identity) -> Json:
    """A chat completion as ``writer`` writes it."""
    out: Json = {
        "id": answer_id(response.id, identity),
        "object": "chat.completion",
        "created": response.created or identity.created,
        "model": response.model or request.model,
        "choices": [writer.choice(choice) for choice in response.choices],
    }
    if response.usage is not None:
        out["usage"] = write_usage(response.usage)
    if response.service_tier is not None:
        out["service_tier"] = response.service_tier
    return writer.with_extra(out, response.extra, "response")


def answer_id(identifier: str | None, identity: Identity) -> str:
    """The upstream's own id where it has this API's form, else one of that form."""
    own = identifier is not None and identifier.startswith(("chatcmpl-", "gen-"))
    return identifier if own and identifier is not None else identity.derive("chatcmpl-", 0, 29)


class AnswerWriter:
    """Writes choices and their parts for one client. ``thought_member``: where a message has what was thought."""

    thought_member = "reasoning_content"

    def __init__(self, request: Request, fidelity: Fidelity, wire: str) -> None:
        self._fidelity = fidelity
        self._same = wire == WIRE
        self.legacy = request.paths.get("tools") == "functions"
        self.custom = frozenset(tool.name for tool in request.tools if tool.kind == "custom")

    def with_extra(self, out: Json, extra: Extra | None, place: str) -> Json:
        """``out`` and what its upstream said beyond our words: where both speak the same API, else named."""
        for name, value in (extra or {}).items():
            if not self._same:
                self._fidelity.unplaced(f"{place}.{name}", value, "not a word of Chat Completions")
            elif isinstance(value, dict) and isinstance(out.get(name), dict):
                out[name] = overlay(out[name], value)
            else:
                out.setdefault(name, value)
        return out

    def choice(self, choice: Choice) -> Json:
        """One of the answers."""
        message = self.message(choice.parts)
        calls = bool(message.get("tool_calls") or message.get("function_call"))
        refused = message["refusal"] is not None
        out: Json = {
            "index": choice.index,
            "message": message,
            "logprobs": write_logprobs(choice.logprobs) if choice.logprobs else None,
            "finish_reason": self.reason(choice.finish_reason, calls, refused),
        }
        return self.with_extra(out, choice.extra, f"response.choices[{choice.index}]")

    def reason(self, reason: FinishReason | None, calls: bool, refused: bool) -> str:
        """Chat Completions' word for why a choice ended."""
        reason = reason or FinishReason.STOP
        if reason in _NEARLY:
            self._fidelity.approximated("response.finish_reason", f"{reason.value} is {_WORDS[reason]} here")
        if reason is FinishReason.REFUSAL and refused:
            return "stop"
        word = _WORDS[reason]
        return "function_call" if word == "tool_calls" and self.legacy and calls else word

    def message(self, parts: list[AnyPart]) -> Json:
        """The message of these parts."""
        texts = [part for part in parts if isinstance(part, TextPart)]
        if len(texts) == len(parts) == 1 and texts[0].opaque is None and not texts[0].citations:
            return {"role": "assistant", "content": texts[0].text, "refusal": None}
        refusals = [part.text for part in parts if isinstance(part, RefusalPart)]
        calls = [part for part in parts if isinstance(part, ToolCallPart)]
        out: Json = {"role": "assistant", "content": "".join(part.text for part in texts) if texts else None}
        out["refusal"] = "".join(refusals) if refusals else None
        self._add_reasoning(out, parts)
        annotations = self._annotations(texts)
        if annotations:
            out["annotations"] = annotations
        for part in parts:
            self._add_beside(out, part)
        if calls and self.legacy:
            out["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments or "{}"}
            for call in calls[1:]:
                self._fidelity.dropped("response.tool_calls", f"one function call alone fits here, not {call.name}")
        elif calls:
            out["tool_calls"] = [self.call(call) for call in calls]
        return out

    def _add_reasoning(self, out: Json, parts: list[AnyPart]) -> None:
        thoughts = [part for part in parts if isinstance(part, ReasoningPart)]
        text = "\n\n".join(filter(None, (visible(part.text, part.summary) for part in thoughts)))
        if text:
            out[self.thought_member] = text
        details: list[Extra] = []
        for part in parts:
            details += self.details(part, len(details))
        if details:
            out["reasoning_details"] = details

    def details(self, part: AnyPart, index: int) -> list[Extra]:
        """``reasoning_details`` of a part whose state a client has to send back."""
        opaque = part.opaque
        if opaque is None or opaque.kind == "reasoning_content":
            return []
        if isinstance(part, ReasoningPart):
            return write_details(part.text, part.summary, opaque, index)
        if isinstance(part, TextPart):
            return write_details("", None, opaque, index)
        return []  # a call holds its own

    def _annotations(self, texts: list[TextPart]) -> list[Extra]:
        found: list[Extra] = []
        for part in texts:
            for citation in part.citations or ():
                written = self.annotation(citation, len(part.text))
                if written is not None:
                    found.append(written)
        return found

    def annotation(self, citation: Any, length: int) -> Extra | None:
        """A source; None, with a note, for one without an address."""
        written = write_annotation(citation, length)
        if written is None:
            self._fidelity.dropped("response.citations", "a source without an address")
        return written

    def _add_beside(self, out: Json, part: AnyPart) -> None:
        match part:
            case AudioPart():
                out["audio"] = audio(part)
            case ImagePart():
                out.setdefault("images", []).append(image(part))
            case TextPart() | ReasoningPart() | RefusalPart() | ToolCallPart():
                pass
            case _:
                kind = getattr(part, "type", type(part).__name__)
                self._fidelity.dropped(f"response.{kind}", "no such part in Chat Completions")

    def call(self, part: ToolCallPart) -> Json:
        """A tool call."""
        out: Json = {"id": part.id}
        if part.kind == "custom" or part.name in self.custom:
            given = part.arguments if part.kind == "custom" else unwrapped(part.arguments)
            out |= {"type": "custom", "custom": {"name": part.name, "input": given}}
        else:
            out |= {"type": "function", "function": {"name": part.name, "arguments": part.arguments or "{}"}}
        return out | self.call_state(part.opaque)

    def call_state(self, opaque: Opaque | None) -> Json:
        """Google's signature of a call, where its own OpenAI-compatible API has it; other state is noted."""
        if opaque is None:
            return {}
        if opaque.kind == "thought_signature":
            return {"extra_content": write_thought_signature(opaque)}
        self._fidelity.dropped(f"response.tool_calls.{opaque.kind}", f"state of {opaque.origin}")
        return {}


def visible(text: str, summary: list[str] | None) -> str:
    """What can be read of a reasoning part."""
    return text or "\n\n".join(summary or ())


def audio(part: AudioPart) -> Json:
    """A spoken answer."""
    return {
        "id": part.id or "audio",
        "data": part.source.data or "",
        "expires_at": part.expires_at or 0,
        "transcript": part.transcript or "",
    }


def image(part: ImagePart) -> Json:
    """A picture of an answer, as OpenRouter has it."""
    return {"type": "image_url", "image_url": {"url": write_source(part.source, "image/png")}}


def unwrapped(arguments: str) -> str:
    """The text of a custom tool's call that went out as a function with one text."""
    try:
        value = _decode(arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return arguments
    if isinstance(value, dict) and isinstance(value.get("input"), str) and len(value) == 1:
        return str(value["input"])
    return arguments if isinstance(value, str) else encode_text(value)
