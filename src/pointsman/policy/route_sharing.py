"""Carries measurements of targets and places of conversations to the database, and from there to other processes.

Nothing of it is on the way of a request: books note what has changed, and this looks once a second. A process that
starts goes on with what earlier lives and others have told.
"""

from typing import Final

import msgspec

from pointsman.clock import Clock
from pointsman.policy.rounds import Rounds
from pointsman.routing.measurements import SLOT, WINDOW, Measurements, Slot
from pointsman.routing.sticky import IDLE, Place, StickyBook
from pointsman.storage.database import StorageError
from pointsman.storage.route_memory import MeasuredRow, News, Oldest, PlaceRow, RouteMemoryRepository

SHARE_SECONDS: Final = 1.0
TIDY_SECONDS: Final = 60.0
MOST_WRITTEN: Final = 1000  # rows of each kind in one transaction
_decode: Final = msgspec.json.Decoder(Slot).decode
_encode: Final = msgspec.json.Encoder().encode


class RouteSharing:
    """One process' end of it; ``writer`` names the process."""

    def __init__(self, repository: RouteMemoryRepository, clock: Clock, writer: str) -> None:
        self._repository = repository
        self._clock = clock
        self._writer = writer
        self._measurements = Measurements()
        self._sticky = StickyBook()
        self._seen = 0
        self._tidied = 0.0
        self._rounds = Rounds(SHARE_SECONDS, "measurements and conversations")

    def of(self, measurements: Measurements, sticky: StickyBook) -> None:
        """Whose changes are shared."""
        self._measurements, self._sticky = measurements, sticky

    async def load(self) -> None:
        """Take over what an earlier life or another process has told. Raises StorageError."""
        while (news := await self._repository.since(self._seen)).revision > self._seen:
            self._adopt(news)

    async def run(self) -> None:
        """Until `stop`; what has changed is written before the end."""
        await self._rounds.run(self.step)

    def stop(self) -> None:
        """Write for the last time, then end."""
        self._rounds.stop()

    async def step(self) -> None:
        """Write what is new here, read what is new elsewhere. Raises StorageError; nothing is lost then."""
        await self._write()
        if await self._repository.revision() != self._seen:
            self._adopt(await self._repository.since(self._seen))
        if self._clock.monotonic() - self._tidied > TIDY_SECONDS:
            self._tidied = self._clock.monotonic()
            self._measurements.tidy(self._clock.now_us())

    async def _write(self) -> None:
        measured = self._measurements.take_changes(MOST_WRITTEN)
        places = self._sticky.take_changes(MOST_WRITTEN)
        if not measured and not places:
            return
        now = self._clock.now_us()
        rows = [
            MeasuredRow(self._writer, _text(target_id), slot.number, _encode(slot).decode())
            for target_id, slot in measured
        ]
        kept = [PlaceRow(place.conversation, _text(place.target_id), place.used_at) for place in places]
        try:
            await self._repository.put(rows, kept, Oldest(slot=(now - WINDOW) // SLOT - 1, used_at=now - IDLE))
        except StorageError as error:
            if not error.refused:  # else they would be refused again
                self._measurements.put_back(measured)
                self._sticky.put_back(places)
            raise

    def _adopt(self, news: News) -> None:
        self._seen = news.revision
        for row in news.measured:
            if row.writer != self._writer:
                try:
                    told = _decode(row.document)
                except msgspec.DecodeError:
                    continue  # another version's
                self._measurements.adopt(row.writer, row.target, told)
        for place in news.places:
            self._sticky.adopt(Place(place.conversation, place.target, place.used_at))


def _text(name: str) -> str:
    return name.replace("\0", "\ufffd")  # which PostgreSQL's texts can't hold
