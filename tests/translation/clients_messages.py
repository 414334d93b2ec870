"""Clients that hand every item or block back as it came: OpenAI's of the Responses API, and Anthropic's."""

import base64
import json
from typing import Any

import httpx2
from client_terms import Answer, BrokenStream, Call, Count, SdkClient, Wish, data_url, openai_status, result_of

from gateway import KEY


class OpenAIResponsesClient(SdkClient):
    """The openai SDK's responses, kept by the client: every item goes back as it came."""

    NAME = "openai-responses"

    def __init__(self, address: str, timeout_seconds: float) -> None:
        super().__init__(timeout_seconds)
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
        if wish.limit is not None:
            arguments |= {"max_output_tokens": wish.limit, "temperature": 0}
        if stream:
            with self._client.responses.stream(**arguments) as events:
                for event in events:
                    if event.type in ("response.failed", "error"):
                        raise BrokenStream
                whole = events.get_final_response()
        else:
            whole = self._client.responses.create(**arguments)
        usage = whole.usage
        assert usage is not None
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

    def __init__(self, address: str, timeout_seconds: float) -> None:
        super().__init__(timeout_seconds)
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
        if wish.limit is not None:
            arguments |= {"max_tokens": wish.limit, "extra_body": {"temperature": 0}}
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
