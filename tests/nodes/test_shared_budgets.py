"""A thousand calls at once on a budget that fits a hundred, over workers and over nodes, while some of them die."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from node_tools import MASTER_KEY, command, configuration, ready_workers
from sqlalchemy import func, select

from gateway import UPSTREAM_KEY, wait_until
from pointsman.canonical.windows import Window
from pointsman.clock import SystemClock
from pointsman.policy.budget_service import BudgetService, Standing
from pointsman.storage.accounts import DEFAULT
from pointsman.storage.budget_tables import budget_periods
from pointsman.storage.budgets import BudgetRepository, BudgetRow
from pointsman.storage.database import Database
from pointsman.storage.guardrails import AssignmentRow, GuardrailRepository, GuardrailRow
from pointsman.storage.tables import requests
from pointsman.testing import RunningSimulator
from raw_client import ask_async, chat
from redis_server import running_redis
from serve_process import ServeProcess, serving
from steady_load import until

CALLS = 1000
CENT = 10_000_000
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


class Books:
    """The budget in the database, whatever the servers think of it. ``url``: of PostgreSQL, else the server's file."""

    def __init__(self, server: ServeProcess, url: str | None = None) -> None:
        self._place = (url, server.data_dir)
        words = ("workspace", "default", f"{FITS / 100:.2f}", "--window", "month")
        self.budget = command(server, "budgets", "set", *words)  # all servers know it when this is done

    def look(self) -> tuple[Standing, tuple[int, int]]:
        """How it stands, and what is stored as spent beside what the requests add up to."""

        async def work() -> tuple[Standing, tuple[int, int]]:
            database = Database.open(*self._place)
            try:
                service = BudgetService(BudgetRepository(database), SystemClock())
                row = await service.get(self.budget)
                assert row is not None
                return await service.standing(row), await service.recount(row)
            finally:
                await database.aclose()

        return asyncio.run(work())

    def settled(self) -> int:
        """What is spent, in cents, when nothing is held any more."""

        def found() -> tuple[int] | None:
            standing, (stored, counted) = self.look()
            if standing.held:
                return None
            assert standing.spent == stored == counted
            return (standing.spent // CENT,)

        return wait_until(found, "settled budget", 60)[0]  # projection may be handed over, and get few turns


class GuardrailBooks(Books):
    """What a guardrail that binds a whole account gives each of its keys; here there is one."""

    ROW = GuardrailRow(
        id="g1", account_id=DEFAULT, workspace_id=DEFAULT, name="a dollar", created_at=1, limit_nano_usd=FITS * CENT
    )

    def __init__(self, server: ServeProcess, url: str) -> None:
        self._url = url
        bound = AssignmentRow(
            id="a1", account_id=DEFAULT, scope="account", subject=DEFAULT, guardrail_id=self.ROW.id, created_at=1
        )

        async def work(database: Database) -> None:
            rows = GuardrailRepository(database)
            await rows.add(self.ROW)
            await rows.assign([bound])

        self._with(work)
        command(server, "budgets", "set", "tag", "another", "1")  # all servers know what was before when this is done

    def _with(self, work: Callable[[Database], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            database = Database.open(self._url, Path())
            try:
                return await work(database)
            finally:
                await database.aclose()

        return asyncio.run(run())

    def look(self) -> tuple[Any, tuple[int, int]]:
        """How the key's budget stands, and what is stored as spent beside what the requests add up to."""

        async def work(database: Database) -> tuple[Any, tuple[int, int]]:
            async with database.read() as connection:
                ids = list((await connection.execute(select(budget_periods.c.budget_id).distinct())).scalars())
            [name] = [one for one in ids if one.startswith(f"guardrail:{self.ROW.id}:none:")]
            row = BudgetRow(id=name, scope="guardrail", subject="", limit_nano_usd=0, window=Window())
            found = (await BudgetRepository(database).spendings([row], 0))[name]
            async with database.read() as connection:  # behind it: when nothing was held any more, nothing changes
                counted = (await connection.execute(select(func.sum(requests.c.cost_nano_usd)))).scalar_one()
            return found, (found.spent, int(counted or 0))

        found: tuple[Any, tuple[int, int]] = self._with(work)
        return found


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


def kill_half_way(nodes: list[ServeProcess]) -> Crowd:
    """A crowd at all nodes, the first of which dies when a quarter of the budget is spent."""
    crowd = Crowd([node.port for node in nodes])

    async def killed_half_way() -> None:
        await until(lambda: crowd.statuses[200] > FITS // 4, "a quarter of the calls")
        nodes[0].process.kill()

    asyncio.run(crowd.run(killed_half_way()))
    assert nodes[0].wait() == -9
    return crowd


def assert_spent_to_the_last_cent(books: Books, ports: list[int]) -> None:
    """Never more than the limit, nothing held in the end, and all that is left can be had by everybody.

    A process that gets no turn for long gives back too late for who asks meanwhile (budget_pots.RECALL_SECONDS): then
    they ask again.
    """
    spent = books.settled()
    assert spent <= FITS
    rest: Counter[int] = Counter()
    for _ in range(3):
        rest += spend_the_rest(ports)
        if books.settled() == FITS:
            break
    assert set(rest) <= {200, 402}
    assert rest[200] == FITS - spent
    assert books.settled() == FITS


def test_a_thousand_calls_over_two_workers_spend_what_there_is_and_no_more(
    upstream: RunningSimulator, tmp_path: Path
) -> None:
    config = settings_of(upstream, server={"workers": 2})
    with serving(tmp_path, config, secret_key=MASTER_KEY) as server:
        books = Books(server)
        upstream.log.clear()
        crowd = Crowd([server.port])

        async def killed_half_way() -> None:
            await until(lambda: crowd.statuses[200] > FITS // 4, "a quarter of the calls")
            os.kill(ready_workers(server)[0], signal.SIGKILL)

        asyncio.run(crowd.run(killed_half_way()))
        assert crowd.statuses[200] > 0
        assert crowd.statuses[402] > 0
        wait_until(lambda: len(ready_workers(server)) == 3, "a new worker", 10)
        assert_spent_to_the_last_cent(books, [server.port])


@pytest.mark.parametrize("kind", [Books, GuardrailBooks])
def test_a_thousand_calls_over_two_nodes_spend_what_there_is_and_no_more(
    upstream: RunningSimulator, tmp_path: Path, database_url: str, kind: type[Books]
) -> None:
    with running_redis() as shared, ExitStack() as stack:
        config = settings_of(upstream, storage={"database_url": database_url, "redis_url": shared.url})

        def start(name: str) -> ServeProcess:
            return stack.enter_context(serving(tmp_path / name, config, secret_key=MASTER_KEY))

        nodes = [start("one"), start("two")]
        books = kind(nodes[0], database_url)
        assert kill_half_way(nodes).statuses[200] > 0
        assert books.look()[0].spent <= FITS * CENT
        nodes[0] = start("one")
        assert_spent_to_the_last_cent(books, [node.port for node in nodes])


def test_what_a_lost_node_held_comes_back_within_its_lease_though_it_never_starts_again(
    upstream: RunningSimulator, tmp_path: Path, database_url: str
) -> None:
    with running_redis() as shared, ExitStack() as stack:
        storage = {"database_url": database_url, "redis_url": shared.url}
        config = settings_of(upstream, storage=storage, budgets={"lease_seconds": 3})
        nodes = [
            stack.enter_context(serving(tmp_path / name, config, secret_key=MASTER_KEY)) for name in ("one", "two")
        ]
        books = Books(nodes[0], database_url)
        kill_half_way(nodes)
        assert_spent_to_the_last_cent(books, [nodes[1].port])
