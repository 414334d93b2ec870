"""The windows of shared limits in the memory of one process that answers for several. See leases.py for their use."""

from collections.abc import Callable

from pointsman.accounting.leases import LeaseAnswer, LeaseQuestion
from pointsman.accounting.windows import MOST_WINDOWS, SLOTS, Windows


class LeaseBook:
    """What was given out of each window, by slot. It answers as redis_store.py does; ``now_us`` never goes back."""

    def __init__(self, now_us: Callable[[], int], most: int = MOST_WINDOWS) -> None:
        self._now_us = now_us
        self.windows = Windows(most)

    def grant(self, name: str, question: LeaseQuestion) -> LeaseAnswer:
        """Take back what is returned, note what is owed, and give what fits; nothing of a need beyond the limit."""
        now, length = self._now_us(), question.slot_us
        slot = now // length
        self.windows.sweep(1, now)
        window = self.windows.counter(name, length * SLOTS)
        for given_in, amount in question.returned:
            window.correct(given_in, -amount, now)
        if question.owed:
            window.take(question.owed, now)
        granted = wait = 0
        if 0 < question.need <= question.limit:
            wait = window.wait(question.need, question.limit, now)
            if not wait:
                free, _ = window.remaining(question.limit, now)
                granted = max(question.need, min(question.portion, free // 4))
                window.take(granted, now)
        remaining, all_free = window.remaining(question.limit, now)
        return LeaseAnswer(
            granted=granted,
            slot=slot,
            slot_left_us=(slot + 1) * length - now,
            wait_us=wait,
            remaining=remaining,
            all_free_us=all_free,
        )
