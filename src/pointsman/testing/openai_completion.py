"""What the simulated model says: the same request always gets the same words, calls and counts."""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from .behaviour import Behaviour
from .openai_request import Json, ends_with_tool_result, last_user_text, object_in, objects_in, prompt_tokens
from .schema_example import example_of

# A word with the space before it; trailing space is a token too, so that the tokens add up to the text exactly.
_TOKEN: Final = re.compile(r"\s*\S+|\s+")
_FRAGMENT: Final = 8


class ToolCall(msgspec.Struct, frozen=True):
    """One function call; ``arguments`` is JSON in text."""

    name: str
    arguments: str

    def fragments(self) -> Iterator[str]:
        """The arguments in the pieces in which they are streamed."""
        for start in range(0, len(self.arguments), _FRAGMENT):
            yield self.arguments[start : start + _FRAGMENT]


class Words(msgspec.Struct, frozen=True):
    """``count`` tokens of text: those in ``cycle`` again and again, without being held in memory."""

    cycle: list[str]
    count: int

    def __iter__(self) -> Iterator[str]:
        whole = len(self.cycle)
        for position in range(self.count):
            token = self.cycle[position % whole]
            yield f" {token}" if position and position % whole == 0 else token


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What one choice holds: words or tool calls, and why it ends."""

    words: Words
    calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"

    @property
    def tokens(self) -> int:
        """How many tokens were generated."""
        return self.words.count + sum(1 + -(-len(call.arguments) // _FRAGMENT) for call in self.calls)


def completions(request: Json, behaviour: Behaviour) -> list[Completion]:
    """One completion per choice that ``request`` asks for with ``n``."""
    calls = _tool_calls(request)
    if calls:
        # OpenAI ends an answer with "stop" when the caller forced one named function.
        forced = isinstance(request.get("tool_choice"), dict) and request["tool_choice"].get("type") == "function"
        completion = Completion(words=Words([""], 0), calls=calls, finish_reason="stop" if forced else "tool_calls")
        return [completion] * (request.get("n") or 1)
    return [_text(request, behaviour, index) for index in range(request.get("n") or 1)]


def usage(request: Json, made: list[Completion], behaviour: Behaviour) -> Json | None:
    """OpenAI's usage object for these completions, or None when it is to be left out."""
    if behaviour.usage == "none":
        return None
    prompt = prompt_tokens(request) if behaviour.prompt_tokens is None else behaviour.prompt_tokens
    completion = sum(one.tokens for one in made) + behaviour.reasoning_tokens
    total = prompt + completion
    if behaviour.usage == "wrong":
        prompt, completion, total = prompt + 1_000_000, completion * 10 + 7, 1
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": behaviour.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": behaviour.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _text(request: Json, behaviour: Behaviour, index: int) -> Completion:
    cycle = _cycle(request, index)
    words = Words(cycle, len(cycle) if behaviour.tokens is None else behaviour.tokens)
    words = _up_to_stop(words, request.get("stop"))
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    if limit is not None and words.count > limit:
        return Completion(words=Words(words.cycle, limit), finish_reason="length")
    return Completion(words=words)


def _cycle(request: Json, index: int) -> list[str]:
    wanted = object_in(request, "response_format")
    if wanted.get("type") == "json_schema":
        text = _dumps(example_of(object_in(wanted, "json_schema").get("schema")))
    elif wanted.get("type") == "json_object":
        text = _dumps({"echo": last_user_text(request)})
    else:
        text = f"echo{f' {index}' if index else ''}: {last_user_text(request)}"
    return _TOKEN.findall(text)


def _up_to_stop(words: Words, stop: object) -> Words:
    listed = stop if isinstance(stop, list) else [stop]
    marks = [mark for mark in listed if mark and isinstance(mark, str)]
    if not marks:
        return words
    text = "".join(words)
    found = [position for mark in marks if (position := text.find(mark)) >= 0]
    if not found:
        return words
    kept = _TOKEN.findall(text[: min(found)])
    return Words(kept or [""], len(kept))


def _tool_calls(request: Json) -> tuple[ToolCall, ...]:
    functions = [tool["function"] for tool in request.get("tools") or () if tool.get("type") == "function"]
    text = last_user_text(request)
    functions = _chosen(
        functions, request.get("tool_choice"), asked="call the tool" in text and not ends_with_tool_result(request)
    )
    if not functions:
        return ()
    twice = "twice" in text and request.get("parallel_tool_calls") is not False
    calls = (functions[0], functions[1 % len(functions)]) if twice else (functions[0],)
    return tuple(ToolCall(function["name"], _arguments(function)) for function in calls)


def _chosen(functions: list[Json], choice: Any, asked: bool) -> list[Json]:
    """The functions that may be called now; empty when the answer is to be text."""
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = object_in(choice, "allowed_tools")
        names = [object_in(tool, "function").get("name") for tool in objects_in(allowed, "tools")]
        functions = [function for function in functions if function["name"] in names]
        choice = allowed.get("mode")
    elif isinstance(choice, dict):
        name = object_in(choice, "function").get("name")
        return [function for function in functions if function["name"] == name]
    return functions if choice == "required" or (asked and choice != "none") else []


def _arguments(function: Json) -> str:
    return _dumps(example_of(function.get("parameters") or {"type": "object"}))


def _dumps(value: object) -> str:
    return msgspec.json.encode(value).decode()
