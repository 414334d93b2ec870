"""How endpoints have done, for lists of them: read from the database, a few seconds old at most."""

from collections.abc import Sequence
from typing import Final

import structlog

from pointsman.clock import Clock
from pointsman.storage.database import StorageError
from pointsman.storage.endpoint_figures import EndpointCounts, EndpointFigures

FRESH_SECONDS: Final = 2.0  # strangers may ask, too: the database is asked for a target so often at most
MOST_KEPT: Final = 10_000
NOTHING: Final = EndpointCounts()
log = structlog.get_logger("pointsman.routing")


class EndpointFiguresBook:
    """Answers for many askers; one for a process."""

    def __init__(self, figures: EndpointFigures, clock: Clock) -> None:
        self._figures = figures
        self._clock = clock
        self._kept: dict[str, tuple[float, EndpointCounts]] = {}

    async def of(self, targets: Sequence[str]) -> dict[str, EndpointCounts]:
        """The figures of these targets. When the database can't be asked, the last known ones, or none."""
        now = self._clock.monotonic()
        old = [name for name in targets if name not in self._kept or now - self._kept[name][0] > FRESH_SECONDS]
        if old:
            try:
                found = await self._figures.of(old, self._clock.now_us())
            except StorageError as error:
                log.warning("figures of endpoints can't be read", reason=str(error))
            else:
                if len(self._kept) + len(old) > MOST_KEPT:
                    self._kept.clear()
                self._kept.update({name: (now, found.get(name, NOTHING)) for name in old})
        return {name: self._kept[name][1] for name in targets if name in self._kept}
