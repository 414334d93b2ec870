"""What the simulated model says: the same request always gets the same words, calls and counts."""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from .behaviour import Behaviour
from .openai_flavours import OPENAI, Flavour
from .openai_request import Json, ends_with_tool_result, last_user_text, object_in, objects_in, prompt_tokens
from .schema_example import example_of
from .scripted_call import scripted_call

# A word with the space before it; trailing space is a token too, so that the tokens add up to the text exactly.
_TOKEN: Final = re.compile(r"\s*\S+|\s+")
_FRAGMENT: Final = 8


REFUSAL: Final = "I'm sorry, but I can't help with that."


class ToolCall(msgspec.Struct, frozen=True):
    """One call; ``arguments`` is JSON in text for a function, any text for a custom tool."""

    name: str
    arguments: str
    kind: str = "function"

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
    """What one choice holds: words or tool calls, after what was thought, and why it ends.

    ``spoken``: the words are an audio answer's transcript. ``cited``: a source is named for them.
    """

    words: Words
    calls: tuple[ToolCall, ...] = ()
    reasoning: tuple[str, ...] = ()
    refusal: str | None = None
    spoken: bool = False
    cited: bool = False
    finish_reason: str = "stop"

    @property
    def tokens(self) -> int:
        """How many tokens were generated."""
        said = 0 if self.refusal is None else len(_TOKEN.findall(self.refusal))
        calls = sum(1 + -(-len(call.arguments) // _FRAGMENT) for call in self.calls)
        return self.words.count + said + calls + len(self.reasoning)


def completions(request: Json, behaviour: Behaviour, flavour: Flavour = OPENAI) -> list[Completion]:
    """One completion per choice that ``request`` asks for with ``n``."""
    calls = _tool_calls(request)
    reasoning = tuple(_TOKEN.findall(f"Thinking about: {last_user_text(request)}")) if flavour.thinks(request) else ()
    if calls:
        # OpenAI ends an answer with "stop" when the caller forced one named function.
        forced = isinstance(request.get("tool_choice"), dict) and request["tool_choice"].get("type") == "function"
        completion = Completion(
            words=Words([""], 0), calls=calls, reasoning=reasoning, finish_reason="stop" if forced else "tool_calls"
        )
        return [completion] * (request.get("n") or 1)
    made = [_text(request, behaviour, index) for index in range(request.get("n") or 1)]
    return [msgspec.structs.replace(one, reasoning=reasoning) for one in made]


def usage(request: Json, made: list[Completion], behaviour: Behaviour, flavour: Flavour = OPENAI) -> Json | None:
    """OpenAI's usage object for these completions, or None when it is to be left out."""
    if behaviour.usage == "none":
        return None
    prompt = prompt_tokens(request) if behaviour.prompt_tokens is None else behaviour.prompt_tokens
    thought = sum(len(one.reasoning) for one in made) + behaviour.reasoning_tokens
    spoken = sum(one.words.count for one in made if one.spoken)
    completion = sum(one.tokens for one in made) + behaviour.reasoning_tokens
    total = prompt + completion
    if behaviour.usage == "wrong":
        prompt, completion, total = prompt + 1_000_000, completion * 10 + 7, 1
    used: Json = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": behaviour.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": thought,
            "audio_tokens": spoken,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    if flavour.cache_hits:
        used["prompt_cache_hit_tokens"] = behaviour.cached_tokens
        used["prompt_cache_miss_tokens"] = prompt - behaviour.cached_tokens
    return used


def _text(request: Json, behaviour: Behaviour, index: int) -> Completion:
    asked = last_user_text(request)
    if "please refuse" in asked:
        return Completion(words=Words([""], 0), refusal=REFUSAL)
    made = _words(request, behaviour, index)
    if behaviour.filtered == "answer":
        shortened = Words(made.words.cycle, min(made.words.count, behaviour.after_events))
        made = msgspec.structs.replace(made, words=shortened, finish_reason="content_filter")
    if "be filtered" in asked:
        made = msgspec.structs.replace(made, finish_reason="content_filter")
    spoken = "audio" in (request.get("modalities") or ())
    return msgspec.structs.replace(made, spoken=spoken, cited=request.get("web_search_options") is not None)


def _words(request: Json, behaviour: Behaviour, index: int) -> Completion:
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
    tools: list[Json] = list(request.get("tools") or ())
    text = last_user_text(request)
    tools = _chosen(
        tools, request.get("tool_choice"), asked="call the tool" in text and not ends_with_tool_result(request)
    )
    if not tools:
        return ()
    if scripted := scripted_call(text, tools, _name):
        return (ToolCall(str(_name(scripted[0])), scripted[1], scripted[0]["type"]),)
    twice = "twice" in text and request.get("parallel_tool_calls") is not False
    return tuple(_call(tool) for tool in ((tools[0], tools[1 % len(tools)]) if twice else (tools[0],)))


def _chosen(tools: list[Json], choice: Any, asked: bool) -> list[Json]:
    """The tools that may be called now; empty when the answer is to be text."""
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = object_in(choice, "allowed_tools")
        names = [_name(tool) for tool in objects_in(allowed, "tools")]
        tools = [tool for tool in tools if _name(tool) in names]
        choice = allowed.get("mode")
    elif isinstance(choice, dict):
        return [tool for tool in tools if _name(tool) == _name(choice)]
    return tools if choice in ("required", "any") or (asked and choice != "none") else []


def _name(tool: Json) -> object:
    return object_in(tool, str(tool.get("type"))).get("name")


def _call(tool: Json) -> ToolCall:
    definition: Json = tool[tool["type"]]
    if tool["type"] == "custom":
        return ToolCall(definition["name"], f"example input of {definition['name']}", "custom")
    arguments = _dumps(example_of(definition.get("parameters") or {"type": "object"}))
    return ToolCall(definition["name"], arguments)


def _dumps(value: object) -> str:
    return msgspec.json.encode(value).decode()
