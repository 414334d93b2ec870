"""What the simulated Gemini model says: the same request always gets the same thoughts, words, calls and counts."""

import base64
import re
from operator import itemgetter
from typing import Any, Final

import msgspec

from pointsman.wire.gemini_schema import BLOCK_REASONS, FINISH_REASONS

from .behaviour import Behaviour
from .gemini_request import (
    Json,
    config_of,
    declarations,
    ends_with_tool_result,
    last_user_text,
    objects_in,
    parts_of,
)
from .openai_completion import Words
from .schema_example import example_of
from .scripted_call import scripted_call

_TOKEN: Final = re.compile(r"\s*\S+|\s+")
_FINISH_WITH: Final = re.compile(r"finish with ([A-Z_]+)")
_BLOCK_WITH: Final = re.compile(r"block with ([A-Z_]+)")
_CHARACTERS_PER_TOKEN: Final = 4
# What one image, second of sound or page costs Gemini is near this; the simulator takes it for every attachment.
_MEDIA_TOKENS: Final = 258
_IMAGE_TOKENS: Final = 1290
_CACHED_CONTENT_TOKENS: Final = 2048
_TOOL_PROMPT_TOKENS: Final = 42

# One transparent pixel, and four samples of silence.
PIXEL: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
SILENCE: Final = bytes(8)


class Call(msgspec.Struct, frozen=True):
    """One function call."""

    name: str
    arguments: Any


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one candidate holds and why it ends; ``media`` are parts that come whole, such as images."""

    thoughts: Words
    words: Words
    calls: tuple[Call, ...] = ()
    media: tuple[Json, ...] = ()
    finish_reason: str = "STOP"

    @property
    def tokens(self) -> int:
        """Tokens of the answer without its thoughts."""
        called = sum(1 + len(_dumps(call.arguments)) // _CHARACTERS_PER_TOKEN for call in self.calls)
        return self.words.count + called + _IMAGE_TOKENS * sum("inlineData" in part for part in self.media)


NO_WORDS: Final = Words([""], 0)


def block_reason(request: Json) -> str | None:
    """The reason to refuse the prompt that "block with REASON" in the last user text asks for."""
    found = _BLOCK_WITH.search(last_user_text(request))
    return found[1] if found and found[1] in BLOCK_REASONS else None


def answers(request: Json, behaviour: Behaviour) -> list[Answer]:
    """One answer per candidate that ``request`` asks for."""
    count = config_of(request).get("candidateCount") or 1
    return [_answer(request, behaviour, index) for index in range(count)]


def thinks(request: Json) -> bool:
    """True when the request asks the model to think."""
    thinking = config_of(request).get("thinkingConfig")
    return isinstance(thinking, dict) and thinking.get("thinkingBudget") != 0


def prompt_by_modality(request: Json) -> dict[str, int]:
    """A stable count of the prompt's tokens by modality: one per four characters, a fixed number per attachment."""
    counts = {"TEXT": len(objects_in(request, "contents")) * 2}
    for part in parts_of(request):
        held = part.get("inlineData") or part.get("fileData")
        if held is not None:
            modality = _modality(held.get("mimeType", ""))
            counts[modality] = counts.get(modality, 0) + _MEDIA_TOKENS
        else:
            shown = {key: value for key, value in part.items() if key != "thoughtSignature"}
            text = part["text"] if "text" in part else _dumps(shown)
            counts["TEXT"] += -(-len(text) // _CHARACTERS_PER_TOKEN)
    declared = declarations(request)
    counts["TEXT"] += len(_dumps(declared)) // _CHARACTERS_PER_TOKEN if declared else 0
    if request.get("cachedContent"):
        counts["TEXT"] += _CACHED_CONTENT_TOKENS
    return counts


def usage(request: Json, made: list[Answer], behaviour: Behaviour, *, vertex: bool) -> Json | None:
    """Google's usageMetadata for these candidates, or None when it is to be left out."""
    if behaviour.usage == "none":
        return None
    counts = prompt_by_modality(request)
    prompt = sum(counts.values()) if behaviour.prompt_tokens is None else behaviour.prompt_tokens
    counts["TEXT"] += prompt - sum(counts.values())
    cached = behaviour.cached_tokens or (_CACHED_CONTENT_TOKENS if request.get("cachedContent") else 0)
    thoughts = sum(one.thoughts.count for one in made) + behaviour.reasoning_tokens
    tool_prompt = _TOOL_PROMPT_TOKENS if any(uses_server_tools(request, one) for one in made) else 0
    candidates = sum(one.tokens for one in made)
    total = prompt + candidates + thoughts + tool_prompt
    if behaviour.usage == "wrong":
        prompt, candidates, total = prompt + 1_000_000, candidates * 10 + 7, 1
    used: Json = {"promptTokenCount": prompt, "candidatesTokenCount": candidates, "totalTokenCount": total}
    if cached:
        used["cachedContentTokenCount"] = cached
        used["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": cached}]
    if tool_prompt:
        used["toolUsePromptTokenCount"] = tool_prompt
        used["toolUsePromptTokensDetails"] = [{"modality": "TEXT", "tokenCount": tool_prompt}]
    if thoughts:
        used["thoughtsTokenCount"] = thoughts
    used["promptTokensDetails"] = details(counts)
    images = _IMAGE_TOKENS * sum("inlineData" in part for one in made for part in one.media)
    if vertex or images:
        used["candidatesTokensDetails"] = details({"TEXT": candidates - images, "IMAGE": images})
    if vertex:
        used["trafficType"] = "ON_DEMAND"
    return used


def details(counts: dict[str, int]) -> list[Json]:
    """Counts by modality in Google's form; those of 0 are left out."""
    return [{"modality": modality, "tokenCount": count} for modality, count in counts.items() if count]


def uses_server_tools(request: Json, answer: Answer) -> bool:
    """True when Google runs a tool of its own for this answer."""
    return not answer.calls and any(
        name in tool
        for tool in objects_in(request, "tools")
        for name in ("googleSearch", "googleSearchRetrieval", "urlContext", "codeExecution")
    )


def _answer(request: Json, behaviour: Behaviour, index: int) -> Answer:
    thoughts = _thoughts(request, behaviour)
    if found := _FINISH_WITH.search(last_user_text(request)):
        reason = found[1] if found[1] in FINISH_REASONS else "OTHER"
        return Answer(thoughts=NO_WORDS, words=NO_WORDS, finish_reason=reason)
    if calls := _calls(request):
        return Answer(thoughts=thoughts, words=NO_WORDS, calls=calls)
    cycle = _cycle(request, index)
    words = Words(cycle, len(cycle) if behaviour.tokens is None else behaviour.tokens)
    if behaviour.filtered == "answer":
        words = Words(words.cycle, min(words.count, behaviour.after_events))
        return Answer(thoughts=thoughts, words=words, finish_reason="SAFETY")
    words = _up_to_stop(words, config_of(request).get("stopSequences") or [])
    limit: int | None = config_of(request).get("maxOutputTokens")
    # The limit counts thoughts too: a short one leaves no room for words.
    if limit is not None and words.count > (room := max(0, limit - thoughts.count)):
        thoughts = Words(thoughts.cycle, min(thoughts.count, limit))
        return Answer(thoughts=thoughts, words=Words(words.cycle, room), finish_reason="MAX_TOKENS")
    return Answer(thoughts=thoughts, words=words, media=_media(request))


def _thoughts(request: Json, behaviour: Behaviour) -> Words:
    if not thinks(request):
        return NO_WORDS
    cycle = _TOKEN.findall(f"**Considering the request**\n\nThe user says: {last_user_text(request)[:200]}")
    return Words(cycle, len(cycle))


def _cycle(request: Json, index: int) -> list[str]:
    config = config_of(request)
    mime = config.get("responseMimeType", "text/plain")
    schema = config["responseJsonSchema"] if "responseJsonSchema" in config else _lowered(config.get("responseSchema"))
    if mime == "text/x.enum":
        text = str(example_of(schema))
    elif mime == "application/json":
        text = _dumps({"echo": last_user_text(request)} if schema is None else example_of(schema))
    else:
        text = f"echo{f' {index}' if index else ''}: {last_user_text(request)}"
    return _TOKEN.findall(text) or [""]


def _media(request: Json) -> tuple[Json, ...]:
    made: list[Json] = []
    if any("codeExecution" in tool for tool in objects_in(request, "tools")):
        made.append({"executableCode": {"language": "PYTHON", "code": "print(6 * 7)\n"}})
        made.append({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "42\n"}})
    modalities = config_of(request).get("responseModalities") or []
    if "IMAGE" in modalities:
        made.append({"inlineData": {"mimeType": "image/png", "data": base64.b64encode(PIXEL).decode()}})
    if "AUDIO" in modalities:
        mime = "audio/L16;codec=pcm;rate=24000"
        made.append({"inlineData": {"mimeType": mime, "data": base64.b64encode(SILENCE).decode()}})
    return tuple(made)


def _up_to_stop(words: Words, marks: list[str]) -> Words:
    text = "".join(words) if marks else ""
    found = [position for mark in marks if mark and (position := text.find(mark)) >= 0]
    if not found:
        return words
    kept = _TOKEN.findall(text[: min(found)])
    return Words(kept or [""], len(kept))


def _calls(request: Json) -> tuple[Call, ...]:
    functions = declarations(request)
    config = config_of(config_of(request, "toolConfig"), "functionCallingConfig")
    mode = config.get("mode", "AUTO")
    text = last_user_text(request)
    asked = "call the tool" in text and not ends_with_tool_result(request)
    if allowed := config.get("allowedFunctionNames"):
        functions = [one for one in functions if one["name"] in allowed]
    if not functions or mode == "NONE" or not (asked or mode == "ANY"):
        return ()
    if scripted := scripted_call(text, functions, itemgetter("name")):
        return (Call(scripted[0]["name"], msgspec.json.decode(scripted[1])),)
    chosen = [functions[0], functions[1 % len(functions)]] if "twice" in text else functions[:1]
    return tuple(Call(one["name"], _arguments(one)) for one in chosen)


def _arguments(function: Json) -> Any:
    schema = function.get("parametersJsonSchema")
    made = example_of(_lowered(function.get("parameters")) if schema is None else schema)
    return made if isinstance(made, dict) else {}


def _lowered(schema: Any) -> Any:
    """A schema of Google's OpenAPI subset as JSON schema, as far as examples need it."""
    if not isinstance(schema, dict):
        return schema
    lowered = dict(schema)
    if "type" in schema:
        lowered["type"] = schema["type"].lower()
    for name in ("properties", "defs"):
        if name in schema:
            lowered[name] = {key: _lowered(value) for key, value in schema[name].items()}
    if "items" in schema:
        lowered["items"] = _lowered(schema["items"])
    if "anyOf" in schema:
        lowered["anyOf"] = [_lowered(one) for one in schema["anyOf"]]
    return lowered


def _modality(mime: str) -> str:
    kind = mime.partition("/")[0]
    return {"image": "IMAGE", "audio": "AUDIO", "video": "VIDEO", "application": "DOCUMENT"}.get(kind, "TEXT")


def _dumps(value: object) -> str:
    return msgspec.json.encode(value).decode()
