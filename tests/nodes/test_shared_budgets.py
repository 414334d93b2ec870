"""A thousand calls at once on a budget that fits a hundred, over workers and over nodes, while some of them die."""

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from node_tools import MASTER_KEY, command, configuration, ready_workers

from gateway import UPSTREAM_KEY, wait_until
from pointsman.testing import RunningSimulator
from raw_client import ask, ask_async, chat, request
from redis_server import running_redis
from serve_process import ServeProcess, serving
from steady_load import until

CALLS = 1000
FITS = 100
GOOD = "sim/sim-model#first_token_ms=5"
STREAM = "sim/sim-model#tokens=5,pace_ms=2"
BROKEN = "bad/sim-model#fault=http_500"
CUT = "bad/sim-model#tokens=9,fault=cut_mid_stream,after_events=3"
PRICED = "".join(
    f'\n[[facts]]\nmodel = "{name}"\nprompt = 0\ncompletion = 0\nrequest = 0.01\n'
    for name in (GOOD, STREAM, BROKEN, CUT)
)


def settings_of(upstream: RunningSimulator, **settings: Any) -> str:
    """A configuration whose models cost a cent a call, with a second connection for what fails."""
    second = (
        f'\n[[connections]]\nid = "bad"\nkind = "openai"\nbase_url = "{upstream.base_url}"\n'
        f'api_key = "{UPSTREAM_KEY}"\n'
    )
    return configuration(upstream, **settings) + second + PRICED


class Crowd:
    """Clients who ask all at once; ``statuses`` counts what they got, 0: nothing."""

    def __init__(self, ports: list[int]) -> None:
        self.statuses: Counter[int] = Counter()
        self._ports = ports
        self._random = random.Random(7)  # the same mixture in every run

    async def run(self, script: "asyncio.Future[None] | Any") -> None:
        """Everybody asks; the script runs beside."""
        clients = [asyncio.create_task(self._client(self._random.random())) for _ in range(CALLS)]
        await script
        await asyncio.gather(*clients)

    async def _client(self, luck: float) -> None:
        port = self._random.choice(self._ports)
        try:
            if luck < 0.1:
                await self._leave_early(port)
                return
            model, stream = (BROKEN, False) if luck < 0.2 else (CUT, True) if luck < 0.25 else (GOOD, False)
            if luck > 0.9:
                model, stream = STREAM, True
            message = chat("", "connection: close", model=model, stream=stream)
            self.statuses[(await ask_async(port, message)).status] += 1
        except (OSError, AssertionError):
            self.statuses[0] += 1

    async def _leave_early(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(chat("", "connection: close", model=STREAM, stream=True))
            await reader.read(200)
        finally:
            writer.close()
        self.statuses[-1] += 1


def call(server: ServeProcess, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """An operation of the management API; its answer."""
    content = b"" if body is None else msgspec.json.encode(body)
    answer = ask(server.port, request(method, f"/api/pointsman/budgets{path}", content, "connection: close"))
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def budget_of(server: ServeProcess) -> str:
    """A budget that fits a hundred calls of all keys together."""
    body = {"scope": "workspace", "subject": "default", "limit_usd": FITS / 100, "window": "month"}
    budget: str = call(server, "PUT", "", body)["id"]
    return budget


def settled(server: ServeProcess, budget: str) -> dict[str, Any]:
    """How the budget stands when nothing is held any more."""

    def found() -> dict[str, Any] | None:
        one = call(server, "GET", f"/{budget}")
        return None if one["held_usd"] else one

    return wait_until(found, "settled budget", 10)


def spend_the_rest(ports: list[int]) -> Counter[int]:
    """Ask one after the other, at every port in turn, until nothing is left anywhere."""
    statuses: Counter[int] = Counter()

    async def ask_on() -> None:
        refused = 0
        while refused < 2 * len(ports):
            port = ports[sum(statuses.values()) % len(ports)]
            status = (await ask_async(port, chat("", "connection: close", model=GOOD))).status
            statuses[status] += 1
            refused = refused + 1 if status == 402 else 0
            assert sum(statuses.values()) <= FITS + 2 * len(ports)

    asyncio.run(ask_on())
    return statuses


def assert_spent_to_the_last_cent(server: ServeProcess, budget: str, ports: list[int]) -> None:
    """Never more than the limit, nothing held in the end, and all that is left can be had by everybody."""
    after = settled(server, budget)
    assert after["spent_usd"] <= after["limit_usd"] == FITS / 100
    rest = spend_the_rest(ports)
    assert set(rest) <= {200, 402}
    assert rest[200] == round((after["limit_usd"] - after["spent_usd"]) * 100)
    assert settled(server, budget)["spent_usd"] == FITS / 100
    counted = msgspec.json.decode(command(server, "budgets", "show", budget, "--json"))  # from the requests themselves
    assert counted["recounted"] == "equal"


def test_a_thousand_calls_over_two_workers_spend_what_there_is_and_no_more(
    upstream: RunningSimulator, tmp_path: Path
) -> None:
    config = settings_of(upstream, server={"workers": 2})
    with serving(tmp_path, config, secret_key=MASTER_KEY) as server:
        budget = budget_of(server)
        upstream.log.clear()
        crowd = Crowd([server.port])

        async def killed_half_way() -> None:
            await until(lambda: crowd.statuses[200] > FITS // 4, "a quarter of the calls")
            os.kill(ready_workers(server)[0], signal.SIGKILL)

        asyncio.run(crowd.run(killed_half_way()))
        assert crowd.statuses[200] > 0
        assert crowd.statuses[402] > 0
        wait_until(lambda: len(ready_workers(server)) == 3, "a new worker", 10)
        assert_spent_to_the_last_cent(server, budget, [server.port])


def test_a_thousand_calls_over_two_nodes_spend_what_there_is_and_no_more(
    upstream: RunningSimulator, tmp_path: Path, database_url: str
) -> None:
    with running_redis() as shared, ExitStack() as stack:
        config = settings_of(upstream, storage={"database_url": database_url, "redis_url": shared.url})

        def start(name: str) -> ServeProcess:
            return stack.enter_context(serving(tmp_path / name, config, secret_key=MASTER_KEY))

        nodes = [start("one"), start("two")]
        budget = budget_of(nodes[0])
        crowd = Crowd([node.port for node in nodes])

        async def killed_half_way() -> None:
            await until(lambda: crowd.statuses[200] > FITS // 4, "a quarter of the calls")
            nodes[0].process.kill()

        asyncio.run(crowd.run(killed_half_way()))
        assert nodes[0].wait() == -9
        assert crowd.statuses[200] > 0
        assert call(nodes[1], "GET", f"/{budget}")["spent_usd"] <= FITS / 100
        nodes[0] = start("one")
        assert_spent_to_the_last_cent(nodes[1], budget, [node.port for node in nodes])
