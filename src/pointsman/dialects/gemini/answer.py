"""Gemini answers: parts, candidates and usage from our own words."""

from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    Citation,
    FilePart,
    ImagePart,
    NativePart,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    VideoPart,
)
from pointsman.canonical.request import Request
from pointsman.canonical.response import Choice, FinishReason, Response, TokenLogprob
from pointsman.canonical.usage import TokenUsage
from pointsman.wire.gemini import ANSWER_EXTRA, AUDIO, CANDIDATE_EXTRA, FINISH, IMAGE, TEXT, WIRE, object_in
from pointsman.wire.gemini_schema import BLOCK_REASONS, FINISH_REASONS

Json = dict[str, Any]

_FINISH: Final = {
    FinishReason.STOP: "STOP",
    FinishReason.STOP_SEQUENCE: "STOP",
    FinishReason.TOOL_CALLS: "STOP",
    FinishReason.PAUSE: "STOP",
    FinishReason.LENGTH: "MAX_TOKENS",
    FinishReason.CONTEXT_LENGTH: "MAX_TOKENS",
    FinishReason.CONTENT_FILTER: "SAFETY",
    FinishReason.REFUSAL: "SAFETY",
    FinishReason.MALFORMED_CALL: "MALFORMED_FUNCTION_CALL",
    FinishReason.ERROR: "OTHER",
}
_MALFORMED: Final = "MALFORMED_FUNCTION_CALL"

_encode: Final = msgspec.json.Encoder().encode


def write_response(response: Response, request: Request, identity: Identity, fidelity: Fidelity) -> bytes:
    """A whole answer as generateContent gives it."""
    frame = Frame(response.id or identity.derive("", length=22), response.model or request.model)
    candidates = [candidate_of(choice, request, fidelity) for choice in response.choices if not is_blocked(choice)]
    extra = told(response.extra, ANSWER_EXTRA, fidelity)
    for choice in response.choices:
        extra.update(told(choice.extra, ANSWER_EXTRA))
    made = frame.around(candidates, usage_of(response.usage, extra.pop("usageMetadata", None), fidelity))
    return _encode({**made, **extra})


def told(extra: Json | None, known: frozenset[str], fidelity: Fidelity | None = None) -> Json:
    """Of what an upstream said beyond our words, that which Gemini's answers have a place for; the rest is noted."""
    for name, value in (extra or {}).items():
        if fidelity is not None and name not in known:
            fidelity.unplaced(f"response.{name}", value, "Gemini's answers have no such member")
    return {key: value for key, value in (extra or {}).items() if key in known}


class Frame:
    """What every chunk of an answer says of the whole."""

    __slots__ = ("_id", "_model")

    def __init__(self, response_id: str, model: str) -> None:
        self._id = response_id
        self._model = model

    def around(self, candidates: list[Json], usage: Json | None) -> Json:
        """A chunk, or a whole answer."""
        made: Json = {"candidates": candidates} if candidates else {}
        if usage is not None:
            made["usageMetadata"] = usage
        made["modelVersion"] = self._model
        made["responseId"] = self._id
        return made


def is_blocked(choice: Choice) -> bool:
    """True when the choice says that Gemini refused the prompt: there is no candidate then."""
    return choice.native_finish_reason in BLOCK_REASONS and "promptFeedback" in (choice.extra or {})


def candidate_of(choice: Choice, request: Request, fidelity: Fidelity) -> Json:
    """One candidate, whole."""
    writer = PartWriter(request, fidelity, choice.index)
    parts = [part for number, one in enumerate(choice.parts) for part in writer.parts(one, number)]
    candidate: Json = {}
    if parts:
        candidate["content"] = {"parts": parts, "role": "model"}
    candidate["index"] = choice.index
    candidate.update(ending_of(choice, writer))
    if choice.logprobs:
        candidate["logprobsResult"] = logprobs_of(choice.logprobs)
    return candidate


def ending_of(choice: Choice, writer: "PartWriter") -> Json:
    """The members that say how a candidate ended."""
    ending = told(choice.extra, CANDIDATE_EXTRA)
    if choice.finish_reason is not None:
        ending["finishReason"] = _finish(choice.finish_reason, choice.native_finish_reason)
    if writer.malformed is not None:
        ending["finishReason"] = _MALFORMED
        ending["finishMessage"] = f"The arguments of the call of {writer.malformed!r} are no JSON object."
    if "groundingMetadata" not in ending and (grounding := _grounding(choice.parts)) is not None:
        ending["groundingMetadata"] = grounding
    return ending


def _finish(reason: FinishReason, native: str | None) -> str:
    """Google's own word where it came from there, else the one that means the same."""
    if native in FINISH_REASONS:
        meant = FINISH.get(native, FinishReason.ERROR)
        if meant is reason or (meant is FinishReason.STOP and reason is FinishReason.TOOL_CALLS):
            return native
    return _FINISH[reason]


class PartWriter:
    """Writes the parts of one candidate. ``malformed`` names a called function whose arguments are no object."""

    def __init__(self, request: Request, fidelity: Fidelity, choice: int) -> None:
        self.malformed: str | None = None
        self._hides_reasoning = request.reasoning is not None and request.reasoning.exclude is True
        self._fidelity = fidelity
        self._path = f"candidates[{choice}].content.parts"

    def parts(self, part: AnyPart, number: int) -> list[Json]:
        """Google's parts for one of ours: one, none when the client must not or can't see it."""
        made = self._of(part, number)
        if made is None:
            return []
        signature = self.signature(part, number)
        if not signature and made.get("text") == "":
            return []
        return [made | signature]

    def shows(self, part: AnyPart) -> bool:
        """False for reasoning that the client did not ask to see."""
        return not (self._hides_reasoning and isinstance(part, ReasoningPart))

    def signature(self, part: AnyPart, number: int) -> Json:
        """The thought signature of a part; what only another API can read is not for this client."""
        if part.opaque is None:
            return {}
        if part.opaque.origin == WIRE:
            return {"thoughtSignature": part.opaque.data}
        self._fidelity.dropped(f"{self._path}[{number}].opaque", f"only {part.opaque.origin} can read it")
        return {}

    def note_refusal(self, number: int) -> None:
        """Say in the ledger what became of a refusal."""
        self._fidelity.approximated(f"{self._path}[{number}]", "a refusal is text here")

    def _of(self, part: AnyPart, number: int) -> Json | None:
        match part:
            case TextPart():
                return {"text": part.text} if part.text or part.opaque is not None else None
            case ReasoningPart():
                text = reasoning_text(part)
                return {"text": text, "thought": True} if text and self.shows(part) else None
            case ToolCallPart():
                return self._call(part, number)
            case RefusalPart():
                self.note_refusal(number)
                return {"text": part.text}
            case NativePart():
                if part.wire == WIRE:
                    return part.value
        return self._media(part, number)

    def _call(self, part: ToolCallPart, number: int) -> Json | None:
        if part.kind == "custom":
            self._fidelity.approximated(f"{self._path}[{number}]", "a custom tool's input is a function's argument")
            arguments: Json | None = {"input": part.arguments}
        else:
            arguments = object_in(part.arguments) if part.arguments.strip() else {}
        if arguments is None:
            self.malformed = part.name
            return None
        return {"functionCall": {"id": part.id, "name": part.name, "args": arguments}}

    def _media(self, part: AnyPart, number: int) -> Json | None:
        if isinstance(part, AudioPart) and part.transcript and not part.source.data:
            return {"text": part.transcript}
        if isinstance(part, ImagePart | AudioPart | VideoPart | FilePart) and part.source is not None:
            source = part.source
            kind = {"mimeType": source.media_type or _media_type(part)}
            if source.data is not None:
                return {"inlineData": {**kind, "data": source.data}}
            return {"fileData": {**kind, "fileUri": source.url or source.file_id or ""}}
        self._fidelity.dropped(f"{self._path}[{number}]", "Gemini's answers have no such part")
        return None


def reasoning_text(part: ReasoningPart) -> str:
    """What can be shown of a thought: its text, or its summaries."""
    return "\n\n".join(filter(None, (*(part.summary or ()), part.text)))


def _media_type(part: AnyPart) -> str:
    if isinstance(part, AudioPart):
        return f"audio/{part.format or 'wav'}"
    return {ImagePart: "image/png", VideoPart: "video/mp4"}.get(type(part), "application/octet-stream")


def logprobs_of(tokens: list[TokenLogprob]) -> Json:
    """Log probabilities as Google has them."""
    result: Json = {"chosenCandidates": [_logprob(token) for token in tokens]}
    if any(token.top for token in tokens):
        result["topCandidates"] = [{"candidates": [_logprob(top) for top in token.top or ()]} for token in tokens]
    return result


def _logprob(token: TokenLogprob) -> Json:
    return {"token": token.token, "logProbability": token.logprob}


def usage_of(usage: TokenUsage | None, extra: Json | None, fidelity: Fidelity) -> Json | None:
    """Tokens as Google counts them: thoughts beside the answer, what was cached within the prompt."""
    if usage is None:
        return extra
    if usage.cache_write_tokens:
        fidelity.dropped("usage.cache_write_tokens", "Gemini's usage knows no writing to a cache")
    tool_prompt = (extra or {}).get("toolUsePromptTokenCount", 0)
    made: Json = {
        "promptTokenCount": usage.input_tokens - tool_prompt,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    if usage.cache_read_tokens:
        made["cachedContentTokenCount"] = usage.cache_read_tokens
    if usage.reasoning_tokens:
        made["thoughtsTokenCount"] = usage.reasoning_tokens
    if usage.input_audio_tokens:
        text = made["promptTokenCount"] - usage.input_audio_tokens
        made["promptTokensDetails"] = _details({TEXT: text, AUDIO: usage.input_audio_tokens})
    if usage.output_audio_tokens or usage.output_image_tokens:
        media = {AUDIO: usage.output_audio_tokens, IMAGE: usage.output_image_tokens}
        text = made["candidatesTokenCount"] - sum(media.values())
        made["candidatesTokensDetails"] = _details({TEXT: text, **media})
    return {**made, **(extra or {})}


def _details(counts: dict[str, int]) -> list[Json]:
    return [{"modality": modality, "tokenCount": count} for modality, count in counts.items() if count > 0]


def _grounding(parts: list[AnyPart]) -> Json | None:
    """Citations of other APIs as grounding: sources, and which text each of them supports."""
    chunks: list[Json] = []
    supports: list[Json] = []
    for number, part in enumerate(parts):
        if not isinstance(part, TextPart):
            continue
        for citation in part.citations or ():
            if citation.url is not None or citation.title is not None:
                chunks.append({"web": {"uri": citation.url or "", "title": citation.title or ""}})
                supports.append(_support(part.text, citation, number, len(chunks) - 1))
    if not chunks:
        return None
    return {"groundingChunks": chunks, "groundingSupports": supports}


def _support(text: str, citation: Citation, number: int, chunk: int) -> Json:
    segment: Json = {"partIndex": number} if number else {}
    if citation.start is not None and citation.end is not None:
        segment["startIndex"] = len(text[: citation.start].encode())
        segment["endIndex"] = len(text[: citation.end].encode())
        segment["text"] = text[citation.start : citation.end]
    elif citation.cited_text:
        segment["text"] = citation.cited_text
    return {"segment": segment, "groundingChunkIndices": [chunk]}
