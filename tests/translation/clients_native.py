"""Clients of Google's and Ollama's own APIs."""

from typing import Any

from client_terms import Answer, Call, Count, SdkClient, Wish, result_of

from gateway import KEY


class GeminiClient(SdkClient):
    """The google-genai SDK: every part goes back as it came."""

    NAME = "gemini"

    def __init__(self, address: str, timeout_seconds: float) -> None:
        super().__init__(timeout_seconds)
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
            calls=[Call(call.id or "", call.name or "", call.args) for call in calls],
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
        if wish.limit is not None:
            members |= {"max_output_tokens": wish.limit, "temperature": 0}
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

    def __init__(self, address: str, timeout_seconds: float) -> None:
        super().__init__(timeout_seconds)
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
        if wish.limit is not None:
            arguments["options"] = {"num_predict": wish.limit, "temperature": 0}
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
