"""Anthropic's errors: their statuses, bodies and headers, word for word where clients are known to read the words."""

from typing import Final

import msgspec

from .behaviour import Behaviour
from .reply import Headers, Reply

JSON_TYPE: Final = "application/json"

# What each status says in ``error.type``: platform.claude.com/docs/en/api/errors.
STATUS_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_LIMIT_REACHED: Final = (
    "This request would exceed your organization's rate limit of 50 requests per minute "
    "(org: 00000000-0000-4000-8000-000000000000, model: {model}). For details, refer to: "
    "https://docs.claude.com/en/api/rate-limits. You can see the response headers for current usage. Please reduce the "
    "prompt length or the maximum tokens requested, or try again later. You may also contact sales at "
    "https://claude.com/contact-sales to discuss your options for a rate limit increase."
)


def error_object(kind: str, message: str, request_id: str) -> bytes:
    """Anthropic's error body as compact JSON; ``kind`` is its ``error.type``."""
    error = {"type": kind, "message": message}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def error_reply(status: int, message: str, headers: Headers) -> Reply:
    """An error as a whole answer; its type follows from the status."""
    body = error_object(STATUS_TYPES[status], message, _request_id(headers))
    return Reply(status=status, content_type=JSON_TYPE, headers=headers, body=body, failure=server_failure(headers))


def server_failure(headers: Headers) -> bytes:
    """The error object that Anthropic puts into a stream when it fails after the head."""
    return error_object("overloaded_error", "Overloaded", _request_id(headers))


def unknown_model(model: str, headers: Headers) -> Reply:
    """404: no such model."""
    return error_reply(404, f"model: {model}", headers)


def refusal(fault: str, model: str, headers: Headers, behaviour: Behaviour) -> Reply:
    """The reply of a fault that refuses; KeyError when ``fault`` is none of them."""
    if fault in ("rate_limit", "rate_limit_bare"):
        bare = tuple(pair for pair in headers if not pair[0].startswith("anthropic-ratelimit-"))
        told = _used_up(behaviour.retry_after) if fault == "rate_limit" else ()
        return error_reply(429, _LIMIT_REACHED.format(model=model), (*bare, *told))
    if fault == "model_not_found":
        return unknown_model(model, headers)
    status, message = _FIXED[fault]
    if fault == "daily_quota":
        headers = (*headers, ("retry-after", "43200"), ("x-should-retry", "true"))
    return error_reply(status, message, headers)


# Anthropic shows no part of a wrong key. It has no 503: what means the same there is 529.
_FIXED: Final[dict[str, tuple[int, str]]] = {
    "http_500": (500, "Internal server error"),
    "http_503": (529, "Overloaded"),
    "unauthorized": (401, "invalid x-api-key"),
    "bad_request": (400, "temperature: Input should be less than or equal to 1"),
    "content_filter": (400, "Output blocked by content filtering policy"),
    "no_credit": (
        400,
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or "
        "purchase credits.",
    ),
    "quota": (
        400,
        "You have reached your specified API usage limits. You will regain access on 2030-01-01 at 00:00 UTC.",
    ),
    "daily_quota": (
        429,
        "This request would exceed your organization's daily rate limit of 1,000,000 tokens per day. For details, "
        "refer to: https://docs.claude.com/en/api/rate-limits.",
    ),
    "overloaded": (529, "Overloaded"),
    "context_length": (400, "prompt is too long: 200381 tokens > 200000 maximum"),
}


def _used_up(retry_after: float) -> Headers:
    return (
        ("retry-after", f"{max(1, round(retry_after))}" if retry_after else "0"),
        ("anthropic-ratelimit-requests-limit", "50"),
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-requests-reset", "2030-01-01T00:00:00Z"),
        ("x-should-retry", "true"),
    )


def _request_id(headers: Headers) -> str:
    return next((value for name, value in headers if name == "request-id"), "")
