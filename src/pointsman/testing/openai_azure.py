"""What Azure OpenAI has of its own: paths, the key's header, versions, content filter results, errors.

Source: the Azure OpenAI REST reference and its content filter guide, as of 2026-11.
"""

import hmac
import re
from typing import Final
from urllib.parse import parse_qs, unquote

import msgspec

from .openai_request import Json, last_user_text
from .reply import Event, EventKind, Headers, Reply, Request

PREFIX: Final = "/openai/"
_DEPLOYMENT: Final = re.compile(r"/openai/deployments/([^/]+)/chat/completions")
_V1: Final = "/openai/v1/"
_VERSION: Final = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_CATEGORIES: Final = ("hate", "self_harm", "sexual", "violence")
_SAFE: Final = {category: {"filtered": False, "severity": "safe"} for category in _CATEGORIES}
_BLOCKED: Final = {**_SAFE, "violence": {"filtered": True, "severity": "medium"}}
_DENIED: Final = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
    "active subscription and use a correct regional API endpoint for your resource."
)
_POLICY: Final = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify "
    "your prompt and retry. To learn more about our content filtering policies please read our documentation: "
    "https://go.microsoft.com/fwlink/?linkid=2198766"
)
FIRST_EVENT: Final = Event(
    EventKind.START,
    b"data: %b\n\n"
    % msgspec.json.encode(
        {
            "choices": [],
            "created": 0,
            "id": "",
            "model": "",
            "object": "",
            "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _SAFE}],
        }
    ),
)


def deployment_of(request: Request) -> str | None:
    """The deployment that a path names; None for OpenAI's own paths."""
    found = _DEPLOYMENT.fullmatch(request.path.partition("?")[0])
    return unquote(found[1]) if found else None


def resource_of(request: Request) -> str:
    """``chat`` or ``models``; empty when there is no such path."""
    path = request.path.partition("?")[0]
    if deployment_of(request) is not None or path == f"{_V1}chat/completions":
        return "chat"
    return "models" if path in (f"{_V1}models", "/openai/models") else ""


def refusal(request: Request, api_key: str | None, headers: Headers) -> Reply | None:
    """Azure's no to a wrong path, version or key; None when all is well."""
    path, _, query = request.path.partition("?")
    if not resource_of(request):
        return _error(404, {"code": "404", "message": "Resource not found"}, headers)
    version = parse_qs(query).get("api-version", [""])[0]
    if not path.startswith(_V1) and not _VERSION.fullmatch(version):
        return _error(404, {"code": "404", "message": "Resource not found"}, headers)
    given = request.header("api-key") or request.header("authorization").removeprefix("Bearer ")
    if api_key is not None and not hmac.compare_digest(given.encode(), api_key.encode()):
        return _error(401, {"code": "401", "message": _DENIED}, headers)
    return None


def is_blocked(body: Json) -> bool:
    """Whether the filter takes offence at the prompt itself."""
    return "block this prompt" in last_user_text(body)


def blocked(headers: Headers) -> Reply:
    """400: the prompt is filtered."""
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": _BLOCKED}
    error = {"message": _POLICY, "type": None, "param": "prompt", "code": "content_filter", "status": 400}
    return _error(400, {**error, "innererror": inner}, headers)


def with_filter_results(answer: Json) -> Json:
    """A whole answer with what the filter found in the prompt and in each choice."""
    choices = [{**choice, "content_filter_results": _SAFE} for choice in answer["choices"]]
    prompt = [{"prompt_index": 0, "content_filter_results": _SAFE}]
    return {**answer, "choices": choices, "prompt_filter_results": prompt}


def filter_results() -> bytes:
    """The member that each streamed choice has."""
    return b',"content_filter_results":%b' % msgspec.json.encode(_SAFE)


def _error(status: int, error: Json, headers: Headers) -> Reply:
    body = msgspec.json.encode({"error": error})
    return Reply(status=status, content_type="application/json", headers=headers, body=body, failure=body)
