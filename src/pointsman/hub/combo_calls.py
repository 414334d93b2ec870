"""What a combo does to the calls that name it: its own system message, fewer tools, and a look at the answer."""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import RefusalPart, TextPart, ToolCallPart
from pointsman.canonical.request import Message, Request
from pointsman.canonical.response import Response
from pointsman.dialects import openai_chat
from pointsman.errors import GatewayError, Kind
from pointsman.hub.own_calls import AlteredDialect, OwnCall
from pointsman.routing.combos import Combo
from pointsman.routing.failures import INVALID_ANSWER

_STEP: Final = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_MISSING: Final = object()


def altered(combo: Combo, dialect: Any, call: Any, body: bytes) -> tuple[Any, Any]:
    """The dialect and the call that the targets of a combo get; the same ones when it changes nothing.

    Raises GatewayError(INVALID_REQUEST) when the body can't be read.
    """
    rules = combo.settings.get("responseValidation") or {}
    looks = any(rules.get(name) for name in RULES) and (not call.stream or rules.get("streams"))
    if combo.system_message is None and combo.tool_filter is None and not looks:
        return dialect, call
    request = rewritten(combo, dialect.as_request(call, body))
    check = checker(rules, request) if looks else None
    own = OwnCall.like(call, request)
    return AlteredDialect(dialect, own, check), own


def rewritten(combo: Combo, request: Request) -> Request:
    """The request with the combo's system message in the place of its own, and without the tools that it leaves out."""
    request = copy.copy(request)
    if combo.system_message is not None:
        kept = [message for message in request.messages if message.role not in ("system", "developer")]
        request.messages = [Message(role="system", parts=[TextPart(text=combo.system_message)]), *kept]
    if combo.tool_filter is not None and request.tools:
        wanted = re.compile(combo.tool_filter)
        request.tools = [tool for tool in request.tools if wanted.search(tool.name)]
        request.tool_choice = choice_left(request)
    return request


def choice_left(request: Request) -> Any:
    """The tool choice, as far as its tools are still there."""
    choice, names = request.tool_choice, {tool.name for tool in request.tools}
    if choice is None or not names:
        return None
    if choice.mode == "tool" and choice.name not in names:
        return msgspec.structs.replace(choice, mode="auto", name=None)
    if choice.allowed is not None:
        return msgspec.structs.replace(choice, allowed=tuple(name for name in choice.allowed if name in names))
    return choice


RULES: Final = ("forbiddenSubstrings", "requiredSubstrings", "minContentLength", "jsonPathPredicates")


def checker(rules: Mapping[str, Any], request: Request) -> Callable[[Response], None]:
    """Raises GatewayError(UPSTREAM_ERROR) for an answer that breaks a rule: it counts as a failed call."""

    def check(response: Response) -> None:
        broken = next(_broken(rules, response, request), None)
        if broken is not None:
            message = f"the answer is not what the combo asks for: {broken}"
            raise GatewayError(Kind.UPSTREAM_ERROR, message, param=INVALID_ANSWER)

    return check


def _broken(rules: Mapping[str, Any], response: Response, request: Request) -> Iterator[str]:
    parts = [part for choice in response.choices for part in choice.parts]
    text = "".join(part.text for part in parts if isinstance(part, TextPart | RefusalPart))
    calls = any(isinstance(part, ToolCallPart) for part in parts)
    for index, word in enumerate(rules.get("forbiddenSubstrings") or ()):
        if word in text:
            yield f"forbiddenSubstrings[{index}] is in it"
    if not calls:  # a call of a tool is an answer without words
        for index, word in enumerate(rules.get("requiredSubstrings") or ()):
            if word not in text:
                yield f"requiredSubstrings[{index}] is not in it"
        if len(text) < (rules.get("minContentLength") or 0):
            yield "it is shorter than minContentLength"
    predicates = rules.get("jsonPathPredicates") or ()
    if predicates:
        whole = _as_json(response, request)
        for index, predicate in enumerate(predicates):
            if not holds(predicate, whole):
                yield f"jsonPathPredicates[{index}] does not hold"


def _as_json(response: Response, request: Request) -> Any:
    """The answer as OpenAI's chat API writes it, whatever the two sides speak."""
    identity = Identity(request_id="", created=0)
    return msgspec.json.decode(openai_chat.write_response(response, request, identity, Fidelity()))


def holds(predicate: Mapping[str, Any], whole: Any) -> bool:
    """Whether a predicate is true of a JSON value; its path is like ``$.choices[0].message.content``."""
    found = whole
    for number, name in _STEP.findall(str(predicate.get("path", "")).removeprefix("$")):
        if number:
            found = found[int(number)] if isinstance(found, list) and int(number) < len(found) else _MISSING
        else:
            found = found.get(name, _MISSING) if isinstance(found, dict) else _MISSING
    match predicate.get("condition") or "exists":
        case "exists":
            return found is not _MISSING
        case "nonEmpty":
            return found is not _MISSING and found not in (None, "", [], {})
        case "equals":
            return found is not _MISSING and bool(found == predicate.get("value"))
    return found is _MISSING or bool(found != predicate.get("value"))
