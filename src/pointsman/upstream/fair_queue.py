"""A queue that is fair between callers: they take turns, and each caller's own items keep their order."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class FairQueue(Generic[T]):
    """Lines of items, one for each caller, served round robin. All but `pop_longest` take constant time.

    ``lines`` is for others to see, cheaply, whether anything waits.
    """

    def __init__(self) -> None:
        self.lines: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, caller: str, item: T) -> None:
        """Put ``item`` at the end of its caller's line; a caller without a line is the last to have a turn."""
        line = self.lines.get(caller)
        if line is None:
            line = self.lines[caller] = OrderedDict()
        line[item] = None
        self._length += 1

    def pop(self) -> T:
        """The first item of the caller whose turn it is. KeyError when there is none."""
        caller, line = self.lines.popitem(last=False)
        item, _ = line.popitem(last=False)
        if line:
            self.lines[caller] = line
        self._length -= 1
        return item

    def pop_longest(self, caller: str) -> T | None:
        """The last item of the longest line, when that line is longer than ``caller``'s would be with one more."""
        longest = max(self.lines, key=lambda name: len(self.lines[name]), default=None)
        own = len(self.lines.get(caller, ()))
        if longest is None or len(self.lines[longest]) <= own + 1:
            return None
        item, _ = self.lines[longest].popitem()
        self._length -= 1
        return item

    def discard(self, caller: str, item: T) -> None:
        """Take ``item`` out, if it is still there."""
        line = self.lines.get(caller)
        if line is None or item not in line:
            return
        del line[item]
        self._length -= 1
        if not line:
            del self.lines[caller]
