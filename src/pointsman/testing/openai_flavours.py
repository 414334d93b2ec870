"""Hosts that speak OpenAI Chat Completions with departures of their own, as a simulator plays them.

A flavour says how its answers hold what was thought, what it demands of a conversation, and how it refuses members that
it doesn't know. Sources: the hosts' API references as of 2026-11.
"""

import hmac
from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from .openai_request import InvalidRequest, Json, object_in, objects_in, unknown_argument

_SIGNING_KEY: Final = b"simulated signing key"
DETAILS_FORMAT: Final = "anthropic-claude-v1"

_NOT_PASSED_BACK: Final = "The `reasoning_content` in the thinking mode must be passed back to the API."
_SIGNATURE: Final = (
    "messages.{position}.content.0: Invalid `signature` in `thinking` block. The block may have been changed."
)


class Flavour(msgspec.Struct, frozen=True, kw_only=True):
    """One host's departures.

    ``reasoning``: where an answer has what was thought; ``hidden``: in no place but usage. ``thinks_when``: always,
    unless turned off, or only when asked with an effort. ``echo``: assistant messages with tool calls must hold their
    reasoning. ``usage_in``: an event of its own, the event with the finish reason, or Groq's ``x_groq``.
    ``developer``: it knows that role; else it refuses it. ``refuses_marks``: no ``cache_control`` on parts and tools.
    ``also``: members it knows beyond OpenAI's; ``unknown``: what it does with others.
    """

    name: str
    reasoning: Literal["hidden", "reasoning_content", "reasoning", "reasoning_details", "think_tags", "parts"] = (
        "hidden"
    )
    thinks_when: Literal["always", "unless_off", "asked"] = "asked"
    echo: bool = False
    developer: bool = False
    refuses_marks: bool = False
    usage_in: Literal["own_event", "finish_event", "x_groq"] = "own_event"
    also: frozenset[str] = frozenset()
    unknown: Literal["refuse", "ignore", "detail", "property"] = "ignore"
    padded: bool = False
    short_ids: bool = False
    cache_hits: bool = False

    def thinks(self, request: Json) -> bool:
        """Whether this request is thought about."""
        asked = request.get("reasoning_effort") or object_in(request, "reasoning").get("effort")
        if asked == "none" or object_in(request, "thinking").get("type") == "disabled":
            return False
        if request.get("enable_thinking") is False:
            return False
        on = asked or request.get("reasoning") or request.get("enable_thinking")
        on = on or request.get("prompt_mode") == "reasoning" or object_in(request, "thinking").get("type") == "enabled"
        return self.thinks_when != "asked" or bool(on)

    def check(self, request: Json) -> None:
        """Raise InvalidRequest for what this host in particular refuses."""
        unknown = unknown_argument({name: value for name, value in request.items() if name not in self.also})
        if unknown is not None:
            self._refuse(unknown, request[unknown])
        if not self.developer:
            _check_roles(request)
        if self.refuses_marks:
            _check_marks(request)
        if self.echo and self.thinks(request):
            self._check_echo(request)
        if self.reasoning == "reasoning_details":
            _check_signatures(request)
        if self.short_ids:
            _check_short_ids(request)

    def _refuse(self, name: str, value: object) -> None:
        if self.unknown == "refuse":
            raise InvalidRequest(f"Unrecognized request argument supplied: {name}")
        if self.unknown == "property":
            raise InvalidRequest(f"property '{name}' is unsupported")
        if self.unknown == "detail":
            raise ExtraForbidden(name, value)

    def _check_echo(self, request: Json) -> None:
        for message in request["messages"]:
            called = message.get("role") == "assistant" and message.get("tool_calls")
            if called and not isinstance(message.get("reasoning_content"), str):
                raise InvalidRequest(_NOT_PASSED_BACK, None, "invalid_request_error")


class ExtraForbidden(InvalidRequest):
    """Mistral's way to refuse a member: 422 and a list of what is wrong where."""

    def __init__(self, name: str, value: object) -> None:
        super().__init__("Extra inputs are not permitted", name)
        self.detail = {"type": "extra_forbidden", "loc": ["body", name], "msg": self.message, "input": value}


def signature_of(text: str) -> str:
    """The signature over visible reasoning that a model's maker alone can make."""
    return hmac.digest(_SIGNING_KEY, text.encode(), "sha256").hex()


def details_of(text: str) -> list[Json]:
    """OpenRouter's ``reasoning_details`` for what was thought."""
    return [
        {
            "type": "reasoning.text",
            "text": text,
            "signature": signature_of(text),
            "format": DETAILS_FORMAT,
            "index": 0,
        }
    ]


def short_id(identity: str) -> str:
    """Mistral's form of a call id: nine letters and digits."""
    return sha256(identity.encode()).hexdigest()[:9]


def _check_roles(request: Json) -> None:
    for position, message in enumerate(request["messages"]):
        if message.get("role") == "developer":
            raise InvalidRequest(
                f"developer is not one of ['system', 'assistant', 'user', 'tool', 'function'] - "
                f"'messages.[{position}].role'"
            )


def _check_marks(request: Json) -> None:
    places = [(f"messages[{number}]", one) for number, one in enumerate(request["messages"])]
    places += [(f"tools[{number}]", one) for number, one in enumerate(objects_in(request, "tools"))]
    for path, holder in tuple(places):
        places += [(f"{path}.content[{number}]", one) for number, one in enumerate(objects_in(holder, "content"))]
    for path, holder in places:
        if "cache_control" in holder:
            param = f"{path}.cache_control"
            raise InvalidRequest(f"Unknown parameter: '{param}'.", param, "unknown_parameter")


def _check_signatures(request: Json) -> None:
    for position, message in enumerate(request["messages"]):
        for detail in objects_in(message, "reasoning_details"):
            if detail.get("type") != "reasoning.text" or detail.get("format") != DETAILS_FORMAT:
                continue
            if detail.get("signature") != signature_of(str(detail.get("text"))):
                raise InvalidRequest(_SIGNATURE.format(position=position), f"messages.{position}")


def _check_short_ids(request: Json) -> None:
    for message in request["messages"]:
        ids = [call.get("id") for call in objects_in(message, "tool_calls")]
        if message.get("role") == "tool":
            ids.append(message.get("tool_call_id"))
        for one in ids:
            if not (isinstance(one, str) and len(one) == 9 and one.isascii() and one.isalnum()):
                raise InvalidRequest(
                    f"Tool call id was {one} but must be a-z, A-Z, 0-9, with a length of 9.", "messages", "3280"
                )


OPENAI: Final = Flavour(name="openai", unknown="refuse", padded=True, developer=True, refuses_marks=True)
_ALL: Final = (
    OPENAI,
    Flavour(
        name="deepseek",
        reasoning="reasoning_content",
        thinks_when="unless_off",
        echo=True,
        usage_in="finish_event",
        cache_hits=True,
    ),
    Flavour(
        name="moonshot", reasoning="reasoning_content", thinks_when="unless_off", echo=True, usage_in="finish_event"
    ),
    Flavour(name="qwen", reasoning="reasoning_content"),
    Flavour(name="groq", reasoning="reasoning", usage_in="x_groq", unknown="property", refuses_marks=True,
            also=frozenset(("reasoning_format", "include_reasoning", "citation_options", "search_settings"))),
    Flavour(
        name="mistral",
        reasoning="parts",
        usage_in="finish_event",
        unknown="detail",
        also=frozenset(("random_seed", "safe_prompt", "prompt_mode")),
        short_ids=True,
    ),
    Flavour(name="openrouter", reasoning="reasoning_details"),
    Flavour(name="think_tags", reasoning="think_tags", thinks_when="always"),
)  # fmt: skip
FLAVOURS: Final[Mapping[str, Flavour]] = MappingProxyType({flavour.name: flavour for flavour in _ALL})
