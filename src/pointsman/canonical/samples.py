"""What finished requests say of the targets that worked on them: answered or not, how soon, how fast.

Speeds are counted in histograms whose places lie 8 % apart, so that a percentile is right to 4 %, and histograms of
several processes or minutes can be added.
"""

from collections.abc import Iterable
from math import exp, floor, log, sqrt
from typing import Final

import msgspec

from pointsman.canonical.record import SHADOW, Outcome, RequestRecord
from pointsman.errors import Kind

# Errors of a call that are the upstream's. A limit is none: the endpoint works.
OUTAGES: Final = frozenset(
    (Kind.UPSTREAM_ERROR, Kind.UPSTREAM_REJECTED, Kind.UPSTREAM_TIMEOUT, Kind.UPSTREAM_UNAVAILABLE)
)
LEAST_TOKENS: Final = 2  # of an answer whose speed says something
PERCENTILES: Final = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99}
_STEP: Final = log(1.08)

Histogram = dict[int, int]  # how many values lie at each place


class Sample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt that is over: when (us), whether it was answered, and of an answer seconds to its first token,
    tokens a second, and seconds of all of it.
    """

    at: int
    ok: bool
    first_token: float | None = None
    throughput: float | None = None
    latency: float | None = None


def samples(record: RequestRecord) -> list[tuple[str, Sample]]:
    """Target ids and what a finished request says of them. A caller's mistake and a limit say nothing, and no more
    does a call that no client asked for.
    """
    if record.route == SHADOW:
        return []
    at = record.created_at + record.duration_us
    found = [
        (str(target), Sample(at=at, ok=False))
        for target, _, status, *_ in (msgspec.json.decode(record.attempts) if record.attempts else ())
        if status >= 500
    ]
    failed = record.outcome is Outcome.ERROR and record.error_kind in OUTAGES
    if record.target is None or ((not failed or found) and record.outcome is not Outcome.SUCCESS):
        return found
    return [*found, (record.target, Sample(at=at, ok=False) if failed else _sample(record, at))]


def _sample(record: RequestRecord, at: int) -> Sample:
    worked = record.upstream_us or 0
    first = 0
    if record.stream and record.first_byte_us is not None:
        first = record.first_byte_us - (record.duration_us - worked)  # from when the upstream was asked
    writing = worked - max(first, 0)
    tokens = record.output_tokens
    return Sample(
        at=at,
        ok=True,
        first_token=first / 1e6 if first > 0 else None,
        throughput=tokens / (writing / 1e6) if tokens >= LEAST_TOKENS and writing > 0 else None,
        latency=worked / 1e6 if worked > 0 else None,
    )


def place_of(value: float) -> int:
    """The place of a value above 0 in a histogram."""
    return floor(log(value) / _STEP)


def _together(histograms: Iterable[Histogram]) -> Histogram:
    together: Histogram = {}
    for histogram in histograms:
        for place, count in histogram.items():
            together[place] = together.get(place, 0) + count
    return together


def spread(histograms: Iterable[Histogram]) -> tuple[float | None, float | None, float | None]:
    """Mean, 95th percentile and standard deviation of all histograms together; None when they are empty."""
    together = _together(histograms)
    total = sum(together.values())
    if not total:
        return None, None, None
    values = [(exp((place + 0.5) * _STEP), count) for place, count in sorted(together.items())]
    mean = sum([value * count for value, count in values]) / total
    variance = sum([(value - mean) ** 2 * count for value, count in values]) / total
    passed, p95 = 0, values[-1][0]
    for value, count in values:
        passed += count
        if passed >= 0.95 * total:
            p95 = value
            break
    return mean, p95, sqrt(variance)


def percentiles(histograms: Iterable[Histogram]) -> dict[str, float]:
    """The percentiles (p50, p75, p90, p99) of all histograms together; nothing when they are empty."""
    together = _together(histograms)
    total = sum(together.values())
    if not total:
        return {}
    found: dict[str, float] = {}
    places, passed = iter(sorted(together.items())), 0
    place, count = next(places)
    for name, share in PERCENTILES.items():
        while passed + count < share * total:
            passed += count
            place, count = next(places)
        found[name] = exp((place + 0.5) * _STEP)
    return found
