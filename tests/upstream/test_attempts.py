"""The targets of a plan in their order: who is tried, how often, when, and what is told when nobody answers."""

import asyncio
import time
from typing import Any

import pytest

from pointsman.clock import SystemClock
from pointsman.errors import GatewayError, Kind
from pointsman.routing.failures import classify
from pointsman.routing.health import HealthBook
from pointsman.routing.plan import Problem, Route, RoutePlan, Step, plan
from pointsman.routing.targets import Connection, ModelFacts, Target, target_of
from pointsman.routing.wants import Wants
from pointsman.settings import AttemptSettings
from pointsman.upstream.attempts import Attempts
from pointsman.upstream.terms import Terms, allowed_seconds, terms_of

TERMS = Terms(retries=0, delay=0.02, longest_wait=1.0, resorts=2)


def target(name: str, window: int | None = None, model: str | None = None) -> Target:
    """A model at a connection of its own."""
    return target_of(Connection(id=name, kind="openai"), model or name, ModelFacts(context_tokens=window))


def refused(status: int, kind: Kind = Kind.UPSTREAM_ERROR, after: float | None = None) -> GatewayError:
    """An upstream's refusal."""
    return GatewayError(kind, f"HTTP {status}", retry_after_seconds=after).of(status, {}, b"")


LIMITED = Kind.RATE_LIMITED


class Run:
    """Attempts over targets that fail as told, as often as told, and then answer."""

    def __init__(self, script: dict[str, list[GatewayError]], terms: Terms = TERMS, seconds: float = 30.0) -> None:
        self.script = script
        self.called: list[str] = []
        self.times: list[float] = []
        self.health = HealthBook()
        clock = SystemClock()
        self.attempts = Attempts(
            self.health, clock, terms, (clock.monotonic() + seconds, seconds), lambda: (1 << 64) - 1
        )

    async def go(self, to: Target) -> None:
        """One attempt."""
        self.called.append(to.id.partition("/")[0])
        self.times.append(time.monotonic())
        errors = self.script.get(self.called[-1], [])
        if errors:
            raise errors.pop(0)

    def over(self, *targets: Target) -> list[str]:
        """Who was called, in order. Raises what the client is told."""
        asyncio.run(self.attempts.run(RoutePlan(order=targets), self.go))
        return self.called


def test_the_other_target_comes_before_a_second_try_of_the_first() -> None:
    run = Run({"a": [refused(503), refused(503)], "b": [refused(500)]}, TERMS._replace(retries=2))
    assert run.over(target("a"), target("b")) == ["a", "b", "a", "b"]


def test_a_route_may_want_the_retry_first() -> None:
    run = Run({"a": [refused(503)]}, TERMS._replace(retries=1, failover_first=False))
    assert run.over(target("a"), target("b")) == ["a", "a"]


def test_nobody_is_asked_more_often_than_told() -> None:
    run = Run({"a": [refused(503)] * 9}, TERMS._replace(retries=3))
    with pytest.raises(GatewayError, match=r"^the target could not answer in 4 attempts: a/a: HTTP 503"):
        run.over(target("a"))
    assert run.called == ["a"] * 4


def test_waits_grow() -> None:
    run = Run({"a": [refused(503)] * 3}, TERMS._replace(retries=3))
    run.over(target("a"))
    waits = [later - earlier for earlier, later in zip(run.times, run.times[1:], strict=False)]
    for wait, least in zip(waits, (0.04, 0.08, 0.16), strict=True):
        assert least * 0.9 < wait < least + 3


@pytest.mark.parametrize(
    "error",
    [
        GatewayError(Kind.UPSTREAM_ERROR, "the connection broke in mid-answer"),
        GatewayError(Kind.UPSTREAM_TIMEOUT, "too slow"),
        GatewayError(Kind.UPSTREAM_REJECTED, "no").of(401, {}, b""),
        GatewayError(Kind.MODEL_NOT_FOUND, "no").of(404, {}, b""),
    ],
)
def test_what_may_have_been_worked_on_or_will_not_change_is_not_asked_again(error: GatewayError) -> None:
    run = Run({"a": [error] * 2}, TERMS._replace(retries=2))
    with pytest.raises(GatewayError):
        run.over(target("a"))
    assert run.called == ["a"]


def test_what_could_not_be_reached_is_asked_again() -> None:
    run = Run({"a": [GatewayError(Kind.UPSTREAM_UNAVAILABLE, "refused")]}, TERMS._replace(retries=1))
    assert run.over(target("a")) == ["a", "a"]


def test_a_short_retry_after_is_heeded_and_a_long_one_is_not_waited_for() -> None:
    run = Run({"a": [refused(429, LIMITED, 0.2)]}, TERMS._replace(retries=1))
    run.over(target("a"))
    assert run.times[1] - run.times[0] >= 0.2
    run = Run({"a": [refused(429, LIMITED, 7)], "b": [refused(429, LIMITED, 20)]}, TERMS._replace(retries=1))
    with pytest.raises(GatewayError) as caught:
        run.over(target("a"), target("b"))
    assert run.called == ["a", "b"]
    assert (caught.value.kind, caught.value.retry_after_seconds) == (LIMITED, 7)


def test_nothing_is_tried_beyond_the_deadline_and_the_error_names_what_was() -> None:
    late = GatewayError(Kind.UPSTREAM_TIMEOUT, "the upstream took too long in all")
    run = Run({"a": [late]}, seconds=0.2)
    with pytest.raises(GatewayError) as caught:
        run.over(target("a"), target("b"))
    assert caught.value.kind is Kind.UPSTREAM_TIMEOUT
    assert caught.value.message == "the request's 0.2 s are over; tried: a/a: the upstream took too long in all"
    assert run.health.quiet, "a caller in a hurry is not the upstream's fault"


def test_nobody_is_tried_when_the_time_is_over_before_anybody_was() -> None:
    run = Run({}, seconds=-0.1)
    with pytest.raises(GatewayError, match=r"s are over; tried: nobody$") as caught:
        run.over(target("a"))
    assert caught.value.kind is Kind.UPSTREAM_TIMEOUT
    assert not run.called


def test_a_wait_that_would_end_behind_the_deadline_is_not_begun() -> None:
    run = Run({"a": [refused(503)] * 9}, Terms(retries=9, delay=1.0, longest_wait=60), seconds=1.5)
    began = time.monotonic()
    with pytest.raises(GatewayError):
        run.over(target("a"))
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize(
    ("kind", "status"),
    [(Kind.CONTENT_FILTERED, 400), (Kind.INVALID_REQUEST, 400), (Kind.INVALID_REQUEST, 422), (Kind.TOO_LARGE, 413)],
)
def test_content_filters_and_the_callers_own_mistakes_are_tried_nowhere_else(kind: Kind, status: int) -> None:
    error = refused(status, kind)
    run = Run({"a": [error]}, TERMS._replace(retries=3))
    with pytest.raises(GatewayError) as caught:
        run.over(target("a"), target("b"))
    assert caught.value is error
    assert run.called == ["a"]
    assert run.health.quiet


def test_a_prompt_that_is_too_long_goes_to_larger_windows_only() -> None:
    too_long = refused(400, Kind.CONTEXT_LENGTH)
    run = Run({"a": [too_long]})
    assert run.over(target("a", 8000), target("b", 4000), target("c", 8000), target("d", 32000)) == ["a", "d"]
    run = Run({"a": [too_long]})
    with pytest.raises(GatewayError) as caught:
        run.over(target("a", 8000), target("b", 4000))
    assert caught.value is too_long
    assert run.health.quiet


def test_where_no_window_is_known_another_model_is_tried_and_the_same_one_is_not() -> None:
    run = Run({"a": [refused(400, Kind.CONTEXT_LENGTH)]})
    assert run.over(target("a", model="m"), target("b", model="m"), target("c", model="other")) == ["a", "c"]


def cooling(run: Run, *waits: tuple[str, float]) -> RoutePlan:
    """A plan of targets that are all left alone, each for so many seconds."""
    now = SystemClock().now_us()
    for name, seconds in waits:
        run.health.failed(target(name), classify(refused(429, LIMITED)), now, seconds, 429)
    steps = tuple(Step(target=target(name)) for name, _ in waits)
    conditions = {step.target.id: run.health.condition(step.target, now) for step in steps}
    known = {name: found for name, found in conditions.items() if found is not None}
    return plan(
        Problem(
            route=Route(name="r", strategy="priority", steps=steps), wants=Wants(model="r"), conditions=known, now=now
        )
    )


def test_when_all_are_left_alone_the_two_that_recover_first_are_asked_and_all_are_named() -> None:
    run = Run({name: [refused(500)] for name in "abcd"})
    made = cooling(run, ("a", 90), ("b", 60), ("c", 30), ("d", 3600))
    with pytest.raises(GatewayError) as caught:
        asyncio.run(run.attempts.run(made, run.go))
    assert run.called == ["c", "b"]
    told = caught.value.message
    assert told.startswith(
        "none of 4 targets could answer: c/c: HTTP 500; b/b: HTTP 500; a/a: not asked, left alone for "
    )
    assert "(rate_limited); d/d: not asked, left alone for 3600 s" in told


def test_one_that_is_left_alone_may_answer_all_the_same() -> None:
    run = Run({"a": [refused(500)]})
    made = cooling(run, ("a", 30), ("b", 60), ("c", 90))
    asyncio.run(run.attempts.run(made, run.go))
    assert run.called == ["a", "b"]


def test_a_setting_says_how_many_are_asked_as_a_last_resort() -> None:
    for resorts, called in ((1, ["a"]), (3, ["a", "b", "c"])):
        run = Run({name: [refused(500)] for name in "abcd"}, TERMS._replace(resorts=resorts))
        made = cooling(run, ("a", 30), ("b", 60), ("c", 90), ("d", 120))
        with pytest.raises(GatewayError):
            asyncio.run(run.attempts.run(made, run.go))
        assert run.called == called


def test_of_accounts_that_are_all_empty_only_the_first_is_asked() -> None:
    run = Run({"a": [refused(500)]})
    with pytest.raises(GatewayError, match="none of 2 targets"):
        asyncio.run(run.attempts.run(cooling(run, ("b", 7200), ("a", 3600)), run.go))
    assert run.called == ["a"]


@pytest.mark.parametrize(
    ("route", "terms"),
    [
        ({}, (0, 0.5, True, None)),
        ({"maxRetries": 3, "retryDelayMs": 2000, "failoverBeforeRetry": False}, (3, 2.0, False, None)),
        ({"maxRetries": 99, "targetTimeoutMs": 1500}, (10, 0.5, True, 1.5)),
        ({"maxRetries": "many", "targetTimeoutMs": 0, "retryDelayMs": None}, (0, 0.5, True, None)),
    ],
)
def test_a_routes_own_settings_win(route: dict[str, Any], terms: tuple[Any, ...]) -> None:
    found = terms_of(AttemptSettings(), route)
    assert (found.retries, found.delay, found.failover_first, found.target_seconds) == terms


def test_a_callers_timeout_is_a_number_and_bounded() -> None:
    assert allowed_seconds(b"2.5", 1800) == 2.5
    assert allowed_seconds(b"99999", 1800) == 1800
    for wrong in (b"", b"0", b"-1", b"soon", b"1e3", b"nan", b"0.01"):
        with pytest.raises(GatewayError) as caught:
            allowed_seconds(wrong, 1800)
        assert caught.value.param == "x-pointsman-timeout"
