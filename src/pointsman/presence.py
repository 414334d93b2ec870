"""A serving process among the nodes of its database: registered, heard of, and taken off."""

import structlog

from pointsman import __version__
from pointsman.clock import Clock
from pointsman.storage.database import StorageError
from pointsman.storage.nodes import NodeRepository, NodeRow

log = structlog.get_logger("pointsman.presence")


class Presence:
    """One process's row. ``address`` is where it listens."""

    def __init__(self, nodes: NodeRepository, clock: Clock, node_id: str) -> None:
        self._nodes = nodes
        self._clock = clock
        self.node_id = node_id
        self.address = ""

    async def register(self, revision: int) -> None:
        """Make the row. Raises StorageError."""
        now = self._clock.now_us()
        await self._nodes.register(
            NodeRow(
                id=self.node_id,
                address=self.address,
                version=__version__,
                started_at=now,
                heartbeat_at=now,
                revision=revision,
            )
        )

    async def beat(self, revision: int) -> None:
        """Tell that the process lives and which configuration it works with. Raises StorageError."""
        if not await self._nodes.beat(self.node_id, self._clock.now_us(), revision):
            await self.register(revision)

    async def leave(self) -> None:
        """Take the row off; where that fails, others do when it has been silent for some seconds."""
        try:
            await self._nodes.remove(self.node_id)
        except StorageError as error:
            log.warning("this node is still listed for some seconds", reason=str(error))
