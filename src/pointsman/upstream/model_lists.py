"""Asks upstreams for their own lists of models, now and then, and keeps what they tell in the database.

Only connections that are open to any model are asked; of several nodes and workers the one that claims a list first
asks for it. The revision counts a list that has changed, and so every process learns of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
import structlog

from pointsman.clock import Clock
from pointsman.errors import ConfigError, GatewayError
from pointsman.providers.formats import listing_of
from pointsman.providers.model_lists import read_models
from pointsman.storage.database import StorageError
from pointsman.storage.model_lists import ModelListRepository
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.model_facts import listed_of
from pointsman.upstream.probes import Probe

FIRST_SECONDS: Final = 1.0  # after the start: first calls come first
RETRY_SECONDS: Final = 300.0
LOOK_SECONDS: Final = 60.0
ASK_SECONDS: Final = 30.0
AT_ONCE: Final = 4
MAX_BYTES: Final = 16 * 1024 * 1024
log = structlog.get_logger("pointsman.models")

Probes = Callable[[], Awaitable[Mapping[str, Probe]]]


class ModelLists:
    """The background work. `wake` has it look at once whether there is something to ask."""

    def __init__(
        self, client: UpstreamClient, lists: ModelListRepository, probes: Probes, clock: Clock, *, hours: float
    ) -> None:
        self._client = client
        self._lists = lists
        self._probes = probes
        self._clock = clock
        self._period = int(hours * 3600 * 1e6)
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """The configuration has changed."""
        self._woken.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            self._woken.clear()
            try:
                await self.refresh()
            except (StorageError, ConfigError) as error:
                log.warning("lists of models are not refreshed", reason=str(error))
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """Ask for every list that is due. Raises StorageError or ConfigError."""
        probes = await self._probes()
        known = await self._lists.list()
        gone = tuple(row.connection_id for row in known if row.connection_id not in probes)
        if gone:
            await self._lists.forget(gone)
        places = {row.connection_id: row for row in known}
        now = self._clock.now_us()
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(connection_id: str, probe: Probe) -> None:
            row, place = places.get(connection_id), place_of(probe)
            due = row is None or row.place != place or row.asked_at < now - self._period
            if not due or listing_of(probe.wire) is None:
                return
            try:
                async with turns:
                    if await self._lists.claim(connection_id, place, now, now - self._period):
                        await self._ask(connection_id, probe)
            except StorageError as error:  # one by one: a group of tasks would hide what it is
                log.warning("a list of models is not refreshed", connection=connection_id, reason=str(error))

        async with asyncio.TaskGroup() as group:
            for connection_id, probe in probes.items():
                group.create_task(one(connection_id, probe))

    async def _ask(self, connection_id: str, probe: Probe) -> None:
        listing = listing_of(probe.wire)
        assert listing is not None, "refresh() asks for what there is"
        answer = CollectedAnswer()
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await self._client.send(probe.origin, probe.message, answer)
            if answer.status != 200 or len(answer.body) > MAX_BYTES:
                raise _Refused(f"status {answer.status}, {len(answer.body)} bytes")
            models = [listed_of(row) for row in read_models(answer.body, listing)]
        except (GatewayError, TimeoutError, _Refused) as error:
            problem = error.message if isinstance(error, GatewayError) else str(error) or "it took too long"
            again = self._clock.now_us() - self._period + int(RETRY_SECONDS * 1e6)
            await self._lists.fail(connection_id, problem[:500], again)
            log.warning("an upstream does not tell its models", connection=connection_id, reason=problem[:500])
            return
        stored = msgspec.json.encode(models, order="deterministic").decode()
        if await self._lists.keep(connection_id, stored, self._clock.now_us()) is not None:
            log.info("an upstream's models are known", connection=connection_id, models=len(models))


class _Refused(Exception):
    """The upstream did not give its list."""


def place_of(probe: Probe) -> str:
    """The address that a list is from: a connection that is turned elsewhere has another list."""
    origin = probe.origin
    return f"{origin.scheme}://{origin.host}:{origin.port} {probe.wire}"
