"""Every movement of money happens exactly once, and the ledger's accounts sum to zero."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from databases import DatabasePlace
from pointsman.accounting.journal import Journal
from pointsman.accounting.ledger_check import verify
from pointsman.accounting.ledger_service import LedgerService, Movement
from pointsman.accounting.projector import Projector
from pointsman.canonical.ledger import AccountKind, LedgerAccount, TransactionKind, credit_of
from pointsman.canonical.record import Exemption, RequestRecord
from pointsman.clock import SystemClock
from pointsman.errors import GatewayError, Kind
from pointsman.storage import ledger_tables as tables
from pointsman.storage.database import Database, StorageError
from pointsman.storage.requests import RequestRepository

CLOCK = SystemClock()
Story = Callable[[Database, LedgerService], Awaitable[None]]


def within(place: DatabasePlace, story: Story) -> None:
    """Run ``story`` with an open database; in the end all balances sum to zero."""

    async def run() -> None:
        database = place.open()
        try:
            service = LedgerService(database, CLOCK)
            await story(database, service)
            assert sum(one.balance_nano_usd for one in await service.balances()) == 0
        finally:
            await database.aclose()

    asyncio.run(run())


def movement(nano_usd: int, key: str, account: str = "acme") -> Movement:
    """A movement by an operator."""
    return Movement(account_id=account, nano_usd=nano_usd, key=key, source="operator")


def record(number: int, cost: int | None = 1_000, **more: object) -> RequestRecord:
    """A settled request of the account acme at openai."""
    values = {"account_id": "acme", "provider": "openai", "key_id": "key_1", "input_tokens": 10, **more}
    return RequestRecord(
        request_id=f"req_{number:06}",
        created_at=1_000_000 + number,
        operation="chat",
        route="/v1",
        dialect="openai",
        cost_nano_usd=cost,
        **values,  # type: ignore[arg-type] - a test's keywords
    )


async def project(database: Database, directory: Path, *records: RequestRecord) -> Projector:
    """Bring records into the database by way of a journal."""
    journal = Journal(directory, CLOCK, 1 << 20)
    for one in records:
        journal.append(one)
    journal.close()
    projector = Projector(database, directory, CLOCK, batch_rows=10, retention_days=7)
    await projector.drain()
    return projector


async def balance(service: LedgerService, kind: AccountKind, owner: str = "") -> int:
    """The stored balance of a ledger account."""
    name = LedgerAccount(kind, owner).id
    return next((one.balance_nano_usd for one in await service.balances() if one.ledger_account == name), 0)


def refused(error: pytest.ExceptionInfo[GatewayError]) -> tuple[Kind, str | None]:
    """What a refusal says."""
    return error.value.kind, error.value.param


def test_a_top_up_is_credited_once_however_often_it_comes(database_place: DatabasePlace) -> None:
    async def story(database: Database, service: LedgerService) -> None:
        posted = await asyncio.gather(*(service.top_up(movement(5_000, "payment-1")) for _ in range(20)))
        assert len({one.sequence for one in posted}) == 1
        assert [one.replayed for one in posted].count(False) == 1
        assert await service.credit("acme") == 5_000
        assert await balance(service, AccountKind.EXTERNAL) == -5_000

    within(database_place, story)


def test_a_key_that_was_used_for_another_amount_is_refused(database_place: DatabasePlace) -> None:
    async def story(database: Database, service: LedgerService) -> None:
        await service.top_up(movement(5_000, "payment-1"))
        with pytest.raises(GatewayError) as error:
            await service.top_up(movement(6_000, "payment-1"))
        assert (*refused(error), error.value.status) == (Kind.INVALID_REQUEST, "idempotency_key", 409)
        assert await service.credit("acme") == 5_000
        await service.grant(movement(1, "payment-1"))  # another kind of movement has keys of its own
        assert await service.credit("acme") == 5_001

    within(database_place, story)


def test_parallel_transfers_never_spend_more_than_there_is(database_place: DatabasePlace) -> None:
    async def story(database: Database, service: LedgerService) -> None:
        await service.top_up(movement(1_000, "first"))
        transfers = [service.transfer(movement(100, f"t{number}"), "agent") for number in range(25)]
        ended = await asyncio.gather(*transfers, return_exceptions=True)
        kinds = [one.kind for one in ended if isinstance(one, GatewayError)]
        assert kinds == [Kind.PAYMENT_REQUIRED] * 15
        assert (await service.credit("acme"), await service.credit("agent")) == (0, 1_000)
        done = next(number for number, one in enumerate(ended) if not isinstance(one, BaseException))
        replayed = await service.transfer(movement(100, f"t{done}"), "agent")  # no credit is needed any more
        assert replayed.replayed

    within(database_place, story)


def test_two_nodes_credit_each_payment_once_while_both_project(database_place: DatabasePlace) -> None:
    async def story(database: Database, service: LedgerService) -> None:
        other = database_place.open()
        try:
            nodes = (service, LedgerService(other, CLOCK))
            payments = [node.top_up(movement(1, f"p{number}")) for number in range(10) for node in nodes]
            projections = [
                project(one, database_place.data_dir / f"journal{number}", *map(record, range(start, start + 60)))
                for number, (one, start) in enumerate(((database, 0), (other, 40)))
            ]
            await asyncio.gather(*payments, *projections)
            assert await service.credit("acme") == 10 - 100_000  # 20 requests came to both
            assert (await verify(database, None)).findings == ()
        finally:
            await other.aclose()

    within(database_place, story)


def test_usage_is_charged_and_owed_once_though_the_journal_comes_again(database_place: DatabasePlace) -> None:
    async def story(database: Database, service: LedgerService) -> None:
        directory = database_place.data_dir / "journal"
        records = [record(number) for number in range(25)]
        await project(database, directory, *records)
        await project(database, directory, *records, record(3), record(100, cost=7))
        assert await service.credit("acme") == -25_007
        assert await balance(service, AccountKind.USAGE) == 25_007
        assert await balance(service, AccountKind.UPSTREAM_COSTS) == -25_007
        assert await balance(service, AccountKind.PROVIDER, "openai") == 25_007
        entries = await service.entries(credit_of("acme"))
        assert [entry.requests for entry in entries] == [1, 5, 10, 10]
        assert {entry.kind for entry in entries} == {TransactionKind.USAGE}

    within(database_place, story)


def test_calls_with_the_callers_own_provider_key_cost_a_fee_and_owe_the_provider_nothing(
    sqlite_place: DatabasePlace,
) -> None:
    async def story(database: Database, service: LedgerService) -> None:
        directory = sqlite_place.data_dir / "journal"
        await project(database, directory, record(1, cost=50, upstream_cost_nano_usd=1_000, byok=True))
        assert await balance(service, AccountKind.BYOK_FEES) == 50
        assert await balance(service, AccountKind.PROVIDER, "openai") == 0
        assert await service.credit("acme") == -50

    within(sqlite_place, story)


def test_what_is_insured_is_the_operators_cost_alone(sqlite_place: DatabasePlace) -> None:
    async def story(database: Database, service: LedgerService) -> None:
        insured = record(1, cost=0, upstream_cost_nano_usd=900, exemption=Exemption.ZERO_COMPLETION)
        await project(database, sqlite_place.data_dir / "journal", insured)
        assert await service.credit("acme") == 0
        assert await balance(service, AccountKind.INSURANCE) == -900
        assert await balance(service, AccountKind.PROVIDER, "openai") == 900
        found = await RequestRepository(database).find("req_000001")
        assert found is not None
        assert found.exemption is Exemption.ZERO_COMPLETION

    within(sqlite_place, story)


def test_an_unpriced_request_posts_nothing(sqlite_place: DatabasePlace) -> None:
    async def story(database: Database, service: LedgerService) -> None:
        await project(database, sqlite_place.data_dir / "journal", record(1, cost=None))
        assert await service.balances() == ()

    within(sqlite_place, story)


def test_an_absurd_cost_is_bounded_and_posted(database_place: DatabasePlace) -> None:
    async def story(database: Database, service: LedgerService) -> None:
        odd = record(1, cost=2**70, provider="odd\0name", account_id="ac\0me")
        await project(database, database_place.data_dir / "journal", odd)
        assert await service.credit("ac\ufffdme") == -(10**15)

    within(database_place, story)


def test_refunds_of_a_request_never_exceed_its_charge(database_place: DatabasePlace) -> None:
    async def story(database: Database, service: LedgerService) -> None:
        await project(database, database_place.data_dir / "journal", record(1, cost=1_000))
        await service.refund("req_000001", "part", 400)
        with pytest.raises(GatewayError) as error:
            await service.refund("req_000001", "too much", 700)
        assert refused(error) == (Kind.INVALID_REQUEST, "nano_usd")
        first = await service.refund("req_000001", "rest")
        assert await service.refund("req_000001", "rest") == (first.sequence, True)
        assert await service.credit("acme") == 0
        assert await balance(service, AccountKind.USAGE) == 0
        with pytest.raises(GatewayError) as error:
            await service.refund("req_nobody", "x")
        assert refused(error) == (Kind.NOT_FOUND, "request_id")

    within(database_place, story)


@pytest.mark.parametrize("nano_usd", [0, -5, 10**15 + 1])
def test_an_amount_that_makes_no_sense_is_refused_by_name(sqlite_place: DatabasePlace, nano_usd: int) -> None:
    async def story(database: Database, service: LedgerService) -> None:
        with pytest.raises(GatewayError) as error:
            await service.top_up(movement(nano_usd, "x"))
        assert refused(error) == (Kind.INVALID_REQUEST, "nano_usd")
        with pytest.raises(GatewayError) as error:
            await service.top_up(movement(1, "x" * 201))
        assert refused(error) == (Kind.INVALID_REQUEST, "key")

    within(sqlite_place, story)


def test_withdrawals_and_corrections_move_what_they_say(sqlite_place: DatabasePlace) -> None:
    async def story(database: Database, service: LedgerService) -> None:
        await service.top_up(movement(1_000, "in"))
        await service.withdraw(movement(300, "out"))
        await service.adjust(movement(-50, "wrong"))
        assert await service.credit("acme") == 650
        assert await balance(service, AccountKind.EXTERNAL) == -700
        assert await balance(service, AccountKind.ADJUSTMENTS) == 50
        with pytest.raises(GatewayError) as error:
            await service.withdraw(movement(651, "more"))
        assert refused(error) == (Kind.PAYMENT_REQUIRED, None)

    within(sqlite_place, story)


def test_entries_are_paged_by_their_number(sqlite_place: DatabasePlace) -> None:
    async def story(database: Database, service: LedgerService) -> None:
        for number in range(5):
            await service.top_up(movement(1 + number, f"p{number}"))
        first = await service.entries(credit_of("acme"), None, 3)
        rest = await service.entries(credit_of("acme"), first[-1].sequence, 3)
        assert [one.amount_nano_usd for one in (*first, *rest)] == [5, 4, 3, 2, 1]

    within(sqlite_place, story)


def test_the_database_refuses_to_change_what_is_posted(database_place: DatabasePlace) -> None:
    async def story(database: Database, service: LedgerService) -> None:
        await service.top_up(movement(1_000, "in"))
        for statement in (
            update(tables.ledger_postings).values(amount_nano_usd=1),
            delete(tables.ledger_postings),
            update(tables.ledger_transactions).values(note="other"),
            delete(tables.ledger_transactions),
        ):
            with pytest.raises(StorageError, match="append-only"):
                async with database.write() as connection:
                    await connection.execute(statement)
        async with database.read() as connection:
            rows = (await connection.execute(select(tables.ledger_postings.c.amount_nano_usd))).scalars().all()
        assert sorted(rows) == [-1_000, 1_000]

    within(database_place, story)
