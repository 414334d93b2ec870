"""``GET /v1/request-logs``: the newest requests of the caller's workspace; limit 1 to 100, offset from 0."""

import datetime
from collections.abc import Mapping
from typing import Final

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import MAX_OFFSET, HttpRequest, answer, number
from pointsman.api.omniroute.management import admit
from pointsman.canonical.record import CacheOutcome, Outcome, RequestRecord
from pointsman.gateway import Gateway
from pointsman.routing.targets import Connection
from pointsman.storage.requests import RequestRepository

DEFAULT_LIMIT: Final = 25
MAX_LIMIT: Final = 100
REFUSED_WORDS: Final = {402: "QUOTA_EXCEEDED", 429: "RATE_LIMITED"}
# The contract has a sample of each only; these sets are ours, and closed.
CACHE_WORDS: Final = {
    CacheOutcome.HIT: "HIT",
    CacheOutcome.SEMANTIC: "SEMANTIC_HIT",
    CacheOutcome.MISS: "MISS",
    CacheOutcome.BYPASS: "BYPASS",
}
SKIPPED: Final = "SKIPPED"  # it took no part
STATUS_WORDS: Final = {Outcome.SUCCESS: "SUCCESS", Outcome.ERROR: "ERROR", Outcome.CLIENT_CLOSED: "CANCELLED"}


class RequestLogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the contract shows it; provider and model may be empty, never absent."""

    request_id: str
    route: str
    status: str
    provider: str
    model: str
    cache_state: str
    memory_state: str
    created_at: str


class RequestLogList(msgspec.Struct, frozen=True, kw_only=True):
    """A page, with the limit and offset that were used."""

    logs: list[RequestLogEntry]
    limit: int
    offset: int


class RequestLogs:
    """The view."""

    def __init__(self, gateway: Gateway, requests: RequestRepository) -> None:
        self._gateway = gateway
        self._requests = requests

    def handler(self) -> HTTPRouteHandler:
        """The route for Litestar."""

        @get("/v1/request-logs")
        async def list_request_logs(request: HttpRequest) -> Response[bytes]:
            key = admit(request)
            limit = number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
            offset = number(request, "offset", 0, (0, MAX_OFFSET))
            records = await self._requests.list_page(key.workspace_id, limit, offset)
            connections = self._gateway.snapshot.catalogue.connections
            logs = [_entry(record, connections) for record in records]
            page = RequestLogList(logs=logs, limit=limit, offset=offset)
            return answer(page)

        return list_request_logs


def _entry(record: RequestRecord, connections: Mapping[str, Connection]) -> RequestLogEntry:
    created = datetime.datetime.fromtimestamp(record.created_at / 1e6, tz=datetime.UTC)
    word = REFUSED_WORDS.get(record.status) or STATUS_WORDS[record.outcome]
    connection_id = record.connection_id or ""
    connection = connections.get(connection_id)
    return RequestLogEntry(
        request_id=record.request_id,
        route=record.route,
        status=word,
        provider=connection.vendor if connection is not None else connection_id,
        model=(record.request_model or "").removeprefix(f"{connection_id}/"),
        cache_state=CACHE_WORDS[record.cache] if record.cache is not None else SKIPPED,
        memory_state=SKIPPED,
        created_at=created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )
