"""Every fault of the wall, buffered and streamed: what the client is told, and what is recorded, once."""

import json
import time
from typing import Any

import msgspec
import pytest

from gateway import UPSTREAM_KEY, RunningGateway
from pointsman.testing import FAULTS, RunningSimulator
from raw_client import Answer, ask, chat

SETTINGS = {
    "upstream": {
        "headers_timeout_seconds": 0.4,
        "first_byte_timeout_seconds": 0.4,
        "idle_timeout_seconds": 0.4,
        "total_timeout_seconds": 1.5,
    }
}
SLOWEST_S = 1.6  # a limit above, half a second of the ticker's, and a stalled machine


class Told(msgspec.Struct, frozen=True):
    """What a fault becomes: HTTP status, code of the error (``event``: told in the stream), recorded kind."""

    status: int
    code: str | None = None
    kind: str | None = None
    event: bool = False
    retry_after: str | None = None
    estimated: bool = False


LIMITED = Told(429, "rate_limit_exceeded", "rate_limited")
FAILED = Told(502, "upstream_error", "upstream_error")
LATE = Told(504, "upstream_timeout", "upstream_timeout")
BROKEN = Told(200, "upstream_error", "upstream_error", event=True, estimated=True)
FINE = Told(200)

# fault: (buffered, streamed)
OUTCOMES = {
    "rate_limit": (msgspec.structs.replace(LIMITED, retry_after="2"),) * 2,
    "rate_limit_bare": (LIMITED, LIMITED),
    "http_500": (FAILED, FAILED),
    "http_503": (msgspec.structs.replace(FAILED, status=503),) * 2,
    "unauthorized": (Told(502, "upstream_rejected", "upstream_rejected"),) * 2,
    "bad_request": (Told(400, "decimal_above_max_value", "invalid_request"),) * 2,
    "context_length": (Told(400, "context_length_exceeded", "context_length"),) * 2,
    "content_filter": (Told(400, "invalid_prompt", "invalid_request"),) * 2,
    "content_filter_mid_stream": (FINE, FINE),
    "no_credit": (Told(502, "upstream_rejected", "upstream_rejected"),) * 2,
    "quota": (Told(429, "insufficient_quota", "rate_limited"),) * 2,
    "daily_quota": (msgspec.structs.replace(LIMITED, retry_after="432"),) * 2,
    "model_not_found": (Told(404, "model_not_found", "model_not_found"),) * 2,
    "overloaded": (msgspec.structs.replace(FAILED, status=503),) * 2,
    "slow_first_token": (LATE, LATE),
    "reset": (FAILED, FAILED),
    "close": (FAILED, FAILED),
    "silence": (LATE, LATE),
    "slow_headers": (LATE, LATE),
    "stall": (LATE, Told(200, "upstream_timeout", "upstream_timeout", event=True, estimated=True)),
    "cut_mid_stream": (FAILED, BROKEN),
    "reset_mid_stream": (FAILED, BROKEN),
    "cut_at_byte": (FAILED, FAILED),
    "malformed_chunk": (FAILED, BROKEN),
    "malformed_json": (FAILED, FINE),
    "missing_terminator": (FAILED, BROKEN),
    "missing_done": (FINE, FINE),
    "error_event": (FAILED, Told(200, None, "upstream_error", event=True, estimated=True)),
    "oversized_headers": (FAILED, FAILED),
    "gzip": (FAILED, FAILED),
    "html": (FAILED, FAILED),
    "no_usage": (Told(200, estimated=True), Told(200, estimated=True)),
    "wrong_usage": (FINE, FINE),
}
CASES = [
    pytest.param(fault, stream, outcome[stream], id=f"{fault}-{'stream' if stream else 'buffered'}")
    for fault, outcome in OUTCOMES.items()
    for stream in (False, True)
]


def leaks(data: bytes) -> bool:
    """True when the upstream's key, or an end of it that tells it apart, is in ``data``."""
    return any(part in data for part in (UPSTREAM_KEY.encode(), UPSTREAM_KEY[-6:].encode(), UPSTREAM_KEY[:14].encode()))


def error_of(answer: Answer) -> dict[str, Any]:
    """The error that the client is told: the answer's body, or the stream's last event."""
    if answer.status != 200:
        return answer.error
    last: Any = answer.events[-1]
    assert set(last) == {"error"}
    error: dict[str, Any] = last["error"]
    return error


def test_every_fault_of_the_wall_has_its_row() -> None:
    assert set(OUTCOMES) == set(FAULTS)


@pytest.mark.parametrize(("fault", "stream", "told"), CASES)
def test_a_fault_is_told_and_recorded(
    gateway: RunningGateway, simulator: RunningSimulator, fault: str, stream: bool, told: Told
) -> None:
    started = time.monotonic()
    answer = ask(
        gateway.port, chat(f"tokens=12,fault={fault},retry_after=1.5,headers_ms=5000,at_byte=40", stream=stream)
    )
    assert time.monotonic() - started < SLOWEST_S
    assert answer.complete
    assert answer.status == told.status
    assert answer.headers.get("retry-after") == told.retry_after
    if told.kind is not None:
        error = error_of(answer)
        assert error["code"] == told.code
        assert error["message"]
        assert b"[DONE]" not in answer.body
    elif stream:
        assert answer.body.endswith(b"data: [DONE]\n\n")
    assert not leaks(answer.raw)
    record = gateway.journal.the(answer.request_id)
    assert (record.status, record.error_kind, record.stream) == (told.status, told.kind, stream)
    assert record.outcome.value == ("error" if told.kind else "success")
    assert record.connection_id == "sim"
    assert record.request_model is not None
    assert record.usage_estimated == told.estimated
    if told.estimated:
        assert record.input_tokens > 0
    if told.event:
        assert 2 <= record.output_tokens <= 14
    assert len({received.fault for received in simulator.requests}) == 1


def test_what_was_produced_before_a_cut_is_counted(gateway: RunningGateway) -> None:
    answer = ask(gateway.port, chat("tokens=30,fault=cut_mid_stream,after_events=11", stream=True))
    assert len(answer.events) == 12  # the role, ten tokens, the error
    record = gateway.journal.the(answer.request_id)
    assert abs(record.output_tokens - 10) <= 1
    assert record.usage_estimated


def test_usage_of_a_stream_is_exact_when_the_upstream_gives_it(gateway: RunningGateway) -> None:
    members = {"stream": True, "stream_options": {"include_usage": True}}
    answer = ask(gateway.port, chat("tokens=9,prompt_tokens=77,cached_tokens=50,reasoning_tokens=4", **members))
    record = gateway.journal.the(answer.request_id)
    assert (record.input_tokens, record.output_tokens, record.usage_estimated) == (77, 13, False)
    assert (record.cache_read_tokens, record.reasoning_tokens, record.finish_reason) == (50, 4, "stop")


def test_a_broken_stream_that_had_told_its_usage_keeps_it(gateway: RunningGateway) -> None:
    members = {"stream": True, "stream_options": {"include_usage": True}}
    # role, two tokens, finish, usage; then the cut takes [DONE] away
    answer = ask(gateway.port, chat("tokens=2,prompt_tokens=77,fault=cut_mid_stream,after_events=5", **members))
    assert answer.complete
    record = gateway.journal.the(answer.request_id)
    assert (record.input_tokens, record.output_tokens, record.usage_estimated) == (77, 2, False)


@pytest.mark.parametrize("stream", [False, True])
def test_a_flapping_upstream_is_fine_as_soon_as_it_is_up(gateway: RunningGateway, stream: bool) -> None:
    flapping = f"fault=http_500,fail_first=2,tokens={3 + stream}"
    statuses = [ask(gateway.port, chat(flapping, stream=stream)).status for _ in range(4)]
    assert statuses == [502, 502, 200, 200]


@pytest.mark.parametrize("stream", [False, True])
def test_an_overall_deadline_ends_an_upstream_that_trickles(gateway: RunningGateway, stream: bool) -> None:
    started = time.monotonic()
    directives = "tokens=100,pace_ms=150" if stream else "tokens=1,fault=slow_headers,headers_ms=4000"
    answer = ask(gateway.port, chat(directives, stream=stream))
    assert time.monotonic() - started < 2.6
    assert error_of(answer)["code"] == "upstream_timeout"
    if stream:
        assert "in all" in error_of(answer)["message"]
        assert len(answer.events) > 6


def test_the_phase_that_took_too_long_is_named(gateway: RunningGateway) -> None:
    message = ask(gateway.port, chat("fault=silence")).error["message"]
    assert message == "the upstream took too long to answer"
    message = ask(gateway.port, chat("first_token_ms=4000", stream=True)).error["message"]
    assert message == "the upstream took too long to send the first byte"


def test_no_log_line_of_all_this_holds_the_upstreams_key(gateway: RunningGateway) -> None:
    for stream in (False, True):
        ask(gateway.port, chat("fault=unauthorized", stream=stream))
    log = gateway.log_text()
    assert '"error_kind":"upstream_rejected"' in log
    assert not leaks(log.encode())
    assert "Traceback" not in log
    assert json.loads(log.splitlines()[-1])["event"] == "request"


def test_after_all_this_the_gateway_serves_and_holds_no_dead_connection(
    gateway: RunningGateway, simulator: RunningSimulator
) -> None:
    assert ask(gateway.port, chat()).text == "echo: one two three"
    assert gateway.read(lambda: gateway.server.edge.active) == 0
    assert gateway.read(lambda: gateway.server.client.open_connections) <= 2
