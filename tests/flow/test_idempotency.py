"""The same request again, by its Idempotency-Key or at the same time: one call, one charge, the same answer."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from driven_clock import DrivenClock
from gateway import UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.canonical.record import Outcome
from pointsman.kept_settings import AnswerSettings
from pointsman.policy.shared_calls import OVERHEAD_BYTES, Name, SharedCall, SharedCalls
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from raw_client import Answer, Connection, ask, chat, request

SHARE = "x-pointsman-share: 1"


class Site:
    """A gateway before an upstream."""

    def __init__(self, gateway: RunningGateway, simulator: RunningSimulator) -> None:
        self.gateway = gateway
        self.simulator = simulator
        self.number = 0

    def key(self) -> str:
        """A header with a new key."""
        self.number += 1
        return f"idempotency-key: key-{self.number}"

    def at_once(self, messages: list[bytes]) -> list[Answer]:
        """The answers to requests that are under way at the same time, the first one first."""
        with ThreadPoolExecutor(len(messages)) as pool:
            futures = []
            for count, message in enumerate(messages, 1):
                futures.append(pool.submit(ask, self.gateway.port, message))
                wait_until(
                    lambda seen=count: self.gateway.read(lambda: self.gateway.server.edge.active) >= seen, "call"
                )
            return [future.result() for future in futures]


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as simulator:
        row = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
        settings = {"connections": [row], "server": {"max_concurrent_requests": 4}}
        with running_gateway(tmp_path_factory.mktemp("gateway"), settings) as gateway:
            yield Site(gateway, simulator)


@pytest.fixture
def site(shared_site: Site) -> Site:
    shared_site.simulator.log.clear()
    return shared_site


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_given_again_and_charged_once(site: Site, stream: bool) -> None:
    key = site.key()
    first = ask(site.gateway.port, chat("tokens=6", key, stream=stream))
    again = ask(site.gateway.port, chat("tokens=6", key, stream=stream))
    assert (again.status, again.body) == (first.status, first.body) == (200, first.body)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert "x-pointsman-replay-of" not in first.headers
    assert again.headers["x-pointsman-replay-of"] == first.request_id != again.request_id
    assert len(site.simulator.requests) == 1
    one, two = (site.gateway.journal.the(answer.request_id) for answer in (first, again))
    assert (one.outcome, two.outcome) == (Outcome.SUCCESS, Outcome.SUCCESS)
    assert one.input_tokens > 0
    assert (two.input_tokens, two.output_tokens, two.cost_nano_usd) == (0, 0, 0)
    assert msgspec.json.decode(two.attempts or "") == [["replay of", first.request_id, 200, 0]]


@pytest.mark.parametrize("header", ["key", "share"])
@pytest.mark.parametrize("stream", [False, True])
def test_requests_that_come_while_the_first_runs_get_its_answer(site: Site, stream: bool, header: str) -> None:
    line = site.key() if header == "key" else SHARE
    message = chat("tokens=10,pace_ms=60" if stream else "first_token_ms=700", line, stream=stream)
    answers = site.at_once([message] * 6)  # more than may run at once: who follows takes no place
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert len(site.simulator.requests) == 1
    assert len({answer.request_id for answer in answers}) == 6
    assert sum("x-pointsman-replay-of" in answer.headers for answer in answers) == 5


def test_a_shared_call_is_kept_no_longer_than_it_runs(site: Site) -> None:
    for _ in range(2):
        assert "x-pointsman-replay-of" not in ask(site.gateway.port, chat("", SHARE)).headers
    assert len(site.simulator.requests) == 2


def test_a_key_with_another_body_is_refused(site: Site) -> None:
    key = site.key()
    ask(site.gateway.port, chat("", key))
    answer = ask(site.gateway.port, chat("", key, text="something else"))
    assert (answer.status, answer.error["param"]) == (422, "idempotency-key")
    assert len(site.simulator.requests) == 1


def test_a_key_is_the_keys_of_its_owner_and_its_path(site: Site) -> None:
    key = site.key()
    body = msgspec.json.encode({"model": "sim/m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]})
    for path in ("/v1/chat/completions", "/v1/messages"):
        assert ask(site.gateway.port, request("POST", path, body, key)).status == 200
    assert len(site.simulator.requests) == 2
    refused = ask(site.gateway.port, request("POST", "/v1/messages", body, key, key="sk-wrong"))
    assert refused.status == 401


def test_what_failed_is_tried_anew(site: Site) -> None:
    message = chat("fault=bad_request,fail_first=1", site.key())
    assert [ask(site.gateway.port, message).status for _ in range(2)] == [400, 200]


def test_a_broken_stream_is_not_kept(site: Site) -> None:
    message = chat("tokens=9,fault=cut_mid_stream,fail_first=1", site.key(), stream=True)
    broken, whole = (ask(site.gateway.port, message) for _ in range(2))
    assert "error" in broken.events[-1]
    assert whole.events[-1] == "[DONE]"


def test_a_call_with_a_key_goes_on_when_its_client_has_gone(site: Site) -> None:
    message = chat("tokens=10,pace_ms=20", site.key(), stream=True)
    with Connection(site.gateway.port) as connection:
        connection.send(message)
        connection.read_until(b"data: ")
    answer = ask(site.gateway.port, message)
    assert answer.events[-1] == "[DONE]"
    assert len(site.simulator.requests) == 1


def test_a_shared_call_ends_when_all_its_clients_have_gone(site: Site) -> None:
    with Connection(site.gateway.port) as connection:
        connection.send(chat("tokens=1000,pace_ms=20", SHARE, stream=True))
        connection.read_until(b"data: ")
    wait_until(
        lambda: (
            not site.gateway.read(
                lambda: (
                    len(site.gateway.server.gateway.shared._calls)
                    and [call for call in site.gateway.server.gateway.shared._calls.values() if not call.until]
                )
            )
        ),
        "end of the call",
    )


@pytest.mark.parametrize("wrong", ["idempotency-key: ", "idempotency-key: " + "x" * 256])
def test_a_key_that_is_none_is_refused(site: Site, wrong: str) -> None:
    answer = ask(site.gateway.port, chat("", wrong))
    assert (answer.status, answer.error["param"]) == (400, "idempotency-key")


def test_responses_are_replayed_too(site: Site) -> None:
    key, body = site.key(), msgspec.json.encode({"model": "sim/m", "input": "hello"})
    first, again = (ask(site.gateway.port, request("POST", "/v1/responses", body, key)) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert len(site.simulator.requests) == 1


class Request:
    """As much of one as a name needs."""

    path, query, request_id, started, started_at = b"/p", b"", "r", 0.0, 0

    def __init__(self, key: str, body: bytes = b"{}") -> None:
        self.headers = {b"idempotency-key": key.encode()}
        self.body = body


def ended(calls: SharedCalls, key: str, size: int) -> None:
    """A call that was answered with so many bytes."""
    asking: Any = Request(key)
    call = SharedCall(asking, Name(asking, "k", "openai"))
    calls.add(call)
    call.respond(200, bytes(size))
    calls.ended(call, good=True)


def kept(calls: SharedCalls, key: str) -> bool:
    asking: Any = Request(key)
    return calls.find(Name(asking, "k", "openai")) is not None


def test_answers_are_kept_within_bounds_of_time_and_memory() -> None:
    clock = DrivenClock()
    settings = AnswerSettings(keep_seconds=60, memory_bytes=3 * (1000 + OVERHEAD_BYTES), max_entry_bytes=1000)
    calls = SharedCalls(clock, settings)
    ended(calls, "large", 1001)
    assert not kept(calls, "large")
    for number in range(4):
        ended(calls, str(number), 1000)
        clock.advance(1)
    assert [kept(calls, str(number)) for number in range(4)] == [False, True, True, True]
    assert calls.bytes == 3 * (1000 + OVERHEAD_BYTES)
    clock.advance(57.5)
    assert [kept(calls, str(number)) for number in range(4)] == [False, False, True, True]
    clock.advance(60)
    assert not kept(calls, "3")
    assert (calls.bytes, len(calls)) == (0, 0)


def test_a_form_is_the_same_whatever_divides_it() -> None:
    def digest(boundary: str, value: str) -> bytes:
        form = f'--{boundary}\r\ncontent-disposition: form-data; name="x"\r\n\r\n{value}\r\n--{boundary}--\r\n'
        asking: Any = Request("k", form.encode())
        asking.headers[b"content-type"] = f"multipart/form-data; boundary={boundary}".encode()
        return Name(asking, "k", "openai").digest

    assert digest("one", "a") == digest("another", "a") != digest("one", "b")


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_outlives_its_process_and_is_sealed(tmp_path: Path, stream: bool) -> None:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as simulator:
        row = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
        key, answers = "idempotency-key: for-ever", []
        for _ in range(2):
            patient = {"connections": [row], "vault": {"read_timeout_seconds": 5}}
            with running_gateway(tmp_path, patient) as gateway:
                answers.append(ask(gateway.port, chat("", key, text="sealed words", stream=stream)))
                other = ask(gateway.port, chat("", key, text="something else", stream=stream))
                assert other.status == 422
        assert len(simulator.requests) == 1
    first, again = answers
    assert (again.status, again.body, again.headers["content-type"]) == (
        200, first.body, first.headers["content-type"]
    )  # fmt: skip
    assert again.headers["x-pointsman-replay-of"] == first.request_id
    assert all(b"sealed words" not in file.read_bytes() for file in tmp_path.glob("pointsman.db*"))


def test_without_durability_another_process_knows_nothing(tmp_path: Path) -> None:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as simulator:
        row = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
        for _ in range(2):
            with running_gateway(tmp_path, {"connections": [row], "answers": {"durable": False}}) as gateway:
                answer = ask(gateway.port, chat("", "idempotency-key: once"))
                assert "x-pointsman-replay-of" not in answer.headers
        assert len(simulator.requests) == 2
