"""What upstreams tell of an account's limits in the headers of their answers. Instants in us."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pointsman.routing.hints import count, counted, wait
from pointsman.routing.plan import QuotaWindow

SECOND: Final = 1_000_000
MAX_WINDOW: Final = 86_400.0  # seconds; a reset that is later says nothing about now
OVER_LIMIT: Final = b"x-ratelimit-over-limit"
# Windows of subscriptions: kind, header of the part that is used, header of the reset.
UNIFIED: Final = tuple(
    (
        kind,
        f"anthropic-ratelimit-unified-{span}-utilization".encode(),
        f"anthropic-ratelimit-unified-{span}-reset".encode(),
    )
    for kind, span in (("session", "5h"), ("weekly", "7d"))
)
CODEX: Final = tuple(
    (f"x-codex-{which}-used-percent".encode(), f"x-codex-{which}-window-minutes".encode(),
     tuple(f"x-codex-{which}-{reset}".encode() for reset in ("reset-after-seconds", "resets-in-seconds", "reset-at")))
    for which in ("primary", "secondary")
)  # fmt: skip
KINDS: Final = ((600, "session"), (2880, "daily"), (20_160, "weekly"))  # up to so many minutes; else monthly
LONGEST_PLAN: Final = 40 * 86_400.0  # seconds; a reset that is later is none
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
    plan: tuple[QuotaWindow, ...] = ()  # of accounts that pay by the month: hours and days, told in shares
    over: bool = False  # the upstream lets calls through beyond the limit, and says so

    def headroom(self, now: int) -> float | None:
        """The part that is left of what is nearest to its end, 0 to 1; None when nothing is known of now."""
        shares = [one.remaining / one.limit for one in self.windows.values() if one.reset_at > now and one.limit > 0]
        shares += [one.remaining for one in self.live(now)]
        return max(0.0, min([1.0, *shares])) if shares else None

    def live(self, now: int) -> tuple[QuotaWindow, ...]:
        """The windows of the account's plan that are not over."""
        return tuple([one for one in self.plan if one.resets_at is None or one.resets_at > now])

    def full_again(self, share: float, now: int) -> int:
        """When all windows that have no more than ``share`` left are full again; 0: none has so little."""
        low = [one.reset_at for one in self.windows.values() if one.limit > 0 and one.remaining <= share * one.limit]
        low += [one.resets_at for one in self.plan if one.resets_at is not None and one.remaining <= share]
        return max((at for at in low if at > now), default=0)


def read_quota(headers: Mapping[bytes, bytes], now: int) -> Quota | None:
    """The limits in the headers of an answer; None when it tells none."""
    windows: dict[str, Window] = {}
    for what, limit, remaining, reset in counted(headers):
        seconds = wait(reset, now)
        if limit is None or remaining is None or seconds is None or seconds > MAX_WINDOW or what in windows:
            continue
        windows[what] = Window(limit=limit, remaining=remaining, reset_at=now + int(seconds * SECOND))
    plan = _plan(headers, now)
    if not windows and not plan:
        return None
    return Quota(windows=windows, seen_at=now, plan=plan, over=headers.get(OVER_LIMIT, b"").lower() == b"yes")


def _plan(headers: Mapping[bytes, bytes], now: int) -> tuple[QuotaWindow, ...]:
    """The windows of a subscription: Anthropic tells the part that is used, Codex per cent and minutes."""
    found: dict[str, QuotaWindow] = {}
    for kind, used, reset in UNIFIED:
        _add(found, kind, _number(headers, used), _seconds(headers.get(reset), now), now)
    for used, minutes, resets in CODEX:
        length, share = _number(headers, minutes), _number(headers, used)
        if length and share is not None:
            seconds = next((one for name in resets if (one := _seconds(headers.get(name), now)) is not None), None)
            _add(found, next((kind for most, kind in KINDS if length <= most), "monthly"), share / 100, seconds, now)
    return tuple(found.values())


def _add(found: dict[str, QuotaWindow], kind: Any, used: float | None, seconds: float | None, now: int) -> None:
    if used is not None and kind not in found:
        resets_at = now + int(seconds * SECOND) if seconds is not None and seconds <= LONGEST_PLAN else None
        found[kind] = QuotaWindow(kind=kind, remaining=min(1.0, max(0.0, 1 - used)), resets_at=resets_at)


def _number(headers: Mapping[bytes, bytes], name: bytes) -> float | None:
    return count(value) if (value := headers.get(name)) else None


def _seconds(value: bytes | None, now: int) -> float | None:
    return wait(value.decode("latin-1"), now) if value else None


def next_look(quota: Quota | None, now: int) -> int:
    """When an account's headers are worth a look again."""
    if quota is None:
        return now + NEVER_TOLD
    left = quota.headroom(now)
    if left is None or left > 0.5:
        return now + FAR
    return now + NEAR if left > 0.1 else now
