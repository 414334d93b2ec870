"""Answers in Ollama's words, whole or line by line; chat and generate differ in the shape of a piece alone."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

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
    SummaryDelta,
    TranscriptDelta,
    UsageReported,
)
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import (
    AnyPart,
    Extra,
    ImagePart,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
)
from pointsman.canonical.request import Request
from pointsman.canonical.response import FinishReason, Response
from pointsman.canonical.usage import TokenUsage
from pointsman.dialects.ollama.errors import render_stream_error
from pointsman.errors import GatewayError, Kind
from pointsman.wire.ollama import OWN_MEMBERS, done_reason, write_logprobs, write_time, write_usage

_SECTION: Final = "\n\n"
_FAILED: Final = frozenset((FinishReason.ERROR, FinishReason.MALFORMED_CALL))
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class Piece(msgspec.Struct, kw_only=True, gc=False):
    """Some of an answer."""

    text: str = ""
    thinking: str = ""
    images: list[str] = []
    calls: list[dict[str, Any]] = []


Shape = Callable[[Piece], dict[str, Any]]


def whole_answer(response: Response, request: Request, identity: Identity, fidelity: Fidelity, shape: Shape) -> bytes:
    """The buffered answer. Raises GatewayError(UPSTREAM_ERROR) when it can't be told in Ollama's words."""
    for choice in response.choices[1:]:
        fidelity.dropped(f"choices[{choice.index}]", "Ollama has one answer")
    piece = Piece(images=[], calls=[])
    reason: FinishReason | None = None
    answer = _head(response.model or request.model, response.created or identity.created)
    if response.choices:
        choice = response.choices[0]
        reason = choice.finish_reason
        for part in choice.parts:
            _add(part, piece, fidelity)
    if reason in _FAILED:
        raise _broken(reason)
    answer |= shape(piece)
    answer |= {"done": True, "done_reason": done_reason(reason)}
    answer |= _counts(response.usage, fidelity)
    answer |= _own(response.extra, fidelity)
    if response.choices and response.choices[0].logprobs:
        answer["logprobs"] = write_logprobs(response.choices[0].logprobs)
    return _encode(answer)


def loading_answer(request: Request, identity: Identity, shape: Shape) -> bytes | None:
    """The answer to a request that only loads or unloads a model, None for any other: no upstream is needed."""
    if request.messages:
        return None
    reason = "unload" if request.extra.get("keep_alive") in (0, "0", "0s") else "load"
    head = _head(request.model, identity.created)
    return _encode({**head, **shape(Piece()), "done": True, "done_reason": reason})


class Lines:
    """Writes a streamed answer: a line for each piece, the last one with ``done`` and the counts."""

    def __init__(self, request: Request, identity: Identity, fidelity: Fidelity, shape: Shape) -> None:
        self._request = request
        self._identity = identity
        self._fidelity = fidelity
        self._shape = shape
        self._head = _head(request.model, identity.created)
        self._kinds: dict[int, AnyPart] = {}
        self._arguments: dict[int, list[str]] = {}
        self._section: tuple[int, int] | None = None
        self._calls = 0
        self._usage: TokenUsage | None = None
        self._extra: dict[str, Any] = {}
        self._ending: ChoiceEnded | None = None
        self._over = False

    def feed(self, event: AnyEvent) -> bytes:
        """The lines that an event gives; often none."""
        if self._over:
            return b""
        try:
            return self._line(event)
        except GatewayError as error:
            self._over = True
            return render_stream_error(error, self._identity.request_id)

    def _line(self, event: AnyEvent) -> bytes:
        match event:
            case PartDelta(choice=0):
                return self._delta(event.index, event.text)
            case PartStarted(choice=0):
                return self._start(event.index, event.part)
            case PartEnded(choice=0):
                return self._end(event.index)
            case SummaryDelta(choice=0):
                return self._summary(event)
            case LogprobsAdded(choice=0):
                return self._write({**self._shape(Piece()), "done": False, "logprobs": write_logprobs(event.tokens)})
            case CitationAdded(choice=0):
                self._fidelity.dropped("citations", "Ollama has no citations")
            case TranscriptDelta(choice=0):
                return self._piece(Piece(text=event.text))
            case _:
                return self._about_all(event)
        return b""

    def _about_all(self, event: AnyEvent) -> bytes:
        match event:
            case Started():
                self._head = _head(event.model or self._request.model, event.created or self._identity.created)
                self._keep(event.extra)
            case UsageReported():
                self._usage = event.usage
                self._keep(event.extra)
            case ChoiceEnded(choice=0):
                self._ending = event
            case Failed():
                self._over = True
                return render_stream_error(event.error, self._identity.request_id)
            case Ended():
                return self._last()
            case PartStarted():
                self._fidelity.dropped(f"choices[{event.choice}]", "Ollama has one answer")
        return b""

    def _keep(self, extra: dict[str, Any] | None) -> None:
        """What an upstream of the same API says beyond our words, for the last line."""
        self._extra |= _own(extra, self._fidelity)

    def _start(self, index: int, part: AnyPart) -> bytes:
        self._kinds[index] = part
        if isinstance(part, ToolCallPart):
            self._arguments[index] = [part.arguments]
            return b""
        piece = Piece(images=[], calls=[])
        _add(part, piece, self._fidelity)
        return self._piece(piece) if piece.text or piece.thinking or piece.images else b""

    def _delta(self, index: int, text: str) -> bytes:
        part = self._kinds.get(index)
        if isinstance(part, ToolCallPart):
            self._arguments[index].append(text)
            return b""
        if isinstance(part, ReasoningPart):
            return self._piece(Piece(thinking=self._gap(index, -1) + text))
        return self._piece(Piece(text=text)) if isinstance(part, TextPart | RefusalPart) else b""

    def _summary(self, event: SummaryDelta) -> bytes:
        return self._piece(Piece(thinking=self._gap(event.index, event.section) + event.text))

    def _gap(self, index: int, section: int) -> str:
        """What separates the sections of one thought."""
        changed = self._section is not None and self._section[0] == index and self._section[1] != section
        self._section = (index, section)
        return _SECTION if changed else ""

    def _end(self, index: int) -> bytes:
        part = self._kinds.pop(index, None)
        if not isinstance(part, ToolCallPart):
            return b""
        arguments = "".join(self._arguments.pop(index))
        call = _call(part.id, self._calls, part.name, arguments)
        self._calls += 1
        return self._piece(Piece(calls=[call]))

    def _last(self) -> bytes:
        self._over = True
        reason = self._ending.finish_reason if self._ending is not None else None
        if reason in _FAILED:
            raise _broken(reason)
        closing = {"done": True, "done_reason": done_reason(reason), **_counts(self._usage, self._fidelity)}
        return self._write({**self._shape(Piece()), **closing, **self._extra})

    def _piece(self, piece: Piece) -> bytes:
        return self._write({**self._shape(piece), "done": False})

    def _write(self, members: dict[str, Any]) -> bytes:
        return _encode({**self._head, **members}) + b"\n"


def _head(model: str, created: int) -> dict[str, Any]:
    return {"model": model, "created_at": write_time(created)}


def _own(extra: Extra | None, fidelity: Fidelity) -> dict[str, Any]:
    """Of what an upstream said beyond our words, that which Ollama's answers have; the rest is noted."""
    for name, value in (extra or {}).items():
        if name not in OWN_MEMBERS:
            fidelity.unplaced(f"response.{name}", value, "Ollama's answers have no such member")
    return {name: value for name, value in (extra or {}).items() if name in OWN_MEMBERS}


def _counts(usage: TokenUsage | None, fidelity: Fidelity) -> dict[str, Any]:
    """The counts that Ollama has; those that it hasn't are noted."""
    for name in ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens") if usage is not None else ():
        if getattr(usage, name):
            fidelity.dropped(f"response.usage.{name}", "Ollama counts what came in and what went out alone")
    return write_usage(usage)


def _add(part: AnyPart, piece: Piece, fidelity: Fidelity) -> None:
    """Put a whole part into a piece."""
    match part:
        case TextPart():
            piece.text += part.text
            if part.citations:
                fidelity.dropped("citations", "Ollama has no citations")
        case RefusalPart():
            fidelity.approximated("refusal", "told as text")
            piece.text += part.text
        case ReasoningPart():
            thoughts = [*(part.summary or ()), *([part.text] if part.text else [])]
            piece.thinking += _SECTION.join(thoughts)
        case ToolCallPart():
            piece.calls.append(_call(part.id, len(piece.calls), part.name, part.arguments))
        case ImagePart() if part.source.data is not None:
            piece.images.append(part.source.data)
        case _:
            fidelity.dropped("content", f"Ollama has no place for {type(part).__name__.removesuffix('Part').lower()}")


def _call(identity: str, number: int, name: str, arguments: str) -> dict[str, Any]:
    """A whole tool call; no arguments at all are an empty object."""
    try:
        value = _decode(arguments) if arguments.strip() else {}
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        value = None
    if not isinstance(value, dict):
        raise GatewayError(Kind.UPSTREAM_ERROR, f"the model called '{name}' with arguments that are no JSON object")
    return {"id": identity, "function": {"index": number, "name": name, "arguments": value}}


def _broken(reason: FinishReason | None) -> GatewayError:
    if reason is FinishReason.MALFORMED_CALL:
        return GatewayError(Kind.UPSTREAM_ERROR, "the model called a tool in a way that can't be read")
    return GatewayError(Kind.UPSTREAM_ERROR, "the model broke off with an error")
