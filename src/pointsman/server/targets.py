"""Request targets and Host: what a request is about, without any doubt (RFC 9112 3.2)."""

import re
from collections.abc import Callable
from typing import Final

from pointsman.errors import GatewayError, Kind

# uri-host [ ":" port ] (RFC 3986 3.2.2), without percent-encoding, which no honest client sends.
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]*|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{0,5})?")


def check_host(host: bytes | None) -> None:
    """Refuse an HTTP/1.1 request without a Host, or with one that is no host; an empty one is allowed.

    Raises GatewayError(INVALID_REQUEST).
    """
    if host is None:
        raise GatewayError(Kind.INVALID_REQUEST, "the request has no Host header", param="host")
    if _HOST.fullmatch(host) is None:
        raise GatewayError(Kind.INVALID_REQUEST, "the Host header is not a host name or address", param="host")


def is_http11(version: str, host: bytes | None, check_named: Callable[[bytes | None], None]) -> bool:
    """Whether a request is HTTP/1.1, which must have a Host (``check_named``), or HTTP/1.0, which may.

    Raises GatewayError(INVALID_REQUEST).
    """
    if version == "1.1":
        check_named(host)
    elif version == "1.0":
        check_host(host or b"")
    else:
        raise GatewayError(Kind.INVALID_REQUEST, "the request is not HTTP/1.1 or HTTP/1.0")
    return version == "1.1"


def read_target(method: bytes, target: bytes, headers: dict[bytes, bytes]) -> bytes:
    """The path and query of a target that doesn't begin with ``/``.

    ``*`` is for OPTIONS only. The host of an absolute target takes the place of the Host header, as RFC 9112 3.2.2
    wants it. Raises GatewayError(INVALID_REQUEST).
    """
    if target == b"*" and method == b"OPTIONS":
        return target
    scheme, separator, rest = target.partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):
        end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
        host, path = rest[:end], rest[end:]
        check_host(host)
        if host:
            headers[b"host"] = host
            return path if path.startswith(b"/") else b"/" + path
    raise GatewayError(Kind.INVALID_REQUEST, "the request target is neither a path nor an http URL")
