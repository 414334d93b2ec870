"""What an answer in the cache is found by: all of its request that makes the answer, and who may see it.

The request is taken in our own words, so that it is the same whatever API it came in, streamed or not, and however
its JSON was spaced or ordered. What does not make the answer is left out: the end user's name, metadata, marks for an
upstream's cache, where each part stood in the client's body.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from pointsman.canonical.parts import AnyPart, TextPart, ToolResultPart
from pointsman.canonical.request import Message, Request
from pointsman.identity.keys import Key
from pointsman.policy.cache_wishes import HEADERS
from pointsman.policy.guardrails import KeyGuardrails
from pointsman.policy.sessions import SESSION_HEADERS
from pointsman.routing.plan import Route
from pointsman.routing.wishes import Wishes

SPACE: Final = "cache/"  # before a workspace's name: its answers have a number of their own
# Of a request, what says nothing about the answer, or is taken apart below.
_ASIDE: Final = frozenset(
    (
        "wire", "messages", "tools", "stream", "include_usage", "user", "safety_identifier", "metadata", "store",
        "prompt_cache_key", "prompt_cache_retention", "cache", "paths", "names", "extra",
    )
)  # fmt: skip
_OPTIONS: Final = tuple(name for name in Request.__struct_fields__ if name not in _ASIDE)
# Header lines that may steer where a request goes or what is sent.
_STEERING: Final = (b"x-pointsman-", b"x-omniroute-", b"x-hardcarrx-", b"x-crosscompute-", b"x-connection", b"x-route")
_TELLING: Final = frozenset((b"anthropic-beta", b"anthropic-version", b"openai-beta", b"x-anthropic-beta"))
_SILENT: Final = HEADERS | frozenset(SESSION_HEADERS) | frozenset((b"x-pointsman-timeout", b"x-pointsman-share"))
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class CacheName(msgspec.Struct, frozen=True, kw_only=True):
    """The name of an answer. ``space`` is whose it is, ``key`` a keyed hash, ``model`` the name that was asked for."""

    space: str
    key: bytes
    model: str

    @property
    def signature(self) -> str:
        """The key, as people see it."""
        return self.key.hex()


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and what beside the request decides about its answer: the policy that it is under."""

    space: str
    policy: bytes


def asker_of(
    who: tuple[Key, bytes, KeyGuardrails | None],
    by_key: bool,
    steering: tuple[Route, Wishes | None],
    headers: Mapping[bytes, bytes],
) -> Asker:
    """Whose answers a request of a key, under guards of this identity and these guardrails, may get. ``by_key``: only
    those of the same key, not of its workspace.

    What a key may use, where a model's name leads to now, preferences and header lines are in it: who is under another
    policy gets no answer that was made under this one.
    """
    (key, guards, guardrails), (route, wishes) = who, steering
    lines = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers.items()
        if name in _TELLING or (name.startswith(_STEERING) and name not in _SILENT)
    }
    told: list[Any] = [key.allowed_models, key.allowed_connections, lines, route.kind, route.strategy, route.combo]
    told.append(guards.hex())
    told.append([step.target.id if step.target is not None else None for step in route.steps])
    told.append([route.settings, sorted(key.settings.items(), key=str)])
    if wishes is not None:
        told.append([wishes.preferences, wishes.models, wishes.options])
    if guardrails is not None:
        told.append([guardrails.bounds, sorted(guardrails.ids)])
    if by_key:
        told.append(key.id)
    return Asker(space=SPACE + key.workspace_id, policy=hashlib.sha256(_encode(told)).digest())


def name_of(request: Request, model: str, asker: Asker, secret: bytes) -> CacheName:
    """The name of the answer to ``request``."""
    told = [_encode(_frame(request, model)), _encode([_message(message) for message in request.messages])]
    return CacheName(space=asker.space, key=_hash(secret, asker, told), model=model)


def group_of(request: Request, model: str, asker: Asker, secret: bytes) -> bytes:
    """What questions must have in common beside their meaning: all but the text of the last message."""
    before = [_message(message) for message in request.messages[:-1]]
    return _hash(secret, asker, [b"group", _encode(_frame(request, model)), _encode(before)])


def question_of(request: Request) -> str | None:
    """The text of the last message; None unless it is one text of the user's."""
    last = request.messages[-1] if request.messages else None
    if last is None or last.role != "user" or len(last.parts) != 1:
        return None
    part = last.parts[0]
    return part.text if isinstance(part, TextPart) and not part.extra else None


def _frame(request: Request, model: str) -> list[Any]:
    """The request without its messages."""
    options = {name: getattr(request, name) for name in _OPTIONS}
    options["model"] = model
    extra = {name: value for name, value in request.extra.items() if not name.startswith("stream_options")}
    tools = [_bare(tool, ("path", "cache")) for tool in request.tools]
    wire = request.wire if extra or any(_foreign(request)) else None  # they mean something to one API alone
    return [options, tools, extra, wire]


def _foreign(request: Request) -> Iterable[bool]:
    yield from (bool(tool.extra) for tool in request.tools)
    for message in request.messages:
        yield bool(message.extra)
        yield from (bool(part.extra) for part in message.parts)


def _message(message: Message) -> dict[str, Any]:
    return {**_bare(message, ("path", "parts")), "parts": [_part(part) for part in message.parts]}


def _part(part: AnyPart) -> dict[str, Any]:
    found = {**_bare(part, ("path", "item_id", "cache")), "": type(part).__name__}
    if isinstance(part, ToolResultPart):
        found["content"] = [_part(inner) for inner in part.content]
    return found


def _bare(struct: msgspec.Struct, without: Sequence[str]) -> dict[str, Any]:
    found = msgspec.structs.asdict(struct)
    for name in without:
        found.pop(name, None)
    return found


def _hash(secret: bytes, asker: Asker, told: Sequence[bytes]) -> bytes:
    parts = (asker.space.encode(), asker.policy, *told)
    return hmac.new(secret, b"".join(b"%d:%b" % (len(one), one) for one in parts), hashlib.sha256).digest()
