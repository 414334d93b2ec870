"""A change of the master key from beginning to end; whoever begins it again goes on where it stopped."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.identity.master_keys import MasterKeys, is_under_way
from pointsman.resealing import Resealed, Resealer
from pointsman.storage.configuration import ConfigurationRepository

CONFIRM_SECONDS: Final = 15.0  # a server that was killed counts as live for ten


class Rotated(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended. Not ``finished``: the operator has to give all servers the new key first."""

    key_id: str
    resumed: bool
    finished: bool
    resealed: Resealed


class Rotation:
    """Changes the master key of a running installation."""

    def __init__(
        self,
        keys: MasterKeys,
        configuration: ConfigurationRepository,
        resealer: Resealer,
        clock: Clock,
        await_revision: Callable[[int, float], Awaitable[bool]],
    ) -> None:
        self._keys = keys
        self._configuration = configuration
        self._resealer = resealer
        self._clock = clock
        self._await_revision = await_revision

    async def run(self, new_key: bytes | None, progress: Callable[[str, int], None]) -> Rotated:
        """Change the key, or finish the change that is under way; then ``new_key`` is not needed.

        Raises ConfigError when a server does not take part, or ``new_key`` can't be used. It is safe to run it again.
        """
        rows, _ = await self._keys.repository.load()
        resumed = is_under_way(rows)
        if not resumed:
            if new_key is None and not self._keys.from_file:
                raise ConfigError("POINTSMAN_SECRET_KEY is the operator's to choose: say the new key with --new-key")
            await self._keys.announce(new_key)
            rows, _ = await self._keys.repository.load()
        # Of before it is confirmed: another command may finish this change meanwhile, and yet another begin the next.
        old, new = rows[-2].id, rows[-1].id
        await self._confirm()
        await self._keys.repository.promote(new, old)
        await self._confirm()
        resealed = await self._reseal(progress)
        finished = self._keys.opened_with == new
        if finished:
            await self._keys.repository.retire(new, old, self._clock.now_us())
            await self._confirm()
        return Rotated(key_id=new, resumed=resumed, finished=finished, resealed=resealed)

    async def _reseal(self, progress: Callable[[str, int], None]) -> Resealed:
        """Until nothing is left: what a server had sealed before it knew the new key may have come in late."""
        last = await self._resealer.run(progress)
        values = last.values
        while last.values:
            last = await self._resealer.run(progress)
            values += last.values
        return Resealed(values=values, unreadable=last.unreadable)

    async def _confirm(self) -> None:
        """This process and every live server know the latest state. Raises ConfigError."""
        await self._keys.refresh()
        if not await self._await_revision(await self._configuration.revision(), CONFIRM_SECONDS):
            raise ConfigError(
                "a running server does not take part in the change of the master key; nothing is lost: "
                "run the same command again when it does"
            )
