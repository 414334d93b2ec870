"""The OpenAI Responses format as upstreams speak it.

Source: the API's reference and the types of OpenAI's Python SDK 3.54, as of 2026-11.
"""

from collections.abc import Mapping
from typing import Final

from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.request import Request
from pointsman.providers.openai_responses.building import RESPONSES_PATH, build_request
from pointsman.providers.openai_responses.failures import parse_error
from pointsman.providers.openai_responses.parsing import parse_response
from pointsman.providers.openai_responses.streaming import StreamParser
from pointsman.wire.bodies import with_model
from pointsman.wire.openai_responses import WIRE

STREAM_TYPE: Final = b"text/event-stream"

__all__ = [
    "STREAM_TYPE",
    "WIRE",
    "StreamParser",
    "auth_headers",
    "build_request",
    "lacks",
    "parse_error",
    "parse_response",
    "patch_request",
]


def lacks(upstream: Upstream) -> frozenset[str]:
    """One answer to a request; everything else can be said."""
    return frozenset(("choices",))


def patch_request(body: bytes, request: Request, upstream: Upstream) -> Built:
    """The client's own body with nothing changed but the model. Raises GatewayError when it is no JSON object."""
    return Built(path=RESPONSES_PATH, body=with_model(body, upstream.model))


def auth_headers(secret: str, upstream: Upstream) -> tuple[tuple[str, str], ...]:
    """The credential, and whose account it is where the operator named one."""
    quirks: Mapping[str, object] = upstream.quirks
    if quirks.get("auth") == "api-key":
        return (("api-key", secret),)
    named = (("organization", "OpenAI-Organization"), ("project", "OpenAI-Project"))
    account = tuple((header, upstream.options[option]) for option, header in named if option in upstream.options)
    return (("Authorization", f"Bearer {secret}"), *account)
