"""Who chooses among a profile's models beside the local order: the service of the file, or the stored one.

A stored key is sealed with the master key, and never shown again.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.keyring import MasterKey, Secret
from pointsman.profile_settings import NotDiamondSettings, StoredEngine
from pointsman.settings import Environment, check_base_url
from pointsman.storage.routing_engines import EngineRepository, EngineRow
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.declared import origin_of

if TYPE_CHECKING:
    from pointsman.upstream.notdiamond import NotDiamond

NAME: Final = "notdiamond"
PURPOSE: Final = "routing-engine"
PLACE: Final = "notdiamond"
MAX_KEY: Final = 4096
_decode: Final = msgspec.json.Decoder(StoredEngine)
log = structlog.get_logger("pointsman.profiles")


class EngineOfFileError(ConfigError):
    """The configuration file says who chooses, and there alone it can be changed."""


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """How the service is reached. ``source``: ``file`` or ``stored``."""

    settings: StoredEngine
    secret: Secret
    source: str

    def __repr__(self) -> str:
        return f"Engine({self.source})"


class EngineService:
    """Reads and changes it."""

    def __init__(
        self,
        repository: EngineRepository,
        master: MasterKey,
        clock: Clock,
        declared: NotDiamondSettings,
        environment: Environment,
    ) -> None:
        self._repository = repository
        self._master = master
        self._clock = clock
        self._file: Engine | None = None
        if declared.api_key is not None:
            secret = environment.resolve(declared.api_key, "profiles.notdiamond.api_key")
            values = {name: getattr(declared, name) for name in declared.__struct_fields__ if name != "api_key"}
            settings = StoredEngine(**values, allow_private=True)  # the operator wrote the file: trusted
            self._file = Engine(settings=settings, secret=secret, source="file")

    async def current(self) -> Engine | None:
        """The service in effect; None: nobody is asked, or its key can't be opened any more."""
        if self._file is not None:
            return self._file
        row = await self._repository.find(NAME)
        if row is None:
            return None
        try:
            secret = self._master.open(PURPOSE, NAME, row.sealed_key)
            return Engine(settings=_decode.decode(row.settings), secret=secret, source="stored")
        except (ConfigError, msgspec.DecodeError) as error:
            log.error("NotDiamond is not asked", reason=str(error))
            return None

    async def shown(self) -> dict[str, Any]:
        """What is in effect, without the key."""
        engine = await self.current()
        if engine is None:
            return {"configured": False}
        return {"configured": True, "source": engine.source, **msgspec.structs.asdict(engine.settings)}

    async def set(self, changes: Mapping[str, Any], key: Secret | None) -> int:
        """Store a key (None: as it is) and what is changed; gives the new revision.

        Raises ConfigError that names the field at fault, EngineOfFileError.
        """
        self._refuse_declared()
        before, given = await self.current(), key
        key = key or (before.secret if before is not None else None)
        if key is None or not 0 < len(key.reveal()) <= MAX_KEY or not _is_plain(key.reveal()):
            raise ConfigError(f"{PLACE}.api_key: must be 1 to {MAX_KEY} printable ASCII characters")
        values = msgspec.structs.asdict(before.settings) if before is not None else {}
        try:
            settings = msgspec.convert({**values, **changes}, StoredEngine)
        except msgspec.ValidationError as error:
            message, _, where = str(error).partition(" - at `$")
            raise ConfigError(f"{PLACE}{where.removesuffix('`')}: {message}") from None
        check_base_url(settings.base_url, f"{PLACE}.base_url")
        if given is None and before is not None and origin_of(before.settings.base_url) != origin_of(settings.base_url):
            raise ConfigError(f"{PLACE}.api_key: must be given again: the address leads to another host")
        return await self._repository.put(
            EngineRow(
                name=NAME,
                settings=msgspec.json.encode(settings).decode(),
                sealed_key=self._master.seal(PURPOSE, NAME, key),
                updated_at=self._clock.now_us(),
            )
        )

    async def remove(self) -> int | None:
        """Ask nobody any more; gives the new revision. None: nobody was asked. Raises EngineOfFileError."""
        self._refuse_declared()
        return await self._repository.remove(NAME)

    def _refuse_declared(self) -> None:
        if self._file is not None:
            raise EngineOfFileError(f"{PLACE}: is declared in the configuration file: change or remove it there")


def make_engine(engine: Engine | None, client: UpstreamClient, clock: Clock) -> "NotDiamond | None":
    """The service as profiles ask it; its module is imported when there is one, for few have it."""
    if engine is None:
        return None
    from pointsman.upstream.notdiamond import NotDiamond

    return NotDiamond(client, clock, engine.settings, engine.secret)


def _is_plain(text: str) -> bool:
    return all("!" <= letter <= "~" for letter in text)
