"""Translation by itself, without a call: what one API's request is in another's words, and what that costs."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, cast

import msgspec

from pointsman.canonical.fidelity import Fidelity, Note
from pointsman.canonical.halves import Built, ClientCall, Dialect, Upstream
from pointsman.errors import GatewayError, Kind
from pointsman.providers.formats import provider_format


class Format(msgspec.Struct, frozen=True):
    """An API under the name that people give it: its dialect's module and its wire."""

    dialect: str | None
    wire: str


# OmniRoute's names first, then those of this gateway's wires where they differ.
FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        "openai": Format("openai_chat", "openai.chat"),
        "openai-responses": Format("openai_responses", "openai.responses"),
        "claude": Format("anthropic", "anthropic"),
        "gemini": Format("gemini", "gemini"),
        "ollama": Format("ollama.chat", "ollama"),
        "cohere": Format(None, "cohere"),
        "bedrock": Format(None, "bedrock"),
        "openai.chat": Format("openai_chat", "openai.chat"),
        "openai.responses": Format("openai_responses", "openai.responses"),
        "anthropic": Format("anthropic", "anthropic"),
    }
)
_OPENAI_WORDS: Final = (
    "stream_options", "response_format", "logprobs", "top_logprobs", "n", "presence_penalty", "frequency_penalty",
    "logit_bias", "user",
)  # fmt: skip
_RESPONSES_WORDS: Final = ("input", "max_output_tokens", "previous_response_id", "reasoning")
_encode: Final = msgspec.json.Encoder().encode


class Translated(msgspec.Struct, frozen=True, kw_only=True):
    """A request in another API's words, and the fidelity ledger of the way there."""

    built: Built
    notes: list[Note]

    @property
    def body(self) -> Any:
        """The JSON that would be sent."""
        return msgspec.json.decode(self.built.body)


def format_named(name: str, param: str, *, client: bool = False) -> Format:
    """The API of that name. Raises GatewayError(INVALID_REQUEST) that lists the names; ``client``: one with clients."""
    known = [name for name, one in FORMATS.items() if one.dialect is not None or not client]
    if name not in known:
        raise GatewayError(
            Kind.INVALID_REQUEST, f"'{param}' must be one of {', '.join(known)}; not '{name[:50]}'", param=param
        )
    return FORMATS[name]


def name_of(wire: str) -> str:
    """OmniRoute's name of a wire API."""
    return next((name for name, one in FORMATS.items() if one.wire == wire), wire)


def translate(body: Mapping[str, Any], source: Format, target: Format, upstream: Upstream | None = None) -> Translated:
    """``body``, a request of the API ``source``, in the words of ``target``.

    A body without a model is taken as one for a model called ``model``. Raises GatewayError as a call would.
    """
    dialect = cast(Dialect, import_module(f"pointsman.dialects.{source.dialect}"))
    model = str(body.get("model") or "model")
    streamed = body.get("stream") is True
    request = dialect.read_request(_encode(body), ClientCall(model=model, stream=streamed))
    fidelity = Fidelity(request.names)
    place = upstream or Upstream(model=request.model)
    built = provider_format(target.wire).build_request(request, place, fidelity)
    return Translated(built=built, notes=fidelity.notes)


def detect(body: Mapping[str, Any]) -> str:
    """Which API a request's body looks like, by OmniRoute's rules; real requests go by their path instead."""
    if any(body.get(word) is not None for word in _RESPONSES_WORDS):
        return "openai-responses"
    if isinstance(body.get("contents"), list):
        return "gemini"
    if any(word in body for word in _OPENAI_WORDS):
        return "openai"
    told = _by_parts(body)
    if told is not None:
        return told
    if "system" in body or "anthropic_version" in body or body.get("max_tokens") is not None:
        return "claude"
    return "openai"


def _by_parts(body: Mapping[str, Any]) -> str | None:
    """What the parts of the messages tell; None when they tell nothing."""
    parts = list(_parts(body))
    kinds = {part.get("type") for part in parts}
    if "image_url" in kinds:
        return "openai"
    if kinds & {"tool_use", "tool_result"} or any(
        part.get("type") == "image" and isinstance(part.get("source"), dict) for part in parts
    ):
        return "claude"
    return None


def _parts(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = body.get("messages")
    found: list[dict[str, Any]] = []
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        found += [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return found
