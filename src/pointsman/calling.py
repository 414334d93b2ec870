"""One call to one target: what it needs, how its answer is taken in, whole or as a stream."""

import asyncio

from pointsman.accounting.estimation import estimate_tokens, tokens_of
from pointsman.canonical.record import Outcome
from pointsman.entry import Entry
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Call, Dialect, Exchange, Gateway, Snapshot
from pointsman.hub.file_places import FilePlaces, may_become_files
from pointsman.hub.lane import HubLane
from pointsman.hub.operation_lane import OPERATIONS, PAID_BY_TEXT, OperationLane
from pointsman.policy.limits import Reservation, Rules
from pointsman.routing.targets import Target
from pointsman.runner import in_task
from pointsman.upstream.answers import CollectedAnswer, StreamedAnswer
from pointsman.upstream.endpoints import Access, Endpoint, StreamReader


async def call_target(
    gateway: Gateway, dialect: Dialect, entry: Entry, call: Call, snapshot: Snapshot, target: Target
) -> None:
    """One call to one target; GatewayError: it failed, and the client has been told nothing yet."""
    exchange, endpoint = entry.exchange, snapshot.endpoints[target.endpoint]
    if (
        snapshot.limits is not None
        and snapshot.limits.of_connections
        and (rules := snapshot.limits.connection_rules(endpoint.connection_id))
    ):
        tokens = estimate_tokens(exchange.body, call.max_output_tokens)
        entry.upstream_reservation = await reserve(gateway, dialect, exchange, rules, tokens)
    if entry.budgets is not None:
        operation = dialect.OPERATION
        writes = True if operation not in OPERATIONS else (False if operation in PAID_BY_TEXT else None)
        await entry.afford(call, endpoint, target, writes)
    access = endpoint.access
    if access is None:
        await in_task()
        access = await acquire(gateway, endpoint, entry.deadline)
    endpoint.busy += 1
    try:
        fields, outline = call.fields, call.outline or exchange.body
        if (
            entry.continuation is not None
            or fields is None
            or endpoint.wire != dialect.WIRE
            or endpoint.departures.concern(fields, outline)
        ):
            kind: type[HubLane | OperationLane] = OperationLane if dialect.OPERATION in OPERATIONS else HubLane
            lane = kind(gateway, entry, exchange, endpoint, access)
            request = dialect.as_request(call, exchange.body)
            if gateway.files is not None and may_become_files(dialect.WIRE, endpoint.wire) and kind is HubLane:
                await FilePlaces(gateway.files, snapshot, entry.record.workspace_id).check_addresses(request, target)
            await lane.run(dialect, request, target.model)
            return
        unasked = call.stream and endpoint.stream_usage and not call.usage_wanted
        message = endpoint.format.build_request(access.head, fields, target.encoded, unasked)
        entry.sent(endpoint, target.model)
        if call.stream:
            reader = endpoint.format.StreamReader(call.choices, access.reveal(), unasked)
            whole = await _relay(gateway, dialect, entry, endpoint, (access, message, reader))
            if whole is not None:
                HubLane(gateway, entry, exchange, endpoint, access).replay(
                    dialect, dialect.as_request(call, exchange.body), target.model, whole
                )
        else:
            await _collect(gateway, entry, endpoint, access, message)
    finally:
        endpoint.busy -= 1
        endpoint.release()


def told_by(dialect: Dialect, call: Call) -> Dialect:
    """The dialect that a request's members tell, where its path leaves it open."""
    tell = getattr(dialect, "told_by", None)
    told: Dialect | None = tell(call) if tell is not None else None
    return told or dialect


async def acquire(gateway: Gateway, endpoint: Endpoint, deadline: float) -> Access:
    """Make an endpoint ready before the deadline. Needs a Task. Raises GatewayError."""
    try:
        async with asyncio.timeout(max(0.0, deadline - gateway.client.ticker.now)):
            return await endpoint.acquire()
    except TimeoutError:
        raise GatewayError(Kind.UPSTREAM_TIMEOUT, "the upstream was not ready in time") from None


async def reserve(
    gateway: Gateway, dialect: Dialect, exchange: Exchange, rules: Rules, tokens: int
) -> Reservation | None:
    """Charge a call to limits, and have the client told where it stands, unless it was told of others before: callers
    see their own limits, and a connection's only when they have none. Raises GatewayError(RATE_LIMITED).
    """
    limiter = gateway.limiter
    try:
        reservation = limiter.try_reserve(rules, tokens)
        if reservation is None:
            await in_task()
            reservation = await limiter.reserve(rules, tokens)
    except GatewayError:
        exchange.limit_head = exchange.limit_head or dialect.render_limits(limiter.standing(rules))
        raise
    if reservation is not None:
        exchange.limit_head = exchange.limit_head or dialect.render_limits(reservation.standing)
    return reservation


async def reserve_request(gateway: Gateway, dialect: Dialect, exchange: Exchange, rules: Rules) -> Reservation | None:
    """As `reserve`, for a call that uses no tokens: of the limits those of requests count it."""
    rules = tuple(rule for rule in rules if rule.unit == "requests")
    return await reserve(gateway, dialect, exchange, rules, 0) if rules else None


async def _collect(gateway: Gateway, entry: Entry, endpoint: Endpoint, access: Access, message: bytes) -> None:
    answer = CollectedAnswer()
    entry.listen(answer)
    try:
        await gateway.client.send(
            access.origin, message, answer, entry.record.key_id or "", entry.deadline, entry.limits
        )
    except asyncio.CancelledError:
        entry.give_up()
        raise
    if answer.status != 200:
        raise endpoint.format.parse_error(answer.status, answer.headers, answer.body, access.reveal()).of(
            answer.status, answer.headers, answer.body
        )
    reading = endpoint.format.parse_response(answer.body)
    entry.read(reading.model, reading.finish_reason, reading.usage, tokens_of(len(answer.body)))
    entry.record.bytes_out = len(answer.body)
    entry.settle(200, Outcome.SUCCESS)
    entry.exchange.respond(200, answer.body, answer.headers.get(b"content-type", b"application/json"))


async def _relay(
    gateway: Gateway, dialect: Dialect, entry: Entry, endpoint: Endpoint, prepared: tuple[Access, bytes, StreamReader]
) -> bytes | None:
    """Pass a stream on. An answer that came whole instead is given back: nothing of it has been sent."""
    access, message, reader = prepared
    entry.reader = reader

    def read() -> None:
        entry.read(reader.model, reader.finish_reason, reader.usage, reader.events - 1)

    def settle(error: GatewayError | None, last: int) -> None:
        read()
        entry.record.bytes_out = last
        entry.settle_stream(error)

    def render(error: GatewayError) -> bytes:
        return dialect.render_stream_error(error, entry.exchange.request_id)

    answer = StreamedAnswer(entry.exchange, reader, settle, render)
    entry.listen(answer)
    try:
        await gateway.client.send(
            access.origin, message, answer, entry.record.key_id or "", entry.deadline, entry.limits
        )
    except asyncio.CancelledError:
        entry.give_up()
        raise
    except GatewayError:
        if reader.usage is not None:
            read()  # it broke before anything went to the client, and after it had told its cost
        raise
    if answer.status != 200:
        raise endpoint.format.parse_error(answer.status, answer.headers, answer.body, access.reveal()).of(
            answer.status, answer.headers, answer.body
        )
    if answer.streaming:
        return None
    reading = endpoint.format.parse_response(answer.body)
    entry.read(reading.model, reading.finish_reason, reading.usage, tokens_of(len(answer.body)))
    return answer.body
