"""A straight line through samples: how fast something grows, and how sure that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Slope:
    """Growth in units per second by least squares, and its standard error."""

    per_second: float
    error: float


def slope(times: Sequence[float], values: Sequence[float]) -> Slope:
    """The line through at least three samples; raises ValueError for fewer, or when all times are the same."""
    if len(times) < 3:
        raise ValueError("a slope needs three samples")
    middle, level = fmean(times), fmean(values)
    spread = sum((time - middle) ** 2 for time in times)
    if not spread:
        raise ValueError("all samples are of the same time")
    rise = sum((time - middle) * (value - level) for time, value in zip(times, values, strict=True)) / spread
    rest = sum((value - level - rise * (time - middle)) ** 2 for time, value in zip(times, values, strict=True))
    return Slope(rise, math.sqrt(rest / (len(times) - 2) / spread))
