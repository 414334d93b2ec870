"""What a request asks of routing (`Wants`), read from it as members that came, or as our own words."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Any, Final

import msgspec

from pointsman.canonical.parts import AnyPart, AudioPart, FilePart, ImagePart, ToolResultPart, VideoPart
from pointsman.canonical.request import Message, Request
from pointsman.routing.plan import Route
from pointsman.routing.steering import AUTO, judged, steering
from pointsman.routing.variants import SETTING, tiers_of
from pointsman.routing.wants import NO_PREFERENCES, Bounds, Judged, Wants
from pointsman.routing.wishes import SESSION_HEADER, Wishes, checked_session

# Members of a chat request that models differ in, by OpenRouter's names (``supported_parameters`` of its models).
PARAMETERS: Final = frozenset(
    (
        "temperature", "top_p", "top_k", "min_p", "top_a", "frequency_penalty", "presence_penalty",
        "repetition_penalty", "max_tokens", "max_completion_tokens", "logit_bias", "logprobs", "top_logprobs",
        "prediction", "seed", "response_format", "stop", "tools", "tool_choice", "parallel_tool_calls",
        "include_reasoning", "reasoning", "reasoning_effort", "web_search_options", "verbosity",
    )
)  # fmt: skip
STRUCTURED: Final = "structured_outputs"  # beside ``response_format``, for a schema
# Our options whose name is not OpenRouter's.
OURS: Final = {
    "max_output_tokens": "max_tokens", "output_format": "response_format", "web_search": "web_search_options",
}  # fmt: skip
SAME: Final = tuple(name for name in Request.__struct_fields__ if name in PARAMETERS and name != "tools")
# Kinds of content parts in OpenAI's words, and the modality of each.
PARTS: Final = {
    "image_url": "image", "input_image": "image", "file": "file", "input_file": "file", "input_audio": "audio",
    "video_url": "video",
}  # fmt: skip
KINDS: Final[tuple[tuple[type, str], ...]] = (
    (ImagePart, "image"), (FilePart, "file"), (AudioPart, "audio"), (VideoPart, "video"),
)  # fmt: skip
# Which tiers compete for those who ask for one; ``fast`` is another word for priority.
TIERS: Final = {
    "priority": frozenset(("priority",)), "flex": frozenset(("flex",)),
    "ultrafast": frozenset(("ultrafast", "priority")),
}  # fmt: skip
TIER_WORDS: Final = {"fast": "priority"}
INSTRUCTING: Final = ("system", "developer")
CACHE_MARK: Final = b'"cache_control"'

Fields = Mapping[str, msgspec.Raw]


class _Message(msgspec.Struct, frozen=True):
    role: str = ""
    content: msgspec.Raw = msgspec.Raw()


class _Part(msgspec.Struct, frozen=True):
    type: str = ""


_messages: Final = msgspec.json.Decoder(list[_Message])
_parts: Final = msgspec.json.Decoder(list[_Part])
_word: Final = msgspec.json.Decoder(str)
_any: Final = msgspec.json.Decoder()
_encode: Final = msgspec.json.Encoder().encode


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the flow has it: ``fields`` are its members as they came, or ``request`` is what was read of it.

    ``allowed_models`` (patterns) and ``allowed_connections`` are all that its key may use; empty: everything.
    ``bounds`` are those of its guardrails.
    Of these ``preferred_connections`` come first.
    """

    model: str
    operation: str
    body: bytes
    headers: Mapping[bytes, bytes]
    input_tokens: int
    max_output_tokens: int
    fields: Fields | None = None
    request: Any = None
    wishes: Wishes | None = None
    judged: Judged | None = None
    allowed_models: tuple[str, ...] = ()
    allowed_connections: tuple[str, ...] = ()
    bounds: Bounds | None = None
    preferred_connections: tuple[str, ...] = ()


def wants_of(asked: Asked, route: Route) -> Wants:
    """What it asks of routing. Raises GatewayError(INVALID_REQUEST) for a session's name that is too long."""
    wishes, request = asked.wishes, asked.request
    preferences = wishes.preferences if wishes is not None else NO_PREFERENCES
    read: dict[str, Any] = {}
    if asked.fields is not None:
        read = _of_fields(asked.fields)
    elif isinstance(request, Request):
        read = _of_request(request)
    tier = read.pop("tier", None)
    tier = TIER_WORDS.get(tier, tier)
    tier = tier if tier in TIERS else None
    tiers = TIERS.get(tier or "", frozenset())
    if not preferences.order:
        tiers |= tiers_of(route.settings.get(SETTING, ()))
    key, conversation = read.pop("cache_key", None), read.pop("conversation", None)
    return Wants(
        model=asked.model,
        operation=asked.operation,
        input_tokens=asked.input_tokens,
        max_output_tokens=asked.max_output_tokens,
        preferences=preferences,
        models=wishes.models if wishes is not None else (),
        service_tier=tier,
        tiers=tiers,
        session=_session(asked),
        conversation=key or conversation,
        judged=asked.judged,
        cache_marks=CACHE_MARK in asked.body,
        allowed_models=_allowed(asked),
        allowed_providers=asked.allowed_connections or None,
        bounds=asked.bounds,
        preferred=asked.preferred_connections,
        **steering(asked.headers, route.strategy, route.settings),
        **(judged(asked.request, asked.fields) if route.strategy == AUTO else {}),
        **read,
    )


def _allowed(asked: Asked) -> tuple[str, ...] | None:
    """The models that the key may use; None: all of those that the requested names stand for."""
    patterns, names = asked.allowed_models, (asked.model, *(asked.wishes.models if asked.wishes is not None else ()))
    if all(any(fnmatchcase(name, pattern) for pattern in patterns) for name in names):
        return None
    return patterns or None


def _session(asked: Asked) -> str | None:
    if asked.wishes is not None and asked.wishes.session is not None:
        return asked.wishes.session
    header = asked.headers.get(SESSION_HEADER)
    return checked_session(header.decode("latin-1"), "x-session-id") if header else None


def _of_fields(fields: Fields) -> dict[str, Any]:
    """Of Chat Completions' members. What has another shape than expected tells nothing: its upstream will say so."""
    given = {name for name, value in fields.items() if bytes(value) != b"null"}
    parameters = given & PARAMETERS
    if "response_format" in parameters and b'"json_schema"' in bytes(fields["response_format"]):
        parameters.add(STRUCTURED)
    try:
        messages = _messages.decode(fields.get("messages", b"[]"))
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        messages = []
    return {
        "parameters": frozenset(parameters),
        "tools": "tools" in given and bytes(fields["tools"]) != b"[]",
        "inputs": frozenset(modality for message in messages for modality in _modalities(message.content)),
        "outputs": _outputs(_value(fields, "modalities")),
        "conversation": _digest([(message.role, bytes(message.content)) for message in messages]),
        "tier": "fast" if _text(fields, "speed") == "fast" else _text(fields, "service_tier"),
        "cache_key": _text(fields, "prompt_cache_key"),
    }


def _value(fields: Fields, name: str) -> Any:
    try:
        return _any.decode(fields[name]) if name in fields else None
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def _text(fields: Fields, name: str) -> str | None:
    try:
        return _word.decode(fields[name]) or None if name in fields else None
    except (msgspec.DecodeError, UnicodeError):
        return None


def _modalities(content: msgspec.Raw) -> Iterable[str]:
    if bytes(memoryview(content)[:1]) != b"[":
        return ()
    try:
        return {PARTS[part.type] for part in _parts.decode(content) if part.type in PARTS}
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return ()


def _outputs(modalities: Any) -> frozenset[str]:
    """What is to come beside text."""
    if not isinstance(modalities, list):
        return frozenset()
    return frozenset(word for word in modalities if isinstance(word, str) and word != "text")


def _of_request(request: Request) -> dict[str, Any]:
    parameters = {name for name in SAME if getattr(request, name) not in (None, ())}
    parameters.update(theirs for ours, theirs in OURS.items() if getattr(request, ours) is not None)
    if request.tools:
        parameters.add("tools")
    if request.output_format is not None and request.output_format.kind == "json_schema":
        parameters.add(STRUCTURED)
    messages = request.messages
    return {
        "parameters": frozenset(parameters),
        "tools": bool(request.tools),
        "inputs": frozenset(modality for message in messages for modality in _kinds(message.parts)),
        "outputs": _outputs(request.modalities),
        "conversation": _digest(_spoken(messages)),
        "tier": "fast" if request.extra.get("speed") == "fast" else request.service_tier,
        "cache_key": request.prompt_cache_key,
    }


def _kinds(parts: list[AnyPart]) -> Iterable[str]:
    for part in parts:
        if isinstance(part, ToolResultPart):
            yield from _kinds(part.content)
        for kind, modality in KINDS:
            if isinstance(part, kind):
                yield modality


def _spoken(messages: list[Message]) -> list[tuple[str, bytes]]:
    """The messages that tell a conversation from others, and no more than these."""
    first = next((message for message in messages if message.role in INSTRUCTING), None)
    second = next((message for message in messages if message.role not in INSTRUCTING), None)
    return [(message.role, _encode(message.parts)) for message in (first, second) if message is not None]


def _digest(messages: list[tuple[str, bytes]]) -> str | None:
    """Of the first instructions and the first message after: the same for every turn of a conversation."""
    first = next((content for role, content in messages if role in INSTRUCTING), b"")
    second = next((content for role, content in messages if role not in INSTRUCTING), None)
    if second is None:
        return None
    return blake2b(b"%d:%b%b" % (len(first), first, second), digest_size=16).hexdigest()
