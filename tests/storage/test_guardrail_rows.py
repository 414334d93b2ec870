"""Guardrails, whom they bind, and their budgets in the escrow, on both databases."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from databases import DatabasePlace
from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.canonical.windows import Window
from pointsman.policy.guardrails import budget_id
from pointsman.storage.accounts import AccountRepository, AccountRow, WorkspaceRow
from pointsman.storage.budget_leases import BudgetLeaseRepository, Charge, Holder, LeaseAsk, LeaseGrant
from pointsman.storage.budgets import BudgetRepository, BudgetRow
from pointsman.storage.database import Database
from pointsman.storage.guardrails import AssignmentRow, ContentFilter, GuardrailRepository, GuardrailRow, GuardrailRules
from pointsman.storage.keys import KeyRepository, KeyRow
from pointsman.storage.requests import RequestRepository
from pointsman.storage.users import UserRepository, UserRow

ROW = GuardrailRow(
    id="g1", account_id="acc", workspace_id="acc", name="first", created_at=1, limit_nano_usd=100, window_kind="day",
    rules=GuardrailRules(allowed_models=("a/b",), content_filters=(ContentFilter(pattern="x", action="flag"),)),
)  # fmt: skip
DAY = Window("day")


def run(place: DatabasePlace, work: Callable[[Database], Awaitable[None]]) -> None:
    async def go() -> None:
        database = place.open()
        try:
            await work(database)
        finally:
            await database.aclose()

    asyncio.run(go())


def assigned(subject: str, *, scope: Any = "key", guardrail: str = "g1", number: int = 0) -> AssignmentRow:
    return AssignmentRow(
        id=f"{guardrail}-{scope}-{subject}", account_id="acc", scope=scope, subject=subject, guardrail_id=guardrail,
        created_at=number, assigned_by="usr_1",
    )  # fmt: skip


def key(number: int, **more: Any) -> KeyRow:
    values: dict[str, Any] = {
        "id": f"key_{number}", "digest": b"%d" % number, "name": f"k{number}", "hint": f"sk-{number}", "created_at": 1,
        "role": "inference", "kind": "openrouter", "account_id": "acc", "fingerprint": f"{number:064x}",
    }  # fmt: skip
    return KeyRow(**{**values, **more})


async def furnish(database: Database) -> GuardrailRepository:
    """An account with a workspace, two keys, a person, and a guardrail."""
    accounts, keys, users = AccountRepository(database), KeyRepository(database), UserRepository(database)
    await accounts.add(AccountRow(id="acc", kind="organization", name="a", created_at=1, updated_at=1))
    await accounts.add_workspace(
        WorkspaceRow(id="ws_2", account_id="acc", slug="s", name="s", created_at=1, updated_at=1)
    )
    await users.add(UserRow(id="usr_1", account_id="acc", created_at=1, updated_at=1))
    await accounts.put_member("acc", "usr_1", "org:member", 1)
    await keys.add(key(1, creator_user_id="usr_1"))
    await keys.add(key(2, user_id="usr_1"))
    rows = GuardrailRepository(database)
    await rows.add(ROW)
    return rows


def test_a_guardrail_is_stored_whole(database_place: DatabasePlace) -> None:
    async def work(database: Database) -> None:
        rows = await furnish(database)
        assert await rows.find("acc", "g1") == ROW
        assert await rows.find("other", "g1") is None
        assert await rows.list_page("acc", None, 10, 0) == ((ROW,), 1)
        assert await rows.list_page("acc", "elsewhere", 10, 0) == ((), 0)
        changed = await rows.change("acc", "g1", lambda row: msgspec.structs.replace(row, name="other"))
        assert changed is not None
        assert changed[0].name == "other"
        assert await rows.change("other", "g1", lambda row: row) is None
        assert await rows.remove("other", "g1") is None
        assert await rows.remove("acc", "g1") == changed[1] + 1

    run(database_place, work)


def test_an_assignment_replaces_the_one_before(database_place: DatabasePlace) -> None:
    async def work(database: Database) -> None:
        rows = await furnish(database)
        await rows.add(msgspec.structs.replace(ROW, id="g2"))
        both = [assigned("key_1", number=1), assigned("key_2", number=2)]
        assert (await rows.assign(both) or (0, 0))[0] == 2
        assert (await rows.assign(both) or (0, 0))[0] == 0
        assert (await rows.assign([assigned("key_1", guardrail="g2", number=3)]) or (0, 0))[0] == 1
        assert await rows.assign([assigned("key_1", guardrail="g3")]) is None
        listed, total = await rows.key_assignments("acc", None, 10, 0)
        assert [(one.row.guardrail_id, one.fingerprint[-1], one.name, one.label) for one in listed] == [
            ("g1", "2", "k2", "sk-2"), ("g2", "1", "k1", "sk-1"),
        ]  # fmt: skip
        assert total == 2
        assert (await rows.key_assignments("acc", "g2", 10, 1)) == ((), 1)
        assert await rows.is_assigned("acc", [("key", "key_1"), ("member", "usr_1")])
        assert not await rows.is_assigned("acc", [("member", "usr_1")])
        assert (await rows.unassign("acc", "key", ["key_1", "key_2"], "g1"))[0] == 1
        assert (await rows.unassign("acc", "key", ["key_1"]))[0] == 1
        assert await rows.load() == ({}, ())

    run(database_place, work)


def test_filters_reach_members_and_the_workspaces_of_accounts(database_place: DatabasePlace) -> None:
    async def work(database: Database) -> None:
        rows = await furnish(database)
        await rows.add(msgspec.structs.replace(ROW, id="g2"))
        wanted = [assigned("usr_1", scope="member"), assigned("acc", scope="account", guardrail="g2")]
        for one in wanted:
            await rows.assign([one])
        assert await rows.members_among("acc", ["usr_1", "usr_2"]) == ["usr_1"]
        assert (await rows.member_assignments("acc", "g1", 10, 0)) == ((wanted[0],), 1)
        assert await rows.defaults("acc") == (wanted[1],)
        assert await rows.reach(wanted) == {
            "g1": {("member", "usr_1")},
            "g2": {("workspace", "acc"), ("workspace", "ws_2")},
        }

    run(database_place, work)


def test_the_escrow_reads_a_guardrail_s_limit_where_it_stands(database_place: DatabasePlace) -> None:
    async def work(database: Database) -> None:
        rows = await furnish(database)
        escrow, name = BudgetLeaseRepository(database), budget_id(ROW, "key_1")

        term = await escrow.register(Holder("one", "home", 1))

        async def ask(want: int, holder: str = "one") -> LeaseGrant:
            wanted = LeaseAsk(budget_id=name, window=DAY, period=0, floor=0, want=want)
            [grant] = await escrow.exchange(Holder(holder, "home", 1), term, [wanted], 1)
            return grant

        first = await ask(80)
        assert (first.granted, first.limit) == (80, 100)
        assert (await ask(80, "two")).granted == 20
        async with database.write() as connection:
            await escrow.book(connection, [Charge(name, 0, "one", 70)])
        assert (await ask(10, "three")).spent == 70
        await rows.change("acc", "g1", lambda row: msgspec.structs.replace(row, limit_nano_usd=200))
        assert (await ask(100, "three")).granted == 100
        await rows.remove("acc", "g1")
        gone = await ask(1000, "three")
        assert (gone.limit, gone.spent, gone.granted) == (None, 0, 1000)

    run(database_place, work)


def test_a_budget_that_is_to_count_other_costs_counts_its_window_anew(database_place: DatabasePlace) -> None:
    async def work(database: Database) -> None:
        requests, budgets = RequestRepository(database), BudgetRepository(database)
        record = RequestRecord(
            request_id="req_1", created_at=10, operation="chat", route="/", dialect="d", key_id="key_1",
            outcome=Outcome.SUCCESS, cost_nano_usd=5, upstream_cost_nano_usd=100, byok=True,
        )  # fmt: skip
        async with database.write() as connection:
            await requests.insert_many(connection, [record])
        row = BudgetRow(id="b1", scope="key", subject="key_1", limit_nano_usd=1000, window=Window(), updated_at=20)
        spent = {}
        for include in (False, True, True, False):
            stored, _ = await budgets.put(msgspec.structs.replace(row, id=f"b{len(spent)}", include_byok=include))
            spent[len(spent)] = (stored.id, (await budgets.spendings([stored], 20))[stored.id].spent)
        assert list(spent.values()) == [("b0", 5), ("b1", 105), ("b1", 105), ("b3", 5)]
        assert len(await budgets.list_page(10)) == 1

    run(database_place, work)
