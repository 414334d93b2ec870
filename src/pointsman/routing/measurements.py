"""How fast and how reliably targets answer: a window over the last five minutes. Pure: time is passed in.

Per target there are slots of 15 seconds with counts and two histograms: what this process has seen, and what others
have told of theirs. A target that nothing is asked of for ten minutes is forgotten, and so is the one asked longest ago
when there are too many. What lists of endpoints show is counted in the database (storage/endpoint_figures.py).
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final

import msgspec

from pointsman.canonical.samples import Histogram, Sample, percentiles, place_of, spread
from pointsman.routing.plan import FINE, Condition

SECOND: Final = 1_000_000
SLOT: Final = 15 * SECOND
WINDOW: Final = 300 * SECOND  # what requests choose by (OpenRouter's figure)
SLOTS: Final = WINDOW // SLOT + 2
IDLE: Final = 2 * WINDOW
MAX_TARGETS: Final = 10_000
MAX_TOLD: Final = 100_000  # slots of other processes
MAX_RECENT: Final = 64  # outcomes kept to tell an outage
# An outage: of the attempts of half a minute at least five, and half of them, failed; or three in a row.
OUTAGE_WINDOW: Final = 30 * SECOND
OUTAGE_ATTEMPTS: Final = 5
OUTAGE_SHARE: Final = 0.5
OUTAGE_IN_A_ROW: Final = 3
FRESH: Final = 1 * SECOND  # a condition that was worked out is good for so long


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


class Slot(msgspec.Struct, kw_only=True, array_like=True):
    """The attempts of some seconds, ``number`` slots after 1970."""

    number: int
    attempts: int = 0
    answered: int = 0
    first_token: Histogram = {}
    throughput: Histogram = {}
    latency: Histogram = {}


class _History:
    """One target's: the slots of this process (``own``), and the sums of all ``others``."""

    __slots__ = ("condition", "condition_at", "others", "own", "recent", "seen")

    def __init__(self) -> None:
        self.own: deque[Slot] = deque(maxlen=SLOTS)
        self.others: deque[Slot] = deque(maxlen=SLOTS)
        self.recent: deque[tuple[int, bool]] = deque(maxlen=MAX_RECENT)
        self.seen = 0
        self.condition: Condition = FINE
        self.condition_at = -FRESH

    def add(self, sample: Sample, weight: int) -> Slot:
        self.seen = max(self.seen, sample.at)
        self.condition_at = -FRESH
        self.recent.append((sample.at, sample.ok))
        slot = _slot(self.own, sample.at // SLOT)
        slot.attempts += weight
        slot.answered += weight * sample.ok
        _count(slot.first_token, sample.first_token, weight)
        _count(slot.throughput, sample.throughput, weight)
        _count(slot.latency, sample.latency, weight)
        return slot

    def figures(self, since: int) -> Figures:
        slots = [slot for slots in (self.own, self.others) for slot in slots if slot.number * SLOT >= since]
        mean, p95, deviation = spread([slot.latency for slot in slots])
        return Figures(
            attempts=sum([slot.attempts for slot in slots]),
            answered=sum([slot.answered for slot in slots]),
            first_token=percentiles([slot.first_token for slot in slots]),
            throughput=percentiles([slot.throughput for slot in slots]),
            latency=mean,
            latency_p95=p95,
            latency_deviation=deviation,
        )

    def unstable(self, now: int) -> bool:
        lately = [ok for at, ok in self.recent if now - at <= OUTAGE_WINDOW]
        elsewhere = [slot for slot in self.others if slot.number * SLOT >= now - OUTAGE_WINDOW]
        attempts = len(lately) + sum([slot.attempts for slot in elsewhere])
        failed = lately.count(False) + sum([slot.attempts - slot.answered for slot in elsewhere])
        if attempts >= OUTAGE_ATTEMPTS and failed >= OUTAGE_SHARE * attempts:
            return True
        return len(lately) >= OUTAGE_IN_A_ROW and not any(lately[-OUTAGE_IN_A_ROW:])


class Measurements:
    """What the attempts of this process, and what other processes have told of theirs, say of every target."""

    def __init__(self) -> None:
        self._targets: OrderedDict[str, _History] = OrderedDict()
        self._changed: dict[tuple[str, int], Slot] = {}
        self._told: dict[tuple[str, str, int], Slot] = {}  # by writer, target, slot

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
        slot = history.add(sample, weight)
        if len(self._changed) < MAX_TOLD:
            self._changed[target_id, slot.number] = slot

    def condition(self, target_id: str, now: int, base: Condition | None = None) -> Condition | None:
        """How a target does, with its figures of the last five minutes; ``base`` is what its health says. None: nothing
        is known of it.
        """
        history = self._targets.get(target_id)
        if history is None or now - history.seen > WINDOW:
            return base
        if now - history.condition_at >= FRESH:
            figures = history.figures(now - WINDOW)
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
            if len(self._targets) <= MAX_TARGETS and (now - oldest.seen <= IDLE or not oldest.seen):
                return
            self._targets.popitem(last=False)

    def figures(self, target_id: str, now: int) -> Figures:
        """The figures of the last five minutes."""
        history = self._targets.get(target_id)
        return Figures() if history is None else history.figures(now - WINDOW)

    # what processes tell each other

    def take_changes(self, most: int) -> list[tuple[str, Slot]]:
        """Slots of this process with new figures, with the ids of their targets: at most ``most``, then the next."""
        keys = list(self._changed)[:most]
        return [(target_id, self._changed.pop((target_id, number))) for target_id, number in keys]

    def put_back(self, changes: Iterable[tuple[str, Slot]]) -> None:
        """Changes that could not be told."""
        for target_id, slot in changes:
            self._changed[target_id, slot.number] = slot

    def adopt(self, writer: str, target_id: str, told: Slot) -> None:
        """What another process has in one slot by now; what it told before of the same slot is in it."""
        key = (writer, target_id, told.number)
        before = self._told.get(key)
        if before is None and len(self._told) >= MAX_TOLD:
            return
        self._told[key] = told
        history = self._targets.get(target_id)
        if history is None:
            history = self._targets[target_id] = _History()
            self._shrink(told.number * SLOT)
        history.seen = max(history.seen, told.number * SLOT)
        history.condition_at = -FRESH
        _add(_slot(history.others, told.number), told, before or Slot(number=told.number))

    def tidy(self, now: int) -> None:
        """Forget what others told of times that count no longer."""
        oldest = (now - WINDOW) // SLOT - 1
        self._told = {key: slot for key, slot in self._told.items() if slot.number >= oldest}


def _add(slot: Slot, told: Slot, before: Slot) -> None:
    """Count what is new in ``told`` since ``before``."""
    slot.attempts += told.attempts - before.attempts
    slot.answered += told.answered - before.answered
    for mine, theirs, theirs_before in (
        (slot.first_token, told.first_token, before.first_token),
        (slot.throughput, told.throughput, before.throughput),
        (slot.latency, told.latency, before.latency),
    ):
        for place, count in theirs.items():
            mine[place] = mine.get(place, 0) + count - theirs_before.get(place, 0)


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
        place = place_of(value)
        histogram[place] = histogram.get(place, 0) + weight
