"""Metrics in Prometheus' text format. A module of its own: the client library is 5 MB that only a scrape needs."""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pointsman.accounting.telemetry import DURATION_BUCKETS, LABEL_NAMES, Series, Sums

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def render_sums(sums: Sums) -> bytes:
    """Sums in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(lambda: _metrics(sums)))
    return generate_latest(registry)


def _metrics(sums: Sums) -> Iterator[Metric]:
    yield _duration(sums.series)
    tokens = CounterMetricFamily(
        "gen_ai_client_token_usage",
        "Tokens of calls that reached an upstream.",
        labels=("operation", "connection", "type"),
    )
    cost = CounterMetricFamily(
        "pointsman_cost_usd", "Cost of priced calls in US dollars.", labels=("operation", "connection")
    )
    unpriced = CounterMetricFamily(
        "pointsman_unpriced_requests", "Calls without a known price.", labels=("operation", "connection")
    )
    estimated = CounterMetricFamily(
        "pointsman_estimated_usage_requests",
        "Calls whose tokens no upstream reported.",
        labels=("operation", "connection"),
    )
    rows: dict[tuple[str, str], list[int]] = {}
    for one in sums.series:
        if one.connection:
            row = rows.setdefault((one.operation, one.connection), [0] * 5)
            figures = (one.input_tokens, one.output_tokens, one.cost_nano_usd, one.unpriced, one.estimated)
            for place, value in enumerate(figures):
                row[place] += value
    for (operation, connection), row in rows.items():
        tokens.add_metric((operation, connection, "input"), row[0])
        tokens.add_metric((operation, connection, "output"), row[1])
        cost.add_metric((operation, connection), row[2] / 1e9)
        unpriced.add_metric((operation, connection), row[3])
        estimated.add_metric((operation, connection), row[4])
    yield from (tokens, cost, unpriced, estimated)
    for name, gauge in sums.gauges.items():
        family = CounterMetricFamily if gauge.counter else GaugeMetricFamily
        yield family(name, gauge.text, gauge.value)
    for name, counter in sums.counters.items():
        labelled = CounterMetricFamily(name, counter.text, labels=(counter.label,))
        for which, number in counter.counts.items():
            labelled.add_metric((which,), number)
        yield labelled


def _duration(series: list[Series]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(
        "gen_ai_server_request_duration_seconds", "Duration of requests as the client saw them.", labels=LABEL_NAMES
    )
    for one in series:
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, DURATION_BUCKETS), "+Inf"), one.buckets, strict=True):
            total += count
            buckets.append((bound, total))
        values = (one.operation, one.connection or "", str(one.status), one.outcome.value)
        family.add_metric(values, buckets, one.duration_us / 1e6)
    return family


class _Snapshot(Collector):
    """Hands the metrics of one scrape to the client library's encoder."""

    def __init__(self, metrics: Callable[[], Iterator[Metric]]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        return self._metrics()
