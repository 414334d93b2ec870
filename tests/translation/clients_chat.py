"""Clients of Chat Completions: OpenAI's SDK and OpenRouter's."""

import json
from typing import Any

import httpx2
from client_terms import Answer, BrokenStream, Call, Count, SdkClient, Wish, data_url, openai_status, result_of

from gateway import KEY


class OpenAIChatClient(SdkClient):
    """The openai SDK's chat completions. Hands back only what OpenAI's own API has: no thoughts."""

    NAME = "openai-chat"

    def __init__(self, address: str, timeout_seconds: float) -> None:
        super().__init__(timeout_seconds)
        import openai

        self._sdk = openai
        self._client = openai.OpenAI(
            base_url=f"{address}/v1", api_key=KEY, max_retries=0, http_client=self.http(httpx2)
        )

    def open(self, wish: Wish) -> list[Any]:
        return chat_opening(wish)

    def results(self, calls: list[Call]) -> list[Any]:
        return chat_results(calls)

    def follow(self, text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    def ask(self, model: str, wish: Wish, messages: list[Any], *, stream: bool) -> Answer:
        arguments = chat_arguments(wish)
        if wish.think:
            arguments["reasoning_effort"] = "low"
        create = self._client.chat.completions.create
        if stream:
            with self._client.chat.completions.stream(
                model=model, messages=messages, stream_options={"include_usage": True}, **arguments
            ) as events:
                thoughts = "".join(_delta_of(event) for event in events)
                whole = events.get_final_completion()
        else:
            whole = create(model=model, messages=messages, **arguments)
            thoughts = _thought_in(whole.choices[0].message)
        message = whole.choices[0].message
        calls = message.tool_calls or []
        turn: dict[str, Any] = {"role": "assistant", "content": message.content}
        if calls:
            turn["tool_calls"] = [call.model_dump(include={"id", "type", "function"}) for call in calls]
            for call in turn["tool_calls"]:
                call["function"].pop("parsed_arguments", None)
        return Answer(
            text=message.content or "",
            thought=thoughts,
            calls=[Call(call.id, call.function.name, json.loads(call.function.arguments)) for call in calls],
            count=chat_count(whole.usage),
            turn=[turn],
        )

    def status_of(self, error: Exception) -> int:
        return openai_status(self._sdk, error)


def _delta_of(event: Any) -> str:
    """What a chunk of a stream holds of thoughts."""
    if event.type != "chunk" or not event.chunk.choices:
        return ""
    return _thought_in(event.chunk.choices[0].delta)


def _thought_in(message: Any) -> str:
    """The thoughts in a message or delta, where compatible hosts have them."""
    members = message.model_extra or {}
    found = members.get("reasoning_content") or members.get("reasoning")
    return found if isinstance(found, str) else ""


def chat_opening(wish: Wish) -> list[Any]:
    """A first message of Chat Completions."""
    if wish.image is None:
        return [{"role": "user", "content": wish.text}]
    shown = {"type": "image_url", "image_url": {"url": data_url(wish.image)}}
    return [{"role": "user", "content": [{"type": "text", "text": wish.text}, shown]}]


def chat_results(calls: list[Call]) -> list[Any]:
    """Tool messages of Chat Completions."""
    return [{"role": "tool", "tool_call_id": call.id, "content": result_of(call)} for call in calls]


def chat_arguments(wish: Wish) -> dict[str, Any]:
    """Members of Chat Completions for tools and schema."""
    found: dict[str, Any] = {}
    if wish.tools:
        found["tools"] = [
            {"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in wish.tools
        ]
    if wish.schema is not None:
        described = {"name": "answer", "schema": wish.schema, "strict": True}
        found["response_format"] = {"type": "json_schema", "json_schema": described}
    if wish.limit is not None:
        found |= {"max_tokens": wish.limit, "temperature": 0}
    return found


def chat_count(usage: Any) -> Count | None:
    """Chat Completions' usage."""
    if usage is None:
        return None
    read, written = usage.prompt_tokens_details, usage.completion_tokens_details
    return Count(
        int(usage.prompt_tokens),
        int((read and read.cached_tokens) or 0),
        int(usage.completion_tokens),
        int((written and written.reasoning_tokens) or 0),
    )


class OpenRouterClient(SdkClient):
    """The openrouter SDK's chat: hands back ``reasoning_details`` as they came."""

    NAME = "openrouter"

    def __init__(self, address: str, timeout_seconds: float) -> None:
        super().__init__(timeout_seconds)
        import openrouter

        self._sdk = openrouter
        self._client = openrouter.OpenRouter(
            api_key=KEY, server_url=f"{address}/openrouter/api/v1", client=self.http(), retry_config=None
        )

    def open(self, wish: Wish) -> list[Any]:
        return chat_opening(wish)

    def results(self, calls: list[Call]) -> list[Any]:
        return chat_results(calls)

    def follow(self, text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    def ask(self, model: str, wish: Wish, messages: list[Any], *, stream: bool) -> Answer:
        arguments: dict[str, Any] = {"model": model, "messages": messages, **chat_arguments(wish)}
        if wish.think:
            arguments["reasoning"] = {"effort": "low"}
        if stream:
            return self._streamed(arguments)
        whole = self._client.chat.send(**arguments)
        message = whole.choices[0].message
        turn = message.model_dump(exclude_none=True, by_alias=True)
        return _routed(turn, chat_count(whole.usage))

    def _streamed(self, arguments: dict[str, Any]) -> Answer:
        turn: dict[str, Any] = {"role": "assistant", "content": ""}
        count = None
        with self._client.chat.send(**arguments, stream=True, stream_options={"include_usage": True}) as events:
            for chunk in events:
                if chunk.error is not None:
                    raise BrokenStream
                count = chat_count(chunk.usage) or count
                for choice in chunk.choices:
                    _gather(turn, choice.delta.model_dump(exclude_none=True, by_alias=True))
        return _routed(turn, count)

    def status_of(self, error: Exception) -> int:
        if isinstance(error, BrokenStream):
            return 0
        errors = self._sdk.errors
        assert isinstance(error, errors.OpenRouterError)
        names = {400: "BadRequestResponseError", 429: "TooManyRequestsResponseError"}
        assert isinstance(error, getattr(errors, names.get(error.status_code, "OpenRouterError")))
        return int(error.status_code)


def _gather(turn: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add a delta to the message that it is a piece of."""
    for name in ("content", "reasoning"):
        if delta.get(name):
            turn[name] = turn.get(name, "") + delta[name]
    for detail in delta.get("reasoning_details", ()):
        _gather_detail(turn.setdefault("reasoning_details", []), detail)
    for piece in delta.get("tool_calls", ()):
        calls = turn.setdefault("tool_calls", [])
        if piece["index"] == len(calls):
            calls.append({"id": piece["id"], "type": "function", "function": {"name": "", "arguments": ""}})
        for name, value in piece.get("function", {}).items():
            calls[piece["index"]]["function"][name] += value


def _gather_detail(details: list[dict[str, Any]], piece: dict[str, Any]) -> None:
    """Add a piece of reasoning details: those of one index and type are one detail."""
    for detail in details:
        if (detail.get("index"), detail["type"]) == (piece.get("index"), piece["type"]):
            for name, value in piece.items():
                joined = name in ("text", "summary", "data") and isinstance(value, str)
                detail[name] = (detail.get(name) or "") + value if joined else value
            return
    details.append(dict(piece))


def _routed(turn: dict[str, Any], count: Count | None) -> Answer:
    """An answer from an assistant message of OpenRouter's."""
    calls = turn.get("tool_calls", [])
    return Answer(
        text=turn.get("content") or "",
        thought=turn.get("reasoning") or "",
        calls=[Call(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls],
        count=count,
        turn=[turn],
    )
