"""Our own words for rate limits: what may be used in which time, and where a caller stands."""

from typing import Final, Literal

import msgspec

Priority = Literal["low", "normal", "high"]
RANKS: Final[dict[str, int]] = {"low": 0, "normal": 1, "high": 2}
LOW, NORMAL, HIGH = 0, 1, 2


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a key, a workspace or a connection may use; None: as much as it likes. Tokens are input and output."""

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None

    def over(self, defaults: "Limits") -> "Limits":
        """These, and where one is None, that of ``defaults``."""
        return Limits(
            requests_per_minute=_either(self.requests_per_minute, defaults.requests_per_minute),
            requests_per_day=_either(self.requests_per_day, defaults.requests_per_day),
            tokens_per_minute=_either(self.tokens_per_minute, defaults.tokens_per_minute),
        )


NO_LIMITS: Final = Limits()


class Quota(msgspec.Struct, frozen=True):
    """A limit, what is left of it, and in how many us all of it will be there again."""

    limit: int
    remaining: int
    reset_us: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that a caller is nearest to; None where none applies. ``at_us``: when that was, in us since 1970."""

    at_us: int = 0
    requests: Quota | None = None
    tokens: Quota | None = None


def _either(first: int | None, second: int | None) -> int | None:
    return second if first is None else first
