"""What is wrong with requests that are not HTTP/1.1 as this server takes it."""

from collections.abc import Callable, Coroutine
from typing import Any

from pointsman.errors import GatewayError, Kind


def no_upgrade() -> GatewayError:
    """A change of protocol was asked for that is not made here."""
    return GatewayError(Kind.UNSUPPORTED, "protocol upgrades are not served here; speak HTTP/1.1", status=426)


def malformed() -> GatewayError:
    """What came is no request."""
    return GatewayError(Kind.INVALID_REQUEST, "the request is not valid HTTP/1.1")


def head_too_large() -> GatewayError:
    """Request line and header lines are too long."""
    return GatewayError(Kind.HEADERS_TOO_LARGE, "the request's head is larger than the limit")


def body_too_large(limit_bytes: int, setting: str | None) -> GatewayError:
    """``setting`` names the limit, where the operator can raise it."""
    named = f" ({setting})" if setting is not None else ""
    return GatewayError(Kind.TOO_LARGE, f"the request body is larger than the limit of {limit_bytes} bytes{named}")


def must_wait(seconds: int) -> Callable[[object], Coroutine[Any, Any, None]]:
    """The handler of every request from an address that has shown too many wrong credentials."""

    async def refuse(_: object) -> None:
        message = "too many wrong credentials were shown; try again later"
        raise GatewayError(Kind.RATE_LIMITED, message, retry_after_seconds=seconds)

    return refuse


async def refuse_address(_: object) -> None:
    """The handler of every request from an address that may not call (policy/ip_filter.py)."""
    raise GatewayError(Kind.PERMISSION_DENIED, "this address may not call this server")
