"""Windows of uses in this process' memory, by name: of those alone in which something counts, and not without end.

The algorithm is the sliding-window counter over fractions of the window (described by Figma in "An alternative approach
to rate limiting", 2017, https://www.figma.com/blog/an-alternative-approach-to-rate-limiting/): time is cut into slots
of a sixtieth of the window, uses are summed by slot, and a slot counts until the whole of it is older than the window.
So no window of any position holds more than the limit, and what was used comes back at most one slot late. A token
bucket would let twice the limit through a window, the counter over two fixed windows is only an approximation.

Ten million keys come and go in the life of a process. A window in which nothing counts any more is like one that never
was, so it is forgotten: each new window has some others looked at, in turn. Beyond a bound, of those looked at the one
in which the least is counted goes first: what its owner may use again is little.

Times are whole microseconds on a clock that never goes back.
"""

from collections import deque
from typing import Final

import structlog

SLOTS: Final = 60
MINUTE_US: Final = 60_000_000
DAY_US: Final = 86_400_000_000
MOST_WINDOWS: Final = 500_000  # some 450 bytes each
LOOKS: Final = 4  # at other windows for each new one
log = structlog.get_logger("pointsman.limits")


class Window:
    """What was used of one limit: at most 61 numbers."""

    __slots__ = ("slot_us", "slots", "total")

    def __init__(self, slot_us: int) -> None:
        self.slot_us = slot_us
        self.slots: dict[int, int] = {}  # in the order of time
        self.total = 0

    def expire(self, now: int) -> None:
        """Let go of slots that are older than the window."""
        slots, oldest_counted = self.slots, now // self.slot_us - SLOTS
        while slots:
            oldest = next(iter(slots))
            if oldest >= oldest_counted:
                return
            self.total -= slots.pop(oldest)


class Windows:
    """The windows, ``most`` of them."""

    def __init__(self, most: int = MOST_WINDOWS) -> None:
        self._most = most
        self._turns: deque[str] = deque()  # all names, those that were not looked at for the longest time first
        self.by_name: dict[str, Window] = {}
        self.forgotten = 0  # windows in which something counted

    def counter(self, name: str, window_us: int) -> "SlidingWindow":
        """What counts in the window of this name, whether there is one or not."""
        return SlidingWindow(self, name, window_us // SLOTS)

    def begin(self, name: str, slot_us: int, now: int) -> Window:
        """A new window."""
        self.sweep(LOOKS, now)
        window = self.by_name[name] = Window(slot_us)
        self._turns.append(name)
        return window

    def sweep(self, looks: int, now: int) -> None:
        """Look at that many windows, and forget those that are empty; where all have to stay and there are too many,
        the one that counts least.
        """
        stay: list[tuple[int, str]] = []
        for _ in range(min(looks, len(self._turns))):
            name = self._turns.popleft()
            window = self.by_name[name]
            window.expire(now)
            if window.slots:
                stay.append((window.total, name))
            else:
                del self.by_name[name]
        if len(self.by_name) >= self._most and stay:
            least = min(stay)
            stay.remove(least)
            del self.by_name[least[1]]
            self._tell_forgotten()
        self._turns.extend(name for _, name in stay)

    def _tell_forgotten(self) -> None:
        if not self.forgotten:
            log.warning("too many rate limits in use: those that count least are forgotten", most=self._most)
        self.forgotten += 1


class SlidingWindow:
    """A counter of the windows: any number of them may stand for one name, they count together."""

    __slots__ = ("_by_name", "_name", "_slot_us", "_windows")

    def __init__(self, windows: Windows, name: str, slot_us: int) -> None:
        self._windows = windows
        self._by_name = windows.by_name
        self._name = name
        self._slot_us = slot_us

    def wait(self, amount: int, limit: int, now: int) -> int:
        """Microseconds until ``amount`` fits into ``limit``."""
        window = self._by_name.get(self._name)
        if window is None:
            excess = amount - limit
        else:
            window.expire(now)
            excess = window.total + amount - limit
        if excess <= 0:
            return 0
        for slot, used in () if window is None else window.slots.items():
            excess -= used
            if excess <= 0:
                return (slot + SLOTS + 1) * self._slot_us - now
        raise ValueError("the amount is larger than the limit")

    def take(self, amount: int, now: int) -> int:
        """Count it now."""
        window = self._by_name.get(self._name)
        if window is None:
            window = self._windows.begin(self._name, self._slot_us, now)
        slot, slots = now // self._slot_us, window.slots
        slots[slot] = slots.get(slot, 0) + amount
        window.total += amount
        return slot

    def correct(self, slot: int, difference: int, now: int) -> None:
        """More is counted now, less is given back if its slot still counts."""
        if difference > 0:
            self.take(difference, now)
            return
        window = self._by_name.get(self._name)
        if window is None:
            return
        window.expire(now)
        used = window.slots.get(slot)
        if used is not None and difference:
            back = min(used, -difference)
            window.total -= back
            if back == used:
                del window.slots[slot]
            else:
                window.slots[slot] = used - back

    def remaining(self, limit: int, now: int) -> tuple[int, int]:
        """What is left, and when all is there again: when the newest slot counts no more."""
        window = self._by_name.get(self._name)
        if window is None:
            return limit, 0
        window.expire(now)
        if not window.slots:
            return limit, 0
        newest = next(reversed(window.slots))
        return max(0, limit - window.total), (newest + SLOTS + 1) * self._slot_us - now

    async def lease(self, amount: int, limit: int) -> None:
        """Nothing is ever missing here."""
