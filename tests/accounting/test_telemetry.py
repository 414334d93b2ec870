"""Metrics: valid Prometheus text, right sums, cumulative histograms, few label values."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pointsman.accounting.exposition import CONTENT_TYPE, render_sums
from pointsman.accounting.telemetry import DURATION_BUCKETS, Meter
from pointsman.canonical.record import Outcome, RequestRecord

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]
DURATION = "gen_ai_server_request_duration_seconds"


def record(**more: object) -> RequestRecord:
    """A settled record of a call that reached an upstream."""
    fields: dict[str, object] = {
        "request_id": "r",
        "created_at": 1,
        "operation": "chat",
        "route": "/",
        "dialect": "d",
        "connection_id": "c",
        "status": 200,
        "outcome": Outcome.SUCCESS,
    }
    return RequestRecord(**{**fields, **more})  # type: ignore[arg-type]


def samples(meter: Meter) -> Samples:
    """Every sample of a scrape: name, labels, value. No two may have the same name and labels."""
    found: Samples = defaultdict(dict)
    for family in text_string_to_metric_families(render_sums(meter.sums()).decode()):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in found[sample.name], f"{sample.name} {labels} twice"
            found[sample.name][labels] = sample.value
    return found


def total(meter: Meter | Samples, name: str, **labels: str) -> float:
    """The sum of the samples of ``name`` that have ``labels``."""
    found = samples(meter) if isinstance(meter, Meter) else meter
    rows = found[name].items()
    return sum(value for key, value in rows if set(labels.items()) <= set(key))


def test_an_idle_meter_renders() -> None:
    assert samples(Meter()) == {}
    assert CONTENT_TYPE.startswith("text/plain")


RECORDS = st.builds(
    record,
    connection_id=st.sampled_from(["a", "b", None]),
    status=st.sampled_from([200, 404, 502]),
    outcome=st.sampled_from(Outcome),
    input_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(0, 10**6),
    usage_estimated=st.booleans(),
    cost_nano_usd=st.none() | st.integers(0, 10**12),
    duration_us=st.integers(0, 400 * 10**6),
)


@given(records=st.lists(RECORDS, max_size=20))
@settings(max_examples=60, deadline=None)
def test_sums_are_those_of_the_records(records: list[RequestRecord]) -> None:
    meter = Meter()
    for one in records:
        meter.observe(one)
    found = samples(meter)
    assert total(found, f"{DURATION}_count") == len(records)
    assert total(found, f"{DURATION}_sum") == pytest.approx(sum(one.duration_us for one in records) / 1e6)
    for connection in ("a", "b"):
        own = [one for one in records if one.connection_id == connection]
        for name, kind, field in (
            ("gen_ai_client_token_usage_total", "input", "input_tokens"),
            ("gen_ai_client_token_usage_total", "output", "output_tokens"),
        ):
            assert total(found, name, connection=connection, type=kind) == sum(getattr(one, field) for one in own)
        cost = sum(one.cost_nano_usd or 0 for one in own) / 1e9
        assert total(found, "pointsman_cost_usd_total", connection=connection) == pytest.approx(cost)
        unpriced = sum(one.cost_nano_usd is None for one in own)
        assert total(found, "pointsman_unpriced_requests_total", connection=connection) == unpriced
        estimated = sum(one.usage_estimated for one in own)
        assert total(found, "pointsman_estimated_usage_requests_total", connection=connection) == estimated


@given(durations=st.lists(st.integers(0, 400 * 10**6), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_histogram_is_cumulative(durations: list[int]) -> None:
    meter = Meter()
    for duration in durations:
        meter.observe(record(duration_us=duration))
    buckets = {float(dict(key)["le"]): value for key, value in samples(meter)[f"{DURATION}_bucket"].items()}
    assert list(buckets) == [*DURATION_BUCKETS, float("inf")]
    for bound, value in buckets.items():
        assert value == sum(duration / 1e6 <= bound for duration in durations)


def test_a_call_that_reached_no_upstream_has_no_tokens_and_no_cost() -> None:
    meter = Meter()
    meter.observe(record(connection_id=None, status=401, outcome=Outcome.ERROR))
    found = samples(meter)
    assert total(meter, f"{DURATION}_count", status="401", outcome="error", connection="") == 1
    assert "pointsman_unpriced_requests_total" not in found
    assert "gen_ai_client_token_usage_total" not in found


def test_two_operations_of_one_connection_are_one_series_of_cost() -> None:
    meter = Meter()
    meter.observe(record(operation="chat", cost_nano_usd=1_000_000_000))
    meter.observe(record(operation="embeddings", cost_nano_usd=2_000_000_000))
    meter.observe(record(operation="embeddings", cost_nano_usd=None))
    assert total(meter, "pointsman_cost_usd_total", connection="c") == pytest.approx(3)
    assert total(meter, "pointsman_unpriced_requests_total", connection="c") == 1


def test_what_callers_choose_never_becomes_a_label() -> None:
    meter = Meter()
    for number in range(500):
        meter.observe(
            record(
                request_id=f"r{number}",
                request_model=f"model-{number}",
                response_model=f"model-{number}",
                key_id=f"key-{number}",
                finish_reason=f"reason-{number}",
                route=f"/{number}",
                error_kind=f"kind-{number}",
            )
        )
    assert sum(len(rows) for rows in samples(meter).values()) < 40


def test_a_connection_with_odd_characters_is_escaped() -> None:
    meter = Meter()
    meter.observe(record(connection_id='a"b\\c\nd'))
    assert total(meter, f"{DURATION}_count", connection='a"b\\c\nd') == 1


def test_gauges_are_read_at_every_scrape() -> None:
    meter = Meter()
    values = iter([1.0, 2.5])
    meter.gauge("pointsman_test", "A test.", lambda: next(values))
    assert total(meter, "pointsman_test") == 1
    assert total(meter, "pointsman_test") == 2.5
