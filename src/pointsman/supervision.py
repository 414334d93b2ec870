"""Several workers on one port, and the process that starts them: the composition root of that process."""

from collections.abc import Callable

import structlog

from pointsman.accounting.telemetry import Meter
from pointsman.housekeeping import Housekeeping
from pointsman.installation import Installation
from pointsman.server.listeners import bind_listeners
from pointsman.server.worker_link import Place
from pointsman.server.workers import Supervisor
from pointsman.storage.database import StorageError

log = structlog.get_logger("pointsman.supervision")


class Supervision:
    """Several workers on one port: the process that starts them and takes no request itself."""

    def __init__(self, installation: Installation, command: Callable[[Place], list[str]]) -> None:
        self._installation = installation
        self._server = installation.settings.server
        self._command = command
        self._meter = Meter()
        self._supervisor: Supervisor | None = None
        self.house = Housekeeping(installation)
        self.address = ""

    async def start(self) -> bool:
        """Listen, and start the workers: all of them take requests, or False when it is told to stop meanwhile.

        Raises ConfigError.
        """
        server = self._server
        await self.house.ensure_first_key()
        listeners = bind_listeners(server.host, server.port, server.workers)
        self.address = server.address(listeners[0][0].getsockname()[1])
        self.house.show_gauges(self._meter)
        self.house.start()
        self._supervisor = Supervisor(
            self._installation.clock, listeners, self._command, self.house.children, self._meter.sums, self._forget
        )
        return await self._supervisor.start()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        assert self._supervisor is not None, "start() comes first"
        await self._supervisor.run()

    async def aclose(self) -> None:
        """Project the rest and close everything."""
        await self.house.aclose()

    async def _forget(self, node_id: str) -> None:
        try:
            await self._installation.nodes.remove(node_id)
        except StorageError as error:
            log.warning("an ended worker is still listed for some seconds", reason=str(error))
