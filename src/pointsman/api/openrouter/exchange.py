"""What OpenRouter's management views share: who asks, amounts and instants in its words."""

import datetime
import re
from typing import Final

from pointsman.api.exchange import HttpRequest, wrong
from pointsman.api.omniroute.moments import instant
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.gateway import Gateway
from pointsman.identity.keys import Key
from pointsman.policy.budget_service import nano_of
from pointsman.providers.hosts import hosts

NANO: Final = 1_000_000_000
# UTC, with seconds: what OpenRouter's API takes.
_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)", re.ASCII)


def caller_of(request: HttpRequest) -> Key:
    """The credential that the guard let in (api/access.py). Raises GatewayError(UNAUTHENTICATED) when there is none."""
    key: Key | None = request.scope["state"].get("caller")
    if key is None:
        raise GatewayError(Kind.UNAUTHENTICATED, "Missing Authentication header")
    return key


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
