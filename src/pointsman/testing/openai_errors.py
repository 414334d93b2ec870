"""OpenAI's errors: their statuses, bodies and headers, word for word where clients are known to read the words."""

from typing import Final

import msgspec

from .behaviour import Behaviour
from .openai_flavours import ExtraForbidden
from .openai_request import InvalidRequest
from .reply import Headers, Reply

JSON_TYPE: Final = "application/json"

SERVER_ERROR: Final = "The server had an error while processing your request. Sorry about that!"
_KEYS_PAGE: Final = "You can find your API key at https://platform.openai.com/account/api-keys."
_NO_KEY: Final = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the API "
    "from your browser and are prompted for a username and password. You can obtain an API key from "
    "https://platform.openai.com/account/api-keys."
)
_LIMIT_REACHED: Final = (
    "Rate limit reached for {model} in organization org-simulated on requests per min (RPM): "
    "Limit 3, Used 3, Requested 1."
)
_DAY_REACHED: Final = (
    "Rate limit reached for {model} in organization org-simulated on requests per day (RPD): "
    "Limit 200, Used 200, Requested 1. Please try again in 7m12s. "
    "Visit https://platform.openai.com/account/rate-limits to learn more."
)


def error_object(
    message: str, *, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> bytes:
    """OpenAI's error object as compact JSON."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def error_reply(
    status: int,
    message: str,
    headers: Headers,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
) -> Reply:
    """An error as a whole answer: indented by four, as OpenAI writes errors."""
    body = msgspec.json.format(error_object(message, kind=kind, param=param, code=code), indent=4)
    return Reply(status=status, content_type=JSON_TYPE, headers=headers, body=body + b"\n", failure=server_failure())


def invalid(refused: InvalidRequest, headers: Headers) -> Reply:
    """400, or Mistral's 422 with its list of what is wrong where."""
    if isinstance(refused, ExtraForbidden):
        wrong = {"object": "error", "message": {"detail": [refused.detail]}, "type": "invalid_request_error"}
        body = msgspec.json.encode({**wrong, "param": None, "code": None})
        return Reply(status=422, content_type=JSON_TYPE, headers=headers, body=body, failure=server_failure())
    return error_reply(400, refused.message, headers, param=refused.param, code=refused.code)


def server_failure() -> bytes:
    """The error object that OpenAI puts into a stream when it fails after the head."""
    return error_object(SERVER_ERROR, kind="server_error")


def missing_key(headers: Headers) -> Reply:
    """401: no key came with the request."""
    return error_reply(401, _NO_KEY, headers)


def incorrect_key(key: str, headers: Headers) -> Reply:
    """401: a wrong key, shown with its middle starred out, as OpenAI does."""
    message = f"Incorrect API key provided: {_starred(key)}. {_KEYS_PAGE}"
    return error_reply(401, message, headers, code="invalid_api_key")


def unknown_model(model: str, headers: Headers) -> Reply:
    """404: no such model."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    return error_reply(404, message, headers, param="model", code="model_not_found")


def unknown_url(method: str, path: str, headers: Headers) -> Reply:
    """404: no such path."""
    return error_reply(404, f"Invalid URL ({method} {path})", headers)


def wrong_method(method: str, path: str, headers: Headers) -> Reply:
    """405: the path exists, not for this method."""
    message = f"Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP method?)"
    return error_reply(405, message, headers, code="method_not_supported")


def refusal(fault: str, model: str, key: str, headers: Headers, behaviour: Behaviour) -> Reply:
    """The reply of a fault that refuses; KeyError when ``fault`` is none of them."""
    if fault == "unauthorized":
        return incorrect_key(key or "sk-simulated-key-0000", headers)
    if fault == "rate_limit":
        return _rate_limit(model, headers, behaviour.retry_after)
    if fault == "model_not_found":
        return unknown_model(model, headers)
    if fault == "daily_quota":
        message = _DAY_REACHED.format(model=model)
        waits = (*_without_limits(headers), ("retry-after", "432"), ("retry-after-ms", "432000"))
        return error_reply(429, message, waits, kind="requests", code="rate_limit_exceeded")
    if fault == "rate_limit_bare":
        return error_reply(
            429,
            _LIMIT_REACHED.format(model=model),
            _without_limits(headers),
            kind="requests",
            code="rate_limit_exceeded",
        )
    status, message, kind, param, code = _FIXED[fault]
    return error_reply(status, message, headers, kind=kind, param=param, code=code)


_FIXED: Final[dict[str, tuple[int, str, str, str | None, str | None]]] = {
    "http_500": (500, SERVER_ERROR, "server_error", None, None),
    "http_503": (503, "The engine is currently overloaded, please try again later", "service_unavailable", None, None),
    "bad_request": (
        400,
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead.",
        "invalid_request_error",
        "temperature",
        "decimal_above_max_value",
    ),
    "content_filter": (
        400,
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again with a "
        "different prompt: https://platform.openai.com/docs/guides/reasoning#advice-on-prompting",
        "invalid_request_error",
        None,
        "invalid_prompt",
    ),
    # OpenAI itself has no 402; DeepSeek's, the best known of the hosts that have.
    "no_credit": (402, "Insufficient Balance", "unknown_error", None, "invalid_request_error"),
    "quota": (
        429,
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
        "insufficient_quota",
        None,
        "insufficient_quota",
    ),
    "overloaded": (
        503,
        "That model is currently overloaded with other requests. You can retry your request, or contact us through our "
        "help center at help.openai.com if the error persists.",
        "server_error",
        None,
        None,
    ),
    "context_length": (
        400,
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. "
        "Please reduce the length of the messages.",
        "invalid_request_error",
        "messages",
        "context_length_exceeded",
    ),
}


def _rate_limit(model: str, headers: Headers, retry_after: float) -> Reply:
    message = f"{_LIMIT_REACHED.format(model=model)} Please try again in {retry_after:g}s. " + (
        "Visit https://platform.openai.com/account/rate-limits to learn more."
    )
    waits = (
        *_without_limits(headers),
        ("retry-after", f"{retry_after:g}"),
        ("retry-after-ms", f"{retry_after * 1000:.0f}"),
        ("x-ratelimit-limit-requests", "3"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", f"{retry_after:g}s"),
    )
    return error_reply(429, message, waits, kind="requests", code="rate_limit_exceeded")


def _without_limits(headers: Headers) -> Headers:
    return tuple(pair for pair in headers if not pair[0].startswith("x-ratelimit-"))


def _starred(key: str) -> str:
    if len(key) < 12:
        return f"{key[:2]}***{key[-1:]}"
    return f"{key[:7]}{'*' * (len(key) - 11)}{key[-4:]}"
