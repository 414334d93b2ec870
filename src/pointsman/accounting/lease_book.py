"""The windows of shared limits in the memory of one process that answers for several. See leases.py for their use."""

from collections.abc import Callable

from pointsman.accounting.counters import SLOTS
from pointsman.accounting.leases import LeaseAnswer, LeaseQuestion


class LeaseBook:
    """What was given out of each window, by slot. It answers as redis_store.py does; ``now_us`` never goes back."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._windows: dict[str, dict[int, int]] = {}  # slots in the order of time

    def grant(self, name: str, question: LeaseQuestion) -> LeaseAnswer:
        """Take back what is returned, note what is owed, and give what fits."""
        now, length = self._now_us(), question.slot_us
        slot = now // length
        used = self._windows.setdefault(name, {})
        for old in [one for one in used if one < slot - SLOTS]:
            del used[old]
        for given_in, amount in question.returned:
            if given_in in used:
                used[given_in] -= min(amount, used[given_in])
        if question.owed:
            used[slot] = used.get(slot, 0) + question.owed
        free = question.limit - sum(used.values())
        granted = wait = 0
        if 0 < question.need <= free:
            granted = max(question.need, min(question.portion, free // 4))
            used[slot] = used.get(slot, 0) + granted
        elif question.need:
            wait = _until_free(used, question.need - free, length) - now
        newest = max((one for one, amount in used.items() if amount), default=None)
        return LeaseAnswer(
            granted=granted,
            slot=slot,
            slot_left_us=(slot + 1) * length - now,
            wait_us=wait,
            remaining=max(0, free - granted),
            all_free_us=0 if newest is None else _end(newest, length) - now,
        )


def _until_free(used: dict[int, int], missing: int, length: int) -> int:
    """When ``missing`` will count no more. A need above the limit never fits: its asker refuses it before."""
    end = 0
    for slot, amount in used.items():
        end = _end(slot, length)
        missing -= amount
        if missing <= 0:
            break
    return end


def _end(slot: int, length: int) -> int:
    """When the whole slot is older than the window."""
    return (slot + SLOTS + 1) * length
