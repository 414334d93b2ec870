"""What management views of every contract share: reading parameters and bodies, answers, refusals that name a field.

OmniRoute's refusals have shapes of their own (omniroute/management.py).
"""

from typing import Any, Final, TypeVar

import msgspec
from litestar import Request, Response

from pointsman.errors import GatewayError, Kind
from pointsman.wire.json_faults import describe

MAX_BODY: Final = 1024 * 1024  # bytes of a body that changes something
MAX_TEXT: Final = 200  # characters of a name or an id
MAX_OFFSET: Final = 10_000_000
HttpRequest = Request[Any, Any, Any]
T = TypeVar("T")
_MAX_DIGITS: Final = 19  # of 2**63 - 1
_TRUE: Final = ("true", "1")
_FALSE: Final = ("false", "0", "")


def decoded(body: bytes, kind: type[T]) -> T:
    """A JSON body as a struct or a dict. Raises GatewayError(INVALID_REQUEST) that says where it is wrong."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise describe(error, body) from None


async def read_body(request: HttpRequest, kind: type[T]) -> T:
    """The JSON body of at most `MAX_BODY` bytes. Raises GatewayError(INVALID_REQUEST) that says where it is wrong."""
    body = await request.body()
    if len(body) > MAX_BODY:
        raise GatewayError(Kind.INVALID_REQUEST, f"the body is longer than {MAX_BODY} bytes", param="body")
    return decoded(body, kind)


def answer(value: Any, status: int | None = None) -> Response[bytes]:
    """An answer in JSON, with the status of the route's success unless another one is given."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def whole(text: str, bounds: tuple[int, int]) -> int | None:
    """A number in plain digits within ``bounds``; None for anything else."""
    plain = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return int(text) if plain and bounds[0] <= int(text) <= bounds[1] else None


def number(request: HttpRequest, name: str, default: int, bounds: tuple[int, int]) -> int:
    """A query parameter as a whole number. Raises GatewayError(INVALID_REQUEST) that names it."""
    given = request.query_params.get(name)
    found = whole(given, bounds) if given is not None else default
    if found is None:
        raise wrong(name, f"must be a whole number from {bounds[0]} to {bounds[1]}")
    return found


def flag(request: HttpRequest, name: str) -> bool:
    """A query parameter that is true or false; false when it is missing. Raises GatewayError(INVALID_REQUEST)."""
    word = request.query_params.get(name, "").lower()
    if word not in _TRUE + _FALSE:
        raise wrong(name, "must be true or false")
    return word in _TRUE


def text(request: HttpRequest, name: str) -> str | None:
    """A query parameter to compare with; None when it is missing. Raises GatewayError(INVALID_REQUEST)."""
    found = request.query_params.get(name)
    if found is not None and (not 1 <= len(found) <= MAX_TEXT or "\0" in found):
        raise wrong(name, f"must be 1 to {MAX_TEXT} characters")
    return found


def line(request: HttpRequest, name: str) -> str | None:
    """A query parameter of one printable line; None when it is missing. Raises GatewayError(INVALID_REQUEST)."""
    found = request.query_params.get(name)
    return None if found is None else short(found, name)


def short(found: str, name: str) -> str:
    """A text that names something. Raises GatewayError(INVALID_REQUEST) for one that can't."""
    if not 1 <= len(found) <= MAX_TEXT or not found.isprintable():
        raise wrong(name, f"must be 1 to {MAX_TEXT} printable characters")
    return found


def wrong(name: str, what: str) -> GatewayError:
    """400 that names a field."""
    return GatewayError(Kind.INVALID_REQUEST, f"'{name}' {what}", param=name)
