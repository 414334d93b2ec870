"""Cohere's answers to v2 chat: one object when they are buffered, typed events when they are streamed."""

import hashlib
from collections.abc import Iterator
from typing import Final

import msgspec

from .behaviour import Behaviour
from .cohere_request import Json, text_of
from .openai_completion import ToolCall, Words
from .reply import Event, EventKind
from .simulated_model import Function, Spoken, Turn, count_tokens, in_words

DONE: Final = Event(EventKind.DONE, b"data: [DONE]\n\n")

_encode = msgspec.json.encode
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_FINISH_REASONS: Final = {
    "stop": "COMPLETE",
    "stop_sequence": "STOP_SEQUENCE",
    "length": "MAX_TOKENS",
    "calls": "TOOL_CALL",
    "filtered": "ERROR",
}
_IMAGE_TOKENS: Final = 256
_MESSAGE_OVERHEAD: Final = 4
# Tokens of Cohere's own prompt around the caller's: counted, not billed.
_PREAMBLE_TOKENS: Final = 67
_NO_CITATIONS: Final = ("disabled", "off")


class CohereAnswer:
    """One answer to a chat request, buffered or as events."""

    def __init__(self, identity: str, request: Json, spoken: Spoken, turn: Turn, behaviour: Behaviour) -> None:
        self._identity = identity
        self._request = request
        self._spoken = spoken
        self._usage = _usage(spoken, turn, behaviour)
        self._plan = f"I will call {spoken.calls[0].name}." if spoken.calls else ""
        self._calls = [_call(identity, position, call) for position, call in enumerate(spoken.calls)]
        self._citations = [] if spoken.calls else _citations(request, next(iter(spoken.words), ""))

    def whole(self) -> Json:
        """The buffered answer."""
        message: Json = {"role": "assistant"}
        if self._calls:
            message |= {"tool_plan": self._plan, "tool_calls": self._calls}
        if content := self._content():
            message["content"] = content
        if self._citations:
            message["citations"] = self._citations
        answer: Json = {
            "id": self._identity,
            "message": message,
            "finish_reason": _FINISH_REASONS[self._spoken.ended],
        }
        if self._request.get("logprobs"):
            answer["logprobs"] = [_logprob(word) for word in self._spoken.words]
        if self._usage is not None:
            answer["usage"] = self._usage
        return answer

    def events(self) -> Iterator[Event]:
        """The streamed answer, from ``message-start`` to ``[DONE]``."""
        empty: Json = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        yield _event("message-start", {"id": self._identity, "delta": {"message": empty}}, EventKind.START)
        index = 0
        if self._spoken.thoughts.count:
            yield from self._block(index, "thinking", self._spoken.thoughts)
            index += 1
        if self._calls:
            yield from self._tool_events()
        else:
            yield from self._block(index, "text", self._spoken.words, self._citations)
        delta: Json = {"finish_reason": _FINISH_REASONS[self._spoken.ended]}
        if self._usage is not None:
            delta["usage"] = self._usage
        yield _event("message-end", {"delta": delta}, EventKind.FINISH)
        yield DONE

    def _content(self) -> list[Json]:
        blocks: list[Json] = []
        if self._spoken.thoughts.count:
            blocks.append({"type": "thinking", "thinking": "".join(self._spoken.thoughts)})
        if not self._calls:
            blocks.append({"type": "text", "text": "".join(self._spoken.words)})
        return blocks

    def _block(self, index: int, kind: str, words: Words, citations: list[Json] | None = None) -> Iterator[Event]:
        start = {"message": {"content": {"type": kind, kind: ""}}}
        yield _event("content-start", {"index": index, "delta": start})
        for word in words:
            members: Json = {"index": index, "delta": {"message": {"content": {kind: word}}}}
            if kind == "text" and self._request.get("logprobs"):
                members["logprobs"] = _logprob(word)
            yield _event("content-delta", members)
        for position, citation in enumerate(citations or ()):
            yield _event("citation-start", {"index": position, "delta": {"message": {"citations": citation}}})
            yield _event("citation-end", {"index": position})
        yield _event("content-end", {"index": index})

    def _tool_events(self) -> Iterator[Event]:
        for word in in_words(self._plan):
            yield _event("tool-plan-delta", {"delta": {"message": {"tool_plan": word}}})
        for index, (call, spoken) in enumerate(zip(self._calls, self._spoken.calls, strict=True)):
            start = {**call, "function": {"name": spoken.name, "arguments": ""}}
            yield _event("tool-call-start", {"index": index, "delta": {"message": {"tool_calls": start}}})
            for fragment in spoken.fragments():
                delta = {"message": {"tool_calls": {"function": {"arguments": fragment}}}}
                yield _event("tool-call-delta", {"index": index, "delta": delta})
            yield _event("tool-call-end", {"index": index})


def turn_of(request: Json) -> Turn:
    """What a checked chat request asks the model."""
    messages = request["messages"]
    form = request.get("response_format") or {}
    thinking = request.get("thinking") or {}
    functions = [tool["function"] for tool in request.get("tools") or ()]
    user = next((text_of(one) for one in reversed(messages) if one["role"] == "user"), "")
    return Turn(
        text=user,
        prompt_tokens=_prompt_tokens(request),
        functions=tuple(Function(one["name"], one["parameters"]) for one in functions),
        choice=(request.get("tool_choice") or "auto").lower(),
        answered=messages[-1]["role"] == "tool",
        thinking=thinking.get("type") == "enabled",
        output=(form.get("json_schema") or True) if form.get("type") == "json_object" else None,
        stop=tuple(request.get("stop_sequences") or ()),
        limit=request.get("max_tokens") or None,
    )


def _usage(spoken: Spoken, turn: Turn, behaviour: Behaviour) -> Json | None:
    if behaviour.usage == "none":
        return None
    read = turn.prompt_tokens if behaviour.prompt_tokens is None else behaviour.prompt_tokens
    written = spoken.tokens + behaviour.reasoning_tokens
    if behaviour.usage == "wrong":
        read, written = read + 1_000_000, written * 10 + 7
    return {
        "billed_units": {"input_tokens": read, "output_tokens": written},
        "tokens": {"input_tokens": read + _PREAMBLE_TOKENS, "output_tokens": written + 2},
        "cached_tokens": behaviour.cached_tokens,
    }


def _prompt_tokens(request: Json) -> int:
    counted = sum(count_tokens(text_of(message)) + _MESSAGE_OVERHEAD for message in request["messages"])
    for name in ("tools", "documents"):
        if request.get(name):
            counted += count_tokens(_encode(request[name]).decode())
    images = [
        block.get("type") == "image_url"
        for message in request["messages"]
        if isinstance(message.get("content"), list)
        for block in message["content"]
    ]
    return counted + _IMAGE_TOKENS * images.count(True)


def _citations(request: Json, word: str) -> list[Json]:
    """One citation of the answer's first word, with every document and tool result as its source."""
    mode = str((request.get("citation_options") or {}).get("mode")).lower()
    sources = [*_document_sources(request), *_tool_sources(request["messages"])]
    if not sources or not word or mode in _NO_CITATIONS:
        return []
    return [
        {
            "start": 0,
            "end": len(word),
            "text": word,
            "sources": sources,
            "content_index": 1 if (request.get("thinking") or {}).get("type") == "enabled" else 0,
            "type": "TEXT_CONTENT",
        }
    ]


def _document_sources(request: Json) -> list[Json]:
    sources = []
    for position, document in enumerate(request.get("documents") or ()):
        data = {"content": document} if isinstance(document, str) else document["data"]
        name = f"doc:{position}" if isinstance(document, str) else document.get("id") or f"doc:{position}"
        sources.append({"type": "document", "id": name, "document": {"id": name, **data}})
    return sources


def _tool_sources(messages: list[Json]) -> list[Json]:
    sources: list[Json] = []
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        sources.insert(0, {"type": "tool", "id": f"{message['tool_call_id']}:0", "tool_output": _output(message)})
    return sources


def _output(message: Json) -> Json:
    try:
        decoded = msgspec.json.decode(text_of(message))
    except msgspec.DecodeError:
        decoded = None
    return decoded if isinstance(decoded, dict) else {"content": text_of(message)}


def _call(identity: str, position: int, call: ToolCall) -> Json:
    """A call with an id of Cohere's form: the function's name and twelve characters."""
    digest = hashlib.sha256(f"{identity} {position}".encode()).digest()[:12]
    name = f"{call.name}_{''.join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest)}"
    return {"id": name, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _logprob(word: str) -> Json:
    return {"text": word, "token_ids": [len(word)], "logprobs": [-0.01 * len(word)]}


def _event(name: str, members: Json, kind: EventKind = EventKind.DELTA) -> Event:
    return Event(kind, b"event: %b\ndata: %b\n\n" % (name.encode(), _encode({"type": name, **members})))
