"""Ollama's answers: one object when they are buffered, one object per line when they are streamed."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from .behaviour import Behaviour
from .ollama_request import Json, image_bytes
from .reply import Event, EventKind
from .simulated_model import Function, Spoken, Turn, count_tokens

_encode = msgspec.json.encode
# Nanoseconds that the simulated machine takes: to load, per token read and per token written.
_LOAD_NS: Final = 101_397_084
_READ_NS: Final = 250_000
_WRITE_NS: Final = 12_500_000
_IMAGE_TOKENS: Final = 256
_MESSAGE_OVERHEAD: Final = 4
_DONE_REASONS: Final = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "calls": "stop",
    "filtered": "stop",
}


class OllamaAnswer:
    """One answer to a chat or generate request, buffered or as lines."""

    def __init__(self, request: Json, spoken: Spoken, turn: Turn, behaviour: Behaviour, now: float) -> None:
        self._request = request
        self._spoken = spoken
        self._chat = "messages" in request
        self._head = {"model": request["model"], "created_at": timestamp(now)}
        self._closing = self._metrics(turn, behaviour)

    def whole(self) -> Json:
        """The buffered answer."""
        spoken = self._spoken
        words = "".join(spoken.words)
        return {
            **self._head,
            **self._content(words, "".join(spoken.thoughts), self._calls()),
            "done": True,
            **self._closing,
            **self._logprobs(spoken.words),
        }

    def lines(self) -> Iterator[Event]:
        """The streamed answer: thoughts, then words or calls, then the line that says why it ends."""
        kind = EventKind.START
        for fragment in self._fragments():
            yield Event(kind, _encode({**self._head, **fragment, "done": False}) + b"\n")
            kind = EventKind.DELTA
        last = {**self._head, **self._content("", "", []), "done": True, **self._closing}
        yield Event(EventKind.FINISH, _encode(last) + b"\n")

    def _fragments(self) -> Iterator[Json]:
        for thought in self._spoken.thoughts:
            yield self._content("", thought, [])
        for word in self._spoken.words:
            yield {**self._content(word, "", []), **self._logprobs((word,))}
        for call in self._calls():
            yield self._content("", "", [call])

    def _content(self, text: str, thinking: str, calls: list[Json]) -> Json:
        if not self._chat:
            return {"response": text, **({"thinking": thinking} if thinking else {})}
        message: Json = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = calls
        return {"message": message}

    def _calls(self) -> list[Json]:
        calls = []
        for position, call in enumerate(self._spoken.calls):
            seed = f"{self._head['created_at']} {position} {call.name}".encode()
            function = {"index": position, "name": call.name, "arguments": msgspec.json.decode(call.arguments)}
            calls.append({"id": f"call_{hashlib.sha256(seed).hexdigest()[:8]}", "function": function})
        return calls

    def _metrics(self, turn: Turn, behaviour: Behaviour) -> Json:
        read = turn.prompt_tokens if behaviour.prompt_tokens is None else behaviour.prompt_tokens
        written = self._spoken.tokens + behaviour.reasoning_tokens
        durations = (read * _READ_NS, written * _WRITE_NS)
        if behaviour.usage == "wrong":
            read, written = read + 1_000_000, written * 10 + 7
        metrics: Json = {
            "done_reason": _DONE_REASONS[self._spoken.ended],
            "total_duration": _LOAD_NS + sum(durations),
            "load_duration": _LOAD_NS,
            "prompt_eval_count": read,
            "prompt_eval_duration": durations[0],
            "eval_count": written,
            "eval_duration": durations[1],
        }
        if behaviour.usage == "none":
            del metrics["prompt_eval_count"], metrics["eval_count"]
        if not self._chat and not self._request.get("raw"):
            metrics["context"] = context(self._request, self._spoken)
        return metrics

    def _logprobs(self, tokens: Iterable[str]) -> Json:
        """Log probabilities when they are asked for: the longer the token, the less likely."""
        if not self._request.get("logprobs"):
            return {}
        wanted = self._request.get("top_logprobs") or 0
        found = []
        for token in tokens:
            one = _logprob(token, 0)
            if wanted:
                one["top_logprobs"] = [
                    _logprob(token if rank == 0 else f"{token}{rank}", rank) for rank in range(wanted)
                ]
            found.append(one)
        return {"logprobs": found} if found else {}


def turn_of(request: Json) -> Turn:
    """What a chat or generate request asks the model."""
    options = request.get("options") or {}
    limit = options.get("num_predict")
    messages = request.get("messages")
    text = _prompt(request) if messages is None else _last_user_text(messages)
    form = request.get("format")
    return Turn(
        text=text,
        prompt_tokens=_prompt_tokens(request),
        functions=_functions(request),
        answered=messages is not None and messages[-1].get("role") == "tool",
        thinking=bool(request.get("think")),
        output=True if form == "json" else form or None,
        stop=tuple(options.get("stop") or ()),
        limit=int(limit) if limit is not None and limit >= 0 else None,
    )


def only_loaded(request: Json, now: float) -> Json | None:
    """The answer to a request that only loads or unloads a model, None for any other."""
    chat = "messages" in request or "prompt" not in request
    if request.get("messages") or request.get("prompt"):
        return None
    reason = "unload" if request.get("keep_alive") in (0, "0", "0s") else "load"
    content = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
    return {"model": request["model"], "created_at": timestamp(now), **content, "done": True, "done_reason": reason}


def timestamp(now: float) -> str:
    """``now`` (Unix seconds) as Ollama writes times: RFC 3339 with nanoseconds."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def context(request: Json, spoken: Spoken) -> list[int]:
    """The deprecated encoding of a conversation: what came in, and one number per token of prompt and answer."""
    tokens = [*str(request.get("prompt") or "").split(), *spoken.words]
    return [*(request.get("context") or ()), *(len(token) for token in tokens)]


def _prompt(request: Json) -> str:
    suffix = request.get("suffix")
    prompt: str = request.get("prompt") or ""
    return f"{prompt} … {suffix}" if suffix else prompt


def _last_user_text(messages: list[Json]) -> str:
    return next((one.get("content") or "" for one in reversed(messages) if one.get("role") == "user"), "")


def _functions(request: Json) -> tuple[Function, ...]:
    functions = [tool.get("function") or {} for tool in request.get("tools") or ()]
    return tuple(Function(str(one.get("name")), one.get("parameters")) for one in functions)


def _prompt_tokens(request: Json) -> int:
    texts = [str(request.get(name) or "") for name in ("prompt", "suffix", "system")]
    texts += [str(one.get("content") or "") for one in request.get("messages") or ()]
    counted = sum(count_tokens(text) + _MESSAGE_OVERHEAD for text in texts if text)
    tools = count_tokens(_encode(request["tools"]).decode()) if request.get("tools") else 0
    return counted + tools + _IMAGE_TOKENS * len(image_bytes(request)) + len(request.get("context") or ())


def _logprob(token: str, rank: int) -> Json:
    return {"token": token, "logprob": -0.01 * len(token) - rank, "bytes": list(token.encode())}
