"""Every request leaves one record, whatever becomes of it, in the journal and in the database."""

import asyncio
import time

from gateway import RunningGateway, wait_until
from pointsman.canonical.record import RequestRecord
from pointsman.testing import RunningSimulator
from raw_client import ask, ask_all, chat, request


def stored(gateway: RunningGateway, request_id: str) -> RequestRecord:
    """The record in the database, once it is there."""
    return wait_until(lambda: gateway.call(gateway.installation.requests.find(request_id)), "row")


def test_a_record_in_the_database_is_the_one_in_the_journal(gateway: RunningGateway) -> None:
    for message in (chat(), chat(stream=True), chat("fault=http_500"), chat(model="none")):
        request_id = ask(gateway.port, message).request_id
        assert stored(gateway, request_id) == gateway.journal.the(request_id)


def test_strangers_are_logged_but_cannot_fill_the_journal(gateway: RunningGateway) -> None:
    request_id = ask(gateway.port, chat(key="sk-wrong")).request_id
    assert ask(gateway.port, chat()).status == 200
    assert request_id in gateway.log_text()
    assert request_id not in [record.request_id for record in gateway.journal.records()]


def test_a_crowd_of_requests_leaves_a_record_each(gateway: RunningGateway) -> None:
    directives = ["tokens=3", "tokens=5,pace_ms=1", "fault=http_500", "fault=cut_mid_stream", "fault=rate_limit"]
    messages = [chat(directives[number % 5], "connection: close", stream=number % 2 == 0) for number in range(300)]
    answers = asyncio.run(ask_all(gateway.port, messages, 64))
    for answer in answers:
        record = gateway.journal.the(answer.request_id)
        assert record.status == answer.status
    stored(gateway, answers[-1].request_id)
    wait_until(lambda: gateway.read(lambda: gateway.server.projector.lag().bytes == 0), "projection")
    assert gateway.read(lambda: gateway.server.projector.counts.damaged) == 0


def test_a_record_names_key_route_and_models(gateway: RunningGateway) -> None:
    answer = ask(gateway.port, chat("tokens=2"))
    record = gateway.journal.the(answer.request_id)
    assert record.route == "/v1/chat/completions"
    assert (record.operation, record.dialect) == ("chat", "openai.chat")
    assert record.key_id is not None
    assert record.request_model == "sim/sim-model#tokens=2"
    assert record.response_model == "sim-model#tokens=2"
    assert abs(record.created_at - time.time_ns() // 1000) < 10_000_000


def test_requests_that_are_no_calls_leave_no_record(gateway: RunningGateway) -> None:
    before = len(gateway.journal.records())
    for path in ("/health", "/v1/models", "/metrics", "/v1/request-logs", "/nothing"):
        ask(gateway.port, request("GET", path))
    ask(gateway.port, b"garbage\r\n\r\n")
    assert len(gateway.journal.records()) == before


def test_a_model_named_for_the_first_time_does_not_wait_for_its_price(
    gateway: RunningGateway, simulator: RunningSimulator
) -> None:
    ask(gateway.port, chat())
    seconds = []
    for number in range(3):
        started = time.monotonic()
        assert ask(gateway.port, chat(model=f"sim/never-heard-of-{number}")).status == 200
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 0.1
