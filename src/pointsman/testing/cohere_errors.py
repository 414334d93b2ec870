"""Cohere's errors: an id and a message, or the ``message-end`` event of a stream that failed."""

from typing import Final

import msgspec

from .behaviour import Behaviour
from .reply import Headers, Reply

JSON_TYPE: Final = "application/json"

FAILURE: Final = "internal server error, this has been reported to our developers."
_ERROR_ID: Final = "5f0e9a4c-6b1d-4c38-9d57-0b6a2f1c7e33"
_TRIAL: Final = (
    "You are using a Trial key, which is limited to 20 API calls / minute. You can continue to use the Trial key for "
    "free or upgrade to a Production key with higher rate limits at 'https://dashboard.cohere.com/api-keys'."
)
_TOO_LONG: Final = (
    "too many tokens: size limit exceeded by 1037 tokens. Try using shorter or fewer inputs, or setting "
    "prompt_truncation='AUTO'."
)


class CohereRefusal(ValueError):
    """A request that Cohere refuses: the status and the text of its error."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def error_object(message: str) -> bytes:
    """Cohere's error object as compact JSON."""
    return msgspec.json.encode({"id": _ERROR_ID, "message": message})


def failed_end(message: str) -> bytes:
    """The last event of a stream that fails after the head."""
    delta = {"error": message, "finish_reason": "ERROR"}
    return b"event: message-end\ndata: %b\n\n" % msgspec.json.encode({"type": "message-end", "delta": delta})


def error_reply(status: int, message: str, headers: Headers) -> Reply:
    """An error as a whole answer."""
    return Reply(
        status=status,
        content_type=JSON_TYPE,
        headers=headers,
        body=error_object(message),
        failure=error_object(FAILURE),
        failure_event=failed_end(FAILURE),
    )


def refusal(fault: str, model: str, headers: Headers, behaviour: Behaviour) -> Reply:
    """The reply of a fault that refuses; KeyError when ``fault`` is none of them."""
    if fault == "model_not_found":
        return error_reply(404, f"model '{model}' not found, make sure the correct model ID was used", headers)
    status, message = _FIXED[fault]
    if fault == "rate_limit":
        headers = (*headers, ("retry-after", f"{behaviour.retry_after:g}"))
    return error_reply(status, message, headers)


_FIXED: Final[dict[str, tuple[int, str]]] = {
    "rate_limit": (429, _TRIAL),
    "rate_limit_bare": (429, _TRIAL),
    "http_500": (500, FAILURE),
    "http_503": (503, "the service is currently overloaded, please try again later"),
    "unauthorized": (401, "invalid api token"),
    "bad_request": (400, "invalid request: temperature must be between 0 and 1.0 inclusive."),
    "content_filter": (400, "the request was blocked because of its content"),
    "no_credit": (
        402,
        "Please add or update your payment method at https://dashboard.cohere.com/billing?tab=payment to continue",
    ),
    "quota": (429, _TRIAL.replace("20 API calls / minute", "1000 API calls / month")),
    "daily_quota": (429, "your requests per day are used up, please try again tomorrow"),
    "overloaded": (503, "the model is currently overloaded, please try again later"),
    "context_length": (400, _TOO_LONG),
}
