"""Ollama's errors: one member ``error``, in a body of its own or as a line of a stream."""

from typing import Final

import msgspec

from .behaviour import Behaviour
from .reply import Headers, Reply

JSON_TYPE: Final = "application/json; charset=utf-8"
TEXT_TYPE: Final = "text/plain"

FAILURE: Final = "llama runner process has terminated: exit status 2"
_BUSY: Final = "server busy, please try again.  maximum pending requests exceeded"
_TOO_LONG: Final = "the input length exceeds the context length"
_BAD_OPTION: Final = "top_logprobs must be between 0 and 20"
_LIMIT_REACHED: Final = "you've reached your hourly usage limit, please upgrade to continue"


class OllamaRefusal(ValueError):
    """A request that Ollama refuses: the status and the text of its error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def error_object(message: str) -> bytes:
    """Ollama's error object as compact JSON."""
    return msgspec.json.encode({"error": message})


def error_line(message: str) -> bytes:
    """The error as a line of a stream whose head has been sent."""
    return error_object(message) + b"\n"


def error_reply(status: int, message: str, headers: Headers = ()) -> Reply:
    """An error as a whole answer."""
    return Reply(
        status=status,
        content_type=JSON_TYPE,
        headers=headers,
        body=error_object(message),
        failure=error_object(FAILURE),
        failure_event=error_line(FAILURE),
    )


def unknown_path() -> Reply:
    """404: no such path; plain text, as the router in front of Ollama's handlers writes it."""
    return Reply(status=404, content_type=TEXT_TYPE, headers=(), body=b"404 page not found")


def wrong_method(allowed: str) -> Reply:
    """405: the path exists, not for this method."""
    return Reply(status=405, content_type=TEXT_TYPE, headers=(("allow", allowed),), body=b"405 method not allowed")


def refusal(fault: str, model: str, behaviour: Behaviour) -> Reply:
    """The reply of a fault that refuses; KeyError when ``fault`` is none of them."""
    if fault == "model_not_found":
        return error_reply(404, f"model '{model}' not found")
    status, message = _FIXED[fault]
    headers = (("retry-after", f"{behaviour.retry_after:g}"),) if fault == "rate_limit" else ()
    return error_reply(status, message, headers)


_FIXED: Final[dict[str, tuple[int, str]]] = {
    "rate_limit": (429, _LIMIT_REACHED),
    "rate_limit_bare": (429, _LIMIT_REACHED),
    "http_500": (500, FAILURE),
    "http_503": (503, _BUSY),
    "unauthorized": (401, "unauthorized"),
    "bad_request": (400, _BAD_OPTION),
    # Ollama filters nothing itself; what its cloud says of credit and quota.
    "content_filter": (400, "the request was refused by the content policy"),
    "no_credit": (402, "this model requires a subscription, upgrade for access: https://ollama.com/upgrade"),
    "quota": (429, "you've reached your weekly usage limit, please upgrade to continue"),
    "daily_quota": (429, "you've reached your daily limit, please upgrade to continue"),
    "overloaded": (503, _BUSY),
    "context_length": (400, _TOO_LONG),
}
