"""Limits of keys, workspaces and connections: all are checked, then all are charged, or none."""

import asyncio

import pytest

from driven_clock import DrivenClock
from pointsman.accounting.counters import CountersError, MemoryCounters
from pointsman.accounting.windows import DAY_US, MINUTE_US, SlidingWindow, Windows
from pointsman.canonical.limits import Limits
from pointsman.errors import GatewayError, Kind
from pointsman.identity.keys import Key
from pointsman.policy.limits import Limiter, LimitTable, Reservation, Rules

KEY = Key(id="key_1", name="one", role="inference", workspace_id="default")
OTHER = Key(id="key_2", name="two", role="inference", workspace_id="default")


class Desk:
    """A limiter and its table."""

    def __init__(self, **tables: Limits) -> None:
        connection = tables.pop("connection", Limits())
        self.clock = DrivenClock()
        self.limiter = Limiter(MemoryCounters(self.clock), self.clock)
        self.table = LimitTable(self.limiter.counters, connections={"up": connection}, **tables)  # type: ignore[arg-type]

    def rules(self, key: Key, connection: str) -> Rules:
        """Every limit of a call."""
        return (*self.table.caller_rules(key), *self.table.connection_rules(connection))

    def call(self, key: Key = KEY, tokens: int = 1, connection: str = "up") -> Reservation:
        """Take a call in."""
        reservation = self.limiter.try_reserve(self.rules(key, connection), tokens)
        assert reservation is not None
        return reservation

    def refused(self, key: Key = KEY, tokens: int = 1, connection: str = "up") -> GatewayError:
        """The refusal of a call."""
        with pytest.raises(GatewayError) as caught:
            self.call(key, tokens, connection)
        assert caught.value.kind is Kind.RATE_LIMITED
        return caught.value


def test_keys_without_limits_are_not_asked_for_where_only_others_have_some() -> None:
    some = Limits(requests_per_minute=2)
    assert not Desk().table.general
    assert Desk().table.of_connections == {}
    assert Desk(keys=some).table.general
    assert Desk(workspaces=some).table.general
    assert not Desk(connection=some).table.general
    assert list(Desk(connection=some).table.of_connections) == ["up"]


def test_retry_after_is_right_to_the_second() -> None:
    desk = Desk(keys=Limits(requests_per_minute=2))
    desk.call()
    desk.clock.advance(13.4)
    desk.call()
    desk.clock.advance(0.3)
    seconds = desk.refused().retry_after_seconds
    assert seconds is not None
    desk.clock.advance(seconds - 1)
    desk.refused()
    desk.clock.advance(1)
    desk.call()


def test_a_refusal_names_its_limit() -> None:
    desk = Desk(
        keys=Limits(requests_per_minute=1),
        workspaces=Limits(requests_per_day=1),
        connection=Limits(tokens_per_minute=9),
    )
    desk.call(tokens=2)
    assert "1 requests per day of the workspace" in desk.refused().message  # the longest of the three
    assert desk.limiter.refused == {"workspace_requests": 1}


def test_a_refused_call_consumes_nothing_anywhere() -> None:
    desk = Desk(
        keys=Limits(requests_per_minute=5, tokens_per_minute=100),
        workspaces=Limits(requests_per_day=5),
        connection=Limits(tokens_per_minute=10),
    )
    before = desk.limiter.standing(desk.rules(KEY, "up"))
    for _ in range(20):
        desk.refused(tokens=11)
    assert desk.limiter.standing(desk.rules(KEY, "up")) == before
    for _ in range(5):
        desk.call(tokens=2)


def test_keys_are_counted_apart_and_a_workspace_together() -> None:
    desk = Desk(keys=Limits(requests_per_minute=2), workspaces=Limits(requests_per_minute=3))
    desk.call(KEY)
    desk.call(KEY)
    assert "of the key" in desk.refused(KEY).message
    desk.call(OTHER)
    assert "of the workspace" in desk.refused(OTHER).message


def test_a_key_s_own_limits_win_over_the_defaults_one_by_one() -> None:
    desk = Desk(keys=Limits(requests_per_minute=1, tokens_per_minute=50))
    own = Key(id="key_3", name="x", role="inference", workspace_id="default", limits=Limits(requests_per_minute=3))
    limits = {rule.unit: rule.limit for rule in desk.rules(own, "up")}
    assert limits == {"requests": 3, "tokens": 50}


def test_without_a_limit_there_are_no_rules() -> None:
    desk = Desk(connection=Limits(requests_per_minute=1))
    assert desk.rules(KEY, "another") == ()


def test_tokens_are_corrected_at_settlement() -> None:
    desk = Desk(keys=Limits(tokens_per_minute=100))
    first = desk.call(tokens=80)
    desk.refused(tokens=30)
    first.settle(20)
    second = desk.call(tokens=30)
    second.settle(500)  # over-use is carried
    desk.refused(tokens=1)
    desk.clock.advance(62)
    desk.call(tokens=100)


def test_a_call_that_went_nowhere_gets_all_back_once() -> None:
    desk = Desk(keys=Limits(requests_per_minute=1, tokens_per_minute=10))
    one = desk.call(tokens=10)
    one.settle(None)
    one.settle(None)
    desk.call(tokens=10)
    desk.refused(tokens=1)


def test_further_calls_are_taken_all_or_none_and_are_given_back_with_the_first() -> None:
    async def story() -> None:
        desk = Desk(connection=Limits(requests_per_minute=5, requests_per_day=9, tokens_per_minute=10))
        one = desk.call(tokens=10)
        await one.extend(3)
        assert one.standing.requests is not None
        assert one.standing.requests.remaining == 1
        with pytest.raises(GatewayError, match="try again in 61 s"):
            await desk.call(tokens=0).extend(1)
        with pytest.raises(GatewayError, match="about 6 requests") as refused:
            await one.extend(2)
        assert refused.value.retry_after_seconds is None
        one.settle(None)
        desk.call(tokens=10)
        await desk.call(tokens=0).extend(2)

    asyncio.run(story())


def test_further_calls_of_a_connection_without_limits_of_requests_are_not_counted() -> None:
    async def story() -> None:
        desk = Desk(connection=Limits(tokens_per_minute=10))
        one = desk.call(tokens=10)
        await one.extend(100)
        one.settle(4)
        desk.call(tokens=6)

    asyncio.run(story())


def test_a_call_larger_than_the_limit_is_told_so_without_retry_after() -> None:
    desk = Desk(keys=Limits(tokens_per_minute=100))
    error = desk.refused(tokens=101)
    assert error.retry_after_seconds is None
    assert "about 101 tokens, more than the limit of 100 tokens per minute of the key" in error.message


def test_the_standing_tells_the_limit_of_which_the_least_is_left() -> None:
    desk = Desk(keys=Limits(requests_per_minute=9, requests_per_day=2), workspaces=Limits(requests_per_minute=4))
    standing = desk.call().standing
    assert standing.tokens is None
    assert standing.requests is not None
    assert (standing.requests.limit, standing.requests.remaining) == (2, 1)
    assert DAY_US <= standing.requests.reset_us <= DAY_US * 61 // 60


def test_a_new_table_goes_on_with_the_same_counts() -> None:
    desk = Desk(keys=Limits(requests_per_minute=1))
    desk.call()
    desk.table = LimitTable(desk.limiter.counters, keys=Limits(requests_per_minute=2))
    desk.call()
    desk.refused()


class AwayCounter(SlidingWindow):
    """A counter whose store is away."""

    def wait(self, amount: int, limit: int, now: int) -> int | None:  # type: ignore[override]
        """Something must be leased."""
        return None

    async def lease(self, amount: int, limit: int) -> None:
        """It can't."""
        raise CountersError("the limits' store does not answer")


class AwayCounters(MemoryCounters):
    """Counters whose store is away."""

    def counter(self, name: str, window_us: int) -> SlidingWindow:
        """Such a counter."""
        return AwayCounter(Windows(), name, MINUTE_US)


def test_a_call_larger_than_any_limit_is_told_so_before_a_store_is_asked_for_another() -> None:
    counters = AwayCounters(DrivenClock())
    rules = LimitTable(counters, keys=Limits(requests_per_minute=9, tokens_per_minute=100)).caller_rules(KEY)
    with pytest.raises(GatewayError, match="about 101 tokens, more than the limit of 100 tokens per minute"):
        Limiter(counters, DrivenClock(), "open").try_reserve(rules, 101)


def test_without_its_store_limits_are_open_or_closed_as_configured() -> None:
    counters = AwayCounters(DrivenClock())
    rules = LimitTable(counters, keys=Limits(requests_per_minute=1)).caller_rules(KEY)
    limiter = Limiter(counters, DrivenClock(), "open")
    assert asyncio.run(limiter.reserve(rules, 1)) is None
    assert limiter.unlimited == 1
    with pytest.raises(GatewayError) as caught:
        asyncio.run(Limiter(counters, DrivenClock(), "closed").reserve(rules, 1))
    assert caught.value.kind is Kind.NOT_READY
    assert caught.value.retry_after_seconds == 1
