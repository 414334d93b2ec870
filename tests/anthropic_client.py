"""The official Anthropic SDK against a simulator, and a strict reading of what it got."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pydantic
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.beta import BetaRawMessageStreamEvent

EVENTS: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(RawMessageStreamEvent)
BETA_EVENTS: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(BetaRawMessageStreamEvent)
SAY: Any = {"model": "m", "max_tokens": 10_000}
WEATHER: Any = {
    "name": "weather",
    "description": "What the weather is.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["c", "f"]}},
    },
}
CLOCK: Any = {"name": "clock", "input_schema": {"type": "object"}}
THINK: Any = {"type": "enabled", "budget_tokens": 2048}


def user(*content: Any) -> Any:
    """One user message: of text, or of blocks."""
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}


def ask(text: str = "hello there") -> list[Any]:
    """A conversation of one user message."""
    return [user(text)]


def assert_strict(value: pydantic.BaseModel, raw: str) -> None:
    """The answer has no member that the SDK does not know and none of a wrong type."""
    type(value).model_validate_json(raw, strict=True)
    assert_known(value)


def assert_known(value: object) -> None:
    """No member anywhere in ``value`` is unknown to the SDK."""
    for path, extra in _extras(value):
        assert not extra, f"unknown members at {path}: {extra}"


def buffered(client: anthropic.Anthropic, **arguments: Any) -> Message:
    """A buffered answer, read strictly."""
    response = client.messages.with_raw_response.create(**{**SAY, **arguments})
    answer = response.parse()
    assert_strict(answer, response.text())
    return answer


def frames(client: anthropic.Anthropic, **arguments: Any) -> list[tuple[str, str]]:
    """Name and data of every event of a streamed answer, as they came."""
    with client.messages.with_streaming_response.create(**{**SAY, **arguments}, stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        text = "".join(response.iter_text())
    found = []
    for frame in text.removesuffix("\n\n").split("\n\n"):
        event, data = frame.split("\n")
        found.append((event.removeprefix("event: "), data.removeprefix("data: ")))
    return found


def events(client: anthropic.Anthropic, adapter: pydantic.TypeAdapter[Any] = EVENTS, **arguments: Any) -> list[Any]:
    """Every event but pings, read strictly; the name of each is its type."""
    read = []
    for name, data in frames(client, **arguments):
        if name != "ping":
            read.append(adapter.validate_json(data, strict=True))
            assert_known(read[-1])
            assert read[-1].type == name
    return read


def _extras(value: object, path: str = "$") -> Iterator[tuple[str, object]]:
    if isinstance(value, pydantic.BaseModel):
        yield path, value.model_extra
        for name in type(value).model_fields:
            yield from _extras(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from _extras(item, f"{path}[]")
