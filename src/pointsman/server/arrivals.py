"""Requests with a key that this process does not know yet wait until it was looked up; others never do."""

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from pointsman.errors import GatewayError
from pointsman.identity.late_keys import LateKeys
from pointsman.policy.authentication import KEY_HEADERS, identify, presented_by

if TYPE_CHECKING:
    from pointsman.server.exchange import Exchange
    from pointsman.server.routes import Handler

QUERY_KEYS: Final = ("key", "api_key", "token", "access_token")  # Google's clients, and browsers with sockets
MOST_FIELDS: Final = 32


def known_first(late: LateKeys | None, exchange: "Exchange", handler: "Handler") -> "Handler":
    """The handler, after a look-up where the request shows what nobody knows here."""
    if late is None or late.table.whole:
        return handler
    presented = _shown_by(exchange.headers, exchange.query)
    if presented is None or late.is_known(presented, exchange.started_at):
        return handler

    async def arrive(exchange: "Exchange") -> None:
        await late.learn(presented, len(exchange.body))
        await handler(exchange)

    return arrive


def is_looked_up(late: LateKeys | None, headers: dict[bytes, bytes], now_us: int) -> bool:
    """Whether a head shows what nobody knows here: then a look-up begins, before the body has arrived.

    Raises GatewayError(OVERLOADED).
    """
    if late is None or late.table.whole:
        return False
    presented = presented_by(headers)
    if presented is None or late.is_known(presented, now_us):
        return False
    late.begin(presented)
    return True


async def stay_known(late: LateKeys | None, exchange: "Exchange", now_us: int) -> None:
    """Before each message of a long connection: its key may have made room for others meanwhile.

    Raises GatewayError as `LateKeys.learn` does.
    """
    if late is None or late.table.whole:
        return
    presented = _shown_by(exchange.headers, exchange.query)
    if presented is not None and not late.is_known(presented, now_us):
        await late.learn(presented)


def caller_shown(late: LateKeys | None, headers: dict[bytes, bytes], query: bytes, now_us: int) -> str | None:
    """The id of the good credential, of any kind, that a head shows, as far as can be told without a wait.

    None for one that nobody knows here; its look-up begins. Raises GatewayError(OVERLOADED).
    """
    presented = _shown_by(headers, query)
    if late is None or presented is None:
        return None
    if presented_by(headers) is None:
        headers = {KEY_HEADERS[0]: presented}
    try:
        return identify(headers, late.table, now_us).id
    except GatewayError:
        is_looked_up(late, headers, now_us)
        return None


def _shown_by(headers: dict[bytes, bytes], query: bytes) -> bytes | None:
    presented = presented_by(headers)
    if presented is not None or b"=" not in query:
        return presented
    try:
        fields = dict(parse_qsl(query.decode("latin-1"), max_num_fields=MOST_FIELDS))
    except ValueError:
        return None
    found = next((fields[name] for name in QUERY_KEYS if name in fields), "").strip()
    return found.encode() or None
