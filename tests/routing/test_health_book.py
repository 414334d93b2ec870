"""The health book under a simulated clock: cooldowns, breakers, locks, learned limits, and what others have seen."""

from typing import Any

import msgspec
import pytest

from pointsman.errors import EndpointNotReady, GatewayError, Kind
from pointsman.resilience import ModelLockout, ResilienceSettings
from pointsman.routing.failures import Failure, classify
from pointsman.routing.health import FORGOTTEN, PROBE, HealthBook
from pointsman.routing.plan import Problem, Route, Step, plan
from pointsman.routing.targets import Connection, Target, target_of
from pointsman.routing.wants import Wants

S = 1_000_000
START = 1_790_000_000 * S
DOWN = classify(GatewayError(Kind.UPSTREAM_UNAVAILABLE, ""))


def refused(status: int, body: bytes = b"") -> Failure:
    """What an answer with this status means."""
    return classify(GatewayError(Kind.INVALID_REQUEST, "").of(status, {}, body))


def target(name: str = "one", model: str = "m", **more: Any) -> Target:
    """A model at a connection of the provider ``acme``."""
    return target_of(Connection(**{"id": name, "kind": "openai", "provider": "acme", **more}), model)


ONE, TWO = target("one"), target("two")


def until(book: HealthBook, one: Target, now: int) -> float | None:
    """Seconds for which a target is left alone; None when it may be used."""
    found = book.condition(one, now)
    return None if found is None or found.usable else (found.until - now) / S


def test_each_failure_in_a_row_waits_twice_as_long_up_to_a_limit() -> None:
    book, now, waits = HealthBook(), START, []
    for _ in range(8):
        book.failed(ONE, refused(429), now)
        waits.append(until(book, ONE, now))
        now += int((waits[-1] or 0) * S)
    assert waits == [3, 6, 12, 24, 48, 96, 96, 96]


def test_failures_of_calls_that_were_under_way_do_not_raise_the_level() -> None:
    book = HealthBook()
    for moment in range(10):
        book.failed(ONE, refused(429), START + moment)
    assert until(book, ONE, START) == 3


def test_what_the_upstream_asks_for_is_done() -> None:
    book = HealthBook()
    book.failed(ONE, refused(429), START, 40.0)
    assert until(book, ONE, START) == 40
    book.failed(ONE, refused(429), START + S, 60.0)
    assert until(book, ONE, START + S) == 60


def test_a_wish_to_wait_for_ever_is_cut_to_a_day() -> None:
    book = HealthBook()
    book.failed(ONE, refused(429), START, 1e9)
    assert until(book, ONE, START) == 86_400


def test_accounts_known_by_oauth_wait_by_their_own_profile() -> None:
    book, one = HealthBook(), target(tags=frozenset(["oauth"]))
    book.failed(one, refused(429), START, 40.0)
    assert until(book, one, START) == 5


def test_a_daily_quota_lasts_until_midnight() -> None:
    book = HealthBook()
    book.failed(ONE, refused(429, b"daily limit reached"), START)
    assert (START + int((until(book, ONE, START) or 0) * S)) % (86_400 * S) == 0


@pytest.mark.parametrize(
    ("status", "body", "state", "seconds"),
    [
        (401, b"", "error", 120),
        (402, b"", "credits_exhausted", 120),
        (429, b"insufficient_quota", "credits_exhausted", 3600),
        (403, b"your account has been suspended", "banned", 365 * 86_400),
    ],
)
def test_states_that_last_are_shown_and_can_be_reset(status: int, body: bytes, state: str, seconds: float) -> None:
    book = HealthBook()
    book.failed(ONE, refused(status, body), START)
    [view] = book.views(START)
    assert (view.name, view.state, (view.until - START) / S) == ("one", state, seconds)
    later = view.until + FORGOTTEN
    book.tidy(later)
    assert [view.state for view in book.views(later)] == [state]
    assert book.reset(later) == 1
    assert book.quiet
    assert book.condition(ONE, later) is None


def test_a_new_credential_is_not_blamed_for_the_old_one() -> None:
    book = HealthBook()
    book.failed(target(mark="old"), refused(401), START)
    assert until(book, target(mark="old"), START) == 120
    assert until(book, target(mark="new"), START) is None


def test_a_success_forgets_what_was_before_it_began_and_no_more() -> None:
    book = HealthBook()
    book.failed(ONE, refused(429), START + 2 * S, 30.0)
    book.succeeded(ONE, START + 3 * S, began=START + S)
    assert until(book, ONE, START + 3 * S) == 29
    book.succeeded(ONE, START + 4 * S, began=START + 3 * S)
    assert book.quiet


def test_a_model_is_locked_without_its_account() -> None:
    book, other = HealthBook(), target(model="other")
    book.failed(ONE, refused(404), START)
    assert (until(book, ONE, START), until(book, other, START)) == (120, None)


def test_the_lock_out_of_models_spares_the_account_when_it_is_on() -> None:
    book = HealthBook(ResilienceSettings(model_lockout=ModelLockout(enabled=True)))
    book.failed(ONE, refused(503), START, status=503)
    assert (until(book, ONE, START), until(book, target(model="other"), START)) == (120, None)
    book.failed(ONE, refused(503), START + 120 * S, status=503)
    assert until(book, ONE, START + 120 * S) == 240


def test_what_has_served_its_time_is_tried_by_one_call_at_a_time() -> None:
    book = HealthBook()
    book.failed(ONE, refused(429), START)
    now = START + 3 * S
    condition = book.condition(ONE, now)
    assert condition is not None
    assert condition.probing
    assert condition.usable
    ticket = book.enter(ONE, now)
    assert ticket
    assert until(book, ONE, now) == PROBE / S
    book.leave(ONE, ticket + 1)  # somebody else's
    assert not book.ready(ONE, now)
    book.leave(ONE, ticket)
    assert book.ready(ONE, now)


def test_a_trial_that_never_ends_blocks_for_ten_seconds() -> None:
    book = HealthBook()
    book.failed(ONE, refused(429), START)
    now = START + 3 * S
    assert book.enter(ONE, now)
    assert not book.ready(ONE, now + PROBE - 1)
    assert book.ready(ONE, now + PROBE)


def fail_often(book: HealthBook, count: int, failure: Failure, now: int = START, step: int = 5 * S) -> int:
    """Failures of as many connections, one after the other; gives the instant after them."""
    for number in range(count):
        book.failed(target(f"c{number}"), failure, now)
        now += step
    return now


def test_a_provider_is_degraded_and_then_not_asked_any_more() -> None:
    book = HealthBook()
    now = fail_often(book, 6, refused(500))
    assert book.condition(TWO, now) is None
    now = fail_often(book, 1, refused(500), now)
    condition = book.condition(TWO, now)
    assert condition is not None
    assert (condition.usable, condition.unstable) == (True, True)
    now = fail_often(book, 5, refused(500), now)
    condition = book.condition(TWO, now - 5 * S)
    assert condition is not None
    assert (condition.usable, condition.reason, condition.until) == (False, "provider_open", now - 5 * S + 30 * S)


def test_one_connection_counts_once_in_five_seconds_and_the_network_once_in_ten() -> None:
    book = HealthBook()
    for moment in range(40):
        book.failed(ONE, refused(500), START + moment * S // 10)
    fail_often(book, 40, DOWN, START, S // 10)
    [breaker] = [view for view in book.views(START) if view.scope == "provider"]
    assert (breaker.state, breaker.failures) == ("CLOSED", 2)


def test_a_provider_that_fails_half_of_heavy_traffic_trips() -> None:
    book, now = HealthBook(), START
    for number in range(60):
        one = target(f"c{number % 4}")
        if number % 2:
            book.failed(one, refused(500), now)
        else:
            book.succeeded(one, now, began=START)
        now += S // 4
    assert [view.state for view in book.views(now) if view.scope == "provider"] == ["OPEN"]


def test_one_burst_of_failures_does_not_trip() -> None:
    book = HealthBook()
    for number in range(200):
        book.failed(target(f"c{number}"), DOWN, START + number)
    assert [view.state for view in book.views(START) if view.scope == "provider"] == ["CLOSED"]


def opened(book: HealthBook) -> int:
    """Opens the provider's breaker; gives the instant when it may be tried."""
    now = fail_often(book, 12, refused(500), START)
    return now - 5 * S + 30 * S


def test_a_half_open_provider_takes_one_probe_and_closes_with_it() -> None:
    book = HealthBook()
    now = opened(book)
    assert not book.ready(TWO, now - 1)
    ticket = book.enter(TWO, now)
    assert ticket
    assert not book.ready(target("three"), now)
    book.succeeded(TWO, now + S, began=now)
    assert book.condition(target("three"), now + S) is None


def test_a_probe_that_fails_opens_it_for_longer() -> None:
    book = HealthBook()
    now = opened(book)
    waits = []
    for _ in range(6):
        assert book.enter(TWO, now) or not book.ready(TWO, now)
        book.failed(target(f"p{now}"), refused(500), now)
        [view] = [view for view in book.views(now) if view.scope == "provider"]
        waits.append((view.until - now) / S)
        now = view.until
    assert waits == [60, 120, 240, 300, 300, 300]


def test_an_answer_that_refuses_shows_that_the_provider_works() -> None:
    book = HealthBook()
    now = opened(book)
    book.failed(TWO, refused(429), now)
    assert book.condition(target("three"), now) is None


@pytest.mark.parametrize("kind", [GatewayError, EndpointNotReady])
def test_a_call_that_was_never_sent_shows_nothing_of_the_provider(kind: type[GatewayError]) -> None:
    book = HealthBook()
    now = opened(book)
    book.failed(TWO, classify(kind(Kind.NOT_READY, "")), now)
    assert [view.state for view in book.views(now) if view.scope == "provider"] == ["HALF_OPEN"]


def test_a_provider_on_this_machine_trips_after_two() -> None:
    book = HealthBook()
    for number in range(2):
        book.failed(target("local", kind="local", provider=None), refused(500), START + number * 5 * S)
    assert [view.state for view in book.views(START + 6 * S) if view.scope == "provider"] == ["OPEN"]


def test_a_model_list_that_can_be_had_ends_what_it_can_judge() -> None:
    book = HealthBook()
    book.failed(ONE, DOWN, START)
    book.failed(TWO, refused(429), START, 60.0)
    assert [name for name, _ in book.due(START)] == ["one"]
    book.reached(ONE.connection, START + S)
    book.reached(TWO.connection, START + S)
    assert (until(book, ONE, START + S), until(book, TWO, START + S)) == (None, 59)
    book.failed(ONE, DOWN, START + 2 * S)  # it was there, and calls fail all the same
    book.reached(ONE.connection, START + 3 * S)
    assert until(book, ONE, START + 3 * S) == 5


def test_a_model_list_that_can_not_be_had_goes_on_with_it() -> None:
    book = HealthBook()
    book.failed(ONE, refused(500), START)
    book.unreached(ONE.connection, DOWN, START + 2 * S)
    assert until(book, ONE, START + 2 * S) == 6


def test_the_last_resort_is_what_recovers_first() -> None:
    book = HealthBook()
    book.failed(ONE, refused(429), START, 60.0)
    book.failed(TWO, refused(429), START, 20.0)
    conditions = {one.id: found for one in (ONE, TWO) if (found := book.condition(one, START)) is not None}
    route = Route(name="both", steps=(Step(target=ONE), Step(target=TWO)))
    made = plan(Problem(route=route, wants=Wants(model="both"), conditions=conditions, now=START))
    assert (made.order, made.last_resort) == ((TWO,), True)


LOW = {
    b"x-ratelimit-limit-requests": b"100", b"x-ratelimit-remaining-requests": b"2",
    b"x-ratelimit-reset-requests": b"20s",
}  # fmt: skip


def test_an_account_with_little_left_is_spared_until_it_is_full_again() -> None:
    book = HealthBook()
    assert book.learn(ONE.connection, LOW, START) == START
    assert (until(book, ONE, START), book.headroom("one", START)) == (20, 0.02)
    assert until(book, ONE, START + 20 * S) is None
    book.tidy(START + 21 * S)
    assert book.quiet


def test_an_account_is_not_spared_when_its_limits_are_not_obeyed() -> None:
    book = HealthBook()
    book.protected = {"one": False}
    book.learn(ONE.connection, LOW, START)
    found = book.condition(ONE, START)
    assert book.quiet
    assert found is not None
    assert (found.usable, found.headroom) == (True, 0.02)


def test_headers_are_looked_at_more_often_the_less_is_left() -> None:
    book = HealthBook()
    assert book.learn(ONE.connection, {}, START) == START + 60 * S
    far = {**LOW, b"x-ratelimit-remaining-requests": b"90"}
    near = {**LOW, b"x-ratelimit-remaining-requests": b"30"}
    assert book.learn(ONE.connection, far, START) == START + S
    assert book.learn(ONE.connection, near, START) == START + S // 10


def test_another_process_sees_the_same() -> None:
    book, other = HealthBook(), HealthBook()
    opened(book)
    book.failed(ONE, refused(401), START)
    book.failed(TWO, refused(404), START)
    book.learn(target("three").connection, LOW, START)
    other.adopt(book.take_changes())
    assert {(view.scope, view.name, view.state, view.until) for view in other.views(START)} == {
        (view.scope, view.name, view.state, view.until) for view in book.views(START)
    }
    assert other.take_changes() == []
    book.reset(START)
    other.adopt(book.take_changes())
    assert other.quiet


def test_of_two_reports_the_later_one_counts() -> None:
    book, other = HealthBook(), HealthBook()
    book.failed(ONE, refused(429), START, 10.0)
    [early] = book.take_changes()
    other.failed(ONE, refused(429), START + S, 60.0)
    other.adopt([early])
    assert until(other, ONE, START + S) == 60


def test_names_that_clients_invent_fill_no_memory() -> None:
    book = HealthBook()
    book.failed(target(model="x" * 10_000), refused(404), START)
    assert book.quiet
    for number in range(6000):
        book.failed(target(model=f"m{number}"), refused(404), START + number)
    assert len(book.views(START)) <= 5000


def test_what_is_over_for_long_is_forgotten() -> None:
    book = HealthBook()
    book.failed(ONE, refused(429), START)
    book.tidy(START + 3 * S + FORGOTTEN - 1)
    assert not book.quiet
    book.tidy(START + 3 * S + FORGOTTEN)
    assert book.quiet
    assert msgspec.json.encode(book.take_changes()[-1].document) == b'""'
