"""What is wrong with requests that are not HTTP/1.1 as this server takes it."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import httptools
import structlog

from pointsman.errors import GatewayError, Kind
from pointsman.server.routes import Handler, Router
from pointsman.wire.json_width import refuse_wide

if TYPE_CHECKING:
    from pointsman.server.exchange import Exchange

log = structlog.get_logger("pointsman.edge")


def no_upgrade() -> GatewayError:
    """A change of protocol was asked for that is not made here."""
    return GatewayError(Kind.UNSUPPORTED, "protocol upgrades are not served here; speak HTTP/1.1", status=426)


def raised_in_parser(error: httptools.HttpParserError) -> GatewayError:
    """What is wrong with a request: what one of our callbacks raised, which the parser wraps, or what the parser says.

    A defect of ours is logged and not told.
    """
    cause = error.__context__ or error.__cause__
    if isinstance(cause, GatewayError):
        return cause
    if isinstance(error, httptools.HttpParserCallbackError):
        log.error("request parsing failed", reason=repr(cause))
    return GatewayError(Kind.INVALID_REQUEST, "the request is not valid HTTP/1.1")


def head_too_large() -> GatewayError:
    """Request line and header lines are too long."""
    return GatewayError(Kind.HEADERS_TOO_LARGE, "the request's head is larger than the limit")


def check_head(target: bytes, headers: dict[bytes, bytes], repeated: int, most: int) -> None:
    """Refuse a head of more than ``most`` bytes; ``repeated`` are those of names that came before.

    Raises GatewayError(HEADERS_TOO_LARGE).
    """
    size = len(target) + repeated + sum(len(name) + len(value) + 4 for name, value in headers.items())
    if size > most:
        raise head_too_large()


def check_size(router: Router, target: bytes, headers: dict[bytes, bytes], size: int, usual: int) -> None:
    """Refuse a body that is larger than ``usual``, unless its path takes it; sizes in bytes.

    Raises GatewayError(TOO_LARGE), which names the setting where the operator can raise the limit.
    """
    path, _, query = target.partition(b"?")
    more = router.body_limits.get(router.native_path(path))
    limit = more(headers, query) if more is not None else None
    most = max(limit or 0, usual)
    if limit is None or size > most:
        named = " (files.max_bytes)" if limit is not None else ""
        raise GatewayError(Kind.TOO_LARGE, f"the request body is larger than the limit of {most} bytes{named}")


def check_transfer(coding: bytes, *, http11: bool) -> None:
    """One ``chunked`` and nothing else, and not in HTTP/1.0: whatever else, two readers may frame differently.

    Raises GatewayError(INVALID_REQUEST).
    """
    if coding.lower() != b"chunked" or not http11:
        raise GatewayError(
            Kind.INVALID_REQUEST, "the only transfer coding is 'chunked', in HTTP/1.1", param="transfer-encoding"
        )


def must_wait(seconds: int) -> Callable[[object], Coroutine[Any, Any, None]]:
    """The handler of every request from an address that has shown too many wrong credentials."""

    async def refuse(_: object) -> None:
        message = "too many wrong credentials were shown; try again later"
        raise GatewayError(Kind.RATE_LIMITED, message, retry_after_seconds=seconds)

    return refuse


async def refuse_address(_: object) -> None:
    """The handler of every request from an address that may not call (policy/ip_filter.py)."""
    raise GatewayError(Kind.PERMISSION_DENIED, "this address may not call this server")


def narrow_first(handler: Handler) -> Handler:
    """The handler of a request with a large body, which nobody reads that is too wide (wire/json_width.py)."""

    async def look(exchange: "Exchange") -> None:
        try:
            refuse_wide(exchange.body)
        except GatewayError:
            exchange.body = b""  # whoever tells it may look there whose client this is
            raise
        await handler(exchange)

    return look
