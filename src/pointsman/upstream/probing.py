"""Asks failing connections for their model list in the background, so that clients need not find out.

See `Failure.listed` for what a list can tell. Probes are few at a time, never in step, and stop with the setting.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from pointsman.clock import Clock
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.routing.failures import classify
from pointsman.routing.health import HealthBook
from pointsman.routing.hints import wait_seconds
from pointsman.routing.targets import Connection
from pointsman.storage.database import StorageError
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.connections import ConnectionService
from pointsman.upstream.probes import fetch_models

LOOK_SECONDS: Final = 0.5
FIRST_SECONDS: Final = 1.0  # after a failure
MOST_AT_ONCE: Final = 4
SECOND: Final = 1_000_000
log = structlog.get_logger("pointsman.probing")


class Prober:
    """``find`` gives the connection of an id, ``chance`` numbers from 0 to 1."""

    def __init__(
        self,
        health: HealthBook,
        client: UpstreamClient,
        connections: ConnectionService,
        clock: Clock,
        *,
        find: Callable[[str], Connection | None],
        chance: Callable[[], float],
    ) -> None:
        self._health = health
        self._client = client
        self._connections = connections
        self._clock = clock
        self._find = find
        self._chance = chance
        self._next: dict[str, int] = {}
        self._without_list: set[str] = set()
        self._running: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                self.look()
        finally:
            for task in self._running.values():
                task.cancel()

    def look(self) -> None:
        """Begin the probes that are due."""
        if self._health.quiet or not self._health.settings.probes.enabled:
            self._next.clear()
            return
        now = self._clock.now_us()
        due = dict(self._health.due(now))
        self._next = {name: at for name, at in self._next.items() if name in due}
        for name, until in due.items():
            if name in self._running or name in self._without_list:
                continue
            at = self._next.setdefault(name, self._first(now, until))
            if at <= now and len(self._running) < MOST_AT_ONCE:
                self._next[name] = now + self._interval()
                task = asyncio.get_running_loop().create_task(self._probe(name), name=f"probe {name}")
                self._running[name] = task
                task.add_done_callback(lambda _, name=name: self._running.pop(name, None))  # type: ignore[misc]

    def _first(self, now: int, until: int) -> int:
        """A little before it would be tried again, at a moment that no other process chooses."""
        if until - now <= SECOND:
            return now
        wait = min(max(FIRST_SECONDS, (until - now) / SECOND / 2), self._interval() / SECOND)
        return now + int(wait * (0.75 + 0.5 * self._chance()) * SECOND)

    def _interval(self) -> int:
        return int(self._health.settings.probes.interval_ms * 1000 * (0.75 + 0.5 * self._chance()))

    async def _probe(self, name: str) -> None:
        connection = self._find(name)
        if connection is None:
            return
        try:
            probe = await self._connections.find_origin(name)
            async with asyncio.timeout(self._health.settings.probes.timeout_ms / 1000):
                await fetch_models(self._client, probe)
        except ConfigError:
            self._without_list.add(name)  # no address of its own, or gone
        except GatewayError as error:
            self._failed(connection, error)
        except TimeoutError:
            self._failed(connection, GatewayError(Kind.UPSTREAM_TIMEOUT, "the list of models did not come in time"))
        except StorageError as error:
            log.warning("no probe without the database", connection=name, reason=str(error))
        except Exception:
            log.exception("a probe failed unexpectedly", connection=name)
        else:
            self._health.reached(connection, self._clock.now_us())

    def _failed(self, connection: Connection, error: GatewayError) -> None:
        if error.kind is Kind.UNSUPPORTED:
            self._without_list.add(connection.id)
            return
        now, refusal = self._clock.now_us(), error.refusal
        hint = wait_seconds(refusal.headers, refusal.body, now) if refusal is not None else None
        self._health.unreached(connection, classify(error), now, hint)
