"""Figures of the last minutes: percentiles, outages, what is forgotten, what several processes make together."""

import random

import msgspec

from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.canonical.samples import PERCENTILES, Sample, samples
from pointsman.errors import Kind
from pointsman.routing import measurements
from pointsman.routing.measurements import SLOT, Measurements, Slot
from pointsman.routing.plan import Condition
from pointsman.routing.sticky import TOLD_ANEW, Place, StickyBook

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
    for name, share in PERCENTILES.items():
        exact = values[int(share * len(values))]
        assert abs(found.first_token[name] / exact - 1) < 0.06
    assert abs(found.throughput["p50"] / (100 / values[2500]) - 1) < 0.06
    assert (found.calls, found.success_rate) == (5000, 1.0)


def test_only_the_last_five_minutes_count() -> None:
    book = Measurements()
    book.add("a", answered(NOW - 310 * SECOND, 8.0))
    book.add("a", answered(NOW - 10 * SECOND, 1.0))
    assert condition(book).calls == 1
    assert abs(condition(book).first_token["p50"] - 1.0) < 0.05
    assert book.figures("a", NOW).attempts == 1
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
    book.add("late", answered(NOW + 2 * measurements.IDLE))
    assert len(book) == 1


def tell(teller: Measurements, listener: Measurements, writer: str = "w") -> int:
    """Hand over what is new; gives how many slots."""
    changes = teller.take_changes(1000)
    for target_id, slot in changes:
        listener.adopt(writer, target_id, msgspec.json.decode(msgspec.json.encode(slot), type=Slot))
    return len(changes)


def test_processes_make_one_together() -> None:
    one, other, listener = Measurements(), Measurements(), Measurements()
    for number, book in enumerate((one, other)):
        for _ in range(10):
            book.add("a", answered(NOW, 1.0 + number * 9))
        book.add("a", failed(NOW))
    listener.add("a", answered(NOW, 1.0))
    assert (tell(one, listener, "one"), tell(other, listener, "other")) == (1, 1)
    whole = listener.figures("a", NOW)
    assert (whole.attempts, whole.answered) == (23, 21)
    assert whole.first_token["p90"] > 9 > 1.1 > whole.first_token["p50"]
    assert listener.take_changes(10) == [("a", msgspec.convert([NOW // SLOT, 1, 1, {0: 1}, {}], Slot))]


def test_what_is_told_again_of_the_same_seconds_counts_once() -> None:
    teller, listener = Measurements(), Measurements()
    for _ in range(3):
        teller.add("a", answered(NOW, 2.0))
        tell(teller, listener)
    assert tell(teller, listener) == 0
    assert listener.figures("a", NOW).attempts == 3
    listener.tidy(NOW + 3600 * SECOND)
    assert not listener._told


def test_changes_that_could_not_be_told_are_told_later() -> None:
    book = Measurements()
    for number in range(5):
        book.add(f"t{number}", answered(NOW))
    first = book.take_changes(3)
    assert len(first) == 3
    book.put_back(first)
    assert {name for name, _ in book.take_changes(10)} == {f"t{number}" for number in range(5)}


def test_an_outage_that_others_saw_is_one_here() -> None:
    teller, listener = Measurements(), Measurements()
    for _ in range(5):
        teller.add("a", failed(NOW))
    tell(teller, listener)
    assert condition(listener).unstable
    assert not condition(listener, NOW + 60 * SECOND).unstable


def record(**members: object) -> RequestRecord:
    """A finished request for the model ``m``."""
    return RequestRecord(
        request_id="r", created_at=NOW, operation="chat", route="/", dialect="d", request_model="m",
        connection_id="a", target="a/m", duration_us=3_000_000, upstream_us=2_500_000, first_byte_us=1_000_000,
        output_tokens=100,
        **members,  # type: ignore[arg-type]
    )  # fmt: skip


def test_finished_requests_tell_who_answered_how_fast_and_who_failed() -> None:
    [(name, sample)] = samples(record(outcome=Outcome.SUCCESS, stream=True))
    assert (name, sample.ok, sample.first_token, sample.throughput) == ("a/m", True, 0.5, 50.0)
    tried = '[["b/m","unavailable",502,10],["c/m","rate_limited",429,10]]'
    found = samples(record(outcome=Outcome.SUCCESS, attempts=tried))
    assert [(name, sample.ok) for name, sample in found] == [("b/m", False), ("a/m", True)]
    assert samples(record(outcome=Outcome.ERROR, error_kind=Kind.INVALID_REQUEST)) == []
    assert samples(record(outcome=Outcome.ERROR, error_kind=Kind.RATE_LIMITED)) == []
    assert samples(record(outcome=Outcome.CLIENT_CLOSED)) == []
    [(_, sample)] = samples(record(outcome=Outcome.ERROR, error_kind=Kind.UPSTREAM_TIMEOUT))
    assert not sample.ok


def test_conversations_are_forgotten_when_idle_and_when_there_are_too_many() -> None:
    book = StickyBook(most=2, idle=10 * SECOND)
    book.keep("1", "a/m", NOW)
    assert book.find("1", NOW + 9 * SECOND) == "a/m"
    assert book.find("2", NOW) is None
    book.keep("1", "a/m", NOW + 9 * SECOND)
    assert book.find("1", NOW + 18 * SECOND) == "a/m"
    assert book.find("1", NOW + 19 * SECOND) is None
    for number in range(3):
        book.keep(str(number), "a/m", NOW)
    assert (len(book), book.find("0", NOW)) == (2, None)


def test_a_conversation_that_stays_is_told_once_a_minute() -> None:
    book = StickyBook()
    book.keep("1", "a/m", NOW)
    assert book.take_changes(10) == [Place("1", "a/m", NOW)]
    book.keep("1", "a/m", NOW + SECOND)
    assert book.take_changes(10) == []
    book.keep("1", "b/m", NOW + 2 * SECOND)
    book.keep("1", "a/m", NOW + 3 * SECOND)
    assert book.take_changes(10) == []
    book.keep("1", "a/m", NOW + TOLD_ANEW)
    assert len(book.take_changes(10)) == 1


def test_the_later_answer_of_two_processes_holds() -> None:
    book = StickyBook()
    book.keep("1", "a/m", NOW)
    book.adopt(Place("1", "b/m", NOW - SECOND))
    assert book.find("1", NOW) == "a/m"
    book.adopt(Place("1", "b/m", NOW + SECOND))
    assert book.find("1", NOW) == "b/m"


def test_two_processes_that_disagree_come_to_the_later_answer_whoever_tells_last() -> None:
    one, other = StickyBook(), StickyBook()
    one.keep("1", "a/m", NOW)
    first = one.take_changes(10)
    other.keep("1", "b/m", NOW + SECOND)
    one.keep("1", "a/m", NOW + 2 * SECOND)
    stored = first[0]
    for _ in range(3):  # each tells what is new, then reads what is stored
        for book in (other, one):
            for place in book.take_changes(10):
                if place.used_at >= stored.used_at:
                    stored = place
            book.adopt(stored)
    assert stored == Place("1", "a/m", NOW + 2 * SECOND)
    assert one.find("1", NOW) == other.find("1", NOW) == "a/m"
    assert one.take_changes(10) == other.take_changes(10) == []
