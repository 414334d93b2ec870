"""Bytes of a body into the dialects of Chat and of Completions as the hub reads them, and on into three formats.

Holds for any bytes: our own refusals only, told in OpenAI's shape; what is built is JSON; what is built for Chat reads
back to a request which is built the same again.
"""

import json
from types import ModuleType

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.canonical.request import Request
from pointsman.dialects import openai_chat as chat
from pointsman.dialects import openai_completions as completions
from pointsman.errors import GatewayError, Kind
from pointsman.providers import gemini, openai_chat, openai_responses

REFUSALS = (Kind.INVALID_REQUEST, Kind.UNSUPPORTED)
UPSTREAM = Upstream(model="m", max_output_tokens=99)


def check(raw: bytes) -> None:
    """Raise AssertionError when the input breaks a promise."""
    for dialect in (chat, completions):
        request = _read(raw, dialect)
        if request is None:
            continue
        for provider in (gemini, openai_responses):
            json.loads(_built(request, provider) or b"{}")
        body = _built(request, openai_chat)
        if body is None:
            continue
        again = _read(body, chat)
        assert again is not None, "what was built can't be read"
        assert json.loads(_built(again, openai_chat) or b"{}") == json.loads(body), "built otherwise the second time"


def _read(raw: bytes, dialect: ModuleType) -> Request | None:
    try:
        request: Request = dialect.read_request(raw, ClientCall())
    except GatewayError as error:
        assert error.kind in REFUSALS, error.kind
        json.loads(dialect.render_error(error, "req_1"))
        return None
    return request


def _built(request: Request, provider: ModuleType) -> bytes | None:
    try:
        body: bytes = provider.build_request(request, UPSTREAM, Fidelity()).body
    except GatewayError as error:
        assert error.kind in REFUSALS, error.kind
        return None
    return body
