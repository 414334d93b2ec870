"""The life of one inference request, top to bottom. Read this first.

authenticate -> admit -> parse -> resolve the model -> check limits -> plan -> call an upstream, and another one when it
fails -> settle -> answer. However a request ends, its record is settled exactly once, before the last byte of the
answer leaves: on success, on any error, and when the client goes away.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

from pointsman.accounting.estimation import estimate_tokens
from pointsman.caching import pursue_cached
from pointsman.calling import call_target, reserve, told_by
from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.entry import Entry
from pointsman.errors import GatewayError, Kind, let_go
from pointsman.gateway import Call, Dialect, Exchange, Gateway
from pointsman.hub.file_places import FilePlaces
from pointsman.identity.keys import PREPAID, Key
from pointsman.keyed import pursue_keyed
from pointsman.planning import wished_route
from pointsman.policy.authentication import authenticate, learn_caller
from pointsman.policy.cache_wishes import OPENROUTER as OPENROUTER_CACHE
from pointsman.policy.cache_wishes import OWN as CACHE
from pointsman.policy.cache_wishes import SETTING as CACHE_SETTING
from pointsman.policy.key_habits import NO_LOG, delay_seconds, finder, refuse_unguarded, shown_only, with_stream
from pointsman.policy.shared_calls import (
    KEY_HEADER,
    REPLAY_HEADER,
    SHARE_HEADER,
    Name,
    SharedCall,
    is_asked,
)
from pointsman.pursuit import Pursuit, persist, pursue
from pointsman.routing.keyed import keyed_route
from pointsman.routing.plan import Route, RoutePlan
from pointsman.routing.presets import MARK as PRESET_MARK
from pointsman.routing.presets import MEMBER as PRESET
from pointsman.routing.presets import Presets, filled_in, preset_of
from pointsman.routing.steering import CONNECTION
from pointsman.routing.targets import Target
from pointsman.routing.wishes import MEMBERS as WISHES
from pointsman.routing.wishes import Wishes, has_secret, named_model, read_wishes
from pointsman.runner import in_task
from pointsman.upstream.attempts import Attempts
from pointsman.upstream.terms import (
    CONTINUE_HEADER,
    TIMEOUT_HEADER,
    allowed_seconds,
)
from pointsman.wire.file_references import may_name_files
from pointsman.wire.json_faults import describe

CLIENT_CLOSED_STATUS = 499  # what nginx logs for a client that went away; never sent
DEEP: Final = 500  # levels; readers of JSON give up below the interpreter's 1000, each at its own depth

log = structlog.get_logger(__name__)
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
        let_go(error)
    except RecursionError as error:
        _tell(gateway, entry.dialect, entry, _too_deep(entry, error))
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
    """Inference, shared where the request asks for it; one that brings a provider's key is shared with nobody."""
    if KEY_HEADER in exchange.headers or SHARE_HEADER in exchange.headers:
        return _infer if has_secret(exchange.body) else _share
    return _infer


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


def _too_deep(entry: Entry, error: RecursionError) -> GatewayError:
    """One reader took what is too deep for another: the caller's mistake only where its body can be so deep."""
    body = entry.exchange.body
    if body.count(b"[") + body.count(b"{") >= DEEP:
        return describe(error, body)
    log.error("something is too deep for one of its readers", request_id=entry.exchange.request_id, exc_info=error)
    if entry.record.connection_id is not None:
        return GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer is nested too deeply")
    return GatewayError(Kind.INTERNAL, "an internal error occurred; it was logged with this request id")


async def _share(gateway: Gateway, dialect: Dialect, exchange: Exchange, entry: Entry) -> None:
    """Have the call made once for all requests that ask for it by the same name."""
    if not is_asked(exchange.headers):
        await _infer(gateway, dialect, exchange, entry)
        return
    try:
        key = authenticate(exchange.headers, gateway.snapshot.keys, exchange.started_at, exchange.path)
    except GatewayError as error:
        key = await _authenticate_late(gateway, exchange, error)
    record = entry.record
    record.key_id, record.workspace_id, record.account_id = key.id, key.workspace_id, key.account_id
    entry.unlogged = key.settings.get(NO_LOG) is True
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
        call.begin(gateway.lone.begin(_lead(gateway, dialect, call, key)))
        entry.leave()
        await call.follow(exchange, b"", lambda: None)
        return
    original, followed = call.request_id, call

    def settle() -> None:
        record.cost_nano_usd = 0
        record.attempts = msgspec.json.encode([["replay of", original, followed.status, 0]]).decode()
        entry.settle(followed.status, Outcome.SUCCESS if followed.status == 200 else Outcome.ERROR)

    await call.follow(exchange, b"%b: %b\r\n" % (REPLAY_HEADER, original.encode()), settle)


async def _lead(gateway: Gateway, dialect: Dialect, call: SharedCall, key: Key) -> None:
    """Make a shared call."""
    seen: list[RequestRecord] = []

    async def work(gateway: Gateway, dialect: Dialect, exchange: Exchange, entry: Entry) -> None:
        seen.append(entry.record)
        await _infer(gateway, dialect, exchange, entry)

    try:
        await serve(gateway, dialect, call, work)
    finally:
        good = bool(seen) and seen[0].outcome is Outcome.SUCCESS
        kept = None if key.settings.get(NO_LOG) is True else gateway.kept_answers
        if gateway.shared.ended(call, good=good) and kept is not None:
            kept.keep(key.workspace_id, call)


async def enter(gateway: Gateway, entry: Entry, key: Key) -> None:
    """Let a call of ``key`` in, or have it wait. Raises GatewayError: NOT_READY, OVERLOADED."""
    if key.settings:
        await _heed(entry, key)
    _try_enter(gateway, entry, key)
    if not entry.admitted:
        await gateway.admission.enter(key.priority)
        entry.admitted = True


def _try_enter(gateway: Gateway, entry: Entry, key: Key) -> None:
    record = entry.record
    record.key_id, record.workspace_id, record.account_id = key.id, key.workspace_id, key.account_id
    if gateway.snapshot.budgets is not None:
        budgets = gateway.snapshot.budgets
        if budgets.general or key.budgets or key.kind == PREPAID:
            entry.budgets = budgets.bound(key, entry.exchange.headers)
    if gateway.ledger.closed_reason is not None:
        raise GatewayError(Kind.NOT_READY, gateway.ledger.closed_reason, retry_after_seconds=5)
    entry.admitted = gateway.admission.try_enter(key.priority)


async def _authenticate_late(gateway: Gateway, exchange: Exchange, error: GatewayError) -> Key:
    """Whose call it is that was refused with ``error``, if only because this process had not seen the key yet."""
    if not await learn_caller(gateway.late_keys, exchange.headers, exchange.body, exchange.started_at):
        raise error
    return authenticate(exchange.headers, gateway.snapshot.keys, exchange.started_at, exchange.path)


async def _infer(gateway: Gateway, dialect: Dialect, exchange: Exchange, entry: Entry) -> None:
    snapshot, record = gateway.snapshot, entry.record
    try:
        key = authenticate(exchange.headers, snapshot.keys, exchange.started_at, exchange.path)
    except GatewayError as error:
        key = await _authenticate_late(gateway, exchange, error)
        snapshot = gateway.snapshot  # none from before the look-up
    if key.settings:
        await _heed(entry, key)
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
        call = _fill_in(entry, dialect, call, snapshot.presets)
    if not WISHES.isdisjoint(call.members):
        dialect, call, wishes = _with_wishes(entry, dialect, call)
    record.request_model, record.stream = call.model, call.stream
    seconds = gateway.attempts.timeout_seconds
    if TIMEOUT_HEADER in exchange.headers:
        seconds = allowed_seconds(exchange.headers[TIMEOUT_HEADER], seconds)
    entry.deadline = gateway.client.ticker.now + seconds
    if call.stream:
        exchange.keep_alive(dialect.STREAM_TYPE, dialect.KEEP_ALIVE)
    filed = gateway.files is not None and may_name_files(call.outline or exchange.body)
    if wishes is None and not filed and not key.settings:
        route = snapshot.catalogue.route(call.model)
    else:
        route = await _special_route(gateway, exchange, key, (dialect, call), wishes)
    limits = snapshot.limits
    if limits is not None and (limits.general or key.limits) and (rules := limits.caller_rules(key)):
        tokens = estimate_tokens(exchange.body, call.max_output_tokens)
        entry.reservation = await reserve(gateway, dialect, exchange, rules, tokens)
    if entry.session is not None:
        entry.begin_session(key, entry.session)
    if snapshot.guards is not None:
        dialect, call = await snapshot.guards.guarded(entry, dialect, call, key)
    target, health = route.only, gateway.health
    steered = wishes is not None or route.settings or key.restricted or CONNECTION in exchange.headers
    steered = steered or (snapshot.guardrails is not None and snapshot.guardrails.of(key) is not None)
    cached = gateway.cache is not None and (gateway.cache.always or _may_be_cached(exchange, key, entry, wishes))
    special = steered or cached or (call.stream and _may_continue(gateway, exchange))
    if target is None or special or not (health.quiet or health.clear(target)):
        await in_task()
        work = pursue_keyed if wishes and wishes.secret is not None else pursue_cached if cached else pursue
        await work(gateway, entry, Pursuit(dialect, call, snapshot, route, wishes, seconds, key))
        return
    entry.target, record.target = target, target.id
    try:
        await call_target(gateway, dialect, entry, call, snapshot, target)
        return
    except GatewayError as error:
        pursuit, failed = Pursuit(dialect, call, snapshot, route, None, seconds, key), error
    await in_task()
    await persist(gateway, entry, pursuit, RoutePlan(order=(target,)), failed)


def _fill_in(entry: Entry, dialect: Dialect, call: Call, presets: Presets) -> Call:
    """The call with what its preset says of it. Raises GatewayError when there is none of that name."""
    exchange = entry.exchange
    entry.preset = preset_of(exchange.body, call.model, presets)
    exchange.body = filled_in(exchange.body, dialect.WIRE, call.model, presets)
    return dialect.parse_request(exchange.body)


def _with_wishes(entry: Entry, dialect: Dialect, call: Call) -> tuple[Dialect, Call, Wishes]:
    """What the request wishes of its routing, and the request without it, in the dialect that tells of it."""
    exchange, dialect = entry.exchange, entry.speak(told_by(dialect, call))
    wishes = read_wishes(exchange.body, dialect.WIRE)
    exchange.body = wishes.bare
    return dialect, dialect.parse_request(exchange.body), wishes


async def _heed(entry: Entry, key: Key) -> None:
    """What a key with settings says of all its calls."""
    settings, exchange = key.settings, entry.exchange
    entry.unlogged = settings.get(NO_LOG) is True
    exchange.body = with_stream(exchange.body, settings, exchange.headers, entry.dialect.WIRE)
    seconds = delay_seconds(settings)
    if seconds:
        await in_task()
        await asyncio.sleep(seconds)


async def _special_route(
    gateway: Gateway, exchange: Exchange, key: Key, speaking: tuple[Dialect, Call], wishes: Wishes | None
) -> Route:
    """The route of a request that brings a key, names files, or has wishes, or whose key has settings."""
    (dialect, call), catalogue = speaking, gateway.snapshot.catalogue
    if gateway.snapshot.guards is None:
        refuse_unguarded(key.settings)
    if wishes is not None and wishes.secret is not None:
        return keyed_route(call.model, wishes.pin or "", catalogue)
    if gateway.files is not None and may_name_files(call.outline or exchange.body):
        places = FilePlaces(gateway.files, gateway.snapshot, key.workspace_id)
        route = await places.route(exchange.body, dialect.WIRE, call.model)
        return shown_only(key.settings, catalogue, route)
    find = finder(key.settings, catalogue)
    return find(call.model) if wishes is None else wished_route(call.model, wishes, catalogue, find)


def _may_be_cached(exchange: Exchange, key: Key, entry: Entry, wishes: Wishes | None) -> bool:
    headers = exchange.headers
    if wishes is not None and wishes.cache is not None:
        return True
    return CACHE in headers or OPENROUTER_CACHE in headers or CACHE_SETTING in key.settings or entry.preset is not None


def _may_continue(gateway: Gateway, exchange: Exchange) -> bool:
    return gateway.attempts.continuation or CONTINUE_HEADER in exchange.headers


async def ask_target(
    gateway: Gateway, dialect: Dialect, exchange: Exchange, entry: Entry, *, key: Key, target: Target
) -> None:
    """Ask one target for ``key``, whatever routing would say; a `Work` for calls of the gateway itself."""
    await enter(gateway, entry, key)
    call = dialect.parse_request(exchange.body)
    entry.record.request_model, entry.record.stream = call.model, call.stream
    if gateway.snapshot.guards is None:
        refuse_unguarded(key.settings)
    else:
        dialect, call = await gateway.snapshot.guards.guarded(entry, dialect, call, key)
    entry.turn_to(target)
    try:
        await call_target(gateway, dialect, entry, call, gateway.snapshot, target)
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
