"""What accounts tell of their quotas, and what conditions make of it: windows, breakers, latencies."""

import pytest

from pointsman.errors import GatewayError, Kind
from pointsman.routing.failures import classify
from pointsman.routing.health import HealthBook
from pointsman.routing.measurements import Measurements, Sample
from pointsman.routing.plan import QuotaWindow
from pointsman.routing.quota import read_quota
from pointsman.routing.targets import Connection, target_of

S = 1_000_000
NOW = 1_790_000_000 * S
HOUR = 3600 * S
TARGET = target_of(Connection(id="one", kind="openai", provider="acme"), "m")
CLAUDE = {
    b"anthropic-ratelimit-unified-5h-utilization": b"0.9",
    b"anthropic-ratelimit-unified-5h-reset": b"1790003600",
    b"anthropic-ratelimit-unified-7d-utilization": b"0.25",
    b"anthropic-ratelimit-unified-7d-reset": b"1790086400",
}
CODEX = {
    b"x-codex-primary-used-percent": b"40",
    b"x-codex-primary-window-minutes": b"300",
    b"x-codex-primary-reset-after-seconds": b"1800",
    b"x-codex-secondary-used-percent": b"100",
    b"x-codex-secondary-window-minutes": b"10080",
    b"x-codex-secondary-reset-at": b"1790172800",
}


def test_the_windows_of_subscriptions_are_read() -> None:
    claude, codex = read_quota(CLAUDE, NOW), read_quota(CODEX, NOW)
    assert claude is not None
    assert codex is not None
    assert [(one.kind, round(one.remaining, 3), one.resets_at) for one in claude.plan] == [
        ("session", 0.1, NOW + HOUR), ("weekly", 0.75, NOW + 24 * HOUR)
    ]  # fmt: skip
    assert [(one.kind, one.remaining, one.resets_at) for one in codex.plan] == [
        ("session", 0.6, NOW + HOUR // 2), ("weekly", 0.0, NOW + 48 * HOUR)
    ]  # fmt: skip
    assert claude.headroom(NOW) == pytest.approx(0.1)
    assert claude.headroom(NOW + 2 * HOUR) == pytest.approx(0.75)


def test_headers_that_are_no_numbers_tell_nothing() -> None:
    assert read_quota({name: b"soon" for name in (*CLAUDE, *CODEX)}, NOW) is None
    assert read_quota({b"x-codex-primary-used-percent": b"40"}, NOW) is None


def test_a_condition_has_the_windows_and_whether_one_is_used_up() -> None:
    book = HealthBook()
    book.learn(TARGET.connection, CLAUDE, NOW)
    found = book.condition(TARGET, NOW)
    assert found is not None
    assert (found.usable, found.quota_spent, len(found.windows)) == (True, False, 2)
    book.learn(TARGET.connection, CODEX, NOW)
    found = book.condition(TARGET, NOW)
    assert found is not None
    assert (found.usable, found.quota_spent, found.reason) == (False, True, "quota_low")
    assert QuotaWindow(kind="weekly", remaining=0.0, resets_at=NOW + 48 * HOUR) in found.windows


def test_a_condition_tells_the_breaker_and_an_account_without_credit() -> None:
    book, down = HealthBook(), classify(GatewayError(Kind.UPSTREAM_ERROR, "").of(500, {}, b""))
    now = NOW
    for _ in range(12):
        book.failed(TARGET, down, now)
        now += 10 * S
    found = book.condition(TARGET, now)
    assert found is not None
    assert (found.usable, found.breaker) == (False, "open")
    found = book.condition(TARGET, now + 300 * S)
    assert found is not None
    assert (found.usable, found.probing, found.breaker) == (True, True, "half_open")
    poor = HealthBook()
    poor.failed(TARGET, classify(GatewayError(Kind.PAYMENT_REQUIRED, "")), NOW)
    spent = poor.condition(TARGET, NOW)
    assert spent is not None
    assert spent.quota_spent


def test_latencies_are_told_by_mean_percentile_and_spread() -> None:
    book = Measurements()
    for tenths in range(1, 101):
        book.add("a", Sample(at=NOW, ok=True, latency=tenths / 10))
    found = book.condition("a", NOW)
    assert found is not None
    assert found.latency == pytest.approx(5.05, rel=0.05)
    assert found.latency_p95 == pytest.approx(9.5, rel=0.05)
    assert found.latency_deviation == pytest.approx(2.887, rel=0.05)
    book.add("b", Sample(at=NOW, ok=False))
    other = book.condition("b", NOW)
    assert other is not None
    assert (other.latency, other.latency_p95, other.latency_deviation) == (None, None, None)
