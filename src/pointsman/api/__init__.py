"""The management plane: ordinary web code on Litestar, one package per contract."""

import math
from typing import Any

import structlog
from litestar import Litestar, Response
from litestar.config.app import AppConfig
from litestar.exceptions import HTTPException

from pointsman.api.access import Guard
from pointsman.api.crosscompute import views as crosscompute
from pointsman.api.crosscompute.keys import CrossComputeKeys
from pointsman.api.exchange import HttpRequest
from pointsman.api.hardcarrx.request_logs import RequestLogs
from pointsman.api.omniroute import management
from pointsman.api.omniroute import views as omniroute
from pointsman.api.omniroute.keys import OmniRouteKeys
from pointsman.api.openrouter import views as openrouter
from pointsman.api.pointsman import views as pointsman
from pointsman.api.services import ManagementServices
from pointsman.api.shared_keys import SharedKeys
from pointsman.dialects import openai_chat
from pointsman.errors import GatewayError, Kind
from pointsman.storage.database import StorageError

log = structlog.get_logger("pointsman.api")


def build_management(services: ManagementServices) -> Litestar:
    """The ASGI application of every management view."""
    own_keys = CrossComputeKeys(services.keys, services.budgets, services.apply)
    their_keys = OmniRouteKeys(services.keys, services.budgets, services.apply)
    return Litestar.from_config(
        AppConfig(
            guards=[Guard(services.gateway)],
            route_handlers=[
                RequestLogs(services.gateway, services.requests).handler(),
                *SharedKeys(their_keys, own_keys).handlers(),
                *crosscompute.views(services, own_keys),
                *omniroute.views(services, their_keys),
                *openrouter.views(services),
                *pointsman.views(services),
            ],
            exception_handlers={
                GatewayError: _gateway_error,
                HTTPException: _http_error,
                management.ManagementError: management.render,
                StorageError: _storage_error,
                Exception: _fault,
            },
            openapi_config=None,
            logging_config=None,
            request_max_body_size=None,  # the edge has limits of its own
        )
    )


def _gateway_error(request: HttpRequest, error: GatewayError) -> Response[bytes]:
    """In the words of the contract that the path or the client belongs to; the mount of the views has found it out."""
    state = request.scope["state"]
    dialect: Any = state.get("errors", openai_chat)
    status = dialect.status_of(error) if hasattr(dialect, "status_of") else error.status
    body = dialect.render_error(error, str(state.get("request_id", "")))
    refusal = Response(body, status_code=status, media_type="application/json")
    if error.retry_after_seconds is not None:
        refusal.headers["retry-after"] = str(max(1, math.ceil(error.retry_after_seconds)))
    return refusal


def _storage_error(request: HttpRequest, error: StorageError) -> Response[bytes]:
    """The database is away for a moment: told as such, not as a fault. What it refuses for good is a fault of ours."""
    if error.refused:
        return _fault(request, error)
    log.warning("not answered for want of the database", path=request.scope["path_template"], reason=str(error))
    message = "the database can't be reached now; try again"
    return _gateway_error(request, GatewayError(Kind.NOT_READY, message, retry_after_seconds=2))


def _fault(request: HttpRequest, error: Exception) -> Response[bytes]:
    request_id = request.scope["state"].get("request_id")
    log.error("request failed", request_id=request_id, exc_info=error)
    return _gateway_error(
        request, GatewayError(Kind.INTERNAL, "an internal error occurred; it was logged with this request id")
    )


def _http_error(request: HttpRequest, error: HTTPException) -> Response[bytes]:
    kinds = {404: Kind.NOT_FOUND, 405: Kind.METHOD_NOT_ALLOWED}
    kind = kinds.get(error.status_code, Kind.INVALID_REQUEST if error.status_code < 500 else Kind.INTERNAL)
    messages = {Kind.NOT_FOUND: "there is no such path here", Kind.METHOD_NOT_ALLOWED: "this path has no such method"}
    message = messages.get(
        kind, "the request is not valid" if error.status_code < 500 else "an internal error occurred"
    )
    return _gateway_error(request, GatewayError(kind, message, status=error.status_code))
