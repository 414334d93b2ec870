"""An installation of a million keys and ten million requests, made inside the database (benchmarks/scale.py).

Every value follows from a row's number, so both databases hold the same rows and a run that was broken off goes on
where it was. A fifth of the keys are the gateway's own account's; the others are those of one account for every fifty.
Requests lean to keys with low numbers: half of them are of a quarter of the keys.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from sqlalchemy import Connection, Table, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateIndex, DropIndex

from pointsman.canonical.windows import DAY_US
from pointsman.storage import tables
from pointsman.storage.schema import metadata

DAYS: Final = 90
SLICE: Final = 250_000
# 2**32 divided by the golden ratio: multiples of it modulo 2**32 are spread evenly (Knuth, TAOCP 3, 6.4).
SPREAD: Final = 2_654_435_769
KINDS: Final = (
    "openrouter", "openrouter", "openrouter", "openrouter", "hardcarrx", "omniroute", "crosscompute", "crosscompute",
    "plain", "crosscompute_agent",
)  # fmt: skip
MODELS: Final = 40


def say(words: str) -> None:
    """Tell the one who waits, on standard error."""
    print(words, file=sys.stderr, flush=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Tell how long ``what`` took."""
    began = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - began:.0f} s")


class Size:
    """How much there is to be. ``end`` (us) is the end of the days over which it is spread."""

    def __init__(self, keys: int, rows: int, end: int) -> None:
        self.keys = keys
        self.rows = rows
        self.accounts = max(1, keys // 50)
        self.end = end - end % DAY_US
        self.first = self.end - DAYS * DAY_US
        self.step = max(1, DAYS * DAY_US // max(1, rows))


def open_engine(url: str) -> AsyncEngine:
    """For much work at once, without the time limits and the care of a server."""
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":

        def hurry(connection: Any, _record: object) -> None:
            for setting in ("synchronous = OFF", "cache_size = -400000", "temp_store = MEMORY"):
                connection.execute(f"PRAGMA {setting}")

        event.listen(engine.sync_engine, "connect", hurry)
    return engine


async def fill(engine: AsyncEngine, size: Size) -> None:
    """Make what is missing of the rows."""
    for table, count, statement in (
        (metadata.tables["accounts"], size.accounts, _accounts(size)),
        (metadata.tables["users"], size.accounts, _users(size)),
        (metadata.tables["workspaces"], size.accounts, _workspaces(size)),
        (tables.keys, size.keys, _keys(size)),
        (metadata.tables["budgets"], size.keys // 5, _budgets(size)),
        (metadata.tables["budget_periods"], size.keys // 5, _budget_periods(size)),
        (metadata.tables["ledger_transactions"], size.accounts * 20, _transactions(size)),
        (metadata.tables["ledger_postings"], size.accounts * 20, _postings(size)),
        (metadata.tables["ledger_balances"], size.accounts, _balances(size)),
        (tables.requests, size.rows, _requests(size)),
    ):
        with timed(f"{count:,} {table.name}"):
            await _fill_table(engine, table, count, statement)
    await _add_up(engine)


async def _add_up(engine: AsyncEngine) -> None:
    """What a server adds up as it stores requests: as the migration does it, where it finds requests."""
    migration = import_module("pointsman.storage.migrations.versions.0029_scale")
    for number, statement in enumerate(migration.sums()):
        name = f"sums {number}"
        with timed(name):
            async with engine.begin() as connection:
                if not await connection.run_sync(_progress, name):
                    await connection.execute(text(f"DELETE FROM {statement.split()[2]}"))
                    await connection.execute(text(statement))
                    await connection.run_sync(_note, name, 1)
    if engine.dialect.name == "postgresql":
        async with engine.begin() as connection:
            for table in ("requests", "ledger_transactions"):  # whose numbers were given to them here
                highest = f"SELECT setval(pg_get_serial_sequence('{table}', 'sequence'), max(sequence)) FROM {table}"
                await connection.execute(text(highest))
        async with engine.connect() as connection:
            bare = await connection.execution_options(isolation_level="AUTOCOMMIT")
            with timed("vacuum"):
                await bare.execute(text("VACUUM ANALYZE"))


async def _fill_table(engine: AsyncEngine, table: Table, count: int, statement: str) -> None:
    async with engine.begin() as connection:
        done = await connection.run_sync(_begin, table)
    if done >= count:
        return
    while done < count:
        upto = min(count, done + SLICE)
        began = time.monotonic()
        async with engine.begin() as connection:
            await connection.execute(text(_series(engine.dialect.name, statement)), {"low": done, "high": upto})
            await connection.run_sync(_note, table.name, upto)
        done = upto
        if count > SLICE:
            say(f"  {table.name}: {done:,} ({time.monotonic() - began:.1f} s)")
    for index in table.indexes:
        async with engine.begin() as connection:
            await connection.execute(CreateIndex(index, if_not_exists=True))


def _begin(connection: Connection, table: Table) -> int:
    done = _progress(connection, table.name)
    if done == 0:  # indexes are made faster of rows that are there
        for index in table.indexes:
            connection.execute(DropIndex(index, if_exists=True))
    return done


def _series(dialect: str, statement: str) -> str:
    """The statement with its rows' numbers, ``n``: from :low on, below :high."""
    if dialect == "sqlite":
        numbers = "WITH RECURSIVE s(n) AS (SELECT :low UNION ALL SELECT n + 1 FROM s WHERE n + 1 < :high) SELECT"
        return statement.replace("SELECT", numbers, 1)
    series = "(SELECT generate_series(CAST(:low AS bigint), CAST(:high AS bigint) - 1) AS n) AS s"
    statement = statement.replace("randomblob(32)", "sha256(CAST(n AS text)::bytea)")
    return statement.replace(" FROM s", f" FROM {series}")


def _progress(connection: Connection, name: str) -> int:
    connection.execute(text("CREATE TABLE IF NOT EXISTS scale_progress (name TEXT PRIMARY KEY, done BIGINT NOT NULL)"))
    done = connection.execute(text("SELECT done FROM scale_progress WHERE name = :name"), {"name": name}).scalar()
    return int(done or 0)


def _note(connection: Connection, name: str, done: int) -> None:
    connection.execute(
        text("INSERT INTO scale_progress VALUES (:name, :done) ON CONFLICT (name) DO UPDATE SET done = :done"),
        {"name": name, "done": done},
    )


def _insert(name: str, values: dict[str, Any], source: str = "s") -> str:
    columns = ", ".join(values)
    return f"INSERT INTO {name} ({columns}) SELECT {', '.join(map(str, values.values()))} FROM {source}"


def _number(expression: str) -> str:
    """Eight digits."""
    return f"substr(CAST(100000000 + ({expression}) AS TEXT), 2)"


def key_id(expression: str) -> str:
    """SQL for the id of the key with this number."""
    return f"'key_' || {_number(expression)}"


def account_of(expression: str) -> str:
    """SQL for the account of the key with this number."""
    return f"CASE WHEN ({expression}) % 5 = 0 THEN 'default' ELSE 'acc_' || {_number(f'({expression}) / 50')} END"


def _accounts(size: Size) -> str:
    return _insert(
        "accounts",
        {
            "id": f"'acc_' || {_number('n')}", "kind": "'user'", "name": "'account ' || CAST(n AS TEXT)",
            "created_at": f"{size.first} + n", "updated_at": f"{size.first} + n",
        },
    )  # fmt: skip


def _users(size: Size) -> str:
    return _insert(
        "users",
        {
            "id": f"'usr_' || {_number('n')}", "account_id": f"'acc_' || {_number('n')}",
            "email": "'person' || CAST(n AS TEXT) || '@example.org'",
            "created_at": f"{size.first} + n", "updated_at": f"{size.first} + n",
        },
    )  # fmt: skip


def _workspaces(size: Size) -> str:
    return _insert(
        "workspaces",
        {
            "id": f"'acc_' || {_number('n')}", "account_id": f"'acc_' || {_number('n')}", "slug": "'main'",
            "name": "'Main'", "created_at": f"{size.first} + n", "updated_at": f"{size.first} + n",
        },
    )  # fmt: skip


def _keys(size: Size) -> str:
    kind = " ".join(f"WHEN {number} THEN '{kind}'" for number, kind in enumerate(KINDS))
    user = f"CASE WHEN n % 5 = 0 THEN NULL ELSE 'usr_' || {_number('n / 50')} END"
    return _insert(
        "keys",
        {
            "id": key_id("n"), "digest": "randomblob(32)", "name": "'key ' || CAST(n AS TEXT)",
            "hint": "'sk-...' || CAST(n % 10000 AS TEXT)", "role": "'inference'",
            "kind": f"CASE (n / 5) % 10 {kind} END", "account_id": account_of("n"), "workspace_id": account_of("n"),
            "user_id": user, "creator_user_id": user,
            "created_at": f"{size.first} + n * {max(1, DAYS * DAY_US // size.keys)}",
            "revoked_at": f"CASE WHEN n % 33 = 7 THEN {size.end} END",
            "requests_per_minute": "CASE WHEN n % 10 = 3 THEN 600 END",
            "fingerprint": "CASE WHEN (n / 5) % 10 < 4 THEN 'print-' || CAST(n AS TEXT) END",
        },
    )  # fmt: skip


def _budgets(size: Size) -> str:
    return _insert(
        "budgets",
        {
            "id": f"'bud_' || {_number('n')}", "scope": "'key'", "subject": key_id("n * 5 + n % 2"),
            "limit_nano_usd": "50000000000", "window_kind": "'month'", "window_seconds": "0", "alerts": "'[]'",
            "hard": "TRUE", "source": "'openrouter'",
            "created_at": f"{size.first} + n", "updated_at": f"{size.first} + n",
        },
    )  # fmt: skip


def _budget_periods(size: Size) -> str:
    return _insert(
        "budget_periods",
        {
            "budget_id": f"'bud_' || {_number('n')}",
            "period": size.first,
            "spent_nano_usd": "n * 1000",
            "calls": "n % 100",
        },
    )


def _transactions(size: Size) -> str:
    return _insert(
        "ledger_transactions",
        {
            "sequence": "n + 1", "idempotency_key": "'scale-' || CAST(n AS TEXT)", "kind": "'usage'",
            "account_id": f"'acc_' || {_number(f'n % {size.accounts}')}",
            "created_at": f"{size.first} + n * {max(1, DAYS * DAY_US // (size.accounts * 20))}", "source": "'usage'",
            "note": "''", "requests": "10", "first_request": "n * 10 + 1", "last_request": "n * 10 + 10",
        },
    )  # fmt: skip


def _postings(size: Size) -> str:
    return _insert(
        "ledger_postings",
        {
            "ledger_account": f"'credit:acc_' || {_number(f'n % {size.accounts}')}", "transaction_sequence": "n + 1",
            "amount_nano_usd": "-1000",
        },
    )  # fmt: skip


def _balances(size: Size) -> str:
    return _insert(
        "ledger_balances",
        {
            "ledger_account": f"'credit:acc_' || {_number('n')}", "balance_nano_usd": "-20000", "postings": "20",
            "last_transaction": f"{size.accounts * 19} + n + 1",
        },
    )  # fmt: skip


def _requests(size: Size) -> str:
    # x: 20 evenly spread bits; their square leans to low numbers. k: the key's number.
    spread = f"(SELECT n, ((n * {SPREAD}) % 4294967296) / 4096 AS x FROM s) AS a"
    source = f"(SELECT n, x, ((x * x) / 1048576) * {size.keys} / 1048576 AS k, x % {MODELS} AS m FROM {spread}) AS b"
    good = "n % 50 <> 17"
    return _insert(
        "requests",
        {
            "sequence": "n + 1", "request_id": "'req_' || substr(CAST(100000000000 + n AS TEXT), 2)",
            "created_at": f"{size.first} + n * {size.step}", "operation": "'chat'", "route": "'/v1/chat/completions'",
            "dialect": "'openai_chat'", "workspace_id": account_of("k"), "key_id": key_id("k"),
            "connection_id": "'conn-' || CAST(m % 5 AS TEXT)", "provider": "'provider-' || CAST(m % 5 AS TEXT)",
            "request_model": "'vendor/model-' || CAST(m AS TEXT)", "response_model": "'model-' || CAST(m AS TEXT)",
            "target": "'conn-' || CAST(m % 5 AS TEXT) || '/model-' || CAST(m AS TEXT)",
            "stream": "n % 2 = 0", "status": f"CASE WHEN {good} THEN 200 ELSE 502 END",
            "outcome": f"CASE WHEN {good} THEN 'success' ELSE 'error' END", "usage_estimated": "FALSE",
            "finish_reason": f"CASE WHEN {good} THEN 'stop' END",
            "error_kind": f"CASE WHEN {good} THEN NULL ELSE 'upstream' END",
            "input_tokens": "x % 4000", "output_tokens": "x % 900", "cache_read_tokens": "0", "cache_write_tokens": "0",
            "reasoning_tokens": "0", "cost_nano_usd": "x % 90000", "upstream_cost_nano_usd": "x % 80000",
            "duration_us": "100000 + x", "first_byte_us": "50000", "upstream_us": "99000",
            "bytes_in": "900", "bytes_out": "700",
            "account_id": account_of("k"), "combo": "CASE WHEN n % 50 = 0 THEN 'combo-' || CAST(n % 7 AS TEXT) END",
        },
        source,
    )  # fmt: skip
