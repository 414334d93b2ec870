"""Bytes of a body into Ollama's two dialects, and what they read into Ollama's, Cohere's and Bedrock's formats.

Holds for any bytes: our own refusals only, told in Ollama's shape; what is built is JSON; what is built for Ollama is
read back to a request that is built the same again.
"""

import json
from types import ModuleType

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.canonical.request import Request
from pointsman.dialects.ollama import chat, generate
from pointsman.errors import GatewayError, Kind
from pointsman.providers import bedrock, cohere, ollama

REFUSALS = (Kind.INVALID_REQUEST, Kind.UNSUPPORTED)
UPSTREAM = Upstream(model="anthropic.m", max_output_tokens=99)


def check(raw: bytes) -> None:
    """Raise AssertionError when the input breaks a promise."""
    for dialect in (chat, generate):
        request = _read(raw, dialect)
        if request is None:
            continue
        for provider in (cohere, bedrock):
            json.loads(_built(request, provider) or b"{}")
        body = _built(request, ollama)
        if body is None:
            continue
        again = _read(body, chat if "messages" in json.loads(body) else generate)
        assert again is not None, "what was built can't be read"
        assert json.loads(_built(again, ollama) or b"{}") == json.loads(body), "built otherwise the second time"


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
