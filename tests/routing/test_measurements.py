"""Figures of the last minutes: percentiles, outages, what is forgotten, what several processes make together."""

import random

from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.errors import Kind
from pointsman.planning import samples
from pointsman.routing import measurements
from pointsman.routing.catalogue import Catalogue
from pointsman.routing.measurements import Measurements, Sample, merged
from pointsman.routing.plan import Condition
from pointsman.routing.sticky import StickyBook
from pointsman.routing.targets import Connection

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND


def answered(at: int, first: float | None = None, speed: float | None = None) -> Sample:
    """An attempt that went well."""
    return Sample(at=at, ok=True, first_token=first, throughput=speed)


def failed(at: int) -> Sample:
    """One that did not."""
    return Sample(at=at, ok=False)


def condition(book: Measurements, now: int = NOW) -> Condition:
    """Of the target ``a``."""
    found = book.condition("a", now)
    assert found is not None
    return found


def test_percentiles_are_right_to_a_few_percent() -> None:
    chance, book = random.Random(7), Measurements()
    values = sorted(chance.lognormvariate(0, 1) for _ in range(5000))
    for value in chance.sample(values, len(values)):
        book.add("a", answered(NOW - chance.randrange(280) * SECOND, value, 100 / value))
    found = condition(book)
    for name, share in measurements.PERCENTILES.items():
        exact = values[int(share * len(values))]
        assert abs(found.first_token[name] / exact - 1) < 0.06
    assert abs(found.throughput["p50"] / (100 / values[2500]) - 1) < 0.06
    assert (found.calls, found.success_rate) == (5000, 1.0)


def test_only_the_last_five_minutes_count_for_choosing_and_half_an_hour_is_shown() -> None:
    book = Measurements()
    book.add("a", answered(NOW - 1700 * SECOND, 8.0))
    book.add("a", answered(NOW - 10 * SECOND, 1.0))
    assert condition(book).calls == 1
    assert abs(condition(book).first_token["p50"] - 1.0) < 0.05
    assert book.figures("a", NOW).attempts == 2
    assert book.day("a", NOW + 3600 * SECOND) == (2, 2)
    assert book.condition("a", NOW + 400 * SECOND) is None
    assert book.condition("nobody", NOW) is None


def test_an_outage_is_half_of_five_or_three_in_a_row_within_half_a_minute() -> None:
    book = Measurements()
    for at in (9, 8):
        book.add("a", failed(NOW - at * SECOND))
    assert not condition(book).unstable
    book.add("a", failed(NOW - 7 * SECOND))
    assert condition(book).unstable
    book.add("a", answered(NOW - 6 * SECOND))
    assert not condition(book).unstable
    book.add("a", answered(NOW - 5 * SECOND))
    assert condition(book).unstable  # three of five
    for at in (4, 3):
        book.add("a", answered(NOW - at * SECOND))
    assert not condition(book).unstable
    assert not condition(book, NOW + 40 * SECOND).unstable


def test_health_keeps_its_say_beside_the_figures() -> None:
    book = Measurements()
    book.add("a", answered(NOW, 1.0))
    base = Condition(usable=False, until=NOW + 1, reason="busy")
    found = book.condition("a", NOW, base)
    assert found is not None
    assert (found.usable, found.reason, found.calls) == (False, "busy", 1)
    assert book.condition("b", NOW, base) is base


def test_memory_is_bounded() -> None:
    book = Measurements()
    for number in range(measurements.MAX_TARGETS + 5):
        book.add(f"t{number}", answered(NOW))
    assert len(book) <= measurements.MAX_TARGETS + 1
    book.add("late", answered(NOW + 2 * measurements.DAY))
    assert len(book) == 1


def test_processes_make_one_together() -> None:
    books = [Measurements(), Measurements()]
    for number, book in enumerate(books):
        for _ in range(10):
            book.add("a", answered(NOW, 1.0 + number * 9))
        book.add("a", failed(NOW))
    whole = merged(book.export(NOW) for book in books).figures("a", NOW)
    assert (whole.attempts, whole.answered) == (22, 20)
    assert whole.first_token["p90"] > 9 > 1.1 > whole.first_token["p50"]


def record(**members: object) -> RequestRecord:
    """A finished request for the model ``m``."""
    return RequestRecord(
        request_id="r", created_at=NOW, operation="chat", route="/", dialect="d", request_model="m",
        connection_id="a", duration_us=3_000_000, upstream_us=2_500_000, first_byte_us=1_000_000, output_tokens=100,
        **members,  # type: ignore[arg-type]
    )  # fmt: skip


def test_finished_requests_tell_who_answered_how_fast_and_who_failed() -> None:
    catalogue = Catalogue([Connection(id="a", kind="openai", models=("m",))], {})
    [(name, sample)] = samples(record(outcome=Outcome.SUCCESS, stream=True), catalogue)
    assert (name, sample.ok, sample.first_token, sample.throughput) == ("a/m", True, 0.5, 50.0)
    tried = '[["b/m","unavailable",502,10],["c/m","rate_limited",429,10]]'
    found = samples(record(outcome=Outcome.SUCCESS, attempts=tried), catalogue)
    assert [(name, sample.ok) for name, sample in found] == [("b/m", False), ("a/m", True)]
    assert samples(record(outcome=Outcome.ERROR, error_kind=Kind.INVALID_REQUEST), catalogue) == []
    assert samples(record(outcome=Outcome.ERROR, error_kind=Kind.RATE_LIMITED), catalogue) == []
    assert samples(record(outcome=Outcome.CLIENT_CLOSED), catalogue) == []
    [(_, sample)] = samples(record(outcome=Outcome.ERROR, error_kind=Kind.UPSTREAM_TIMEOUT), catalogue)
    assert not sample.ok


def test_conversations_are_forgotten_when_idle_and_when_there_are_too_many() -> None:
    book = StickyBook(most=2, idle=10 * SECOND)
    book.keep(("w", "m", "1"), "a/m", NOW)
    assert book.find(("w", "m", "1"), NOW + 9 * SECOND) == "a/m"
    assert book.find(("x", "m", "1"), NOW) is None
    book.keep(("w", "m", "1"), "a/m", NOW + 9 * SECOND)
    assert book.find(("w", "m", "1"), NOW + 18 * SECOND) == "a/m"
    assert book.find(("w", "m", "1"), NOW + 19 * SECOND) is None
    for number in range(3):
        book.keep(("w", "m", str(number)), "a/m", NOW)
    assert (len(book), book.find(("w", "m", "0"), NOW)) == (2, None)
