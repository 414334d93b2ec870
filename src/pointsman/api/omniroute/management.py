"""What OmniRoute's management views share: who may come in, bodies, and their two shapes of errors."""

from collections.abc import Iterable
from typing import Any

from litestar import Response

from pointsman.api.exchange import MAX_BODY, HttpRequest, answer, decoded, whole
from pointsman.errors import GatewayError
from pointsman.identity.keys import Key


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
        return decoded(body, dict[str, Any])
    except GatewayError as error:
        raise invalid([("body", error.message)]) from None


def whole_number(request: HttpRequest, name: str, default: int, bounds: tuple[int, int]) -> int:
    """A query parameter within ``bounds``. Raises ManagementError that names it."""
    given = request.query_params.get(name)
    found = whole(given, bounds) if given is not None else default
    if found is None:
        raise invalid([(name, f"must be a whole number from {bounds[0]} to {bounds[1]}")])
    return found


def render(request: HttpRequest, error: ManagementError) -> Response[bytes]:
    """An error as the contract writes it."""
    body = {"error": error.error}
    if error.with_id:
        body["requestId"] = str(request.scope["state"].get("request_id", ""))
    return answer(body, error.status)
