"""Amazon Bedrock's Converse API as upstreams speak it.

A connection's secret is an API key of Bedrock, sent as a bearer token, or ``ID:SECRET`` (``ID:SECRET:TOKEN``) of an
access key: then `signing.signature_headers` signs each request where the time is known.
"""

from typing import Final

from pointsman.canonical.halves import Upstream
from pointsman.framing.aws_event_stream import CONTENT_TYPE
from pointsman.providers.bedrock.answers import parse_error, parse_response
from pointsman.providers.bedrock.requests import auth_headers, build_request, patch_request
from pointsman.providers.bedrock.stream import StreamParser
from pointsman.wire.bedrock import WIRE

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

STREAM_TYPE: Final = CONTENT_TYPE
_LACKING: Final = frozenset(("choices", "json_object", "image_url", "file_url"))


def lacks(upstream: Upstream) -> frozenset[str]:
    """Bedrock gives one answer, knows JSON by schema only, and reads no addresses but its own storage's."""
    return _LACKING
