"""Lists of requests and of the ledger walk an index, however many rows there are."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Select, text
from sqlalchemy.dialects import postgresql, sqlite

from databases import DatabasePlace
from pointsman.accounting.ledger_service import LedgerService, Movement
from pointsman.canonical.ledger import credit_of
from pointsman.canonical.record import RequestRecord
from pointsman.clock import SystemClock
from pointsman.storage.activity import ActivityFilter, Span, sums_query
from pointsman.storage.budgets import page_query as budget_page
from pointsman.storage.budgets import subjects_query
from pointsman.storage.combo_figures import sums_query as combo_sums
from pointsman.storage.database import Database
from pointsman.storage.keys import KeyFilter, count_query
from pointsman.storage.keys import page_query as key_page
from pointsman.storage.ledger import balances_query, entries_query, subject_query
from pointsman.storage.model_usage import by_model_query
from pointsman.storage.requests import (
    Owner,
    Place,
    RequestRepository,
    UnpricedModel,
    Way,
    days_query,
    newest_query,
    page_query,
    unpriced_query,
    ways_query,
)


def within(place: DatabasePlace, story: Callable[[Database], Awaitable[None]]) -> None:
    """Run ``story`` with an open database."""

    async def run() -> None:
        database = place.open()
        try:
            await story(database)
        finally:
            await database.aclose()

    asyncio.run(run())


async def plan(database: Database, query: Select[Any]) -> str:
    """How the database goes about a query, when reading all rows is worth avoiding."""
    dialect = sqlite.dialect() if database.kind == "sqlite" else postgresql.dialect()
    statement = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True})).replace("%%", "%")
    async with database.read() as connection:
        if database.kind == "sqlite":
            return "\n".join(row[3] for row in await connection.execute(text(f"EXPLAIN QUERY PLAN {statement}")))
        for way in ("seqscan", "bitmapscan"):
            await connection.execute(text(f"SET LOCAL enable_{way} = off"))
        return "\n".join(row[0] for row in await connection.execute(text(f"EXPLAIN {statement}")))


PLACE = Place(5_000, "r5")
OPENROUTER = KeyFilter(account_id="a", kinds=("openrouter",), roles=("inference",), include_disabled=False, valid_at=5)
LISTS = {
    "requests of a workspace": (newest_query(Owner("workspace_id", "w"), PLACE, 50), "ix_requests_listed"),
    "requests of an account": (newest_query(Owner("account_id", "a"), PLACE, 50), "ix_requests_account_id"),
    "requests of a key": (newest_query(Owner("key_id", "k"), None, 50), "ix_requests_key_id"),
    "unpriced models": (unpriced_query(25), "ix_requests_unpriced"),
    "requests of a workspace, far behind": (page_query("w", 5_000, 50, 400), "ix_requests_listed"),
    "how many requests of a workspace": (days_query("w"), "workspace_days"),
    "activity": (sums_query(ActivityFilter(account_id="a"), Span(0, 9)), "usage_days"),
    "activity of a key": (sums_query(ActivityFilter(account_id="a", key_id="k"), Span(0, 9)), "key_usage_days"),
    "activity of a person": (sums_query(ActivityFilter(account_id="a", user_id="u"), Span(0, 9)), "key_usage_days"),
    "combos": (combo_sums(None, 5), "combo_days"),
    "one combo": (combo_sums("c", 5), "combo_days"),
    "requests among which translated ones are looked for": (ways_query("w", 2000), "ix_requests_listed"),
    "usage by model": (by_model_query("a", 50), "model_totals"),
    "keys of an account": (key_page(OPENROUTER, 50, 900), "ix_keys_listed"),
    "how many keys of an account": (count_query(KeyFilter(account_id="a", kinds=("omniroute",))), "ix_keys_listed"),
    "budgets of some keys": (subjects_query("key", ["a", "b"]), "subject"),
    "budgets of a scope": (budget_page(50, "b", "tag", None), "ix_budgets_scope_id"),
    "budgets of a subject": (budget_page(50, "b", None, "s"), "ix_budgets_subject_id"),
    "entries": (entries_query(credit_of("a"), 700, 50), "ledger_postings"),
    "balances": (balances_query("credit:a", 50), "ledger_balances"),
    "refunds of a request": (subject_query("req_1", "a"), "ix_ledger_transactions_subject"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_walks_its_index(database_place: DatabasePlace, name: str) -> None:
    query, index = LISTS[name]

    async def story(database: Database) -> None:
        shown = await plan(database, query)
        assert index in shown, shown
        for bad in (
            "SCAN requests\n",
            "SCAN keys\n",
            "SCAN budgets\n",
            "SCAN ledger_transactions",
            "SCAN ledger_postings",
            "Seq Scan",
        ):
            assert bad not in f"{shown}\n", shown
        if name in ("entries", "balances"):  # in order already: a page costs the same anywhere
            assert "TEMP B-TREE" not in shown
            assert "Sort" not in shown

    within(database_place, story)


def test_pages_of_requests_follow_each_other_also_over_equal_instants(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        requests = RequestRepository(database)
        records = [
            RequestRecord(
                request_id=f"r{number}", created_at=1_000 + number // 4, operation="chat", route="", dialect="d",
                workspace_id="w", account_id="a" if number % 2 else "b", key_id="k", request_model="new",
                cost_nano_usd=None if number == 7 else 5, input_tokens=3,
            )
            for number in range(10)
        ]  # fmt: skip
        async with database.write() as connection:
            await requests.insert_many(connection, records)
        seen: list[str] = []
        before = None
        while page := await requests.list_newest(Owner("account_id", "a"), before, 2):
            seen += [record.request_id for record in page]
            before = Place(page[-1].created_at, page[-1].request_id)
        assert seen == ["r9", "r7", "r5", "r3", "r1"]
        assert await requests.unpriced(5) == (UnpricedModel(model="new", requests=1, tokens=3, newest_at=1_001),)

    within(database_place, story)


def test_credits_of_many_accounts_are_asked_at_once(sqlite_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        service = LedgerService(database, SystemClock())
        for name in ("a", "b"):
            await service.top_up(Movement(account_id=name, nano_usd=7, key=name, source="test"))
        assert await service.repository.credits(["a", "b", "c"]) == {"a": 7, "b": 7, "c": 0}

    within(sqlite_place, story)


def test_the_ways_of_the_newest_requests_lead_to_their_records(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        requests = RequestRepository(database)
        records = [
            RequestRecord(
                request_id=f"r{number}", created_at=1_000 + number // 2, operation="chat", route="",
                dialect="openai.chat" if number % 2 else "ollama.chat", workspace_id="w" if number < 5 else "other",
                connection_id="up" if number else None,
            )
            for number in range(7)
        ]  # fmt: skip
        async with database.write() as connection:
            await requests.insert_many(connection, records)
        ways = await requests.newest_ways("w", 4)
        assert ways[:2] == [Way("r4", "up", "ollama.chat"), Way("r3", "up", "openai.chat")]
        assert [way.request_id for way in ways] == ["r4", "r3", "r2", "r1"]
        found = await requests.load_many(["r1", "r4", "r0"])
        assert [record.request_id for record in found] == ["r4", "r1", "r0"]

    within(database_place, story)
