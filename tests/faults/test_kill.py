"""kill -9 in the middle of the work: every answer that a client has whole is in the database, once.

POINTSMAN_KILL_ROUNDS=20 repeats it as often.
"""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import UPSTREAM_KEY, wait_until
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from raw_client import Answer, chat, parse_answer
from serve_process import ServeProcess, serving, toml

CLIENTS = 200
KILL_AFTER = 300  # whole answers
ROUNDS = int(os.environ.get("POINTSMAN_KILL_ROUNDS", "2"))
PROMPT_TOKENS = 31


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    """The upstream, which outlives the gateway."""
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as running:
        yield running


def message(client: int) -> bytes:
    """Streams with usage, streams without, and buffered answers, some fast, some slow."""
    directives = (
        f"tokens={5 + client % 7},prompt_tokens={PROMPT_TOKENS},pace_ms={client % 3},first_token_ms={client % 5}"
    )
    if client % 2 == 0:
        return chat(directives, stream=True, stream_options={"include_usage": True})
    return chat(directives)


async def work(server: ServeProcess, whole: dict[str, tuple[int, Answer]]) -> None:
    """All clients, asking again and again; kills the server when enough answers came."""

    async def client(number: int) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        except OSError:
            return
        unread = b""
        try:
            while True:
                writer.write(message(number))
                while (found := parse_answer(unread)) is None:
                    data = await reader.read(65536)
                    if not data:
                        return
                    unread += data
                answer, unread = found
                whole[answer.request_id] = (number, answer)
                if len(whole) == KILL_AFTER:
                    server.process.kill()
        except ConnectionError:
            return
        finally:
            writer.close()

    async with asyncio.timeout(20):
        await asyncio.gather(*map(client, range(CLIENTS)))


def rows(data_dir: Path) -> dict[str, tuple[int, int, int, str, int]]:
    """What the database says of each request."""
    query = "SELECT request_id, input_tokens, output_tokens, status, outcome, usage_estimated FROM requests"
    database = sqlite3.connect(f"file:{data_dir / 'pointsman.db'}?mode=ro", uri=True)
    try:
        found = list(database.execute(query))
    finally:
        database.close()
    by_id = {row[0]: row[1:] for row in found}
    assert len(by_id) == len(found)
    return by_id


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_after_kill_9_every_whole_answer_is_recorded_once(
    simulator: RunningSimulator, tmp_path: Path, round_: int
) -> None:
    config = toml(
        [{"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}],
        {"journal": {"interval_seconds": 0.02, "segment_bytes": 20_000}},
    )
    whole: dict[str, tuple[int, Answer]] = {}
    with serving(tmp_path, config) as server:
        asyncio.run(work(server, whole))
        assert server.wait() == -9
    assert len(whole) >= KILL_AFTER
    with serving(tmp_path, config) as server:
        wait_until(lambda: set(whole) <= set(rows(tmp_path)), "projection", 10)
        wait_until(lambda: server.gauge("pointsman_journal_lag_bytes") == 0, "end of the projection")
        journal = [record.request_id for record in server.journal.records()]
        server.process.terminate()
        assert server.wait() == 0
    assert len(journal) == len(set(journal))
    recorded = rows(tmp_path)
    assert set(recorded) == set(journal)
    for request_id, (client, answer) in whole.items():
        assert answer.status == 200
        assert recorded[request_id] == (PROMPT_TOKENS, 5 + client % 7, 200, "success", 0)
