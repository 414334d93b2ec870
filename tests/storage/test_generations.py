"""Generations of the master key in the database: what is stored sealed and a change of the key wait for each other."""

import asyncio

import pytest

from databases import DatabasePlace
from driven_clock import DrivenClock
from pointsman.identity.master_keys import MasterKeys
from pointsman.storage.database import OutdatedKeyError
from pointsman.storage.master_keys import MasterKeyRepository


def test_a_change_of_the_key_waits_for_what_is_being_stored_with_the_present_one(database_place: DatabasePlace) -> None:
    async def story() -> None:
        ours, theirs = database_place.open(), database_place.open()
        try:
            rows = MasterKeyRepository(theirs)
            keys = MasterKeys(rows, DrivenClock(), database_place.data_dir, None)
            await keys.load()
            old = keys.master.id
            await keys.announce(None)
            new = (await rows.load())[0][-1].id
            async with ours.write() as connection:
                assert await MasterKeyRepository(ours).hold(connection, old) == "current"
                promotion = asyncio.ensure_future(rows.promote(new, old))
                await asyncio.wait([promotion], timeout=0.2)
                assert not promotion.done()
            await promotion
            ours.seal_check = keys.check_seal
            with pytest.raises(OutdatedKeyError):
                async with ours.write(sealing=True):
                    pass
            async with ours.write():  # stores nothing sealed
                pass
        finally:
            await ours.aclose()
            await theirs.aclose()

    asyncio.run(story())
