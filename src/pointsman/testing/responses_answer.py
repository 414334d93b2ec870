"""What the simulated model says through the Responses API: output items, the same for the same request."""

import base64
import hmac
import re
from collections.abc import Iterator
from operator import itemgetter
from typing import Any, Final

import msgspec

from .behaviour import Behaviour
from .openai_completion import ToolCall, Words
from .openai_request import InvalidRequest, Json, object_in, objects_in
from .responses_request import functions_of, kind_of, last_user_text, text_of
from .schema_example import example_of
from .scripted_call import scripted_call

_TOKEN: Final = re.compile(r"\s*\S+|\s+")
_ENCRYPTED: Final = "gAAAAAB"  # how OpenAI's encrypted content begins
_REFUSAL: Final = "I'm sorry, but I can't assist with that request."
_SOURCE: Final = "https://example.com/simulated"
_OUTPUTS: Final = ("function_call_output", "custom_tool_call_output")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a function (``text`` is JSON) or of a custom tool (``text`` is its input)."""

    name: str
    text: str
    custom: bool = False
    namespace: str | None = None

    def fragments(self) -> Iterator[str]:
        """The text in the pieces in which it is streamed."""
        return ToolCall(self.name, self.text).fragments()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a response holds: ``summary`` of the reasoning when there is some (empty: hidden), then calls or words.

    ``searched``: the web was searched first. ``cut``: the limit on tokens ended it, or with
    ``filtered`` a content filter.
    """

    words: Words
    calls: tuple[Call, ...] = ()
    summary: tuple[str, ...] | None = None
    refused: bool = False
    searched: str | None = None
    cut: bool = False
    filtered: bool = False

    @property
    def tokens(self) -> int:
        """How many visible tokens were generated."""
        return self.words.count + sum(1 + -(-len(call.text) // 8) for call in self.calls)


def answer_of(request: Json, items: list[Json], behaviour: Behaviour) -> Answer:
    """The answer to ``request``, whose conversation so far is ``items``."""
    summary = _summary(request, items, behaviour)
    calls = _calls(request, items)
    if calls:
        return Answer(words=Words([""], 0), calls=calls, summary=summary)
    text = last_user_text(items)
    refused = "please refuse" in text
    cycle = _TOKEN.findall(_REFUSAL if refused else _text(request, text))
    words = Words(cycle, len(cycle) if behaviour.tokens is None else behaviour.tokens)
    limit: int | None = request.get("max_output_tokens")
    cut = filtered = behaviour.filtered == "answer"
    if filtered:
        words = Words(words.cycle, min(words.count, behaviour.after_events))
    elif limit is not None and words.count > limit:
        words, cut = Words(words.cycle, limit), True
    return Answer(
        words=words,
        summary=summary,
        refused=refused,
        searched=_search(request, text),
        cut=cut,
        filtered=filtered,
    )


def usage_of(items: list[Json], request: Json, made: Answer, behaviour: Behaviour) -> Json | None:
    """OpenAI's usage object, or None when it is to be left out. Reasoning counts 16 tokens unless told otherwise."""
    if behaviour.usage == "none":
        return None
    given = input_tokens(items, request) if behaviour.prompt_tokens is None else behaviour.prompt_tokens
    reasoning = behaviour.reasoning_tokens or (16 if made.summary is not None else 0)
    output = made.tokens + reasoning
    total = given + output
    if behaviour.usage == "wrong":
        given, output, total = given + 1_000_000, output * 10 + 7, 1
    return {
        "input_tokens": given,
        "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": behaviour.cached_tokens},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": total,
    }


def input_tokens(items: list[Json], request: Json) -> int:
    """A stable count of the prompt's tokens: one per four characters of each item, of instructions and of tools."""
    instructions = request.get("instructions")
    tools = request.get("tools")
    count = 3 + (len(str(instructions)) + 3) // 4 + 4 if instructions else 3
    for item in items:
        size = len(text_of(item)) if kind_of(item) == "message" else len(msgspec.json.encode(item)) // 2
        count += (size + 3) // 4 + 4
    return count + (len(msgspec.json.encode(tools)) // 4 if tools else 0)


class ReasoningSeal:
    """OpenAI's encrypted reasoning: unreadable, and refused when it was changed or belongs to another organisation."""

    def __init__(self, secret: str) -> None:
        self._key = b"simulated reasoning/" + secret.encode()

    def seal(self, identity: str, text: str) -> str:
        """The encrypted content of the reasoning item ``identity``."""
        payload = msgspec.json.encode([identity, text])
        return _ENCRYPTED + base64.urlsafe_b64encode(self._mac(payload) + payload).decode()

    def check(self, content: str) -> None:
        """Raise InvalidRequest with OpenAI's own words unless `seal` wrote ``content``."""
        try:
            if not content.startswith(_ENCRYPTED):
                raise ValueError
            raw = base64.urlsafe_b64decode(content.removeprefix(_ENCRYPTED))
            if not hmac.compare_digest(self._mac(raw[32:]), raw[:32]):
                raise ValueError
        except ValueError:
            shown = f"{content[:4]}...{content[-4:]}"
            message = (
                f"The encrypted content {shown} could not be verified. Reason: Encrypted content could not be "
                "decrypted or parsed."
            )
            raise InvalidRequest(message, None, "invalid_encrypted_content") from None

    def _mac(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, "sha256")


def logprobs_of(request: Json, tokens: tuple[str, ...]) -> list[Json]:
    """Log probabilities of ``tokens`` when ``include`` asks for them: the longer the token, the less likely."""
    if "message.output_text.logprobs" not in (request.get("include") or ()):
        return []
    wanted = request.get("top_logprobs") or 0
    return [
        {**_logprob(token, 0), "top_logprobs": [_logprob(f"{token}{rank or ''}", rank) for rank in range(wanted)]}
        for token in tokens
    ]


def citation(text: str) -> Json:
    """The annotation of a text that was written after a search."""
    return {"type": "url_citation", "start_index": 0, "end_index": len(text), "title": "Simulated", "url": _SOURCE}


def search_action(request: Json, query: str) -> Json:
    """What a search did; with its sources when ``include`` asks for them."""
    action: Json = {"type": "search", "queries": [query], "query": query}
    if "web_search_call.action.sources" in (request.get("include") or ()):
        action["sources"] = [{"type": "url", "url": _SOURCE}]
    return action


def _logprob(token: str, rank: int) -> Json:
    return {"token": token, "bytes": list(token.encode()), "logprob": -0.01 * len(token) - rank}


def _text(request: Json, said: str) -> str:
    wanted = object_in(object_in(request, "text"), "format")
    if wanted.get("type") == "json_schema":
        return _dumps(example_of(wanted.get("schema")))
    if wanted.get("type") == "json_object":
        return _dumps({"echo": said})
    return f"echo: {said}"


def _summary(request: Json, items: list[Json], behaviour: Behaviour) -> tuple[str, ...] | None:
    options = object_in(request, "reasoning")
    wants = options.get("summary") or options.get("generate_summary")
    if not (wants or behaviour.reasoning_tokens or options.get("effort") not in (None, "none")):
        return None
    return (f"**Considering the request** The user says: {last_user_text(items)}",) if wants else ()


def _search(request: Json, text: str) -> str | None:
    kinds = [str(tool.get("type")) for tool in objects_in(request, "tools")]
    return text if "search the web" in text and any(kind.startswith("web_search") for kind in kinds) else None


def _calls(request: Json, items: list[Json]) -> tuple[Call, ...]:
    text = last_user_text(items)
    answered = bool(items) and kind_of(items[-1]) in _OUTPUTS
    callable_now = _chosen(functions_of(request), request.get("tool_choice"), "call the tool" in text and not answered)
    if not callable_now:
        return ()
    if scripted := scripted_call(text, callable_now, itemgetter("name")):
        tool, arguments = scripted
        return (_call(tool, arguments),)
    twice = "twice" in text and request.get("parallel_tool_calls") is not False
    chosen = (callable_now[0], callable_now[1 % len(callable_now)]) if twice else (callable_now[0],)
    return tuple(_call(tool) for tool in chosen)


def _call(tool: Json, text: str | None = None) -> Call:
    custom = tool.get("type") == "custom"
    if text is None:
        text = f"example input of {tool['name']}\n" if custom else _dumps(example_of(tool.get("parameters") or {}))
    return Call(name=tool["name"], text=text, custom=custom, namespace=tool.get("namespace"))


def _chosen(tools: list[Json], choice: Any, asked: bool) -> list[Json]:
    """The tools that may be called now; empty when the answer is to be text."""
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        names = [tool.get("name") for tool in objects_in(choice, "tools")]
        tools = [tool for tool in tools if tool["name"] in names]
        choice = choice.get("mode")
    elif isinstance(choice, dict):
        return [tool for tool in tools if tool["name"] == choice.get("name") and tool["type"] == choice.get("type")]
    return tools if choice == "required" or (asked and choice != "none") else []


def _dumps(value: object) -> str:
    return msgspec.json.encode(value if value is not None else {}).decode()
