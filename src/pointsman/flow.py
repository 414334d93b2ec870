"""The life of one inference request, top to bottom. Read this first.

authenticate -> admit -> parse -> resolve the model -> check limits -> plan -> call an upstream, and another one when it
fails -> settle -> answer. However a request ends, its record is settled exactly once, before the last byte of the
answer leaves: on success, on any error, and when the client goes away.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from pointsman.accounting.estimation import estimate_tokens, tokens_of
from pointsman.beside import follow
from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.canonical.response import Response
from pointsman.entry import Entry, PartEntry
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Call, Dialect, Exchange, Gateway, Snapshot
from pointsman.hub.combo_runs import NOWHERE, ComboRun
from pointsman.hub.continuation import Continuation
from pointsman.hub.file_places import FilePlaces, may_become_files
from pointsman.hub.fusion import gather_panel, judge_call, nobody_answered, panel_call
from pointsman.hub.kept_exchange import KeptExchange
from pointsman.hub.lane import HubLane
from pointsman.hub.operation_lane import OPERATIONS, PAID_BY_TEXT, OperationLane
from pointsman.hub.own_calls import AlteredDialect, CapturingDialect
from pointsman.identity.keys import Key
from pointsman.planning import Planned, describe_failure, wished_route
from pointsman.policy.authentication import authenticate
from pointsman.policy.limits import Reservation, Rules
from pointsman.policy.sessions import session_planned
from pointsman.policy.shared_calls import (
    KEY_HEADER,
    REPLAY_HEADER,
    SHARE_HEADER,
    Name,
    SharedCall,
    is_asked,
)
from pointsman.races import Race
from pointsman.routing.demands import Asked
from pointsman.routing.plan import Problem, Route, RoutePlan, plan
from pointsman.routing.presets import MARK as PRESET_MARK
from pointsman.routing.presets import MEMBER as PRESET
from pointsman.routing.presets import filled_in
from pointsman.routing.steering import CONNECTION
from pointsman.routing.targets import Target
from pointsman.routing.wishes import MEMBERS as WISHES
from pointsman.routing.wishes import Wishes, named_model, read_wishes
from pointsman.runner import in_task
from pointsman.upstream.answers import CollectedAnswer, StreamedAnswer
from pointsman.upstream.attempts import Attempts
from pointsman.upstream.endpoints import Access, Endpoint, StreamReader
from pointsman.upstream.hedging import hedge_terms
from pointsman.upstream.patience import Patience
from pointsman.upstream.terms import (
    CONTINUE_HEADER,
    TIMEOUT_HEADER,
    allowed_seconds,
    is_continued,
    limits_within,
    terms_of,
)
from pointsman.wire.file_references import may_name_files

CLIENT_CLOSED_STATUS = 499  # what nginx logs for a client that went away; never sent


class Pursuit(NamedTuple):
    """What a request is, once it is understood: for whoever tries it at several targets."""

    dialect: Dialect
    call: Call
    snapshot: Snapshot
    route: Route
    wishes: Wishes | None
    seconds: float  # that it may take
    key: Key


Work = Callable[[Gateway, Dialect, Exchange, Entry], Awaitable[None]]


async def serve(gateway: Gateway, dialect: Dialect, exchange: Exchange, work: Work | None = None) -> None:
    """Answer one request. Every error is told in ``dialect``; a cancelled call is settled and re-raised.

    ``work`` is what is done for it; usually it is inference.
    """
    entry = Entry(gateway, dialect, exchange)
    try:
        await (work or usual_work(exchange))(gateway, dialect, exchange, entry)
    except GatewayError as error:
        _tell(gateway, entry.dialect, entry, error)
    except asyncio.CancelledError:
        entry.settle(CLIENT_CLOSED_STATUS, Outcome.CLIENT_CLOSED)
        raise
    except BaseException:
        entry.settle(500, Outcome.ERROR, Kind.INTERNAL)
        raise
    finally:
        if entry.admitted:
            gateway.admission.leave()


def usual_work(exchange: Exchange) -> Work:
    """Inference, shared where the request asks for it."""
    return _share if KEY_HEADER in exchange.headers or SHARE_HEADER in exchange.headers else _infer


def _tell(gateway: Gateway, dialect: Dialect, entry: Entry, error: GatewayError) -> None:
    """Answer with the error; a client that was kept waiting has the head of a stream already, and gets it in there."""
    exchange = entry.exchange
    error.beside = entry.beside(error)
    if exchange.responded:
        continued = entry.continuation if entry.continuation is not None and entry.continuation.begun else None
        body = continued.end(error) if continued else dialect.render_stream_error(error, exchange.request_id)
        entry.record.bytes_out = len(body)
        entry.settle(200, Outcome.ERROR, error.kind)
        exchange.write(body)
        exchange.finish()
        return
    body = dialect.render_error(error, exchange.request_id)
    status = dialect.status_of(error)
    entry.record.bytes_out = len(body)
    entry.settle(status, Outcome.ERROR, error.kind)
    exchange.respond(status, body, extra=gateway.error_headers(error))


async def _share(gateway: Gateway, dialect: Dialect, exchange: Exchange, entry: Entry) -> None:
    """Have the call made once for all requests that ask for it by the same name."""
    if not is_asked(exchange.headers):
        await _infer(gateway, dialect, exchange, entry)
        return
    key, record = authenticate(exchange.headers, gateway.snapshot.keys, exchange.started_at), entry.record
    record.key_id, record.workspace_id, record.account_id = key.id, key.workspace_id, key.account_id
    await in_task()
    name = Name(exchange, key.id, dialect.NAME)
    call = gateway.shared.find(name)
    if call is None and name.goes_on and gateway.kept_answers is not None:
        found = await gateway.kept_answers.find(key.workspace_id, exchange, name)
        call = gateway.shared.find(name)  # a twin may have begun meanwhile
        if call is None and found is not None:
            call = found[0]
            gateway.shared.keep(*found)
    if call is None:
        call = SharedCall(exchange, name)
        gateway.shared.add(call)
        call.begin(_lead(gateway, dialect, call, key.workspace_id))
        entry.leave()
        await call.follow(exchange, b"", lambda: None)
        return
    original, followed = call.request_id, call

    def settle() -> None:
        record.cost_nano_usd = 0
        record.attempts = msgspec.json.encode([["replay of", original, followed.status, 0]]).decode()
        entry.settle(followed.status, Outcome.SUCCESS if followed.status == 200 else Outcome.ERROR)

    await call.follow(exchange, b"%b: %b\r\n" % (REPLAY_HEADER, original.encode()), settle)


async def _lead(gateway: Gateway, dialect: Dialect, call: SharedCall, workspace_id: str) -> None:
    """Make a shared call."""
    seen: list[RequestRecord] = []

    async def work(gateway: Gateway, dialect: Dialect, exchange: Exchange, entry: Entry) -> None:
        seen.append(entry.record)
        await _infer(gateway, dialect, exchange, entry)

    try:
        await serve(gateway, dialect, call, work)
    finally:
        good = bool(seen) and seen[0].outcome is Outcome.SUCCESS
        if gateway.shared.ended(call, good=good) and gateway.kept_answers is not None:
            gateway.kept_answers.keep(workspace_id, call)


async def enter(gateway: Gateway, entry: Entry, key: Key) -> None:
    """Let a call of ``key`` in, or have it wait. Raises GatewayError: NOT_READY, OVERLOADED."""
    _try_enter(gateway, entry, key)
    if not entry.admitted:
        await gateway.admission.enter(key.priority)
        entry.admitted = True


def _try_enter(gateway: Gateway, entry: Entry, key: Key) -> None:
    record = entry.record
    record.key_id, record.workspace_id, record.account_id = key.id, key.workspace_id, key.account_id
    if gateway.snapshot.budgets is not None:
        entry.budgets = gateway.snapshot.budgets.bound(key, entry.exchange.headers)
    if gateway.ledger.closed_reason is not None:
        raise GatewayError(Kind.NOT_READY, gateway.ledger.closed_reason, retry_after_seconds=5)
    entry.admitted = gateway.admission.try_enter(key.priority)


async def _infer(gateway: Gateway, dialect: Dialect, exchange: Exchange, entry: Entry) -> None:
    snapshot, record = gateway.snapshot, entry.record
    key = authenticate(exchange.headers, snapshot.keys, exchange.started_at)
    _try_enter(gateway, entry, key)  # `enter`, without its coroutine
    if not entry.admitted:
        await gateway.admission.enter(key.priority)
        entry.admitted = True
    try:
        call = dialect.parse_request(exchange.body)
    except GatewayError as error:
        call = _parse_unnamed(gateway, dialect, exchange, error)
    wishes = None
    if PRESET_MARK in call.model or PRESET in call.members:
        exchange.body = filled_in(exchange.body, dialect.WIRE, call.model, snapshot.presets)
        call = dialect.parse_request(exchange.body)
    if not WISHES.isdisjoint(call.members):
        dialect = entry.speak(_told_by(dialect, call))
        wishes = read_wishes(exchange.body, dialect.WIRE)
        exchange.body = wishes.bare
        call = dialect.parse_request(exchange.body)
    record.request_model, record.stream = call.model, call.stream
    wish, seconds = exchange.headers.get(TIMEOUT_HEADER), gateway.attempts.timeout_seconds
    if wish is not None:
        seconds = allowed_seconds(wish, seconds)
    entry.deadline = gateway.client.ticker.now + seconds
    if call.stream:
        exchange.keep_alive(dialect.STREAM_TYPE, dialect.KEEP_ALIVE)
    if gateway.files is not None and may_name_files(call.outline or exchange.body):
        places = FilePlaces(gateway.files, snapshot, key.workspace_id)
        route = await places.route(exchange.body, dialect.WIRE, call.model)
    elif wishes is None:
        route = snapshot.catalogue.route(call.model)
    else:
        route = wished_route(call.model, wishes, snapshot.catalogue.route)
    if snapshot.limits is not None and (rules := snapshot.limits.caller_rules(key)):
        tokens = estimate_tokens(exchange.body, call.max_output_tokens)
        entry.reservation = await reserve(gateway, dialect, exchange, rules, tokens)
    if entry.session is not None:
        entry.begin_session(key, entry.session)
    target, health = route.only, gateway.health
    steered = route.settings or wishes is not None or key.restricted or CONNECTION in exchange.headers
    special = steered or (call.stream and _may_continue(gateway, exchange))
    if target is None or special or not (health.quiet or health.clear(target)):
        await in_task()
        await _attempt(gateway, entry, Pursuit(dialect, call, snapshot, route, wishes, seconds, key))
        return
    entry.target, record.target = target, target.id
    try:
        await _call(gateway, dialect, entry, call, snapshot, target)
        return
    except GatewayError as error:
        failed = error
    await in_task()
    pursuit = Pursuit(dialect, call, snapshot, route, None, seconds, key)
    await _persist(gateway, entry, pursuit, RoutePlan(order=(target,)), failed)


def _may_continue(gateway: Gateway, exchange: Exchange) -> bool:
    return gateway.attempts.continuation or CONTINUE_HEADER in exchange.headers


async def ask_target(
    gateway: Gateway, dialect: Dialect, exchange: Exchange, entry: Entry, *, key: Key, target: Target
) -> None:
    """Ask one target for ``key``, whatever routing would say; a `Work` for calls of the gateway itself."""
    await enter(gateway, entry, key)
    call = dialect.parse_request(exchange.body)
    entry.record.request_model, entry.record.stream = call.model, call.stream
    entry.turn_to(target)
    try:
        await _call(gateway, dialect, entry, call, gateway.snapshot, target)
    except GatewayError as error:
        Attempts(gateway.health, gateway.clock).note(target, error)
        raise
    gateway.health.succeeded(target, gateway.clock.now_us())


def _parse_unnamed(gateway: Gateway, dialect: Dialect, exchange: Exchange, error: GatewayError) -> Call:
    """A request that could not be parsed for want of a model: the first of its fallbacks, or the default one."""
    if error.param != "model":
        raise error
    body: bytes | None = filled_in(exchange.body, dialect.WIRE, None, gateway.snapshot.presets)
    if body is exchange.body:  # no preset names one
        body = named_model(body, gateway.default_model)
    if body is None:
        raise error
    exchange.body = body
    return dialect.parse_request(body)


async def _attempt(gateway: Gateway, entry: Entry, pursuit: Pursuit) -> None:
    """Plan, and try one target after the other."""
    exchange, planner, record, route = entry.exchange, gateway.planner, entry.record, pursuit.route
    dialect, call, snapshot = pursuit.dialect, pursuit.call, pursuit.snapshot
    asked = asked_of(call, exchange.body, record.operation, exchange.headers, pursuit.wishes)
    if (key := pursuit.key).restricted:
        asked = msgspec.structs.replace(
            asked, allowed_models=key.allowed_models, allowed_connections=key.allowed_connections
        )
    profile = gateway.profiles.begin(route, (dialect, call), entry) if route.kind == "profile" else None
    if profile is not None:
        asked = msgspec.structs.replace(asked, judged=profile.judged)
    problem = problem_of(gateway, asked, route, record.workspace_id)
    if profile is not None:
        problem = await profile.settled(problem)
    if entry.session is None and (name := session_planned(problem.wants)) is not None:
        entry.begin_session(key, name)
    run: ComboRun | None = None
    if route.combo is not None:
        run = gateway.combos.begin(snapshot.catalogue.combos[route.combo], route, (dialect, call), entry)
        dialect, call = run.speaking
        problem = run.at_its_target(problem)
        if run.spot is not None:
            await run.recall()
    chosen = plan(problem)
    entry.planned = Planned(problem, chosen)
    gateway.decisions.keep(problem, chosen, record, exchange)
    if chosen.panel and run is not None and dialect.OPERATION not in OPERATIONS:
        dialect, call, chosen = await _fuse(gateway, (dialect, call), entry, snapshot, (route, chosen))
    pursuit = pursuit._replace(dialect=dialect, call=call)
    try:
        await _persist(gateway, entry, pursuit, chosen, None, run)
    except GatewayError as error:
        describe_failure(error, entry.attempts.tried if entry.attempts else [], pursuit.call.model, planner.namer)
        raise
    if entry.target is not None:
        gateway.decisions.answered(route, entry.target)
        for course in (run, profile):
            if course is not None:
                course.answered(entry.target)
        if run is not None:
            follow(gateway, _call, entry, run)
        planner.answered(problem, entry.target, record, gateway.clock.now_us())


async def _fuse(
    gateway: Gateway,
    speaking: tuple[Dialect, Call],
    entry: Entry,
    snapshot: Snapshot,
    decided: tuple[Route, RoutePlan],
) -> tuple[Dialect, Call, RoutePlan]:
    """Ask a panel; gives the judge's call and who is asked to judge. Raises GatewayError when nobody answered."""
    (dialect, call), (route, chosen) = speaking, decided
    exchange, request = entry.exchange, dialect.as_request(call, entry.exchange.body)
    own = panel_call(request, call.model)

    async def ask(target: Target) -> Response | None:
        kept = KeptExchange(
            exchange.request_id, exchange.body, exchange.path, exchange.headers, (exchange.started, exchange.started_at)
        )
        capture: Any = CapturingDialect(dialect, own)
        part = PartEntry(gateway, capture, kept)
        part.belong_to(entry)
        part.turn_to(target)
        try:
            await _call(gateway, capture, part, own, snapshot, target)
            gateway.health.succeeded(target, gateway.clock.now_us())
        except GatewayError as error:
            Attempts(gateway.health, gateway.clock).note(target, error)
            raise
        finally:
            part.settle(0, Outcome.SUCCESS)
            entry.absorb(part.record)
            entry.keep_hold_of(part)
        return capture.response  # type: ignore[no-any-return]

    found = await gather_panel(chosen.order[: chosen.panel], ask, route.settings.get("fusionTuning") or {})
    if not found.answers:
        raise nobody_answered(found.reasons)
    named = route.settings.get("judgeModel")
    judge = snapshot.catalogue.named(named) if named else None
    first = judge or found.answers[0][0]
    order = (first, *(target for target in chosen.order if target.id != first.id))
    chosen = msgspec.structs.replace(chosen, order=order)
    if len(found.answers) == 1 and judge is None:
        return dialect, call, chosen
    judging = judge_call(request, call, found.answers)
    altered: Any = AlteredDialect(dialect, judging, getattr(dialect, "look_at", None))
    return altered, judging, chosen


async def _persist(
    gateway: Gateway,
    entry: Entry,
    pursuit: Pursuit,
    chosen: RoutePlan,
    failed: GatewayError | None,
    run: ComboRun | None = None,
) -> None:
    """Try the targets of a plan, and once more after a wait where waiting helps."""
    clock, deadline, patience = gateway.clock, entry.deadline, None
    if chosen.last_resort:
        patience = Patience(gateway.health.settings, pursuit.route, gateway.health)
        wait = patience.first_wait(chosen, clock.now_us(), deadline - clock.monotonic())
        if wait is not None:
            await asyncio.sleep(wait)
    while True:
        try:
            await _try_all(gateway, entry, pursuit, chosen, failed, run)
            return
        except GatewayError as error:
            entry.deadline, tried = deadline, entry.attempts.tried if entry.attempts is not None else []
            patience = patience or Patience(gateway.health.settings, pursuit.route, gateway.health)
            wait = patience.wait(error, tried, clock.now_us(), deadline - clock.monotonic())
            if wait is None:
                raise
        await asyncio.sleep(wait)
        failed, everybody = None, (*chosen.order, *chosen.reserve)
        chosen = msgspec.structs.replace(chosen, order=everybody, reserve=(), last_resort=False)


async def _try_all(
    gateway: Gateway,
    entry: Entry,
    pursuit: Pursuit,
    chosen: RoutePlan,
    failed: GatewayError | None,
    run: ComboRun | None = None,
) -> None:
    """Try the targets of a plan; ``failed`` is how the first one has failed already."""
    dialect, call, snapshot, route, wishes, seconds, _ = pursuit
    terms = terms_of(gateway.attempts, route.settings)
    upstream, deadline = gateway.client.settings, entry.deadline
    if terms.target_seconds is not None:
        entry.limits = limits_within(upstream, terms.target_seconds)

    if call.stream and is_continued(gateway.attempts, route.settings, entry.exchange.headers):
        entry.continuation = Continuation()
    body, race = entry.exchange.body, _race(gateway, entry, pursuit, chosen, failed)

    async def go(target: Target) -> None:
        books, spoken = entry, call
        if race is not None:
            books = race.enter(target)
        else:
            entry.turn_to(target)
        try:
            if terms.target_seconds is not None and not call.stream:
                books.deadline = min(deadline, gateway.client.ticker.now + terms.target_seconds)
            if wishes is not None:
                books.exchange.body = wishes.body_for(target)
                if books.exchange.body is not body:
                    spoken = dialect.parse_request(books.exchange.body)
            theirs, own = (dialect, spoken) if run is None else run.speaking_to(target, (dialect, spoken))
            async with NOWHERE if run is None else run.place(target):
                await _call(gateway, theirs, books, own, snapshot, target)
        finally:
            if race is not None:
                race.leave(books)

    before = entry.attempts.tried if entry.attempts is not None else ()
    entry.attempts = Attempts(gateway.health, gateway.clock, terms, (deadline, seconds), gateway.seed)
    entry.attempts.tried.extend(before)
    await entry.attempts.run(chosen, go, failed, race)


def _race(
    gateway: Gateway, entry: Entry, pursuit: Pursuit, chosen: RoutePlan, failed: GatewayError | None
) -> Race | None:
    """Whoever has two targets work on a request at once; None where one is asked after the other."""
    if len(chosen.order) < 2 or failed is not None or entry.continuation is not None:
        return None
    if pursuit.dialect.OPERATION in OPERATIONS:
        return None
    terms = hedge_terms(gateway.attempts.hedging, pursuit.route.settings, chosen.order[0])
    if terms is None:
        return None
    return Race(gateway, (pursuit.dialect, pursuit.call.max_output_tokens), entry, pursuit.snapshot, terms)


def asked_of(
    call: Call, body: bytes, operation: str, headers: Mapping[bytes, bytes], wishes: Wishes | None = None
) -> Asked:
    """A request, for routing to see what it asks."""
    return Asked(
        model=call.model,
        operation=operation,
        body=body,
        headers=headers,
        input_tokens=estimate_tokens(body, 0),
        max_output_tokens=call.max_output_tokens,
        fields=call.fields,
        request=call.request,
        wishes=wishes,
    )


def problem_of(gateway: Gateway, asked: Asked, route: Route, account: str = "") -> Problem:
    """All that decides where a request of ``account`` goes, as it is now. Leaves nothing behind."""
    return gateway.planner.problem(asked, route, account, gateway.decisions.memory(route), gateway.clock.now_us())


async def _call(
    gateway: Gateway, dialect: Dialect, entry: Entry, call: Call, snapshot: Snapshot, target: Target
) -> None:
    """One call to one target; GatewayError: it failed, and the client has been told nothing yet."""
    exchange, endpoint = entry.exchange, snapshot.endpoints[target.endpoint]
    if snapshot.limits is not None and (rules := snapshot.limits.connection_rules(endpoint.connection_id)):
        tokens = estimate_tokens(exchange.body, call.max_output_tokens)
        told = exchange.limit_head  # callers see their own limits, and these only when they have none
        entry.upstream_reservation = await reserve(gateway, dialect, exchange, rules, tokens)
        exchange.limit_head = told or exchange.limit_head
    if entry.budgets is not None:
        operation = dialect.OPERATION
        writes = True if operation not in OPERATIONS else (False if operation in PAID_BY_TEXT else None)
        await entry.afford(call, endpoint, target, writes)
    access = endpoint.access
    if access is None:
        await in_task()
        access = await _acquire(gateway, endpoint, entry.deadline)
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


def _told_by(dialect: Dialect, call: Call) -> Dialect:
    """The dialect that a request's members tell, where its path leaves it open."""
    tell = getattr(dialect, "told_by", None)
    told: Dialect | None = tell(call) if tell is not None else None
    return told or dialect


async def _acquire(gateway: Gateway, endpoint: Endpoint, deadline: float) -> Access:
    """Make an endpoint ready before the deadline."""
    try:
        async with asyncio.timeout(max(0.0, deadline - gateway.client.ticker.now)):
            return await endpoint.acquire()
    except TimeoutError:
        raise GatewayError(Kind.UPSTREAM_TIMEOUT, "the upstream was not ready in time") from None


async def reserve(
    gateway: Gateway, dialect: Dialect, exchange: Exchange, rules: Rules, tokens: int
) -> Reservation | None:
    """Charge a call to limits, and have the client told where it stands. Raises GatewayError(RATE_LIMITED)."""
    limiter = gateway.limiter
    try:
        reservation = limiter.try_reserve(rules, tokens)
        if reservation is None:
            await in_task()
            reservation = await limiter.reserve(rules, tokens)
    except GatewayError:
        exchange.limit_head = dialect.render_limits(limiter.standing(rules))
        raise
    if reservation is not None:
        exchange.limit_head = dialect.render_limits(reservation.standing)
    return reservation


async def _collect(gateway: Gateway, entry: Entry, endpoint: Endpoint, access: Access, message: bytes) -> None:
    answer = CollectedAnswer()
    if endpoint.look_at <= entry.exchange.started_at:
        entry.listen(answer)
    try:
        await gateway.client.send(
            access.origin, message, answer, entry.record.key_id or "", entry.deadline, entry.limits
        )
    except asyncio.CancelledError:
        entry.read(None, None, None, 0)  # the upstream worked on it: the input, at least, is used
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
        if error is None:
            entry.settle(200, Outcome.SUCCESS)
        else:
            entry.settle(200, Outcome.ERROR, error.kind)

    def render(error: GatewayError) -> bytes:
        return dialect.render_stream_error(error, entry.exchange.request_id)

    answer = StreamedAnswer(entry.exchange, reader, settle, render)
    if endpoint.look_at <= entry.exchange.started_at:
        entry.listen(answer)
    try:
        await gateway.client.send(
            access.origin, message, answer, entry.record.key_id or "", entry.deadline, entry.limits
        )
    except asyncio.CancelledError:
        read()
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
