"""Two servers with data directories of their own share one PostgreSQL: changes reach both, and one may be killed."""

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path

import asyncpg
from node_tools import command, start

from gateway import wait_until
from pointsman.testing import RunningSimulator
from raw_client import ask, chat
from steady_load import Load, until

CLIENTS = 24


def recorded(url: str) -> list[str]:
    """The request ids in the database, as often as they are there."""

    async def read() -> list[str]:
        connection = await asyncpg.connect(url)
        try:
            return [row["request_id"] for row in await connection.fetch("SELECT request_id FROM requests")]
        finally:
            await connection.close()

    return asyncio.run(read())


def test_keys_and_connections_changed_at_one_node_are_in_effect_at_both(
    upstream: RunningSimulator, tmp_path: Path, database_url: str
) -> None:
    with ExitStack() as stack:
        nodes = [start(stack, upstream, tmp_path / name, database_url=database_url) for name in ("one", "two")]
        key = command(nodes[0], "keys", "create", "--quiet", "--name", "shared")
        for node in nodes:
            assert ask(node.port, chat(key=key)).status == 200
        command(nodes[1], "keys", "revoke", "shared")
        for node in nodes:
            assert ask(node.port, chat(key=key)).status == 401


def test_with_one_node_killed_under_load_every_whole_answer_is_recorded_once(
    upstream: RunningSimulator, tmp_path: Path, database_url: str
) -> None:
    with ExitStack() as stack:
        nodes = [start(stack, upstream, tmp_path / name, database_url=database_url) for name in ("one", "two")]
        load = Load([node.port for node in nodes], CLIENTS)
        killed_at = 0.0

        async def script() -> None:
            nonlocal killed_at
            await load.answered(200)
            killed_at = time.monotonic()
            nodes[0].process.kill()
            await until(lambda: len({one.client for one in load.failures}) == CLIENTS // 2, "end of its clients")
            await load.answered(100)
            load.stop()

        asyncio.run(load.run(script))
        assert nodes[0].wait() == -9
        assert all(failure.client % 2 == 0 for failure in load.failures)  # the other's clients noticed nothing
        start(stack, upstream, tmp_path / "one", database_url=database_url)
        answered = {answer.request_id for answer in load.answers}
        wait_until(lambda: answered <= set(recorded(database_url)), "projection of both journals", 10)
        rows = recorded(database_url)
        assert len(rows) == len(set(rows))
        journals = [record.request_id for node in nodes for record in node.journal.records()]
        assert len(journals) == len(set(journals))
        assert answered <= set(journals)
