"""The windows of budgets: which spending counts together. All of it depends on instants alone, never on a clock.

An amount belongs to the *period* in which its request began. A period is named by the instant (us since 1970 UTC) at
which it begins, so every process and every later reader names it alike, whatever their clocks say.

    none      one period, for ever
    day       from 00:00 UTC
    week      from Monday 00:00 UTC
    month     from the first day, 00:00 UTC
    rolling   a sixtieth of the window; any sixty of them and one more count together
"""

import datetime
from typing import Final, Literal

import msgspec

WindowKind = Literal["none", "day", "week", "month", "rolling"]
KINDS: Final[tuple[WindowKind, ...]] = ("none", "day", "week", "month", "rolling")
SLOTS: Final = 60
SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
WEEK_US: Final = 7 * DAY_US
MONDAY_US: Final = 4 * DAY_US  # 1970-01-05, the first Monday
SHORTEST_SECONDS: Final = 60
LONGEST_SECONDS: Final = 366 * 86_400


class Window(msgspec.Struct, frozen=True):
    """A kind of window; ``seconds`` is the length of a rolling one, 0 of all others."""

    kind: WindowKind = "none"
    seconds: int = 0

    @property
    def slot_us(self) -> int:
        """The length of a rolling window's period."""
        return self.seconds * SECOND_US // SLOTS

    def period(self, at: int) -> int:
        """The period that holds the instant ``at``."""
        match self.kind:
            case "none":
                return 0
            case "day":
                return at - at % DAY_US
            case "week":
                return at - (at - MONDAY_US) % WEEK_US
            case "rolling":
                return at - at % self.slot_us
        first = _day(at).replace(day=1)
        return _us(first)

    def span(self, period: int) -> tuple[int, int]:
        """The first and the last period that count together with this one.

        A rolling window looks both ways: when a clock was set back there may be spending in what is now the future,
        and no window that holds both may be overspent.
        """
        if self.kind != "rolling":
            return period, period
        reach = SLOTS * self.slot_us
        return period - reach, period + reach

    def end(self, period: int) -> int | None:
        """From when on nothing spent in this period counts any more; None: it always does."""
        match self.kind:
            case "none":
                return None
            case "day":
                return period + DAY_US
            case "week":
                return period + WEEK_US
            case "rolling":
                return period + (SLOTS + 1) * self.slot_us
        first = _day(period)
        return _us(datetime.datetime(first.year + first.month // 12, first.month % 12 + 1, 1, tzinfo=datetime.UTC))

    def turn(self, at: int) -> int:
        """The window that an alert at this instant belongs to, by its beginning: each threshold is told once in it."""
        if self.kind != "rolling":
            return self.period(at)
        return at - at % (self.seconds * SECOND_US)


def _day(at: int) -> datetime.datetime:
    midnight = datetime.datetime.fromtimestamp(at // SECOND_US, datetime.UTC)
    return midnight.replace(hour=0, minute=0, second=0)


def _us(moment: datetime.datetime) -> int:
    return int(moment.timestamp()) * SECOND_US
