"""What can go wrong, as kinds. Each dialect has one encoder that writes a kind in its own shape.

GatewayError(kind, message, param, retry_after_seconds)
├── the caller's:   invalid_request · too_large · unauthenticated · permission_denied · not_found
│                   method_not_allowed · model_not_found · unsupported · unsupported_encoding
│                   context_length · content_filtered · payment_required · rate_limited · client_timeout
├── the upstream's: upstream_error · upstream_rejected · upstream_timeout · upstream_unavailable
└── ours:           overloaded · not_ready · internal
ConfigError: the operator's file, environment or command is wrong; the command line prints it and exits with 2.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple


class Kind(StrEnum):
    """Every kind of failure that a client can see."""

    INVALID_REQUEST = "invalid_request"
    TOO_LARGE = "too_large"
    HEADERS_TOO_LARGE = "headers_too_large"
    UNAUTHENTICATED = "unauthenticated"
    PERMISSION_DENIED = "permission_denied"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    MODEL_NOT_FOUND = "model_not_found"
    UNSUPPORTED = "unsupported"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTERED = "content_filtered"
    PAYMENT_REQUIRED = "payment_required"
    RATE_LIMITED = "rate_limited"
    CLIENT_TIMEOUT = "client_timeout"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_REJECTED = "upstream_rejected"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    OVERLOADED = "overloaded"
    NOT_READY = "not_ready"
    INTERNAL = "internal"


# The HTTP status of each kind, the same in every dialect unless its own table says otherwise.
STATUS: Final = MappingProxyType(
    {
        Kind.INVALID_REQUEST: 400,
        Kind.TOO_LARGE: 413,
        Kind.HEADERS_TOO_LARGE: 431,
        Kind.UNAUTHENTICATED: 401,
        Kind.PERMISSION_DENIED: 403,
        Kind.NOT_FOUND: 404,
        Kind.METHOD_NOT_ALLOWED: 405,
        Kind.MODEL_NOT_FOUND: 404,
        Kind.UNSUPPORTED: 400,
        Kind.UNSUPPORTED_ENCODING: 415,
        Kind.CONTEXT_LENGTH: 400,
        Kind.CONTENT_FILTERED: 400,
        Kind.PAYMENT_REQUIRED: 402,
        Kind.RATE_LIMITED: 429,
        Kind.CLIENT_TIMEOUT: 408,
        Kind.UPSTREAM_ERROR: 502,
        Kind.UPSTREAM_REJECTED: 502,
        Kind.UPSTREAM_TIMEOUT: 504,
        Kind.UPSTREAM_UNAVAILABLE: 502,
        Kind.OVERLOADED: 503,
        Kind.NOT_READY: 503,
        Kind.INTERNAL: 500,
    }
)


class Refusal(NamedTuple):
    """An upstream's answer that was an error: for routing to judge, never to be shown."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


class GatewayError(Exception):
    """A failure that is told to the client.

    ``message`` says what happened and what to do, and holds no secret, no prompt and no upstream body;
    ``param`` names the field or header at fault; ``status`` overrides the kind's own status when an upstream's
    answer is passed on; ``retry_after_seconds`` becomes Retry-After.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        param: str | None = None,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        upstream_body: bytes | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.param = param
        self.status = STATUS[kind] if status is None else status
        self.retry_after_seconds = retry_after_seconds
        self.allow = allow  # the methods that a path has, with METHOD_NOT_ALLOWED
        # An upstream's own 4xx answer in the client's dialect, already cleared of the gateway's secrets: sent as it is.
        self.upstream_body = upstream_body
        self.refusal: Refusal | None = None
        self.begun = False  # the client has some of the answer that broke
        # For OpenRouter's clients: why nothing could serve the request, what else there is to say of the error, and
        # what stands beside it.
        self.availability: dict[str, Any] | None = None
        self.metadata: dict[str, Any] | None = None
        self.beside: dict[str, Any] | None = None

    def of(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> "GatewayError":
        """This error, with the upstream's answer that it was read from."""
        self.refusal = Refusal(status, headers, body)
        return self


def let_go(error: BaseException) -> None:
    """Have an error that was dealt with hold no frames, nor those before it that it was raised from.

    A frame often holds the error that was raised in it, by way of whoever keeps it: such a ring, with the request and
    its buffers in it, would stay until the garbage collector finds it.
    """
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and one.__traceback__ is not None:
            one.__traceback__ = None
            left += (one.__context__, one.__cause__)


class BudgetExceeded(GatewayError):
    """A budget of the caller's can't pay for a call: nothing was sent, and it is held against no upstream."""


class GuardBlocked(GatewayError):
    """A rule stands against a request or an answer: no other upstream may do better. Names rules, never contents."""

    def __init__(self, rules: Iterable[str], what: str) -> None:
        names = sorted(rules)
        super().__init__(Kind.CONTENT_FILTERED, f"the {what} is blocked by a guardrail: {', '.join(names)}")
        self.metadata = {"patterns": names}


class Unjudged(GatewayError):
    """Who has to judge a request or an answer could not be asked: no other upstream helps, and none is at fault."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(Kind.NOT_READY, message, retry_after_seconds=retry_after_seconds)


class EndpointNotReady(GatewayError):
    """The program behind an endpoint can't take calls now: held against it, as no store of ours that is away is."""


class ConfigError(Exception):
    """The operator's settings are wrong; the message names the setting and what to do."""
