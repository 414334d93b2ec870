"""How long a request may take over all its attempts, and how often one target is asked: through a whole gateway."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.canonical.record import Outcome
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from raw_client import CHAT, Connection, ask, chat, request

SILENT = "one/sim-model#fault=silence"
BROKEN = "one/sim-model#fault=http_500"
# Longer than a client of these tests waits, so that no time has to be measured.
LONG_PANEL = {"panelHardTimeoutMs": 60_000}
ONE_PLACE = {"concurrencyPerModel": 1, "queueDepth": 1, "queueTimeoutMs": 60_000}


def combo(name: str, *targets: str, strategy: str = "priority", **settings: Any) -> dict[str, Any]:
    """A row of the file."""
    return {"name": name, "targets": list(targets), "strategy": strategy, "settings": settings}


class Site:
    """A gateway before two upstreams."""

    def __init__(self, gateway: RunningGateway, one: RunningSimulator, two: RunningSimulator) -> None:
        self.gateway = gateway
        self.one = one
        self.two = two

    def calls(self) -> tuple[int, int]:
        """How many completions each was asked for; a look at its models is none."""
        one, two = (sum(sent.path == CHAT for sent in upstream.requests) for upstream in (self.one, self.two))
        return one, two


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with (
        running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as one,
        running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as two,
    ):
        gone = f"http://127.0.0.1:{closed_port()}/v1"
        urls = {"one": one.base_url, "two": two.base_url, "gone": gone}
        rows = [{"id": name, "kind": "openai", "base_url": url, "api_key": UPSTREAM_KEY} for name, url in urls.items()]
        settings = {
            "connections": rows,
            "combos": [
                {"name": "silent", "targets": [SILENT, "two/sim-model"]},
                {"name": "twice", "targets": ["one/sim-model#fault=http_503,fail_first=1", "gone/sim-model"]},
                combo("silent-panel", SILENT, SILENT.replace("one", "two"), strategy="fusion", fusionTuning=LONG_PANEL),
                combo("half-panel", "two/sim-model", SILENT, strategy="fusion", fusionTuning=LONG_PANEL),
                combo("narrow", "one/sim-model#tokens=500,pace_ms=100", **ONE_PLACE),
                combo("unhurried", BROKEN, "two/sim-model", targetTimeoutMs=2000, fallbackDelayMs=2500),
                combo("slow-to-turn", BROKEN, "two/sim-model", fallbackDelayMs=60_000),
            ],
            "attempts": {"max_retries": 1, "retry_delay_seconds": 0.02},
        }
        with running_gateway(tmp_path, settings) as gateway:
            yield Site(gateway, one, two)


def body(model: str, **members: Any) -> bytes:
    return msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": "hi"}], **members})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", [SILENT, "silent"])
def test_a_caller_sets_the_deadline_of_the_whole_request(site: Site, model: str, stream: bool) -> None:
    began = time.monotonic()
    message = request("POST", "/v1/chat/completions", body(model, stream=stream), "x-pointsman-timeout: 0.5")
    answer = ask(site.gateway.port, message)
    assert 0.5 <= time.monotonic() - began < 3
    error = answer.json()["error"]
    assert (answer.status, error["code"]) == (504, "upstream_timeout")
    told = f"the request's 0.5 s are over; tried: {SILENT}: the upstream took too long in all"
    assert error["message"] == told
    record = site.gateway.journal.the(answer.request_id)
    assert (record.outcome, record.error_kind) == (Outcome.ERROR, "upstream_timeout")
    assert site.gateway.read(lambda: site.gateway.server.gateway.health.quiet)
    assert not site.two.requests


@pytest.mark.parametrize(
    ("path", "members", "inner"),
    [
        ("/v1/messages", {"max_tokens": 5}, {"type": "timeout_error"}),
        ("/v1beta/models/" + SILENT.replace("#", "%23") + ":generateContent", {}, {"status": "DEADLINE_EXCEEDED"}),
        ("/v1/responses", {"input": "hi"}, {"code": "upstream_timeout"}),
    ],
)
def test_each_dialect_has_its_own_error_for_it(
    site: Site, path: str, members: dict[str, Any], inner: dict[str, str]
) -> None:
    content = {"messages": [{"role": "user", "content": "hi"}]} if "input" not in members else {}
    if "beta" in path:
        data: Any = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    else:
        data = {"model": SILENT, **content, **members}
    answer = ask(site.gateway.port, request("POST", path, msgspec.json.encode(data), "x-pointsman-timeout: 0.3"))
    assert answer.status == 504
    error = answer.json()["error"]
    assert inner.items() <= error.items()
    assert SILENT in error["message"]


def test_a_timeout_that_is_no_number_is_the_callers_mistake(site: Site) -> None:
    answer = ask(site.gateway.port, chat("", "x-pointsman-timeout: soon", model="one/sim-model"))
    assert (answer.status, answer.error["param"]) == (400, "x-pointsman-timeout")
    assert not site.one.requests


def test_a_stream_under_way_ends_at_the_deadline_with_an_error_event(site: Site) -> None:
    message = chat("tokens=500,pace_ms=20", "x-pointsman-timeout: 0.5", model="one/sim-model", stream=True)
    answer = ask(site.gateway.port, message)
    assert (answer.status, answer.complete) == (200, True)
    assert answer.events[-1]["error"]["code"] == "upstream_timeout"
    assert site.gateway.read(lambda: site.gateway.server.gateway.health.quiet)


def test_a_target_is_asked_again_when_it_failed_once(site: Site) -> None:
    answer = ask(site.gateway.port, chat("fault=http_503,fail_first=1", model="one/sim-model"))
    assert answer.text == "echo: one two three"
    [failed] = msgspec.json.decode(site.gateway.journal.the(answer.request_id).attempts or "")
    assert failed[1:3] == ["overloaded", 503]
    assert len(site.one.requests) == 2


def test_all_targets_come_before_any_is_asked_again(site: Site) -> None:
    answer = ask(site.gateway.port, request("POST", "/v1/chat/completions", body("twice")))
    assert answer.status == 200
    record = site.gateway.journal.the(answer.request_id)
    tried = [row[0].partition("/")[0] for row in msgspec.json.decode(record.attempts or "")]
    assert tried[:2] == ["one", "gone"]
    assert record.connection_id == "one"


def test_a_target_that_hangs_costs_its_combos_time_and_no_more(site: Site) -> None:
    """`targetTimeoutMs` has no place in the file: it is put in as an API would."""

    def shorten() -> None:
        catalogue = site.gateway.server.gateway.snapshot.catalogue
        route = catalogue.route("silent")
        route.settings["targetTimeoutMs"] = 300

    site.gateway.read(shorten)
    began = time.monotonic()
    for stream in (False, True):
        answer = ask(site.gateway.port, request("POST", "/v1/chat/completions", body("silent", stream=stream)))
        assert answer.text == "echo: hi"
    assert time.monotonic() - began < 5


def test_a_panel_ends_with_the_request_and_nobody_is_blamed(site: Site) -> None:
    answer = ask(site.gateway.port, chat("", "x-pointsman-timeout: 2", model="silent-panel"))
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    assert answer.error["message"] == f"the request's 2 s are over; tried: {SILENT}=timeout, two/{SILENT[4:]}=timeout"
    assert site.calls() == (1, 1)
    assert site.gateway.read(lambda: site.gateway.server.gateway.health.quiet)


def test_no_judge_is_asked_once_the_panel_has_used_up_the_time(site: Site) -> None:
    answer = ask(site.gateway.port, chat("", "x-pointsman-timeout: 3", model="half-panel"))
    assert answer.status == 504
    assert answer.error["message"] == f"the request's 3 s are over; tried: two/sim-model=answered, {SILENT}=timeout"
    assert site.calls() == (1, 1)


def test_who_waits_for_a_place_is_told_at_the_deadline_and_is_sent_nowhere(site: Site) -> None:
    with Connection(site.gateway.port) as first:
        first.send(chat("", model="narrow", stream=True))
        first.peek(b"data: ")  # it has the place, and keeps it
        answer = ask(site.gateway.port, chat("", "x-pointsman-timeout: 0.5", model="narrow"))
        assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
        assert "the request's 0.5 s are over; tried: one/" in answer.error["message"]
        assert site.calls() == (1, 0)
    assert site.gateway.read(lambda: site.gateway.server.gateway.health.quiet)


def test_a_pause_before_another_target_ends_with_the_request(site: Site) -> None:
    answer = ask(site.gateway.port, chat("", "x-pointsman-timeout: 2", model="slow-to-turn"))
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    assert "HTTP 500" in answer.error["message"]
    assert site.calls() == (1, 0)


def test_the_pause_before_a_target_takes_none_of_its_own_time(site: Site) -> None:
    answer = ask(site.gateway.port, chat("", model="unhurried"))
    assert (answer.status, site.calls()) == (200, (1, 1))
