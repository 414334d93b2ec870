"""Chance that can be replayed: numbers that follow from a seed alone, on every machine and in every version."""

from collections.abc import Sequence
from typing import Final, TypeVar

_MASK: Final = (1 << 64) - 1
T = TypeVar("T")


class Draws:
    """SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014)."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def bits(self) -> int:
        """64 bits."""
        self._state = state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return state ^ (state >> 31)

    def fraction(self) -> float:
        """From 0 up to, but without, 1."""
        return (self.bits() >> 11) * (1.0 / (1 << 53))

    def fractions(self, count: int) -> list[float]:
        """So many fractions: what `fraction` gives one after another, but sooner."""
        state, found = self._state, []
        for _ in range(count):
            state = (state + 0x9E3779B97F4A7C15) & _MASK
            bits = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
            bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
            found.append(((bits ^ (bits >> 31)) >> 11) * (1.0 / (1 << 53)))
        self._state = state
        return found

    def below(self, count: int) -> int:
        """A whole number from 0 up to, but without, ``count``. The bias of less than count/2^64 is accepted."""
        return (self.bits() * count) >> 64

    def weighted(self, weights: Sequence[float]) -> int:
        """An index, drawn by weight; each is as likely as another when no weight is above 0."""
        total = sum(weights)
        if total <= 0:
            return self.below(len(weights))
        left = self.fraction() * total
        for index, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return index
        return max(index for index, weight in enumerate(weights) if weight > 0)  # what rounding left over

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """A copy in random order (Fisher and Yates)."""
        mixed, state = list(items), self._state
        for count in range(len(mixed), 1, -1):  # `below(count)`, without a call for each
            state = (state + 0x9E3779B97F4A7C15) & _MASK
            bits = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
            bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
            other = ((bits ^ (bits >> 31)) * count) >> 64
            mixed[count - 1], mixed[other] = mixed[other], mixed[count - 1]
        self._state = state
        return mixed
