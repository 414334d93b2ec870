"""What OpenRouter's management views share: who asks, bodies and parameters, answers."""

import datetime
import re
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request, Response

from pointsman.api.omniroute.moments import instant
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.gateway import Gateway
from pointsman.identity.keys import Key
from pointsman.policy.budget_service import nano_of
from pointsman.providers.hosts import hosts
from pointsman.wire.json_faults import describe

MAX_BODY: Final = 1024 * 1024
MAX_TEXT: Final = 200
MAX_OFFSET: Final = 10_000_000
NANO: Final = 1_000_000_000
HttpRequest = Request[Any, Any, Any]
T = TypeVar("T")
_TRUE: Final = ("true", "1")
_FALSE: Final = ("false", "0", "")
# UTC, with seconds: what OpenRouter's API takes.
_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)", re.ASCII)


def caller_of(request: HttpRequest) -> Key:
    """The credential that the guard let in (api/access.py). Raises GatewayError(UNAUTHENTICATED) when there is none."""
    key: Key | None = request.scope["state"].get("caller")
    if key is None:
        raise GatewayError(Kind.UNAUTHENTICATED, "Missing Authentication header")
    return key


async def read_body(request: HttpRequest, kind: type[T]) -> T:
    """The JSON body as a struct. Raises GatewayError(INVALID_REQUEST) that says where it is wrong."""
    body = await request.body()
    if len(body) > MAX_BODY:
        raise GatewayError(Kind.INVALID_REQUEST, f"the body is longer than {MAX_BODY} bytes", param="body")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise describe(error, body) from None


def answer(value: Any) -> Response[bytes]:
    """An answer in JSON, with the status of the route's success."""
    return Response(msgspec.json.encode(value), media_type="application/json")


def number(request: HttpRequest, name: str, default: int, bounds: tuple[int, int]) -> int:
    """A query parameter as a whole number. Raises GatewayError(INVALID_REQUEST) that names it."""
    text = request.query_params.get(name)
    if text is None:
        return default
    low, high = bounds
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and low <= int(text) <= high):
        raise wrong(name, f"must be a whole number from {low} to {high}")
    return int(text)


def flag(request: HttpRequest, name: str) -> bool:
    """A query parameter that is true or false; false when it is missing. Raises GatewayError(INVALID_REQUEST)."""
    word = request.query_params.get(name, "").lower()
    if word not in _TRUE + _FALSE:
        raise wrong(name, "must be true or false")
    return word in _TRUE


def text(request: HttpRequest, name: str) -> str | None:
    """A query parameter; None when it is missing. Raises GatewayError(INVALID_REQUEST) for an empty or a long one."""
    found = request.query_params.get(name)
    return None if found is None else short(found, name)


def short(found: str, name: str) -> str:
    """A text that names something. Raises GatewayError(INVALID_REQUEST) for one that can't."""
    if not 1 <= len(found) <= MAX_TEXT or not found.isprintable():
        raise wrong(name, f"must be 1 to {MAX_TEXT} printable characters")
    return found


def amount(dollars: float | int | None, name: str) -> int | None:
    """Dollars in nano-USD. Raises GatewayError(INVALID_REQUEST) for an amount below 0 or with finer parts."""
    if dollars is None:
        return None
    try:
        nano = nano_of(dollars, name)
    except ConfigError as error:
        raise GatewayError(Kind.INVALID_REQUEST, str(error), param=name) from error
    if nano < 0:
        raise wrong(name, "must not be below 0")
    return nano


def moment_of(words: str | None, name: str) -> int | None:
    """An instant in ISO 8601 as microseconds. Raises GatewayError(INVALID_REQUEST) unless it is UTC with seconds."""
    if words is None:
        return None
    found = _MOMENT.fullmatch(words)
    try:
        whole = datetime.datetime.fromisoformat(f"{found[1]}+00:00") if found is not None else None
    except ValueError:
        whole = None
    if found is None or whole is None:
        raise wrong(name, "must be an instant in UTC with seconds, such as 2027-12-31T23:59:59Z")
    return int(whole.timestamp()) * 1_000_000 + int((found[2] or "").ljust(6, "0")[:6])


def wrong(name: str, what: str) -> GatewayError:
    """400 that names a field."""
    return GatewayError(Kind.INVALID_REQUEST, f"'{name}' {what}", param=name)


def usd(nano: int) -> float:
    """An amount in dollars."""
    return nano / NANO


def provider_name(gateway: Gateway, connection_id: str | None, provider: str | None) -> str | None:
    """Who answered, for people: by the connection where it is known still."""
    connection = gateway.snapshot.catalogue.connections.get(connection_id or "")
    host = hosts().get(connection.kind if connection is not None else provider or "")
    return host.name if host is not None else provider or connection_id


def words_of(at: int | None) -> str | None:
    """An instant (us) in ISO 8601; None stays None."""
    return None if at is None else instant(at)
