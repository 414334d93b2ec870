"""A clock that stands still until a test moves it."""


class DrivenClock:
    """Both of its times move together."""

    def __init__(self, start_us: int = 1_790_000_000_000_000) -> None:
        self.us = start_us
        self._set_by = 0
        self._made = 0

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.us += round(seconds * 1e6)

    def jump(self, seconds: float) -> None:
        """Set the time of day; the other one goes on."""
        self._set_by += round(seconds * 1e6)

    def monotonic(self) -> float:
        """Seconds."""
        return self.us / 1e6

    def now_us(self) -> int:
        """Microseconds."""
        return self.us + self._set_by

    def new_id(self, prefix: str, now_us: int | None = None) -> str:
        """Numbered from 1."""
        self._made += 1
        return f"{prefix}{self._made}"
