"""A failing account is asked for its model list in the background: its clients need not find out."""

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.routing.health_states import View
from pointsman.testing import OpenAIChat, running_simulator
from raw_client import ask, chat, request


def free_port() -> int:
    """A port where nothing listens yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def gateway_before(folder: Path, port: int, **probes: Any) -> Iterator[RunningGateway]:
    """A gateway whose one upstream is, or will be, at ``port``."""
    rows = [
        {"id": "one", "kind": "openai", "base_url": f"http://127.0.0.1:{port}/v1", "api_key": UPSTREAM_KEY},
    ]
    settings = {"connections": rows, "resilience": {"probes": {"interval_ms": 500, **probes}}}
    with running_gateway(folder, settings) as gateway:
        yield gateway


def views(gateway: RunningGateway) -> list[View]:
    """What is amiss."""
    health, clock = gateway.server.health, gateway.server.gateway.clock
    return gateway.read(lambda: [view for view in health.views(clock.now_us()) if view.scope == "connection"])


def test_an_account_that_can_be_reached_again_is_found_without_a_client(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        gateway = stack.enter_context(gateway_before(tmp_path, port))
        ask(gateway.port, request("PATCH", "/api/resilience", msgspec.json.encode(
            {"connectionCooldown": {"apikey": {"baseCooldownMs": 600_000}}}), key=KEY))  # fmt: skip
        assert ask(gateway.port, chat("", model="one/sim-model")).status == 502
        assert [view.state for view in views(gateway)] == ["unavailable"]
        events = gateway.server.health.events
        wait_until(lambda: events.get("probe_failed"), "a probe that fails")
        simulator = stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY), port=port))
        wait_until(lambda: [view.state for view in views(gateway)] == ["recovering"], "recovery")
        assert [one.path for one in simulator.requests] == ["/v1/models"]
        assert ask(gateway.port, chat("", model="one/sim-model")).status == 200
        assert views(gateway) == []


@pytest.mark.parametrize("enabled", [True, False])
def test_probes_can_be_turned_off(tmp_path: Path, enabled: bool) -> None:
    with gateway_before(tmp_path, free_port(), enabled=enabled) as gateway:
        assert ask(gateway.port, chat("", model="one/sim-model")).status == 502
        server = gateway.server
        prober = server.prober()
        gateway.read(prober.look)
        gateway.read(lambda: prober._next.update(one=0))
        gateway.read(prober.look)
        assert gateway.read(lambda: bool(prober._running)) is enabled


def line_with(gateway: RunningGateway, text: str) -> str:
    """The first line of the log that has it, once there is one."""
    wait_until(lambda: text in gateway.log_text(), text)
    return next(line for line in gateway.log_text().splitlines() if text in line)


def test_a_probe_without_a_database_is_told_in_a_line_and_made_again(tmp_path: Path) -> None:
    with gateway_before(tmp_path, free_port()) as gateway:
        file = next(gateway.data_dir.glob("*.db"))
        with closing(sqlite3.connect(file)) as database:
            database.execute("ALTER TABLE connections RENAME TO elsewhere")
            assert ask(gateway.port, chat("", model="one/sim-model")).status == 502
            line = line_with(gateway, "no probe without the database")
            assert '"connection":"one"' in line
            assert '"level":"warning"' in line
            assert "Traceback" not in line
            database.execute("ALTER TABLE elsewhere RENAME TO connections")
        events = gateway.server.health.events
        wait_until(lambda: events.get("probe_failed"), "the next probe")


def test_a_probe_that_meets_a_fault_of_ours_is_logged_and_the_next_one_is_made(tmp_path: Path) -> None:
    with gateway_before(tmp_path, free_port()) as gateway:
        ask(gateway.port, request("PATCH", "/api/resilience", msgspec.json.encode(
            {"connectionCooldown": {"apikey": {"baseCooldownMs": 600_000}}}), key=KEY))  # fmt: skip
        assert ask(gateway.port, chat("", model="one/sim-model")).status == 502
        client: Any = gateway.server.gateway.client
        usual = client.send

        async def broken(*_: Any, **__: Any) -> None:
            client.send = usual
            raise ZeroDivisionError("a fault of ours")

        gateway.read(lambda: setattr(client, "send", broken))
        line = line_with(gateway, "ZeroDivisionError")
        assert '"connection":"one"' in line
        assert '"level":"error"' in line
        events = gateway.server.health.events
        before = events.get("probe_failed", 0)
        wait_until(lambda: events.get("probe_failed", 0) > before, "the next probe")
