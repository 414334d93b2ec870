"""Plans the requests of one process, and learns from how they end: speed, outages, where conversations went."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import msgspec

from pointsman.canonical.identity import METADATA
from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.canonical.samples import samples
from pointsman.errors import BudgetExceeded, GatewayError
from pointsman.providers.hosts import GENERIC, hosts
from pointsman.routing.catalogue import Catalogue
from pointsman.routing.demands import Asked, wants_of
from pointsman.routing.health import HealthBook
from pointsman.routing.keyed import check_pin
from pointsman.routing.measurements import Measurements
from pointsman.routing.metadata import Attempt, Namer, Told, router_metadata
from pointsman.routing.plan import FINE, Condition, Memory, Problem, Route, RoutePlan, Step
from pointsman.routing.sticky import Conversation, StickyBook
from pointsman.routing.targets import Target
from pointsman.routing.wants import Wants
from pointsman.routing.wishes import Wishes
from pointsman.upstream.attempts import Tried

Find = Callable[[str], Route]
OPENROUTER: Final = "openrouter"
LEAST_USED: Final = "least-used"
SEED_DIGITS: Final = 16  # of a digest: 64 bits
MANY, SPARSE = 128, 8  # so many records at once are more than there is need to look at


class Planned(NamedTuple):
    """A plan, and what it was made from."""

    problem: Problem
    plan: RoutePlan


class Planner:
    """What all plans of one process share."""

    def __init__(self, health: HealthBook, seed: Callable[[], int]) -> None:
        """``seed`` gives 64 random bits for each plan."""
        self._health = health
        self._seed = seed
        self.measurements = Measurements()
        self.sticky = StickyBook()
        self.busy: Callable[[Target], int] = _idle  # calls under way at a target's connection
        self.catch_up: Callable[[], None] = _nothing  # has what is over, and not yet counted, told to `observe`

    def problem(self, asked: Asked, route: Route, account: str, memory: Memory, now: int) -> Problem:
        """All that decides where a request of ``account`` goes. ``memory`` is the route's."""
        self.catch_up()
        wants = wants_of(asked, route)
        conversation = conversation_of(wants, route, account)
        seed = None
        if route.strategy == OPENROUTER:  # the route's memory is of all conversations
            sticky = self.sticky.find(conversation, now) if conversation is not None else None
            memory = msgspec.structs.replace(memory, sticky=sticky)
            if conversation is not None and wants.session is not None:
                # So that every worker and node chooses alike, also before it was told where the session went.
                seed = int(conversation[:SEED_DIGITS], 16)
        return Problem(
            route=route,
            wants=wants,
            conditions=self._conditions(route, now),
            memory=memory,
            now=now,
            seed=self._seed() if seed is None else seed,
        )

    def _conditions(self, route: Route, now: int) -> dict[str, Condition]:
        conditions: dict[str, Condition] = {}
        quiet, health, measured = self._health.quiet, self._health.condition, self.measurements.condition
        learned = self._health.quotas
        for step in route.steps:
            base = None if quiet and not learned else health(step.target, now)
            found = measured(step.target.id, now, base)
            if found is not None:
                conditions[step.target.id] = found
        if route.strategy == LEAST_USED:
            self._count_load(route, conditions)
        return conditions

    def _count_load(self, route: Route, conditions: dict[str, Condition]) -> None:
        for step in route.steps:
            busy = self.busy(step.target)
            if busy:
                known = conditions.get(step.target.id, FINE)
                conditions[step.target.id] = msgspec.structs.replace(known, in_flight=busy)

    def answered(self, problem: Problem, target: Target, record: RequestRecord, now: int) -> None:
        """A planned request was answered by ``target``: the conversation stays there, if that is worth something."""
        conversation = conversation_of(problem.wants, problem.route, record.workspace_id)
        if conversation is None or record.outcome is not Outcome.SUCCESS:
            return
        cached = record.cache_read_tokens or record.cache_write_tokens
        if (cached or problem.wants.session is not None) and _cache_pays(target):
            self.sticky.keep(conversation, target.id, now)

    def observe(self, records: Sequence[RequestRecord]) -> None:
        """Learn from requests that are over. Of many at once every eighth answer counts, as eight; failures all do."""
        add = self.measurements.add
        stride = SPARSE if len(records) >= MANY else 1
        for number, record in enumerate(records):
            plain = record.outcome is Outcome.SUCCESS and record.attempts is None
            if plain and (number % stride or record.connection_id is None):
                continue
            for target_id, sample in samples(record):
                add(target_id, sample, stride if plain else 1)

    @cached_property
    def namer(self) -> Namer:
        """Names of providers for people."""
        return Namer({host.id: host.name.partition(",")[0] for host in hosts().values() if host.id != GENERIC})


def _nothing() -> None:
    return


def _idle(target: Target) -> int:
    return 0


def conversation_of(wants: Wants, route: Route, account: str) -> Conversation | None:
    """A digest that tells a conversation from others; None where it may not stay at a target, or has no choice."""
    name = wants.session or wants.conversation
    if route.strategy != OPENROUTER or name is None or wants.preferences.order or len(route.steps) < 2:
        return None
    named = "\0".join((account, route.name, name)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(named, digest_size=16).hexdigest()


def _cache_pays(target: Target) -> bool:
    """Whether a prompt that lies in the upstream's cache costs less there, as far as is known."""
    price = target.facts.price
    return price is None or price.cache_read is None or price.cache_read < price.prompt


def wished_route(model: str, wishes: Wishes, catalogue: Catalogue, find: Find | None = None) -> Route:
    """The route of a request with wishes: of its model, then of its fallbacks. ``find`` gives that of one name, when
    the catalogue's own way is not the caller's.

    Models that nobody has are left out. Raises GatewayError: MODEL_NOT_FOUND when none is left, INVALID_REQUEST for a
    provider that is pinned and known, and whose credential nobody has stored.
    """
    find = find or catalogue.route
    if wishes.pin is not None:
        check_pin(wishes.pin, catalogue)
    routes: list[Route] = []
    missing: GatewayError | None = None
    for name in dict.fromkeys((model, *wishes.models)):
        try:
            routes.append(find(name))
        except GatewayError as error:
            missing = missing or error
    if not routes:
        assert missing is not None
        raise missing
    wanted = wishes.preferences
    orders = wanted.order or wanted.sort or wanted.min_throughput or wanted.max_latency
    route = routes[0]
    profile = next((route for route in routes if route.kind == "profile"), None)
    if profile is not None:  # who asks for a budget leaves the order to it; what a request excludes stays excluded
        steps = route.steps if len(routes) == 1 else _grouped(routes, across=wanted.across_models)
        return msgspec.structs.replace(profile, name=route.name, steps=steps)
    if len(routes) == 1:
        return msgspec.structs.replace(route, strategy=OPENROUTER) if orders or route.kind == "model" else route
    return Route(
        name=route.name,
        strategy=OPENROUTER,
        steps=_grouped(routes, across=wanted.across_models),
        settings=route.settings if route.strategy == OPENROUTER else {},
    )


def _grouped(routes: list[Route], *, across: bool) -> tuple[Step, ...]:
    """The steps of several routes, those of each after all of the one before. A target is there once."""
    steps: dict[str, Step] = {}
    for group, route in enumerate(routes):
        for step in route.steps:
            steps.setdefault(step.target.id, msgspec.structs.replace(step, group=0 if across else group))
    return tuple(steps.values())


def told_of(planned: Planned | None, requested: str, failed: Sequence[Tried], answered: Target | None) -> Told:
    """What there is to tell of a request."""
    return Told(
        requested=requested,
        fallbacks=bool(planned is not None and planned.problem.wants.models),
        route=planned.problem.route if planned is not None else None,
        plan=planned.plan if planned is not None else None,
        failed=[Attempt(one.target, status_of(one)) for one in failed],
        answered=answered,
        generation_ms=None,
    )


def status_of(tried: Tried) -> int:
    """The status that an upstream gave, or the one that its failure amounts to."""
    return tried.error.refusal.status if tried.error.refusal is not None else tried.error.status


def describe_failure(error: GatewayError, tried: Sequence[Tried], model: str, namer: Namer) -> None:
    """Put into ``error`` what OpenRouter's clients are told of a request that every target failed."""
    if not tried or isinstance(error, BudgetExceeded):
        return  # the targets have nothing to do with it
    rows = [
        {"provider": namer(one.target.connection), "code": one.error.status, "status": status_of(one)} for one in tried
    ]
    metadata: dict[str, Any] = {"provider_name": rows[-1]["provider"]}
    if len(rows) > 1:
        metadata["previous_errors"] = rows[:-1]
    error.metadata = metadata
    statuses = [one.error.status for one in tried]
    limited = all(status == 429 for status in statuses)
    if not limited and not all(status >= 500 for status in statuses):
        return
    error.availability = {
        "code": "capacity_exhausted" if limited else "temporarily_unavailable",
        "retryable": True,
        "requested_models": [model],
        "affected_providers": list(dict.fromkeys(row["provider"] for row in rows)),
    }
    if error.retry_after_seconds is not None:
        error.availability["retry_after"] = max(1, round(error.retry_after_seconds))


def aside(told: Told, namer: Namer) -> dict[str, Any]:
    """The member that stands beside an answer or an error."""
    return {METADATA: router_metadata(told, namer)}
