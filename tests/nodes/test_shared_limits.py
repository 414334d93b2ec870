"""Two nodes on one PostgreSQL and one Redis share a key's limits, and one of them is killed under load."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from node_tools import command, start

from pointsman.accounting.redis_store import PREFIX
from pointsman.accounting.windows import SLOTS
from pointsman.testing import RunningSimulator
from raw_client import ask, ask_async, chat
from redis_server import RedisProcess, running_redis
from serve_process import ServeProcess
from steady_load import until

CLIENTS = 12  # of each node
TOKENS = 20  # of each answer, all of them reserved before


def message(key: str) -> bytes:
    """A call whose tokens are known before."""
    return chat(f"tokens={TOKENS},first_token_ms=5", "connection: close", key=key, max_tokens=TOKENS)


Script = Callable[["Crowd"], Awaitable[None]]


class Crowd:
    """Clients of both nodes that ask again and again; ``statuses`` by the node's place, 0: no answer."""

    def __init__(self, nodes: list[ServeProcess], key: str) -> None:
        self.statuses = [Counter[int]() for _ in nodes]
        self._ports = [node.port for node in nodes]
        self._message = message(key)
        self._stopped = False

    async def _client(self, place: int) -> None:
        while not self._stopped:
            try:
                answer = await ask_async(self._ports[place], self._message)
            except (OSError, AssertionError):
                self.statuses[place][0] += 1
                return
            self.statuses[place][answer.status] += 1

    async def until_refused(self, place: int) -> None:
        """Wait until the limit is used up as this node sees it."""
        await until(lambda: self.statuses[place][200], "answers")
        before = self.statuses[place][429]
        await until(lambda: self.statuses[place][429] >= before + 3 * CLIENTS, "refusals")

    async def run(self, script: Script) -> None:
        """Ask until the script is done."""
        tasks = [asyncio.create_task(self._client(place)) for place in range(len(self._ports)) for _ in range(CLIENTS)]
        await script(self)
        self._stopped = True
        await asyncio.gather(*tasks)


def a_minute_passes(redis_server: RedisProcess) -> None:
    """Make every slot in Redis older by a window: as good as waiting for it."""
    client = redis.Redis.from_url(redis_server.url)
    for name in client.scan_iter(f"{PREFIX}*"):
        slots = client.hgetall(name)
        assert isinstance(slots, dict)
        client.delete(name)
        client.hset(name, mapping={int(slot) - SLOTS - 1: amount for slot, amount in slots.items()})
    client.close()


@pytest.mark.parametrize(("unit", "limit"), [("requests", 400), ("tokens", 20_000)])
def test_a_shared_limit_is_never_overspent_when_a_node_is_killed_and_its_lease_comes_back(
    upstream: RunningSimulator, tmp_path: Path, database_url: str, unit: str, limit: int
) -> None:
    with running_redis() as shared, ExitStack() as stack:
        storage = {"database_url": database_url, "redis_url": shared.url}
        nodes = [start(stack, upstream, tmp_path / name, **storage) for name in ("one", "two")]
        of = {"requests": 100_000, "tokens": 10_000_000} | {unit: limit}
        limits = ["--rpm", str(of["requests"]), "--tpm", str(of["tokens"])]
        key = command(nodes[0], "keys", "create", "--quiet", "--name", "shared", *limits)
        upstream.log.clear()
        usage = ask(nodes[1].port, message(key)).json()["usage"]["total_tokens"]
        cost = 1 if unit == "requests" else usage

        async def killed_half_way(crowd: Crowd) -> None:
            await until(lambda: len(upstream.requests) * cost > limit / 3, "a third of the limit")
            nodes[0].process.kill()
            await crowd.until_refused(1)

        # All that may be missing: a portion of the dead node, and its calls that had not reached the upstream.
        lost = limit // 100 + 2 * CLIENTS * cost
        crowd = Crowd(nodes, key)
        asyncio.run(crowd.run(killed_half_way))
        assert nodes[0].wait() == -9
        assert crowd.statuses[0][200] > 0
        assert crowd.statuses[0][429] == 0
        assert set(crowd.statuses[1]) == {200, 429}
        assert limit - lost <= len(upstream.requests) * cost <= limit

        a_minute_passes(shared)
        upstream.log.clear()
        asyncio.run(Crowd([nodes[1]], key).run(lambda crowd: crowd.until_refused(0)))
        left_over = limit // 100  # a portion from before, which knows nothing of our minute
        assert limit - 2 * CLIENTS * cost <= len(upstream.requests) * cost <= limit + left_over
