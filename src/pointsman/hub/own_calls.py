"""Calls that differ from what the client's dialect says of them: the gateway's own, and those it has altered."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pointsman.canonical.halves import ClientCall
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import TextPart
from pointsman.canonical.request import Request
from pointsman.canonical.response import Response
from pointsman.errors import GatewayError


class OwnCall(msgspec.Struct, frozen=True, kw_only=True):
    """A request in our words, as the flow looks at it."""

    model: str
    request: Any
    stream: bool = False
    choices: int = 1
    max_output_tokens: int = 0
    usage_wanted: bool = True
    fields: None = None
    outline: None = None

    @classmethod
    def like(cls, call: Any, request: Any) -> "OwnCall":
        """A client's call with another request in it."""
        return cls(
            model=call.model,
            request=request,
            stream=call.stream,
            choices=call.choices,
            max_output_tokens=call.max_output_tokens,
            usage_wanted=call.usage_wanted,
        )

    @property
    def members(self) -> Mapping[str, Any]:
        """Nothing more for routing to read."""
        return {}

    @property
    def text_bytes(self) -> int:
        """How much text the request holds: what was written into it is not in the client's body."""
        texts = (part.text for message in self.request.messages for part in message.parts if isinstance(part, TextPart))
        return sum(len(text) for text in texts)


def whole_call(request: Any, model: str) -> OwnCall:
    """A client's request as the gateway asks it for itself: whole, and one choice."""
    asked = copy.copy(request)
    asked.stream, asked.choices, asked.include_usage = False, None, None
    return OwnCall(model=model, request=asked)


class OwnDialect:
    """A dialect for calls of the gateway itself: bodies in its words, read without a client's headers."""

    def __init__(self, dialect: Any, call: ClientCall) -> None:
        self._dialect = dialect
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)

    def parse_request(self, body: bytes) -> OwnCall:
        """The body, read. Raises GatewayError(INVALID_REQUEST)."""
        request = self._dialect.read_request(body, self._call)
        return OwnCall(model=request.model, stream=bool(request.stream), request=request)

    def as_request(self, call: Any, body: bytes) -> Any:
        """What `parse_request` read."""
        return call.request

    def status_of(self, error: GatewayError) -> int:
        """The error's own."""
        return error.status


class AlteredDialect:
    """A client's dialect for a call whose request was altered, or whose answer is looked at before it is given.

    ``REWRITES`` sends the call through the hub even where both sides speak one API.
    """

    REWRITES = True

    def __init__(self, dialect: Any, call: "OwnCall", check: Callable[[Response], None] | None) -> None:
        """``check`` raises GatewayError for an answer that is none: then another target is tried."""
        self._dialect = dialect
        self._own = call
        self._check = check
        self.HOLDS = call.stream and (check is not None or getattr(dialect, "HOLDS", False))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)

    def parse_request(self, body: bytes) -> "OwnCall":
        """The altered call, whatever the body says."""
        return self._own

    def as_request(self, call: Any, body: bytes) -> Request:
        """The altered request."""
        return self._own.request  # type: ignore[no-any-return]

    async def judge(self, response: Response) -> None:
        """Raises GatewayError(UPSTREAM_ERROR) for an answer that is none, and what guards raise."""
        if self._check is not None:
            self._check(response)
        await judged(self._dialect, response)


async def judged(dialect: Any, response: Response) -> None:
    """Have a whole answer looked at by whoever must see it before its client does: a combo's checks, guards.

    Raises GatewayError for one that must not be given. What has to be redacted in it is, where it stands.
    """
    judge = getattr(dialect, "judge", None)
    if judge is not None:
        await judge(response)


def examined(dialect: Any, request: Request) -> Request:
    """The request as guards leave it, after the gateway has written into it. Raises GuardBlocked."""
    examine = getattr(dialect, "examined", None)
    return request if examine is None else examine(request)


def client_request(dialect: Any, call: Any, body: bytes) -> Request:
    """The request in the client's own words. Where there are guards no upstream may see it; it tells conversations
    apart that are the same once they are masked.
    """
    told: Request | None = getattr(dialect, "client_request", None)
    return dialect.as_request(call, body) if told is None else told


class CapturingDialect(AlteredDialect):
    """Takes the answer to a call of the gateway itself instead of giving it to a client."""

    def __init__(self, dialect: Any, call: OwnCall) -> None:
        super().__init__(dialect, call, None)
        self.response: Response | None = None

    def write_response(self, response: Response, request: Request, identity: Identity, fidelity: Any) -> bytes:
        """Keep it."""
        self.response = response
        return b""
