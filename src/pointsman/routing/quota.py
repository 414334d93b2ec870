"""What upstreams tell of an account's limits in the headers of their answers. Instants in us."""

from collections.abc import Mapping
from typing import Final

import msgspec

from pointsman.routing.hints import counted, wait

SECOND: Final = 1_000_000
MAX_WINDOW: Final = 86_400.0  # seconds; a reset that is later says nothing about now
OVER_LIMIT: Final = b"x-ratelimit-over-limit"
# Until the next look at an account's headers: with much left, with less, and where there is nothing to read.
FAR, NEAR, NEVER_TOLD = SECOND, SECOND // 10, 60 * SECOND


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One limit: how much, how much is left, and when it is full again."""

    limit: float
    remaining: float
    reset_at: int


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """An account's limits as it was told at ``seen_at``, by what they count (``requests``, ``tokens`` ...)."""

    windows: dict[str, Window]
    seen_at: int
    over: bool = False  # the upstream lets calls through beyond the limit, and says so

    def headroom(self, now: int) -> float | None:
        """The part that is left of what is nearest to its end, 0 to 1; None when nothing is known of now."""
        shares = [one.remaining / one.limit for one in self.windows.values() if one.reset_at > now and one.limit > 0]
        return max(0.0, min([1.0, *shares])) if shares else None

    def full_again(self, share: float, now: int) -> int:
        """When all windows that have no more than ``share`` left are full again; 0: none has so little."""
        low = [one.reset_at for one in self.windows.values() if one.limit > 0 and one.remaining <= share * one.limit]
        return max((at for at in low if at > now), default=0)


def read_quota(headers: Mapping[bytes, bytes], now: int) -> Quota | None:
    """The limits in the headers of an answer; None when it tells none."""
    windows: dict[str, Window] = {}
    for what, limit, remaining, reset in counted(headers):
        seconds = wait(reset, now)
        if limit is None or remaining is None or seconds is None or seconds > MAX_WINDOW or what in windows:
            continue
        windows[what] = Window(limit=limit, remaining=remaining, reset_at=now + int(seconds * SECOND))
    if not windows:
        return None
    return Quota(windows=windows, seen_at=now, over=headers.get(OVER_LIMIT, b"").lower() == b"yes")


def next_look(quota: Quota | None, now: int) -> int:
    """When an account's headers are worth a look again."""
    if quota is None:
        return now + NEVER_TOLD
    left = quota.headroom(now)
    if left is None or left > 0.5:
        return now + FAR
    return now + NEAR if left > 0.1 else now
