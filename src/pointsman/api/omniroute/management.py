"""What OmniRoute's management views share: who may come in, bodies, answers, and their two shapes of errors."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from litestar import Request, Response

from pointsman.identity.keys import Key
from pointsman.wire.json_faults import describe

MAX_BODY: Final = 1024 * 1024  # bytes of a body that changes configuration
HttpRequest = Request[Any, Any, Any]


class ManagementError(Exception):
    """An answer other than success; ``error`` is what the member of that name holds."""

    def __init__(self, status: int, error: Any, *, with_id: bool = False) -> None:
        super().__init__(status)
        self.status = status
        self.error = error
        self.with_id = with_id


def admit(request: HttpRequest) -> Key:
    """The credential that the guard let in (api/access.py). Raises ManagementError(401) where a route needs none."""
    key: Key | None = request.scope["state"].get("caller")
    if key is None:
        raise denied(401, "Authentication required")
    return key


def denied(status: int, message: str) -> ManagementError:
    """401 or 403."""
    return ManagementError(status, {"message": message, "type": "invalid_request"}, with_id=True)


def invalid(faults: Iterable[tuple[str, str]]) -> ManagementError:
    """400 that names every field at fault."""
    details = [{"field": field, "message": message} for field, message in faults]
    return ManagementError(400, {"message": "Invalid request", "details": details})


async def read_object(request: HttpRequest) -> dict[str, Any]:
    """The body, a JSON object. Raises ManagementError that names the field ``body``."""
    body = await request.body()
    if len(body) > MAX_BODY:
        raise invalid([("body", f"is longer than {MAX_BODY} bytes")])
    try:
        found: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid([("body", describe(error, body).message)]) from None
    return found


def whole_number(request: HttpRequest, name: str, default: int, bounds: tuple[int, int]) -> int:
    """A query parameter within ``bounds``. Raises ManagementError that names it."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and bounds[0] <= int(text) <= bounds[1]):
        raise invalid([(name, f"must be a whole number from {bounds[0]} to {bounds[1]}")])
    return int(text)


def answer(value: Any, status: int = 200) -> Response[bytes]:
    """JSON."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def render(request: HttpRequest, error: ManagementError) -> Response[bytes]:
    """An error as the contract writes it."""
    body = {"error": error.error}
    if error.with_id:
        body["requestId"] = str(request.scope["state"].get("request_id", ""))
    return answer(body, error.status)
