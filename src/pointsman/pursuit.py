"""A request that is understood is tried at its targets: planned, one after the other, several at once."""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from pointsman.accounting.estimation import estimate_tokens
from pointsman.beside import follow
from pointsman.calling import call_target
from pointsman.canonical.record import Outcome
from pointsman.canonical.response import Response
from pointsman.entry import Entry, PartEntry
from pointsman.errors import GatewayError, GuardBlocked
from pointsman.gateway import Call, Dialect, Gateway, Snapshot
from pointsman.hub.combo_runs import NOWHERE, ComboRun
from pointsman.hub.continuation import Continuation
from pointsman.hub.fusion import Panel, gather_panel, judge_call, nobody_answered, panel_call, panel_late
from pointsman.hub.kept_exchange import KeptExchange
from pointsman.hub.operation_lane import OPERATIONS
from pointsman.hub.own_calls import AlteredDialect, CapturingDialect, OwnCall, examined
from pointsman.identity.keys import PREFERRED, Key
from pointsman.planning import Planned, describe_failure
from pointsman.policy.guardrails import KeyGuardrails
from pointsman.policy.key_conditions import check_conditions
from pointsman.policy.sessions import session_planned
from pointsman.races import Race
from pointsman.routing.demands import Asked
from pointsman.routing.plan import Problem, Route, RoutePlan, plan
from pointsman.routing.targets import Target
from pointsman.routing.wishes import Wishes
from pointsman.ticker import INTERVAL_SECONDS
from pointsman.upstream.attempts import Attempts
from pointsman.upstream.hedging import hedge_terms
from pointsman.upstream.patience import Patience
from pointsman.upstream.terms import (
    is_continued,
    limits_within,
    terms_of,
)


class Pursuit(NamedTuple):
    """What a request is, once it is understood: for whoever tries it at several targets."""

    dialect: Dialect
    call: Call
    snapshot: Snapshot
    route: Route
    wishes: Wishes | None
    seconds: float  # that it may take
    key: Key


async def pursue(gateway: Gateway, entry: Entry, pursuit: Pursuit) -> None:
    """Plan, and try one target after the other."""
    exchange, planner, record, route = entry.exchange, gateway.planner, entry.record, pursuit.route
    dialect, call, snapshot = pursuit.dialect, pursuit.call, pursuit.snapshot
    asked, key = asked_within(entry, pursuit), pursuit.key
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
    pursuit = pursuit._replace(dialect=dialect, call=call)
    if chosen.panel and run is not None and dialect.OPERATION not in OPERATIONS:
        pursuit, chosen = await _fuse(gateway, entry, pursuit, chosen)
    try:
        await persist(gateway, entry, pursuit, chosen, None, run)
    except GatewayError as error:
        describe_failure(error, entry.attempts.tried if entry.attempts else [], pursuit.call.model, planner.namer)
        raise
    if entry.target is not None:
        gateway.decisions.answered(route, entry.target)
        for course in (run, profile):
            if course is not None:
                course.answered(entry.target)
        if run is not None and not entry.unlogged:
            follow(gateway, call_target, entry, run)
        planner.answered(problem, entry.target, record, gateway.clock.now_us())


async def _fuse(gateway: Gateway, entry: Entry, pursuit: Pursuit, chosen: RoutePlan) -> tuple[Pursuit, RoutePlan]:
    """Ask a panel; gives the judge's call and who is asked to judge. Raises GatewayError when nobody answered, or the
    request's time is over.
    """
    dialect, call, snapshot, route, _, seconds, _ = pursuit
    exchange, request = entry.exchange, dialect.as_request(call, entry.exchange.body)
    own, blocked = panel_call(request, call.model), list[GuardBlocked]()

    async def ask(target: Target) -> Response | None:
        kept = KeptExchange(
            exchange.request_id, exchange.body, exchange.path, exchange.headers, (exchange.started, exchange.started_at)
        )
        capture: Any = CapturingDialect(dialect, own)
        part = PartEntry(gateway, capture, kept)
        part.belong_to(entry)
        part.turn_to(target)
        try:
            await call_target(gateway, capture, part, own, snapshot, target)
            gateway.health.succeeded(target, gateway.clock.now_us())
        except GatewayError as error:
            Attempts(gateway.health, gateway.clock).note(target, error)
            if isinstance(error, GuardBlocked):
                blocked.append(error)
            raise
        finally:
            part.settle(0, Outcome.SUCCESS)
            entry.absorb(part.record)
            entry.keep_hold_of(part)
        return capture.response  # type: ignore[no-any-return]

    left, found = entry.deadline - gateway.clock.monotonic(), Panel([], {})
    if left > 0:
        tuning = route.settings.get("fusionTuning") or {}
        found = await gather_panel(chosen.order[: chosen.panel], ask, tuning, left)
    if not found.answers and blocked:
        raise blocked[0]  # it is the guard that stands against the request, no member of the panel
    if gateway.clock.monotonic() + INTERVAL_SECONDS >= entry.deadline:
        raise panel_late(seconds, found)
    if not found.answers:
        raise nobody_answered(found.reasons)
    named = route.settings.get("judgeModel")
    judge = snapshot.catalogue.named(named) if named else None
    if judge is not None and not entry.may_go_to(judge):
        judge = None
    first = judge or found.answers[0][0]
    order = (first, *(target for target in chosen.order if target.id != first.id))
    chosen = msgspec.structs.replace(chosen, order=order)
    if len(found.answers) == 1 and judge is None:
        return pursuit, chosen
    judging = judge_call(request, call, found.answers)
    judging = OwnCall.like(judging, examined(dialect, judging.request))  # what the panel said has come into it
    altered: Any = AlteredDialect(dialect, judging, None)
    return pursuit._replace(dialect=altered, call=judging), chosen


async def persist(
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
            if entry.continuation is not None and entry.continuation.begun:
                raise  # the client has a part of an answer: it is too late for another one
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
            if wishes is not None:
                books.exchange.body = wishes.body_for(target)
                if books.exchange.body is not body:
                    spoken = dialect.parse_request(books.exchange.body)
            theirs, own = (dialect, spoken) if run is None else run.speaking_to(target, (dialect, spoken))
            async with NOWHERE if run is None else run.place(target, deadline - gateway.clock.monotonic()):
                if terms.target_seconds is not None and not call.stream:
                    books.deadline = min(deadline, gateway.client.ticker.now + terms.target_seconds)
                await call_target(gateway, theirs, books, own, snapshot, target)
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
    entry.put_aside()  # each of the race has books of its own: one that wins would take this one's place
    return Race(gateway, (pursuit.dialect, pursuit.call.max_output_tokens), entry, pursuit.snapshot, terms)


def check_key(entry: Entry, pursuit: Pursuit) -> KeyGuardrails | None:
    """The guardrails of a request's key, wherever its answer is to come from.

    Raises GatewayError(PERMISSION_DENIED) when the key may not be used now, for this, with this combo, or through this
    region.
    """
    record, key, guardrails = entry.record, pursuit.key, pursuit.snapshot.guardrails
    bound = guardrails.of(key) if guardrails is not None else None
    if bound is not None:
        bound.check_region(entry.exchange.headers.get(b"host", b""))
    if key.restricted:
        check_conditions(key, record.operation, pursuit.route.combo, record.created_at)
    return bound


def asked_within(entry: Entry, pursuit: Pursuit) -> Asked:
    """A request for routing to see what it asks, and what its key may use. Raises GatewayError as `check_key`."""
    exchange, key, bound = entry.exchange, pursuit.key, check_key(entry, pursuit)
    asked = asked_of(pursuit.call, exchange.body, entry.record.operation, exchange.headers, pursuit.wishes)
    if bound is not None:
        asked = msgspec.structs.replace(asked, bounds=bound.bounds)
    if not key.restricted:
        return asked
    return msgspec.structs.replace(
        asked,
        allowed_models=key.allowed_models,
        allowed_connections=key.allowed_connections,
        preferred_connections=tuple(key.settings.get(PREFERRED) or ()),
    )


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
