"""The HTTP client of the data plane.

Callback-driven inside, one awaitable outside: `UpstreamClient.send` hands a request to a pooled connection
(pool.py, http1.py) and waits for the sink. A cancelled `send` closes its connection, which tells the upstream to stop.
"""

import asyncio

from pointsman.runner import in_task
from pointsman.settings import UpstreamSettings
from pointsman.ticker import NEVER, Ticker
from pointsman.upstream.dialing import Dialer
from pointsman.upstream.http1 import Sink
from pointsman.upstream.origins import Origin
from pointsman.upstream.pool import Pool


class UpstreamClient:
    """Pools by origin, and the one way to new connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: UpstreamSettings, ticker: Ticker) -> None:
        self.settings = settings
        self.ticker = ticker
        self._dialer = Dialer(loop, settings, ticker)
        self._pools: dict[Origin, Pool] = {}

    async def send(
        self,
        origin: Origin,
        message: bytes,
        sink: Sink,
        caller: str = "",
        deadline: float = NEVER,
        limits: UpstreamSettings | None = None,
    ) -> None:
        """Send a complete HTTP request and wait until the sink has the whole answer.

        ``deadline`` (the ticker's clock) is the request's, if it comes before that of every call. ``limits`` replace
        the settings' times of this call's phases, and then head and first part of its answer must come in time from
        now, not from when there is a connection. Calls that have to wait for a connection take turns by ``caller``.

        Raises GatewayError as the sink or the connection reports it. On cancellation the upstream connection is closed.
        """
        total_deadline = self.ticker.now + self.settings.total_timeout_seconds
        if deadline < total_deadline:
            total_deadline = deadline
        pool = self._pools.get(origin)
        if pool is None:
            pool = self.pool(origin)
        begin_by = NEVER if limits is None else self.ticker.now + limits.headers_timeout_seconds
        connection = pool.take()
        if connection is None:
            await in_task()
            connection = await pool.acquire(total_deadline, caller, begin_by)
        connection.send(message, sink, total_deadline, limits, begin_by)
        try:
            await sink
        except asyncio.CancelledError:
            sink.abandon()
            pool.give_up(sink)
            raise

    def pool(self, origin: Origin) -> Pool:
        """The pool of ``origin``. A new one takes the place of those that hold nothing any more."""
        pool = self._pools.get(origin)
        if pool is None:
            self._pools = {known: other for known, other in self._pools.items() if not other.unused}
            pool = self._pools[origin] = Pool(self._dialer, origin, self.settings, self.ticker)
        return pool

    @property
    def open_connections(self) -> int:
        """Upstream connections that are open or opening."""
        return sum(pool.open for pool in self._pools.values())

    def close(self) -> None:
        """Close every idle connection, and give up look-ups."""
        self._dialer.close()
        for pool in self._pools.values():
            pool.close()
