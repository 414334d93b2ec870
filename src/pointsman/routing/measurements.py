"""How fast and how reliably targets answer: windows over the last minutes, and over a day. Pure: time is passed in.

Per target there are slots of 15 seconds for half an hour, with counts and two histograms, and slots of five minutes
with counts for a day. A percentile is read from a histogram whose bounds lie 8 % apart, so it is right to 4 %. A target
that nothing is asked of for a day is forgotten, and so is the one asked longest ago when there are too many.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from math import exp, floor, log, sqrt
from typing import Final

import msgspec

from pointsman.routing.plan import FINE, Condition

SECOND: Final = 1_000_000
SLOT: Final = 15 * SECOND
SLOTS: Final = 120  # half an hour
LONG_SLOT: Final = 300 * SECOND
LONG_SLOTS: Final = 288  # a day
PREFERENCE_WINDOW: Final = 300 * SECOND  # what requests choose by (OpenRouter's figure)
SHOWN_WINDOW: Final = 1800 * SECOND  # what lists of endpoints show
DAY: Final = 86400 * SECOND
MAX_TARGETS: Final = 10_000
MAX_RECENT: Final = 64  # outcomes kept to tell an outage
# An outage: of the attempts of half a minute at least five, and half of them, failed; or three in a row.
OUTAGE_WINDOW: Final = 30 * SECOND
OUTAGE_ATTEMPTS: Final = 5
OUTAGE_SHARE: Final = 0.5
OUTAGE_IN_A_ROW: Final = 3
FRESH: Final = 1 * SECOND  # a condition that was worked out is good for so long
PERCENTILES: Final = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99}
_STEP: Final = log(1.08)

Histogram = dict[int, int]


class Sample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt that is over: when (us), whether it was answered, and of an answer seconds to its first token,
    tokens a second, and seconds of all of it.
    """

    at: int
    ok: bool
    first_token: float | None = None
    throughput: float | None = None
    latency: float | None = None


class Figures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a window holds: attempts and how many were answered, percentiles of seconds and of tokens a second."""

    attempts: int = 0
    answered: int = 0
    first_token: dict[str, float] = {}
    throughput: dict[str, float] = {}
    latency: float | None = None  # of whole answers: mean, 95th percentile, standard deviation
    latency_p95: float | None = None
    latency_deviation: float | None = None

    @property
    def uptime(self) -> float | None:
        """The answered part of the attempts, 0 to 1; None without any."""
        return self.answered / self.attempts if self.attempts else None


class Slot(msgspec.Struct, kw_only=True):
    """The attempts of some seconds, ``number`` slots after 1970."""

    number: int
    attempts: int = 0
    answered: int = 0
    first_token: Histogram = {}
    throughput: Histogram = {}
    latency: Histogram = {}


class _History:
    """One target's."""

    __slots__ = ("condition", "condition_at", "long", "recent", "seen", "short")

    def __init__(self) -> None:
        self.short: deque[Slot] = deque(maxlen=SLOTS)
        self.long: deque[Slot] = deque(maxlen=LONG_SLOTS)
        self.recent: deque[tuple[int, bool]] = deque(maxlen=MAX_RECENT)
        self.seen = 0
        self.condition: Condition = FINE
        self.condition_at = -FRESH

    def add(self, sample: Sample, weight: int) -> None:
        self.seen = max(self.seen, sample.at)
        self.condition_at = -FRESH
        self.recent.append((sample.at, sample.ok))
        for slots, length in ((self.short, SLOT), (self.long, LONG_SLOT)):
            slot = _slot(slots, sample.at // length)
            slot.attempts += weight
            slot.answered += weight * sample.ok
            if length == SLOT:
                _count(slot.first_token, sample.first_token, weight)
                _count(slot.throughput, sample.throughput, weight)
                _count(slot.latency, sample.latency, weight)

    def figures(self, since: int) -> Figures:
        slots = [slot for slot in self.short if slot.number * SLOT >= since]
        mean, p95, deviation = _spread([slot.latency for slot in slots])
        return Figures(
            attempts=sum([slot.attempts for slot in slots]),
            answered=sum([slot.answered for slot in slots]),
            first_token=_percentiles([slot.first_token for slot in slots]),
            throughput=_percentiles([slot.throughput for slot in slots]),
            latency=mean,
            latency_p95=p95,
            latency_deviation=deviation,
        )

    def unstable(self, now: int) -> bool:
        lately = [ok for at, ok in self.recent if now - at <= OUTAGE_WINDOW]
        failed = lately.count(False)
        if len(lately) >= OUTAGE_ATTEMPTS and failed >= OUTAGE_SHARE * len(lately):
            return True
        return len(lately) >= OUTAGE_IN_A_ROW and not any(lately[-OUTAGE_IN_A_ROW:])


class Measurements:
    """What the attempts of this process, and what other processes have told of theirs, say of every target."""

    def __init__(self) -> None:
        self._targets: OrderedDict[str, _History] = OrderedDict()

    def __len__(self) -> int:
        return len(self._targets)

    def add(self, target_id: str, sample: Sample, weight: int = 1) -> None:
        """Count one attempt, or ``weight`` of them that are alike."""
        history = self._targets.get(target_id)
        if history is None:
            history = self._targets[target_id] = _History()
            self._shrink(sample.at)
        else:
            self._targets.move_to_end(target_id)
        history.add(sample, weight)

    def condition(self, target_id: str, now: int, base: Condition | None = None) -> Condition | None:
        """How a target does, with its figures of the last five minutes; ``base`` is what its health says. None: nothing
        is known of it.
        """
        history = self._targets.get(target_id)
        if history is None or now - history.seen > PREFERENCE_WINDOW:
            return base
        if now - history.condition_at >= FRESH:
            figures = history.figures(now - PREFERENCE_WINDOW)
            history.condition = Condition(
                unstable=history.unstable(now),
                calls=figures.attempts,
                success_rate=figures.uptime,
                first_token=figures.first_token,
                throughput=figures.throughput,
                latency=figures.latency,
                latency_p95=figures.latency_p95,
                latency_deviation=figures.latency_deviation,
            )
            history.condition_at = now
        measured = history.condition
        if base is None:
            return measured
        return msgspec.structs.replace(
            base,
            unstable=base.unstable or measured.unstable,
            calls=measured.calls,
            success_rate=measured.success_rate,
            first_token=measured.first_token,
            throughput=measured.throughput,
            latency=measured.latency,
            latency_p95=measured.latency_p95,
            latency_deviation=measured.latency_deviation,
        )

    def _shrink(self, now: int) -> None:
        while self._targets:
            oldest = next(iter(self._targets.values()))
            if len(self._targets) <= MAX_TARGETS and (now - oldest.seen <= DAY or not oldest.seen):
                return
            self._targets.popitem(last=False)

    def figures(self, target_id: str, now: int, window: int = SHOWN_WINDOW) -> Figures:
        """What a list of endpoints shows; ``window`` in us, at most half an hour."""
        history = self._targets.get(target_id)
        return Figures() if history is None else history.figures(now - min(window, SHOWN_WINDOW))

    def day(self, target_id: str, now: int) -> tuple[int, int]:
        """The attempts of the last day, and how many of them were answered."""
        history = self._targets.get(target_id)
        slots = [slot for slot in history.long if slot.number * LONG_SLOT >= now - DAY] if history is not None else []
        return sum([slot.attempts for slot in slots]), sum([slot.answered for slot in slots])

    def export(self, now: int) -> dict[str, list[Slot]]:
        """The slots of the last half hour, for another process to `merge`."""
        since = (now - SHOWN_WINDOW) // SLOT
        told = {name: [slot for slot in history.short if slot.number >= since]
                for name, history in self._targets.items()}  # fmt: skip
        return {name: slots for name, slots in told.items() if slots}


def merged(parts: Iterable[dict[str, list[Slot]]]) -> Measurements:
    """What several processes have measured, as one: percentiles of all their answers, but no outages."""
    whole = Measurements()
    for part in parts:
        for name, slots in part.items():
            history = whole._targets.setdefault(name, _History())
            for slot in slots:
                history.seen = max(history.seen, slot.number * SLOT)
                _add(_slot(history.short, slot.number), slot)
    return whole


def _add(slot: Slot, other: Slot) -> None:
    slot.attempts += other.attempts
    slot.answered += other.answered
    for mine, theirs in (
        (slot.first_token, other.first_token), (slot.throughput, other.throughput), (slot.latency, other.latency)
    ):  # fmt: skip
        for place, count in theirs.items():
            mine[place] = mine.get(place, 0) + count


def _slot(slots: deque[Slot], number: int) -> Slot:
    """The slot of a time. Attempts end in any order: an older one goes to its own slot, if there is one."""
    if not slots or slots[-1].number < number:
        slots.append(Slot(number=number))
        return slots[-1]
    for slot in reversed(slots):
        if slot.number <= number:
            return slot if slot.number == number else slots[-1]
    return slots[0]


def _count(histogram: Histogram, value: float | None, weight: int) -> None:
    if value is not None and value > 0:
        place = floor(log(value) / _STEP)
        histogram[place] = histogram.get(place, 0) + weight


def _together(histograms: Sequence[Histogram]) -> Histogram:
    together: Histogram = {}
    for histogram in histograms:
        for place, count in histogram.items():
            together[place] = together.get(place, 0) + count
    return together


def _spread(histograms: Sequence[Histogram]) -> tuple[float | None, float | None, float | None]:
    """Mean, 95th percentile and standard deviation; None without a value."""
    together = _together(histograms)
    total = sum(together.values())
    if not total:
        return None, None, None
    values = [(exp((place + 0.5) * _STEP), count) for place, count in sorted(together.items())]
    mean = sum(value * count for value, count in values) / total
    variance = sum((value - mean) ** 2 * count for value, count in values) / total
    passed, p95 = 0, values[-1][0]
    for value, count in values:
        passed += count
        if passed >= 0.95 * total:
            p95 = value
            break
    return mean, p95, sqrt(variance)


def _percentiles(histograms: Sequence[Histogram]) -> dict[str, float]:
    together = _together(histograms)
    total = sum(together.values())
    if not total:
        return {}
    found: dict[str, float] = {}
    places, passed = iter(sorted(together.items())), 0
    place, count = next(places)
    for name, share in PERCENTILES.items():
        while passed + count < share * total:
            passed += count
            place, count = next(places)
        found[name] = exp((place + 0.5) * _STEP)
    return found
