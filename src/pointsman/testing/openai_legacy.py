"""OpenAI's legacy Completions API: one text goes on where the prompt ends."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from .behaviour import Behaviour
from .openai_completion import Completion, usage
from .openai_message import FINGERPRINT
from .openai_request import InvalidRequest, Json, object_in
from .reply import Event, EventKind

_ARGUMENTS: Final = frozenset(
    [
        "model", "prompt", "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n",
        "presence_penalty", "seed", "stop", "stream", "stream_options", "suffix", "temperature", "top_p", "user",
    ]
)  # fmt: skip
_DONE: Final = Event(EventKind.DONE, b"data: [DONE]\n\n")
_encode: Final = msgspec.json.encode


def check_legacy(body: Json) -> None:
    """Raise InvalidRequest for what OpenAI would refuse."""
    if unknown := next((name for name in body if name not in _ARGUMENTS), None):
        raise InvalidRequest(f"Unrecognized request argument supplied: {unknown}")
    if not isinstance(body.get("model"), str):
        raise InvalidRequest("you must provide a model parameter")
    if not isinstance(body.get("prompt", ""), str | list):
        raise InvalidRequest("Invalid type for 'prompt': expected a string or an array.", "prompt", "invalid_type")
    logged = body.get("logprobs")
    if logged is not None and not (type(logged) is int and 0 <= logged <= 5):
        raise InvalidRequest("Invalid 'logprobs': expected a whole number from 0 to 5.", "logprobs")
    if body.get("best_of") is not None and body["best_of"] < (body.get("n") or 1):
        raise InvalidRequest("You requested that the server return more choices than it will generate", "best_of")


def prompts_of(body: Json) -> list[str]:
    """The prompts: one text, several, or tokens, which read as their numbers."""
    prompt: Any = body.get("prompt", "<|endoftext|>")
    if isinstance(prompt, str):
        return [prompt]
    if prompt and all(isinstance(item, int) for item in prompt):
        return [" ".join(map(str, prompt))]
    return [item if isinstance(item, str) else " ".join(map(str, item)) for item in prompt]


def chat_request(body: Json, prompt: str) -> Json:
    """The chat request that gets the same words."""
    kept = {name: body[name] for name in ("n", "stop", "max_tokens") if body.get(name) is not None}
    return {**kept, "model": body["model"], "messages": [{"role": "user", "content": prompt}]}


class LegacyCompletion:
    """The answer to all prompts of a request."""

    def __init__(self, identity: str, created: int, body: Json) -> None:
        self.prompts = prompts_of(body)
        self._body = body
        self._head: Json = {
            "id": identity,
            "object": "text_completion",
            "created": created,
            "model": body["model"],
            "system_fingerprint": FINGERPRINT,
        }
        self._made: list[tuple[str, Completion]] = []
        self._usage: Json | None = None
        self._answered = 0

    def add(self, made: list[Completion], asked: Json, behaviour: Behaviour) -> None:
        """The completions of the next prompt."""
        prompt = self.prompts[self._answered]
        self._answered += 1
        self._made += [(prompt, one) for one in made]
        used = usage(asked, made, behaviour)
        if used is None or self._usage is None:
            self._usage = used if self._answered == 1 else None
            return
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            self._usage[name] += used[name]

    def whole(self) -> Json:
        """The buffered answer."""
        choices = [
            self._choice(index, self._echoed(prompt) + "".join(one.words), one, tuple(one.words), one.finish_reason)
            for index, (prompt, one) in enumerate(self._made)
        ]
        return {**self._head, "choices": choices, **({} if self._usage is None else {"usage": self._usage})}

    def events(self) -> Iterator[Event]:
        """The streamed answer."""
        for index, (prompt, one) in enumerate(self._made):
            kind = EventKind.START
            for text in filter(None, (self._echoed(prompt), *one.words)):
                yield self._event(self._choice(index, text, one, (text,), None), kind)
                kind = EventKind.DELTA
            yield self._event(self._choice(index, "", one, (), one.finish_reason), EventKind.FINISH)
        if object_in(self._body, "stream_options").get("include_usage") and self._usage is not None:
            told = {**self._head, "choices": [], "usage": self._usage}
            yield Event(EventKind.USAGE, b"data: %b\n\n" % _encode(told))
        yield _DONE

    def _event(self, choice: Json, kind: EventKind) -> Event:
        return Event(kind, b"data: %b\n\n" % _encode({**self._head, "choices": [choice]}))

    def _echoed(self, prompt: str) -> str:
        return prompt if self._body.get("echo") else ""

    def _choice(
        self, index: int, text: str, one: Completion, tokens: tuple[str, ...], finish_reason: str | None
    ) -> Json:
        return {
            "text": text,
            "index": index,
            "logprobs": self._logprobs(tokens),
            "finish_reason": "stop" if finish_reason == "tool_calls" else finish_reason,
        }

    def _logprobs(self, tokens: tuple[str, ...]) -> Json | None:
        if self._body.get("logprobs") is None:
            return None
        offsets = [sum(map(len, tokens[:position])) for position in range(len(tokens))]
        chances = [-0.01 * len(token) for token in tokens]
        top = [{token: chance} for token, chance in zip(tokens, chances, strict=True)]
        return {"tokens": list(tokens), "token_logprobs": chances, "top_logprobs": top, "text_offset": offsets}
