"""Six clients of six APIs, driven through their official SDKs, that ask the same things and show the answers alike."""

import base64
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Protocol, Self

import httpx
import httpx2
import msgspec

from gateway import KEY

TIMEOUT_S = 10.0


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for: a text, and beside it tools, thoughts, a picture or a schema for the answer.

    ``tools`` are (name, JSON schema of the arguments) each.
    """

    text: str
    tools: tuple[tuple[str, dict[str, Any]], ...] = ()
    think: bool = False
    image: bytes | None = None
    schema: dict[str, Any] | None = None


class Call(msgspec.Struct, frozen=True):
    """One tool call; ``id`` is empty where the API has none."""

    id: str
    name: str
    arguments: Any


class Count(msgspec.Struct, frozen=True):
    """Tokens as all APIs would count them: ``cached`` is part of ``read``, ``thought`` of ``written``.

    None: the client's API has no place for it.
    """

    read: int
    cached: int | None
    written: int
    thought: int | None


class Answer(msgspec.Struct, kw_only=True):
    """What a client got. ``turn`` is the answer as this client hands it back in the next request."""

    text: str = ""
    thought: str = ""
    calls: list[Call] = msgspec.field(default_factory=list)
    count: Count | None = None
    turn: list[Any] = msgspec.field(default_factory=list)


class Client(Protocol):
    """One dialect's SDK. A conversation is a list of the SDK's own messages."""

    NAME: str
    stack: ExitStack
    last: httpx.Response

    def open(self, wish: Wish) -> list[Any]:
        """A conversation's first message."""
        ...

    def results(self, calls: list[Call]) -> list[Any]:
        """The messages with a result for each call."""
        ...

    def follow(self, text: str) -> list[Any]:
        """A further user message."""
        ...

    def ask(self, model: str, wish: Wish, messages: list[Any], *, stream: bool) -> Answer:
        """The answer; raises the SDK's own exceptions."""
        ...

    def status_of(self, error: Exception) -> int:
        """The HTTP status in one of the SDK's own exceptions; 0 for one of a stream that broke.

        Raises AssertionError when the exception isn't of the class that the SDK has for that.
        """
        ...


def result_of(call: Call) -> str:
    """What the tool of a call gives."""
    return f"result of {call.name}"


class SdkClient(AbstractContextManager["SdkClient"]):
    """What the clients share: an HTTP client that remembers the last response's head."""

    NAME = ""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.last: httpx.Response

    def http(self, library: Any = httpx) -> Any:
        """An HTTP client of the library that an SDK is made with, closed with this one."""
        return self.stack.enter_context(library.Client(**self.http_options()))

    def http_options(self) -> dict[str, Any]:
        """Options of an HTTP client."""
        return {"timeout": TIMEOUT_S, "event_hooks": {"response": [self._remember]}}

    def _remember(self, response: httpx.Response) -> None:
        self.last = response

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()


def data_url(image: bytes) -> str:
    """A picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


class OpenAIChatClient(SdkClient):
    """The openai SDK's chat completions. Hands back only what OpenAI's own API has: no thoughts."""

    NAME = "openai-chat"

    def __init__(self, address: str) -> None:
        super().__init__()
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


def openai_status(sdk: Any, error: Exception) -> int:
    """The status of an error of the openai or anthropic SDK, whose class has to be the one of its status."""
    if isinstance(error, sdk.APIStatusError):
        names = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError", 429: "RateLimitError"}
        named = getattr(sdk, names.get(error.status_code, "APIStatusError"))
        if error.response.status_code != 200:
            assert isinstance(error, named)
            return int(error.status_code)
        return 0
    assert isinstance(error, sdk.APIError)
    return 0


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


class OpenAIResponsesClient(SdkClient):
    """The openai SDK's responses, kept by the client: every item goes back as it came."""

    NAME = "openai-responses"

    def __init__(self, address: str) -> None:
        super().__init__()
        import openai

        self._sdk = openai
        self._client = openai.OpenAI(
            base_url=f"{address}/v1", api_key=KEY, max_retries=0, http_client=self.http(httpx2)
        )

    def open(self, wish: Wish) -> list[Any]:
        if wish.image is None:
            return self.follow(wish.text)
        shown = {"type": "input_image", "image_url": data_url(wish.image), "detail": "auto"}
        return [{"role": "user", "content": [{"type": "input_text", "text": wish.text}, shown]}]

    def results(self, calls: list[Call]) -> list[Any]:
        return [{"type": "function_call_output", "call_id": call.id, "output": result_of(call)} for call in calls]

    def follow(self, text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    def ask(self, model: str, wish: Wish, messages: list[Any], *, stream: bool) -> Answer:
        arguments: dict[str, Any] = {"model": model, "input": messages, "store": False}
        if wish.tools:
            arguments["tools"] = [
                {"type": "function", "name": name, "parameters": schema, "strict": False} for name, schema in wish.tools
            ]
        if wish.think:
            arguments |= {
                "reasoning": {"effort": "low", "summary": "auto"},
                "include": ["reasoning.encrypted_content"],
            }
        if wish.schema is not None:
            described = {"type": "json_schema", "name": "answer", "schema": wish.schema, "strict": True}
            arguments["text"] = {"format": described}
        if stream:
            with self._client.responses.stream(**arguments) as events:
                for event in events:
                    if event.type in ("response.failed", "error"):
                        raise BrokenStream
                whole = events.get_final_response()
        else:
            whole = self._client.responses.create(**arguments)
        usage = whole.usage
        return Answer(
            text=whole.output_text,
            thought="".join(
                part.text
                for item in whole.output
                if item.type == "reasoning"
                for part in (*item.summary, *(item.content or ()))
            ),
            calls=[
                Call(item.call_id, item.name, json.loads(item.arguments))
                for item in whole.output
                if item.type == "function_call"
            ],
            count=Count(
                usage.input_tokens,
                usage.input_tokens_details.cached_tokens,
                usage.output_tokens,
                usage.output_tokens_details.reasoning_tokens,
            ),
            turn=[item.model_dump(exclude_none=True, exclude={"parsed_arguments", "status"}) for item in whole.output],
        )

    def status_of(self, error: Exception) -> int:
        return 0 if isinstance(error, BrokenStream) else openai_status(self._sdk, error)


class AnthropicClient(SdkClient):
    """The anthropic SDK's messages: every block goes back as it came."""

    NAME = "anthropic"

    def __init__(self, address: str) -> None:
        super().__init__()
        import anthropic

        self._sdk = anthropic
        self._client = anthropic.Anthropic(base_url=address, api_key=KEY, max_retries=0, http_client=self.http(httpx2))

    def open(self, wish: Wish) -> list[Any]:
        if wish.image is None:
            return self.follow(wish.text)
        source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(wish.image).decode()}
        return [{"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": wish.text}]}]

    def results(self, calls: list[Call]) -> list[Any]:
        blocks = [{"type": "tool_result", "tool_use_id": call.id, "content": result_of(call)} for call in calls]
        return [{"role": "user", "content": blocks}]

    def follow(self, text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    def ask(self, model: str, wish: Wish, messages: list[Any], *, stream: bool) -> Answer:
        arguments: dict[str, Any] = {"model": model, "max_tokens": 4096, "messages": messages}
        if wish.tools:
            arguments["tools"] = [{"name": name, "input_schema": schema} for name, schema in wish.tools]
        if wish.think:
            arguments["thinking"] = {"type": "enabled", "budget_tokens": 2048}
        if wish.schema is not None:
            arguments["output_config"] = {"format": {"type": "json_schema", "schema": wish.schema}}
        if stream:
            with self._client.messages.stream(**arguments) as events:
                whole = events.get_final_message()
        else:
            whole = self._client.messages.create(**arguments)
        usage = whole.usage
        read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
        return Answer(
            text="".join(block.text for block in whole.content if block.type == "text"),
            thought="".join(block.thinking for block in whole.content if block.type == "thinking"),
            calls=[Call(block.id, block.name, block.input) for block in whole.content if block.type == "tool_use"],
            count=Count(
                usage.input_tokens + read + written,
                read,
                usage.output_tokens,
                usage.output_tokens_details.thinking_tokens if usage.output_tokens_details else 0,
            ),
            turn=[
                {
                    "role": "assistant",
                    "content": [
                        block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in whole.content
                    ],
                }
            ],
        )

    def status_of(self, error: Exception) -> int:
        return openai_status(self._sdk, error)


class GeminiClient(SdkClient):
    """The google-genai SDK: every part goes back as it came."""

    NAME = "gemini"

    def __init__(self, address: str) -> None:
        super().__init__()
        from google import genai
        from google.genai import errors, types

        self._types, self._errors = types, errors
        options = types.HttpOptions(base_url=address, httpx_client=self.http())
        self._client = genai.Client(api_key=KEY, http_options=options)
        self.stack.callback(self._client.close)

    def open(self, wish: Wish) -> list[Any]:
        parts = [self._types.Part(text=wish.text)]
        if wish.image is not None:
            parts.insert(0, self._types.Part.from_bytes(data=wish.image, mime_type="image/png"))
        return [self._types.Content(role="user", parts=parts)]

    def results(self, calls: list[Call]) -> list[Any]:
        types = self._types
        parts = [
            types.Part(
                function_response=types.FunctionResponse(
                    id=call.id or None, name=call.name, response={"result": result_of(call)}
                )
            )
            for call in calls
        ]
        return [types.Content(role="user", parts=parts)]

    def follow(self, text: str) -> list[Any]:
        return self.open(Wish(text=text))

    def ask(self, model: str, wish: Wish, messages: list[Any], *, stream: bool) -> Answer:
        config = self._config(wish)
        if stream:
            chunks = list(self._client.models.generate_content_stream(model=model, contents=messages, config=config))
        else:
            chunks = [self._client.models.generate_content(model=model, contents=messages, config=config)]
        parts = [
            part
            for chunk in chunks
            for candidate in chunk.candidates or []
            if candidate.content
            for part in candidate.content.parts or []
        ]
        calls = [part.function_call for part in parts if part.function_call]
        usage = chunks[-1].usage_metadata
        return Answer(
            text="".join(part.text for part in parts if part.text and not part.thought),
            thought="".join(part.text for part in parts if part.text and part.thought),
            calls=[Call(call.id or "", call.name, call.args) for call in calls],
            count=None
            if usage is None
            else Count(
                usage.prompt_token_count or 0,
                usage.cached_content_token_count or 0,
                (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
                usage.thoughts_token_count or 0,
            ),
            turn=[self._types.Content(role="model", parts=parts)],
        )

    def _config(self, wish: Wish) -> Any:
        types = self._types
        members: dict[str, Any] = {}
        if wish.tools:
            declared = [
                types.FunctionDeclaration(name=name, parameters_json_schema=schema) for name, schema in wish.tools
            ]
            members["tools"] = [types.Tool(function_declarations=declared)]
        if wish.think:
            members["thinking_config"] = types.ThinkingConfig(include_thoughts=True, thinking_budget=2048)
        if wish.schema is not None:
            members |= {"response_mime_type": "application/json", "response_json_schema": wish.schema}
        manual = types.AutomaticFunctionCallingConfig(disable=True)
        return types.GenerateContentConfig(automatic_function_calling=manual, **members)

    def status_of(self, error: Exception) -> int:
        assert isinstance(error, self._errors.APIError)
        if self.last.status_code == 200:
            return 0
        assert isinstance(error, self._errors.ClientError if error.code < 500 else self._errors.ServerError)
        return int(error.code)


class OllamaClient(SdkClient):
    """The ollama SDK's chat: its messages have no place for ids or signatures."""

    NAME = "ollama"

    def __init__(self, address: str) -> None:
        super().__init__()
        import ollama

        self._sdk = ollama
        headers = {"authorization": f"Bearer {KEY}"}
        self._client = ollama.Client(host=address, headers=headers, **self.http_options())
        self.stack.callback(self._client.close)

    def open(self, wish: Wish) -> list[Any]:
        message: dict[str, Any] = {"role": "user", "content": wish.text}
        if wish.image is not None:
            message["images"] = [wish.image]
        return [message]

    def results(self, calls: list[Call]) -> list[Any]:
        return [{"role": "tool", "tool_name": call.name, "content": result_of(call)} for call in calls]

    def follow(self, text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    def ask(self, model: str, wish: Wish, messages: list[Any], *, stream: bool) -> Answer:
        arguments: dict[str, Any] = {"model": model, "messages": messages, "stream": stream}
        if wish.tools:
            arguments["tools"] = [
                {"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in wish.tools
            ]
        if wish.think:
            arguments["think"] = True
        if wish.schema is not None:
            arguments["format"] = wish.schema
        answered = self._client.chat(**arguments)
        chunks = list(answered) if stream else [answered]
        text = "".join(chunk.message.content or "" for chunk in chunks)
        thought = "".join(chunk.message.thinking or "" for chunk in chunks)
        calls = [call for chunk in chunks for call in chunk.message.tool_calls or []]
        turn: dict[str, Any] = {"role": "assistant", "content": text}
        if thought:
            turn["thinking"] = thought
        if calls:
            turn["tool_calls"] = [call.model_dump() for call in calls]
        assert chunks[-1].done
        return Answer(
            text=text,
            thought=thought,
            calls=[Call("", call.function.name, dict(call.function.arguments)) for call in calls],
            count=Count(chunks[-1].prompt_eval_count, None, chunks[-1].eval_count, None),
            turn=[turn],
        )

    def status_of(self, error: Exception) -> int:
        assert isinstance(error, self._sdk.ResponseError)
        return 0 if self.last.status_code == 200 else int(error.status_code)


class OpenRouterClient(SdkClient):
    """The openrouter SDK's chat: hands back ``reasoning_details`` as they came."""

    NAME = "openrouter"

    def __init__(self, address: str) -> None:
        super().__init__()
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


class BrokenStream(Exception):
    """The stream's own event that says it broke, where an SDK hands it on and raises nothing."""


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


CLIENTS: tuple[type[Any], ...] = (
    OpenAIChatClient,
    OpenAIResponsesClient,
    AnthropicClient,
    GeminiClient,
    OllamaClient,
    OpenRouterClient,
)


def open_clients(address: str) -> Iterator[dict[str, Client]]:
    """All clients of the gateway at ``address``, by name."""
    with ExitStack() as stack:
        yield {kind.NAME: stack.enter_context(kind(address)) for kind in CLIENTS}
