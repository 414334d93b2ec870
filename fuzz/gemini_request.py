"""Bytes of a body into the Gemini dialect, and what it read into the Gemini format.

Holds for any bytes: our own refusals only, told in Google's shape; what was built is JSON that reads back to a request
which is built the same again.
"""

import json

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.canonical.request import Request
from pointsman.dialects import gemini as dialect
from pointsman.errors import GatewayError, Kind
from pointsman.providers import gemini as provider

CALL = ClientCall(model="m", stream=True)
REFUSALS = (Kind.INVALID_REQUEST, Kind.UNSUPPORTED)
TARGETS = (
    Upstream(model="gemini-3-pro"),
    Upstream(model="gemini-2.5-flash", options={"project": "p"}, max_output_tokens=99),
)


def check(raw: bytes) -> None:
    """Raise AssertionError when the input breaks a promise."""
    request = _read(raw)
    if request is None:
        return
    for upstream in TARGETS:
        body = _built(request, upstream)
        if body is None:
            continue
        json.loads(body)
        again = _read(body)
        assert again is not None, "what was built can't be read"
        assert json.loads(_built(again, upstream) or b"") == json.loads(body), "built otherwise the second time"


def _read(raw: bytes) -> Request | None:
    try:
        return dialect.read_request(raw, CALL)
    except GatewayError as error:
        assert error.kind in REFUSALS, error.kind
        json.loads(dialect.render_error(error, "req_1"))
        return None


def _built(request: Request, upstream: Upstream) -> bytes | None:
    try:
        return provider.build_request(request, upstream, Fidelity()).body
    except GatewayError as error:
        assert error.kind in REFUSALS, error.kind
        return None
