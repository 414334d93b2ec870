"""Bedrock's answers to Converse: one object when they are buffered, messages of an event stream when streamed."""

import base64
import hashlib
from collections.abc import Iterator
from typing import Final

import msgspec

from pointsman.framing.aws_event_stream import encode_message

from .bedrock_request import Json, text_of, thinks
from .bedrock_signature import signature_of
from .behaviour import Behaviour
from .reply import Event, EventKind
from .simulated_model import Function, Spoken, Turn, count_tokens

_encode = msgspec.json.encode
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_PADDING: Final = "abcdefghijklmnopqrstuvwxyz"
_REASONS: Final = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "calls": "tool_use",
    "filtered": "content_filtered",
}
_MEDIUM_TOKENS: Final = 256
_MESSAGE_OVERHEAD: Final = 4
_LATENCY_MS: Final = 42


class BedrockAnswer:
    """One answer to a Converse request, buffered or as a stream. ``cached``: tokens read and written at a cache."""

    def __init__(
        self, request: Json, spoken: Spoken, turn: Turn, behaviour: Behaviour, cached: tuple[int, int]
    ) -> None:
        self._request = request
        self._spoken = spoken
        self._usage = _usage(spoken, turn, behaviour, cached)
        self._hidden = "redacted" in turn.text

    def whole(self) -> Json:
        """The buffered answer."""
        answer: Json = {
            "output": {"message": {"role": "assistant", "content": [*self._thought(), *self._said()]}},
            "stopReason": _REASONS[self._spoken.ended],
            "metrics": {"latencyMs": _LATENCY_MS},
        }
        if self._usage is not None:
            answer["usage"] = self._usage
        return answer

    def events(self) -> Iterator[Event]:
        """The streamed answer, from ``messageStart`` to ``metadata``."""
        yield _event("messageStart", {"role": "assistant"}, EventKind.START)
        index = 0
        for thought in self._thought():
            yield from self._stream_thought(index, thought["reasoningContent"])
            index += 1
        if not self._spoken.calls:
            for word in self._spoken.words:
                yield _delta(index, {"text": word})
            yield _event("contentBlockStop", {"contentBlockIndex": index})
        for call in self._calls():
            start = {"toolUseId": call["toolUseId"], "name": call["name"]}
            yield _event("contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": start}})
            yield from self._stream_call(index)
            yield _event("contentBlockStop", {"contentBlockIndex": index})
            index += 1
        yield _event("messageStop", {"stopReason": _REASONS[self._spoken.ended]}, EventKind.FINISH)
        if self._usage is not None:
            metadata = {"usage": self._usage, "metrics": {"latencyMs": _LATENCY_MS}}
            yield _event("metadata", metadata, EventKind.USAGE)

    def _stream_call(self, index: int) -> Iterator[Event]:
        thoughts = len(self._thought())
        for fragment in self._spoken.calls[index - thoughts].fragments():
            yield _delta(index, {"toolUse": {"input": fragment}})

    def _stream_thought(self, index: int, thought: Json) -> Iterator[Event]:
        if "redactedContent" in thought:
            yield _delta(index, {"reasoningContent": thought})
        else:
            for word in self._spoken.thoughts:
                yield _delta(index, {"reasoningContent": {"text": word}})
            yield _delta(index, {"reasoningContent": {"signature": thought["reasoningText"]["signature"]}})
        yield _event("contentBlockStop", {"contentBlockIndex": index})

    def _thought(self) -> list[Json]:
        if not self._spoken.thoughts.count:
            return []
        text = "".join(self._spoken.thoughts)
        if self._hidden:
            return [{"reasoningContent": {"redactedContent": base64.b64encode(text.encode()[::-1]).decode()}}]
        return [{"reasoningContent": {"reasoningText": {"text": text, "signature": signature_of(text)}}}]

    def _said(self) -> list[Json]:
        if self._spoken.calls:
            return [{"toolUse": call} for call in self._calls()]
        return [{"text": "".join(self._spoken.words)}]

    def _calls(self) -> list[Json]:
        calls = []
        for position, call in enumerate(self._spoken.calls):
            digest = hashlib.sha256(f"{position} {call.name} {len(self._request['messages'])}".encode()).digest()
            name = "tooluse_" + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:22])
            calls.append({"toolUseId": name, "name": call.name, "input": msgspec.json.decode(call.arguments)})
        return calls


def turn_of(request: Json) -> Turn:
    """What a checked request asks the model."""
    messages = request["messages"]
    config = request.get("toolConfig") or {}
    specs = [tool["toolSpec"] for tool in config.get("tools") or () if "toolSpec" in tool]
    choice = config.get("toolChoice") or {"auto": {}}
    inference = request.get("inferenceConfig") or {}
    form = (request.get("outputConfig") or {}).get("textFormat")
    user = next((text for one in reversed(messages) if one["role"] == "user" and (text := text_of(one))), "")
    return Turn(
        text=user,
        prompt_tokens=prompt_tokens(request),
        functions=tuple(Function(one["name"], one["inputSchema"]["json"]) for one in specs),
        choice=choice["tool"]["name"] if "tool" in choice else "required" if "any" in choice else "auto",
        answered=any("toolResult" in block for block in messages[-1]["content"]),
        thinking=thinks(request),
        output=msgspec.json.decode(form["structure"]["jsonSchema"]["schema"]) if form else None,
        stop=tuple(inference.get("stopSequences") or ()),
        limit=inference.get("maxTokens"),
    )


def prompt_tokens(request: Json) -> int:
    """A stable count of the prompt's tokens."""
    counted = sum(count_tokens(block.get("text") or "") for block in request.get("system") or ())
    for message in request["messages"]:
        counted += count_tokens(text_of(message)) + _MESSAGE_OVERHEAD
        media = ("image", "document", "video", "audio")
        counted += _MEDIUM_TOKENS * sum(name in block for block in message["content"] for name in media)
    tools = (request.get("toolConfig") or {}).get("tools")
    return counted + (count_tokens(_encode(tools).decode()) if tools else 0)


def cached_prefix(request: Json) -> tuple[str, int] | None:
    """The name of what stands before the last cache point, and its tokens; None without cache points."""
    tools = (request.get("toolConfig") or {}).get("tools") or []
    blocks = [*tools, *(request.get("system") or ())]
    blocks += [block for message in request["messages"] for block in message["content"]]
    points = [place for place, block in enumerate(blocks) if "cachePoint" in block]
    if not points:
        return None
    covered = _encode(blocks[: points[-1]])
    return hashlib.sha256(covered).hexdigest(), count_tokens(covered.decode())


def _usage(spoken: Spoken, turn: Turn, behaviour: Behaviour, cached: tuple[int, int]) -> Json | None:
    if behaviour.usage == "none":
        return None
    read, written = cached
    taken = turn.prompt_tokens if behaviour.prompt_tokens is None else behaviour.prompt_tokens
    given = spoken.tokens + behaviour.reasoning_tokens
    total = taken + given + read + written
    if behaviour.usage == "wrong":
        taken, given, total = taken + 1_000_000, given * 10 + 7, 1
    usage = {"inputTokens": taken, "outputTokens": given, "totalTokens": total}
    return usage | {"cacheReadInputTokens": read, "cacheWriteInputTokens": written}


def _delta(index: int, delta: Json) -> Event:
    return _event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})


def _event(name: str, members: Json, kind: EventKind = EventKind.DELTA) -> Event:
    """Bedrock pads events to hide their length."""
    padded = {**members, "p": _PADDING[: 3 + len(members) * 5 % len(_PADDING)]}
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return Event(kind, encode_message(headers, _encode(padded)))
