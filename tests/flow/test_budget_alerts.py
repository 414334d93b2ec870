"""The webhook of budgets: each threshold is told once in a window, again until it is taken, signed."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway import PATIENCE_S, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.canonical.windows import Window
from pointsman.errors import ConfigError
from pointsman.settings import parse_settings
from pointsman.testing import RunningSimulator
from raw_client import ask, chat

SECRET = "whsec-0123456789"
CENT = 10_000_000


class Received:
    """What came, and with what statuses it is answered: one after the other, then 200."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.port = 0
        self.answers = threading.Event()  # nobody is answered while it is not set
        self.answers.set()


@contextmanager
def receiving() -> Iterator[Received]:
    """A webhook on loopback."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
            received.answers.wait(20)
            self.send_response(received.statuses.pop(0) if received.statuses else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


@contextmanager
def telling(simulator: RunningSimulator, data_dir: Path, received: Received, **more: Any) -> Iterator[RunningGateway]:
    """A gateway whose calls cost a cent, and which tells the webhook."""
    sim = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
    fact = {"model": "sim/sim-model", "prompt": 0, "completion": 0, "request": 0.01}
    url = f"http://127.0.0.1:{received.port}/hook?x=1"
    budgets = {"webhook_url": url, "webhook_secret": SECRET, **more}
    with running_gateway(data_dir, {"connections": [sim], "facts": [fact], "budgets": budgets}) as running:
        yield running


def make_budget(gateway: RunningGateway, limit: int, *alerts: int) -> str:
    """A budget of all calls; its id."""

    async def work() -> str:
        row, revision = await gateway.installation.budgets.set(
            "workspace", "default", limit, Window("day"), alerts=alerts, hard=False
        )
        assert await gateway.installation.await_revision(revision, PATIENCE_S)
        return row.id

    return gateway.call(work())


def test_each_threshold_is_told_once_and_can_be_proven_to_come_from_us(
    simulator: RunningSimulator, tmp_path: Path
) -> None:
    with receiving() as received, telling(simulator, tmp_path, received) as gateway:
        budget = make_budget(gateway, 4 * CENT, 50, 100)
        for _ in range(6):
            assert ask(gateway.port, chat()).status == 200
        wait_until(lambda: len(received.calls) >= 2, "alerts")
        told = {}
        for headers, body in received.calls:
            fields = dict(pair.split("=") for pair in headers["x-pointsman-signature"].split(","))
            signed = f"{fields['t']}.".encode() + body
            assert hmac.compare_digest(fields["v1"], hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest())
            told[headers["x-pointsman-delivery"]] = json.loads(body)
            assert SECRET.encode() not in body
        assert sorted(one["threshold_percent"] for one in told.values()) == [50, 100]
        first = next(one for one in told.values() if one["threshold_percent"] == 50)
        assert (first["type"], first["limit_usd"], first["budget"]["id"]) == ("budget.threshold", 0.04, budget)
        assert first["spent_usd"] >= 0.02
        assert first["budget"]["scope"] == "workspace"
        assert SECRET not in gateway.log_text()
    assert len(received.calls) == 2


def test_an_alert_that_was_not_taken_is_told_again_with_the_same_name(
    simulator: RunningSimulator, tmp_path: Path
) -> None:
    with receiving() as received, telling(simulator, tmp_path, received) as gateway:
        received.statuses = [500]
        make_budget(gateway, 2 * CENT, 50)
        assert ask(gateway.port, chat()).status == 200
        wait_until(lambda: len(received.calls) >= 2, "second attempt")
        names = {headers["x-pointsman-delivery"] for headers, _ in received.calls}
        assert len(names) == 1
        wait_until(lambda: gateway.read(lambda: gateway.server.alerts.results["sent"]) == 1, "sent alert")


def test_a_webhook_at_a_private_address_is_not_called_when_that_is_forbidden(
    simulator: RunningSimulator, tmp_path: Path
) -> None:
    with receiving() as received, telling(simulator, tmp_path, received, webhook_allow_private=False) as gateway:
        make_budget(gateway, CENT, 50)
        assert ask(gateway.port, chat()).status == 200
        wait_until(lambda: gateway.read(lambda: gateway.server.alerts.results["failed"]), "refused attempt")
    assert received.calls == []


@pytest.mark.parametrize("seconds", [-1, 0.5, 1e10, float("nan"), float("inf")])
def test_leases_that_could_not_be_kept_are_refused_at_the_start(seconds: float) -> None:
    with pytest.raises(ConfigError, match=r"lease_seconds: must be 0 \(never\) or 1 at least"):
        parse_settings({"budgets": {"lease_seconds": seconds}}, "test")


@pytest.mark.parametrize(
    ("budgets", "said"),
    [
        ({"webhook_url": "ftp://example.org/"}, "webhook_url"),
        ({"webhook_url": "https://user:word@example.org/", "webhook_secret": "x"}, "webhook_url"),
        ({"webhook_url": "https://example.org/"}, "webhook_secret"),
    ],
)
def test_a_webhook_that_could_not_work_is_refused_at_the_start(budgets: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_settings({"budgets": budgets}, "test")


def test_a_stop_waits_for_the_alert_in_hand_and_for_no_other(
    simulator: RunningSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointsman.upstream.budget_alerts.CALL_SECONDS", 0.5)
    with receiving() as received:
        received.answers.clear()
        with telling(simulator, tmp_path, received) as gateway:
            gateway.call(note_many(gateway, make_budget(gateway, CENT)))
            wait_until(lambda: received.calls, "the first alert")
        assert len(received.calls) == 1
        received.answers.set()
    with receiving() as received, telling(simulator, tmp_path, received):
        wait_until(lambda: len(received.calls) == 5, "all alerts")


async def note_many(gateway: RunningGateway, budget: str) -> None:
    """Five alerts that are due."""
    async with gateway.installation.database.write() as connection:
        now = gateway.installation.clock.now_us()
        for threshold in range(1, 6):
            await connection.exec_driver_sql(
                "INSERT INTO budget_alerts (budget_id, turn, threshold, spent_nano_usd, limit_nano_usd, created_at,"
                " due_at) VALUES (?, 1, ?, 1, 1, ?, ?)",
                (budget, threshold, now, now),
            )
