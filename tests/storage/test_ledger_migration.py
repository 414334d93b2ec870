"""An installation from before the ledger gets books that agree with the requests it has."""

import asyncio

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from databases import DatabasePlace
from pointsman.accounting.ledger_check import rebuild, verify
from pointsman.accounting.ledger_service import LedgerService
from pointsman.canonical.ledger import AccountKind, LedgerAccount
from pointsman.clock import SystemClock
from pointsman.storage.migration import SCRIPTS

BEFORE = "0014"
_INSERT = (
    "INSERT INTO requests (request_id, created_at, operation, route, dialect, workspace_id, stream, status, outcome,"
    " input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, usage_estimated,"
    " duration_us, bytes_in, bytes_out, provider, connection_id, cost_nano_usd)"
    " VALUES (:id, :at, 'chat', '', '', 'default', :no, 200, 'success', 1, 1, 0, 0, 0, :no, 1, 1, 1,"
    " :provider, :connection, :cost)"
)
ROWS = (
    ("openai", "main", 700),
    ("openai", "main", 30),
    ("", "own", 5),
    (None, None, 4),
    ("x", "y", None),
    ("z", "z", 0),
)


def before_the_ledger(connection: Connection) -> None:
    """Tables of then, with requests in them."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS))
    command.upgrade(config, BEFORE)
    for number, (provider, place, cost) in enumerate(ROWS):
        values = {"id": f"r{number}", "at": number, "no": False}
        connection.execute(text(_INSERT), {**values, "provider": provider, "connection": place, "cost": cost})


def test_what_requests_have_cost_before_is_posted_once(empty_database_place: DatabasePlace) -> None:
    async def run() -> None:
        database = empty_database_place.open()
        try:
            async with database.write() as connection:
                await connection.run_sync(before_the_ledger)
            await database.migrate()
            await database.migrate()
            assert (await verify(database, None)).findings == ()
            assert await rebuild(database) == 0
            service = LedgerService(database, SystemClock())
            assert await service.credit("default") == -739
            (entry,) = await service.entries(LedgerAccount(AccountKind.PROVIDER, "openai"))
            assert (entry.amount_nano_usd, entry.requests) == (730, 4)
        finally:
            await database.aclose()

    asyncio.run(run())
