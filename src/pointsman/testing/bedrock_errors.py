"""Bedrock's exceptions: a status, a name in a header, and one message."""

from typing import Final

import msgspec

from pointsman.framing.aws_event_stream import encode_message

from .behaviour import Behaviour
from .reply import Headers, Reply

JSON_TYPE: Final = "application/json"
FAILURE: Final = "The system encountered an unexpected error during processing. Try your request again."
_BUSY: Final = "Too many requests, please wait before trying again."
_TOO_LONG: Final = "The model returned the following errors: Input is too long for requested model."
_WHERE: Final = "http://internal.amazon.com/coral/com.amazon.bedrock/"


class BedrockRefusal(ValueError):
    """A request that Bedrock refuses: the exception's name, its status and its message."""

    def __init__(self, message: str, name: str = "ValidationException", status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.name = name
        self.status = status


def error_object(message: str) -> bytes:
    """The body of an exception."""
    return msgspec.json.encode({"message": message})


def exception_message(name: str, message: str) -> bytes:
    """An exception as a message of a stream whose head has been sent."""
    headers = {":exception-type": name, ":content-type": JSON_TYPE, ":message-type": "exception"}
    return encode_message(headers, error_object(message))


def failed_stream() -> bytes:
    """The exception that ends a stream when the service fails."""
    return exception_message("internalServerException", FAILURE)


def error_reply(refused: BedrockRefusal, headers: Headers) -> Reply:
    """An exception as a whole answer."""
    return Reply(
        status=refused.status,
        content_type=JSON_TYPE,
        headers=(*headers, ("x-amzn-errortype", f"{refused.name}:{_WHERE}")),
        body=error_object(refused.message),
        failure=error_object(FAILURE),
        failure_event=failed_stream(),
    )


def refusal(fault: str, headers: Headers, behaviour: Behaviour) -> Reply:
    """The reply of a fault that refuses; KeyError when ``fault`` is none of them."""
    if fault == "rate_limit":
        headers = (*headers, ("retry-after", f"{behaviour.retry_after:g}"))
    return error_reply(_FIXED[fault], headers)


_FIXED: Final = {
    "rate_limit": BedrockRefusal(_BUSY, "ThrottlingException", 429),
    "rate_limit_bare": BedrockRefusal(_BUSY, "ThrottlingException", 429),
    "http_500": BedrockRefusal(FAILURE, "InternalServerException", 500),
    "http_503": BedrockRefusal("Bedrock is unable to process your request.", "ServiceUnavailableException", 503),
    "unauthorized": BedrockRefusal(
        "The security token included in the request is invalid.", "UnrecognizedClientException", 403
    ),
    "bad_request": BedrockRefusal(
        "1 validation error detected: Value '3' at 'inferenceConfig.temperature' failed to satisfy constraint: "
        "Member must have value less than or equal to 1"
    ),
    "content_filter": BedrockRefusal(
        "The model returned the following errors: Output blocked by content filtering policy"
    ),
    "no_credit": BedrockRefusal(
        "Model access is denied due to INVALID_PAYMENT_INSTRUMENT: A valid payment instrument must be provided.",
        "AccessDeniedException",
        403,
    ),
    "quota": BedrockRefusal(
        "Your request exceeds the service quota for your account.", "ServiceQuotaExceededException", 400
    ),
    "daily_quota": BedrockRefusal(
        "Too many tokens per day, please wait before trying again.", "ThrottlingException", 429
    ),
    "model_not_found": BedrockRefusal("The provided model identifier is invalid."),
    "overloaded": BedrockRefusal("Bedrock is unable to process your request.", "ServiceUnavailableException", 503),
    "context_length": BedrockRefusal(_TOO_LONG),
}
