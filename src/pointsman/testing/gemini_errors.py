"""Google's errors: statuses, bodies and details, word for word where clients are known to read the words."""

from typing import Any, Final

import msgspec

from .behaviour import Behaviour
from .reply import Headers, Reply

JSON_TYPE: Final = "application/json; charset=UTF-8"
HTML_TYPE: Final = "text/html; charset=UTF-8"

_RPC: Final = "type.googleapis.com/google.rpc"
_SERVICES: Final = {True: "aiplatform.googleapis.com", False: "generativelanguage.googleapis.com"}
_INVALID_KEY: Final = "API key not valid. Please pass a valid API key."
_NO_KEY: Final = (
    "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other "
    "form of API consumer identity to call this API."
)
_NO_TOKEN: Final = (
    "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other "
    "valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
_INVALID_TOKEN: Final = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
_QUOTA: Final = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this "
    "error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. "
    "\n* Quota exceeded for metric: generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 3, "
    "model: {model}"
)
_EXHAUSTED: Final = (
    "Resource exhausted. Please try again later. Please refer to "
    "https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details."
)
_INTERNAL: Final = (
    "An internal error has occurred. Please retry or report in "
    "https://developers.generativeai.google/guide/troubleshooting"
)
_NO_BILLING: Final = (
    "This API method requires billing to be enabled. Please enable billing on project #simulated by visiting "
    "https://console.developers.google.com/billing/enable?project=simulated then retry. If you enabled billing for "
    "this project recently, wait a few minutes for the action to propagate to our systems and retry."
)
_OVERLOADED: Final = "The model is overloaded. Please try again later."
_NOT_FOUND_PAGE: Final = (
    "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n  <title>Error 404 (Not Found)!!1</title>\n"
    "  <p><b>404.</b> <ins>That's an error.</ins>\n  <p>The requested URL <code>{path}</code> was not found on this "
    "server.  <ins>That's all we know.</ins>\n"
)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an error goes: ``vertex`` or not, in an array (a stream that isn't SSE) or not, with which headers."""

    vertex: bool
    in_array: bool
    headers: Headers


def error_object(code: int, message: str, status: str, details: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Google's error object."""
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    if details:
        error["details"] = list(details)
    return {"error": error}


def error_reply(place: Place, code: int, message: str, status: str, details: tuple[Any, ...] = ()) -> Reply:
    """An error as a whole answer: indented by two, in an array where the answer would have been one."""
    made: Any = error_object(code, message, status, details)
    body = msgspec.json.format(msgspec.json.encode([made] if place.in_array else made), indent=2) + b"\n"
    return Reply(status=code, content_type=JSON_TYPE, headers=place.headers, body=body, failure=server_failure())


def server_failure() -> bytes:
    """The error object that Google puts into a stream when it fails after the head."""
    return msgspec.json.encode(error_object(500, _INTERNAL, "INTERNAL"))


def missing_credential(place: Place) -> Reply:
    """403 or, on Vertex AI, 401: no key or token came with the request."""
    if not place.vertex:
        return error_reply(place, 403, _NO_KEY, "PERMISSION_DENIED")
    metadata = {"service": _SERVICES[True], "method": "google.cloud.aiplatform.v1.PredictionService.GenerateContent"}
    return error_reply(place, 401, _NO_TOKEN, "UNAUTHENTICATED", (_error_info("CREDENTIALS_MISSING", metadata),))


def wrong_credential(place: Place, *, token: bool) -> Reply:
    """400 for a wrong key, as Google has it; 401 for a wrong token."""
    service = {"service": _SERVICES[place.vertex]}
    if token:
        info = _error_info("ACCESS_TOKEN_TYPE_UNSUPPORTED", service)
        return error_reply(place, 401, _INVALID_TOKEN, "UNAUTHENTICATED", (info,))
    localised = {"@type": f"{_RPC}.LocalizedMessage", "locale": "en-US", "message": _INVALID_KEY}
    details = (_error_info("API_KEY_INVALID", service), localised)
    return error_reply(place, 400, _INVALID_KEY, "INVALID_ARGUMENT", details)


def unknown_model(place: Place, model: str, method: str) -> Reply:
    """404: no such model, or not for this method."""
    if place.vertex:
        message = (
            f"Publisher Model `publishers/google/models/{model}` was not found or your project does not have access to "
            "it. Please ensure you are using a valid model version. For more information, see: "
            "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions"
        )
    else:
        message = (
            f"models/{model} is not found for API version v1beta, or is not supported for {method}. Call ListModels to "
            "see the list of available models and their supported methods."
        )
    return error_reply(place, 404, message, "NOT_FOUND")


def unknown_path(path: str, headers: Headers) -> Reply:
    """404 as a page: what Google answers for paths and methods that no API of it has."""
    page = _NOT_FOUND_PAGE.format(path=path.partition("?")[0][:200].replace("<", "&lt;"))
    return Reply(status=404, content_type=HTML_TYPE, headers=headers, body=page.encode(), failure=server_failure())


def refusal(fault: str, model: str, place: Place, behaviour: Behaviour) -> Reply:
    """The reply of a fault that refuses; KeyError when ``fault`` is none of them."""
    if fault == "unauthorized":
        return wrong_credential(place, token=place.vertex)
    if fault == "rate_limit":
        return _rate_limit(place, model, behaviour.retry_after)
    if fault == "daily_quota":
        return _rate_limit(place, model, behaviour.retry_after, per="Day")
    if fault == "quota":
        return error_reply(place, 429, _QUOTA.format(model=model).replace("limit: 3", "limit: 0"), "RESOURCE_EXHAUSTED")
    if fault == "no_credit":
        info = _error_info("BILLING_DISABLED", {"service": _SERVICES[place.vertex], "consumer": "projects/simulated"})
        return error_reply(place, 403, _NO_BILLING, "PERMISSION_DENIED", (info,))
    code, message, status = _FIXED[fault]
    return error_reply(place, code, message, status)


_FIXED: Final[dict[str, tuple[int, str, str]]] = {
    "rate_limit_bare": (429, "Resource has been exhausted (e.g. check quota).", "RESOURCE_EXHAUSTED"),
    "http_500": (500, _INTERNAL, "INTERNAL"),
    "http_503": (503, _OVERLOADED, "UNAVAILABLE"),
    "bad_request": (
        400,
        "* GenerateContentRequest.generation_config.temperature: temperature must be in the range [0.0, 2.0].\n",
        "INVALID_ARGUMENT",
    ),
    "overloaded": (503, _OVERLOADED, "UNAVAILABLE"),
    "context_length": (
        400,
        "The input token count (1048601) exceeds the maximum number of tokens allowed (1048576).",
        "INVALID_ARGUMENT",
    ),
}


def _rate_limit(place: Place, model: str, retry_after: float, per: str = "Minute") -> Reply:
    """429 with RetryInfo: Google sends no Retry-After."""
    delay = {"@type": f"{_RPC}.RetryInfo", "retryDelay": f"{retry_after:g}s"}
    if place.vertex:
        return error_reply(place, 429, _EXHAUSTED, "RESOURCE_EXHAUSTED", (delay,))
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
        "quotaId": f"GenerateRequestsPer{per}PerProjectPerModel-FreeTier",
        "quotaDimensions": {"location": "global", "model": model},
        "quotaValue": "3",
    }
    page = {
        "description": "Learn more about Gemini API quotas",
        "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
    }
    details = (
        {"@type": f"{_RPC}.QuotaFailure", "violations": [violation]},
        {"@type": f"{_RPC}.Help", "links": [page]},
        delay,
    )
    message = f"{_QUOTA.format(model=model)}\nPlease retry in {retry_after:.9f}s."
    return error_reply(place, 429, message, "RESOURCE_EXHAUSTED", details)


def _error_info(reason: str, metadata: dict[str, str]) -> dict[str, Any]:
    return {"@type": f"{_RPC}.ErrorInfo", "reason": reason, "domain": "googleapis.com", "metadata": metadata}
