"""The legacy Completions dialect: one text goes on where the prompt ends. To a model it is one user's message."""

from typing import Any, Final

import msgspec

from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    Ended,
    Failed,
    LogprobsAdded,
    PartDelta,
    PartStarted,
    Started,
    UsageReported,
)
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import RefusalPart, TextPart
from pointsman.canonical.request import Message, Request
from pointsman.canonical.response import Choice, FinishReason, Response, TokenLogprob
from pointsman.canonical.usage import TokenUsage
from pointsman.dialects.openai_chat_request import MAX_CHOICES, MAX_MODEL_LENGTH
from pointsman.dialects.openai_errors import render_error as render_error
from pointsman.dialects.openai_errors import render_limits as render_limits
from pointsman.dialects.openai_errors import render_stream_error as render_stream_error
from pointsman.errors import GatewayError, Kind
from pointsman.wire.members import Members
from pointsman.wire.members import read_request as read_body
from pointsman.wire.openai_chat_parts import write_usage

NAME: Final = "openai.completions"
WIRE: Final = "openai.completions"
OPERATION: Final = "text_completion"
STREAM_TYPE: Final = b"text/event-stream; charset=utf-8"
KEEP_ALIVE: Final = b": keep-alive\n\n"  # a comment
UNSAID: Final = frozenset(("stop_sequence", "service_tier", "citations", "state", "choice"))
MAX_LOGPROBS: Final = 5

Json = dict[str, Any]
_encode: Final = msgspec.json.Encoder().encode
_NUMBERS: Final = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "min_p", "repetition_penalty")
_WORDS: Final = {
    FinishReason.LENGTH: "length",
    FinishReason.CONTEXT_LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.REFUSAL: "content_filter",
}


def read_request(body: bytes, call: ClientCall) -> Request:
    """A client's request. Raises GatewayError: INVALID_REQUEST, or UNSUPPORTED for several prompts and for tokens."""
    top = read_body(body, "'model' and 'prompt'")
    model = call.model if call.model is not None else top.text("model")
    if not model or len(model) > MAX_MODEL_LENGTH:
        raise top.wrong("model", f"must have from 1 to {MAX_MODEL_LENGTH} characters")
    top.ignore("model")
    message = Message(role="user", parts=[TextPart(text=_prompt(top), path="prompt")], path="prompt")
    request = Request(wire=WIRE, model=model, messages=[message], paths={"choices": "n"}, extra={})
    stream = top.boolean("stream")
    request.stream = bool(stream if call.stream is None else call.stream)
    for name in _NUMBERS:
        setattr(request, name, top.number(name))
    request.max_output_tokens = top.integer("max_tokens", 1)
    request.paths["max_output_tokens"] = "max_tokens"
    request.choices = top.integer("n", 1, MAX_CHOICES)
    request.seed, request.top_k = top.integer("seed"), top.integer("top_k")
    request.user = top.string("user")
    request.logit_bias = top.mapping("logit_bias")
    stop = top.raw("stop")
    request.stop = [stop] if isinstance(stop, str) else top.strings("stop")
    logged = top.integer("logprobs", 0, MAX_LOGPROBS)
    if logged is not None:
        request.logprobs, request.top_logprobs = True, logged
        request.paths["top_logprobs"] = "logprobs"
    _read_rest(top, request)
    return request


def _read_rest(top: Members, request: Request) -> None:
    options = top.object("stream_options")
    if options is not None:
        request.include_usage = options.boolean("include_usage")
        request.extra.update({options.at(name): value for name, value in (options.rest() or {}).items()})
    best = top.integer("best_of", 1)
    if best is not None and best > (request.choices or 1):
        request.extra["best_of"] = best
    top.boolean("echo")
    if top.value.get("echo"):
        request.paths["echo"] = "echo"
    request.extra.update(top.rest() or {})


def _prompt(top: Members) -> str:
    value = top.raw("prompt")
    if value is None:
        raise top.wrong("prompt", "is missing")
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0]
    if isinstance(value, list):
        raise GatewayError(
            Kind.UNSUPPORTED, "'prompt' must be one text here: send prompts one by one, and no tokens", param="prompt"
        )
    return top.text("prompt")


def write_response(response: Response, request: Request, identity: Identity, fidelity: Fidelity) -> bytes:
    """A text completion; what is no text is noted."""
    out = _head(response.id, response.model, response.created, request, identity)
    out["choices"] = [_choice(choice, request, fidelity) for choice in response.choices]
    if response.usage is not None:
        out["usage"] = write_usage(response.usage)
    _note_extra(response.extra, fidelity)
    return _encode(out)


def _note_extra(extra: dict[str, Any] | None, fidelity: Fidelity) -> None:
    for name, value in (extra or {}).items():
        fidelity.unplaced(f"response.{name}", value, "not a word of Completions")


def _head(identifier: str | None, model: str | None, created: int | None, request: Request, identity: Identity) -> Json:
    return {
        "id": identifier if identifier and identifier.startswith("cmpl-") else identity.derive("cmpl-", 0, 29),
        "object": "text_completion",
        "created": created or identity.created,
        "model": model or request.model,
    }


def _choice(choice: Choice, request: Request, fidelity: Fidelity) -> Json:
    text = _echoed(request)
    for part in choice.parts:
        if isinstance(part, TextPart | RefusalPart):
            text += part.text
        else:
            fidelity.dropped(f"response.{type(part).__name__}", "a completion is text alone")
    return {
        "text": text,
        "index": choice.index,
        "logprobs": _logprobs(choice.logprobs, 0) if choice.logprobs else None,
        "finish_reason": _word(choice.finish_reason),
    }


def _word(reason: FinishReason | None) -> str:
    return _WORDS.get(reason or FinishReason.STOP, "stop")


def _echoed(request: Request) -> str:
    """The prompt, which ``echo`` puts before the answer."""
    if "echo" not in request.paths:
        return ""
    return "".join(part.text for part in request.messages[0].parts if isinstance(part, TextPart))


def _logprobs(tokens: list[TokenLogprob], offset: int) -> Json:
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{one.token: one.logprob for one in token.top or ()} for token in tokens],
        "text_offset": offsets,
    }


class StreamRenderer:
    """Writes chunks of text for one client. After `Failed` or `Ended` nothing more comes."""

    def __init__(self, request: Request, identity: Identity, fidelity: Fidelity) -> None:
        self._request = request
        self._identity = identity
        self._fidelity = fidelity
        self._head = _head(None, None, None, request, identity)
        self._texts: set[tuple[int, int]] = set()
        self._lengths: dict[int, int] = {}
        self._usage: TokenUsage | None = None
        self._over = False

    def feed(self, event: AnyEvent) -> bytes:
        """The chunks that an event gives."""
        if self._over:
            return b""
        match event:
            case PartDelta():
                return self._text(event.choice, event.text) if (event.choice, event.index) in self._texts else b""
            case Started():
                self._head = _head(event.id, event.model, event.created, self._request, self._identity)
                _note_extra(event.extra, self._fidelity)
            case PartStarted():
                return self._start(event)
            case LogprobsAdded():
                length = self._lengths.get(event.choice, 0) - sum(len(one.token) for one in event.tokens)
                return self._chunk(event.choice, "", _logprobs(event.tokens, max(0, length)), None)
            case ChoiceEnded():
                return self._chunk(event.choice, "", None, _word(event.finish_reason))
            case UsageReported():
                self._usage = event.usage
                _note_extra(event.extra, self._fidelity)
            case Failed():
                self._over = True
                return render_stream_error(event.error, self._identity.request_id)
            case Ended():
                self._over = True
                return self._last() + b"data: [DONE]\n\n"
        return b""

    def _start(self, event: PartStarted) -> bytes:
        if not isinstance(event.part, TextPart | RefusalPart):
            self._fidelity.dropped(f"response.{type(event.part).__name__}", "a completion is text alone")
            return b""
        self._texts.add((event.choice, event.index))
        echoed = _echoed(self._request) if event.choice not in self._lengths else ""
        return self._text(event.choice, echoed + event.part.text)

    def _text(self, choice: int, text: str) -> bytes:
        self._lengths[choice] = self._lengths.get(choice, 0) + len(text)
        return self._chunk(choice, text, None, None) if text else b""

    def _chunk(self, choice: int, text: str, logprobs: Json | None, reason: str | None) -> bytes:
        one = {"text": text, "index": choice, "logprobs": logprobs, "finish_reason": reason}
        return b"data: %b\n\n" % _encode({**self._head, "choices": [one]})

    def _last(self) -> bytes:
        if not self._request.include_usage or self._usage is None:
            return b""
        return b"data: %b\n\n" % _encode({**self._head, "choices": [], "usage": write_usage(self._usage)})
