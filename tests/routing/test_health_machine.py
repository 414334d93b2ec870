"""Whatever happens in whatever order: a state machine of the health book under a simulated clock."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pointsman.errors import GatewayError, Kind
from pointsman.routing.failures import Failure, classify
from pointsman.routing.health import PROBE, HealthBook
from pointsman.routing.plan import Condition, Problem, Route, Step, plan
from pointsman.routing.targets import Connection, Target, target_of
from pointsman.routing.wants import Wants

S = 1_000_000
LONGEST = 366 * 86_400 * S
TARGETS = [
    target_of(Connection(id=f"c{number}", kind="openai", provider=f"p{number % 2}"), model)
    for number, model in ((0, "m"), (0, "n"), (1, "m"), (2, "m"))
]
FAILURES = [
    classify(GatewayError(Kind.UPSTREAM_UNAVAILABLE, "")),
    classify(GatewayError(Kind.CONTEXT_LENGTH, "")),
    *(
        classify(GatewayError(Kind.INVALID_REQUEST, "").of(status, {}, b""))
        for status in (401, 402, 404, 429, 500, 529)
    ),
    classify(GatewayError(Kind.INVALID_REQUEST, "").of(403, {}, b"account suspended")),
]


class Health(RuleBasedStateMachine):
    """Two processes that hear of each other now and then; the first one's calls are followed."""

    @initialize()
    def begin(self) -> None:
        """All is well."""
        self.now = 1_790_000_000 * S
        self.book, self.other = HealthBook(), HealthBook()
        self.trials: dict[int, tuple[Target, int, bool]] = {}  # calls on trial: target, begin, breaker half-open

    @rule(seconds=st.one_of(st.floats(0.001, 20), st.floats(20, 4000)))
    def time_passes(self, seconds: float) -> None:
        """Nothing else happens."""
        self.now += int(seconds * S) + 1

    @rule(one=st.sampled_from(TARGETS), failure=st.sampled_from(FAILURES), hint=st.none() | st.floats(0, 1e5))
    def a_call_fails(self, one: Target, failure: Failure, hint: float | None) -> None:
        """A call of no trial."""
        self.book.failed(one, failure, self.now, hint, 500)
        if failure.scope != "request":
            assert not self.book.quiet

    @rule(one=st.sampled_from(TARGETS), failure=st.sampled_from(FAILURES))
    def a_call_fails_elsewhere(self, one: Target, failure: Failure) -> None:
        """In the other process."""
        self.other.failed(one, failure, self.now)

    @rule()
    def they_talk(self) -> None:
        """Both hear what the other has seen."""
        mine, theirs = self.book.take_changes(), self.other.take_changes()
        self.book.adopt(theirs)
        self.other.adopt(mine)

    @rule(one=st.sampled_from(TARGETS))
    def a_trial_begins(self, one: Target) -> None:
        """Where one may be made. Never beside another that is not over."""
        condition = self.book.condition(one, self.now)
        ticket = self.book.enter(one, self.now)
        assert bool(ticket) <= (condition is None or condition.usable)
        if not ticket:
            return
        running = [known for known, began, _ in self.trials.values() if known.id == one.id and began + PROBE > self.now]
        assert not running, "two calls on trial at once"
        self.trials[ticket] = (one, self.now, condition is not None and condition.probing)

    @rule(data=st.data(), failure=st.sampled_from([None, *FAILURES]))
    def a_trial_ends(self, data: st.DataObject, failure: Failure | None) -> None:
        """Well or ill. A success closes what it was a trial of."""
        if not self.trials:
            return
        ticket = data.draw(st.sampled_from(sorted(self.trials)))
        one, began, _ = self.trials.pop(ticket)
        if failure is None:
            before = [view.at for view in self.book.views(self.now) if view.name in (one.id, one.connection.id)]
            self.book.succeeded(one, self.now, began)
            if all(at <= began for at in before) and self._breaker_failed_before(one, began):
                assert self.book.condition(one, self.now) is None
        else:
            self.book.failed(one, failure, self.now)
        self.book.leave(one, ticket)

    def _breaker_failed_before(self, one: Target, began: int) -> bool:
        views = [view for view in self.book.views(self.now) if view.name == one.connection.vendor]
        return all(view.at <= began for view in views)

    @rule(one=st.sampled_from(TARGETS), good=st.booleans())
    def a_list_is_asked_for(self, one: Target, good: bool) -> None:
        """As background work does."""
        if one.connection.id in dict(self.book.due(self.now)):
            if good:
                self.book.reached(one.connection, self.now)
            else:
                self.book.unreached(one.connection, FAILURES[0], self.now)

    @rule()
    def it_is_tidied(self) -> None:
        """Never does that take a target away."""
        before = [self.usable(one) for one in TARGETS]
        self.book.tidy(self.now)
        assert all(self.usable(one) for one, was in zip(TARGETS, before, strict=True) if was)

    @rule()
    def an_operator_resets(self) -> None:
        """Everything may be used at once."""
        self.book.reset(self.now)
        self.trials.clear()
        assert self.book.quiet
        assert all(self.usable(one) for one in TARGETS)

    def usable(self, one: Target) -> bool:
        """Whether a plan would take it."""
        condition = self.book.condition(one, self.now)
        return condition is None or condition.usable

    @invariant()
    def nothing_is_used_while_it_is_left_alone(self) -> None:
        """The condition agrees with what is shown."""
        for view in self.book.views(self.now):
            if view.usable:
                continue
            for one in TARGETS:
                if view.name in (one.id, one.connection.id, one.connection.vendor):
                    assert not self.usable(one), view
                    assert self.book.enter(one, self.now) == 0

    @invariant()
    def time_always_ends_it(self) -> None:
        """What is left alone says until when, and then it may be used."""
        for one in TARGETS:
            moment = self.now
            for _ in range(6):
                condition = self.book.condition(one, moment)
                if condition is None or condition.usable:
                    break
                assert moment < condition.until <= moment + LONGEST
                moment = condition.until
            else:
                raise AssertionError("it never ends")
            self.restore_looks()

    def restore_looks(self) -> None:
        """Looking ahead turns an open breaker half-open; that is undone."""
        for breaker in self.book._breakers.values():
            if breaker.state == "HALF_OPEN" and breaker.until > self.now:
                breaker.state = "OPEN"

    @invariant()
    def there_is_always_a_last_resort(self) -> None:
        """When nothing is well, what recovers first is tried."""
        conditions: dict[str, Condition] = {}
        for one in TARGETS:
            condition = self.book.condition(one, self.now)
            if condition is not None:
                conditions[one.id] = condition
        route = Route(name="all", steps=tuple(Step(target=one) for one in TARGETS))
        made = plan(Problem(route=route, wants=Wants(model="all"), conditions=conditions, now=self.now))
        assert made.order
        if made.last_resort:
            first = min(condition.until for condition in conditions.values())
            assert conditions[made.order[0].id].until == first
        else:
            assert all(self.usable(one) for one in made.order)

    @invariant()
    def quiet_means_that_nothing_is_held(self) -> None:
        """The flag that requests look at."""
        if self.book.quiet:
            assert self.book.views(self.now) == []
            assert all(self.book.clear(one) for one in TARGETS)


TestHealth = Health.TestCase
TestHealth.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
