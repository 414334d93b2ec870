"""Payments on both databases and a real EVM: whatever happens in between, what arrives is credited once."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest
from eth_account.signers.local import LocalAccount

from databases import DatabasePlace
from driven_clock import DrivenClock
from evm_chain import CHAIN_ID, PAY_TO, RELAYER, EvmChain, running_chain
from pointsman.accounting.ledger_service import LedgerService, Movement
from pointsman.accounting.payment_books import PaymentBooks
from pointsman.accounting.payment_watch import LONGEST_VALID_US, PATIENCE_US, PaymentWatch
from pointsman.accounting.payments import Look, Note, PaymentDesk, Settler
from pointsman.canonical.ledger import TransactionKind
from pointsman.canonical.payments import INSUFFICIENT_BALANCE, Offer, Payment, PaymentRefused, PaymentState
from pointsman.clock import SystemClock
from pointsman.errors import GatewayError, Kind
from pointsman.keyring import Secret
from pointsman.settings import UpstreamSettings
from pointsman.storage.payments import PaymentRepository, PaymentRow, payments
from pointsman.ticker import Ticker
from pointsman.upstream import evm_chain, evm_signatures
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.evm_chain import EvmChain as ChainReader
from pointsman.upstream.evm_relayer import Relayer
from pointsman.upstream.json_posts import JsonPost
from pointsman.wire.x402 import read_payment
from x402_payments import authorization, cancel, payment, submit

ACCOUNT = "agent-1"
USD = 10**9
RELAYER_KEY = Secret(RELAYER.key.hex())
SETTLING_S = 50.0  # far longer than it takes: what ends a wait here is what happens, on the slowest machine too

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def patient_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain is a Python program that shares this process, and may be slow to answer."""
    monkeypatch.setattr(evm_chain, "CALL_SECONDS", SETTLING_S)


@pytest.fixture(scope="module")
def chain() -> Iterator[EvmChain]:
    with running_chain() as started:
        yield started


class Payments:
    """The parts, on one database."""

    def __init__(self, place: DatabasePlace, chain: EvmChain, confirmations: int, seconds: float) -> None:
        self.chain = chain
        self.database = place.open()
        self.clock = SystemClock()
        self.rows = PaymentRepository(self.database)
        self.ledger = LedgerService(self.database, self.clock)
        self.books = PaymentBooks(self.database, self.rows, self.ledger, self.clock)
        loop = asyncio.get_running_loop()
        self.ticker = Ticker(loop, self.clock)
        self.ticker.start()
        self.client = UpstreamClient(loop, UpstreamSettings(), self.ticker)
        node = JsonPost("the node", self.client, Secret(chain.url), allow_private=True)
        self.reader = ChainReader(node, CHAIN_ID, confirmations)
        self.relayer = Relayer(self.reader, RELAYER_KEY, self.clock, seconds)
        self.desk = PaymentDesk(self.rows, self.books, self.clock, self.relayer, self.reader, seconds)
        self.watch = PaymentWatch(self.rows, self.books, self.clock, self.reader)

    def offer(self, atomic: int = 1_000_000) -> Offer:
        return Offer(
            resource="http://here/topup",
            chain_id=CHAIN_ID,
            old_network="base-sepolia",
            asset=self.chain.token,
            asset_name="USD Coin",
            asset_version="2",
            pay_to=PAY_TO,
            atomic=atomic,
            nano_usd=atomic * 1000,
            valid_seconds=300,
        )

    def shown(self, payer: LocalAccount, told: dict[str, Any]) -> Payment:
        [value] = payment(self.chain, payer, 2, told).values()
        return read_payment(2, value, self.offer(int(told["value"])))

    def fresh(self, number: int) -> Payment:
        """A payment of payer ``number`` that nobody has seen yet."""
        payer = self.chain.payer(number)
        return self.shown(payer, authorization(payer))

    async def begun(self, number: int, **more: Any) -> "Begun":
        """A payment of payer ``number`` that somebody began and nobody goes on with."""
        payer = self.chain.payer(number)
        told = authorization(payer, **more)
        row = self.desk._intend(ACCOUNT, self.shown(payer, told), await self.reader.height())
        row = msgspec.structs.replace(row, held_until=0)
        await self.rows.add(row)
        return Begun(self, payer, told, row)

    async def settled(self, number: int) -> "Begun":
        """One that had settled when its server died."""
        one = await self.begun(number)
        assert await self.rows.settled(one.row.id, one.submit(), self.clock.now_us())
        return one

    async def take_place(self, row: PaymentRow) -> None:
        """Post another movement where the payment's credit belongs in the ledger."""
        other = Movement(account_id=ACCOUNT, nano_usd=5, key=row.key, source="somebody")
        async with self.database.write() as connection:
            await self.ledger.repository.post(connection, self.ledger.drafted(other, TransactionKind.TOP_UP))

    def other_desk(self, settler: Settler, chain: ChainReader | None) -> PaymentDesk:
        """Another server's, on the same database."""
        return PaymentDesk(self.rows, self.books, self.clock, settler, chain, SETTLING_S)

    async def credit(self) -> int:
        return await self.ledger.credit(ACCOUNT)


class Begun:
    """A payment in the database, and what its payer signed."""

    def __init__(self, parts: Payments, payer: LocalAccount, told: dict[str, Any], row: PaymentRow) -> None:
        self.parts, self.payer, self.told, self.row = parts, payer, told, row

    def shown(self) -> Payment:
        return self.parts.shown(self.payer, self.told)

    def submit(self, **more: Any) -> str:
        """Made on the chain by somebody else; gives the transaction."""
        return submit(self.parts.chain, self.payer, {**self.told, **more})

    async def state(self) -> PaymentState:
        found = await self.parts.rows.get(self.row.id)
        assert found is not None
        return found.state


Story = Callable[[Payments], Awaitable[None]]


def within(
    place: DatabasePlace, chain: EvmChain, story: Story, *, confirmations: int = 1, seconds: float = SETTLING_S
) -> None:
    """Run ``story``; in the end the ledger sums to zero."""

    async def run() -> None:
        parts = Payments(place, chain, confirmations, seconds)
        try:
            await story(parts)
            assert sum(one.balance_nano_usd for one in await parts.ledger.balances()) == 0
        finally:
            await parts.desk.aclose()
            parts.ticker.stop()
            parts.client.close()
            await parts.database.aclose()

    asyncio.run(run())


def test_a_payment_that_had_settled_when_its_server_died_is_credited_once(
    database_place: DatabasePlace, chain: EvmChain
) -> None:
    async def story(parts: Payments) -> None:
        one = await parts.settled(1)
        assert await parts.credit() == 0
        assert [await parts.watch.step(everything=True) for _ in range(2)] == [1, 0]
        assert (await parts.credit(), await one.state()) == (USD, PaymentState.CREDITED)
        again = await parts.desk.pay(ACCOUNT, one.shown())
        assert (again.id, await parts.credit()) == (one.row.id, USD)

    within(database_place, chain, story)


def test_everybody_who_notices_at_once_that_a_payment_arrived_credits_it_once(
    database_place: DatabasePlace, chain: EvmChain
) -> None:
    async def story(parts: Payments) -> None:
        one = await parts.begun(2)
        made = one.submit()
        await asyncio.gather(
            *(parts.books.arrived(one.row, made) for _ in range(4)),
            *(parts.desk.pay(ACCOUNT, one.shown()) for _ in range(3)),
            parts.watch.step(everything=True),
        )
        assert await parts.credit() == USD

    within(database_place, chain, story)


def test_credit_and_state_change_together_or_not_at_all(database_place: DatabasePlace, chain: EvmChain) -> None:
    async def story(parts: Payments) -> None:
        one = await parts.begun(3)
        await parts.take_place(one.row)
        with pytest.raises(Exception, match="another transaction"):
            await parts.books.arrived(one.row, one.submit())
        assert (await parts.credit(), await one.state()) == (5, PaymentState.SETTLED)

    within(database_place, chain, story)


def test_a_transfer_that_somebody_else_sent_is_found_by_its_events(
    database_place: DatabasePlace, chain: EvmChain
) -> None:
    async def story(parts: Payments) -> None:
        one = await parts.begun(4)
        assert await parts.watch.step(everything=True) == 0
        made = one.submit()
        assert await parts.watch.step(everything=True) == 1
        found = await parts.rows.get(one.row.id)
        assert found is not None
        assert (found.transaction_hash, await parts.credit()) == (made, USD)

    within(database_place, chain, story)


def test_an_authorization_that_was_cancelled_is_no_payment(sqlite_place: DatabasePlace, chain: EvmChain) -> None:
    async def story(parts: Payments) -> None:
        one = await parts.begun(5)
        cancel(chain, one.payer, one.told["nonce"])
        assert await parts.watch.step(everything=True) == 0
        assert (await parts.credit(), await one.state()) == (0, PaymentState.FAILED)
        with pytest.raises(PaymentRefused, match="nonce_already_used"):
            await parts.desk.pay(ACCOUNT, one.shown())

    within(sqlite_place, chain, story)


def test_an_authorization_that_paid_somebody_else_is_no_payment(sqlite_place: DatabasePlace, chain: EvmChain) -> None:
    async def story(parts: Payments) -> None:
        one = await parts.begun(6)
        one.submit(to="0x" + "33" * 20)
        await parts.watch.step(everything=True)
        assert (await parts.credit(), await one.state()) == (0, PaymentState.FAILED)

    within(sqlite_place, chain, story)


def test_what_is_over_is_looked_at_no_more(sqlite_place: DatabasePlace, chain: EvmChain) -> None:
    async def story(parts: Payments) -> None:
        one = await parts.begun(7, validBefore="1700000000")
        await parts.watch.step(everything=True)
        assert await one.state() is PaymentState.FAILED
        assert await parts.rows.due(None, "", 10) == []

    within(sqlite_place, chain, story)


def test_a_transaction_that_no_block_takes_is_waited_for_no_longer_than_its_authorization_is_valid(
    sqlite_place: DatabasePlace, chain: EvmChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node has it, and has no receipt of it."""
    genuine = chain.answer

    def answer(called: str, params: list[Any]) -> Any:
        return {} if called == "eth_getTransactionByHash" else genuine(called, params)

    async def story(parts: Payments) -> None:
        last = chain.tester.get_block_by_number("latest")["timestamp"] + 60
        one = await parts.begun(50, validBefore=str(last))
        await parts.rows.sent(one.row.id, "0x" + "12" * 32, 1)
        monkeypatch.setattr(chain, "answer", answer)
        await parts.watch.step(everything=True)
        assert await one.state() is PaymentState.INTENDED
        chain.tester.time_travel(last + 1)
        chain.tester.mine_block()
        await parts.watch.step(everything=True)
        assert await one.state() is PaymentState.FAILED

    within(sqlite_place, chain, story)


@pytest.mark.parametrize(
    ("trouble", "state"),
    [
        ("no answers", PaymentState.UNCLEAR),
        ("no events", PaymentState.UNCLEAR),
        ("other chain", PaymentState.UNCLEAR),
        ("for ever", PaymentState.FAILED),
    ],
)
def test_a_payment_that_nobody_can_decide_on_has_its_end(
    sqlite_place: DatabasePlace,
    chain: EvmChain,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
    state: PaymentState,
) -> None:
    genuine = chain.answer

    def answer(called: str, params: list[Any]) -> Any:
        if trouble == "no answers" and called == "eth_call":
            return None
        return [] if trouble == "no events" and called == "eth_getLogs" else genuine(called, params)

    async def story(parts: Payments) -> None:
        one = await parts.begun(51, **({"validBefore": str(2**256 - 1)} if trouble == "for ever" else {}))
        row = one.row
        if trouble == "no events":
            submit(chain, one.payer, one.told)
        if trouble == "other chain":
            await parts.rows._change((payments.c.id == row.id,), network="eip155:1")
        monkeypatch.setattr(chain, "answer", answer)
        valid_until = row.created_at + LONGEST_VALID_US if trouble == "for ever" else row.valid_before * 1_000_000
        clock = DrivenClock(valid_until + PATIENCE_US - 1_000_000)
        watch = PaymentWatch(parts.rows, parts.books, clock, parts.reader)
        await watch.step(everything=True)
        assert await one.state() is PaymentState.INTENDED
        clock.advance(2)
        await watch.step(everything=True)
        assert await one.state() is state
        assert await parts.rows.due(None, "", 10) == []

    within(sqlite_place, chain, story)


def test_a_payment_that_is_taken_up_while_it_is_looked_at_is_not_closed(
    sqlite_place: DatabasePlace, chain: EvmChain
) -> None:
    """Its authorization is good for ever: the payer comes again at the moment at which nobody waits any more."""

    async def story(parts: Payments) -> None:
        one = await parts.begun(52, validBefore=str(2**256 - 1))
        clock = DrivenClock(one.row.created_at + LONGEST_VALID_US + PATIENCE_US + 1)

        class TakenUp:
            """The chain, while another server begins to settle what is looked at."""

            async def height(self) -> int:
                return await parts.reader.height()

            async def look(self, row: PaymentRow) -> Look:
                found = await parts.reader.look(row)
                assert await parts.rows.hold(row.id, clock.now_us(), clock.now_us() + 60_000_000)
                return found

        await PaymentWatch(parts.rows, parts.books, clock, TakenUp()).step(everything=True)
        assert await one.state() is PaymentState.INTENDED
        found = await parts.books.arrived(one.row, one.submit())
        assert (found.state, await parts.credit()) == (PaymentState.CREDITED, USD)

    within(sqlite_place, chain, story)


def test_a_transfer_is_believed_when_enough_blocks_stand_on_it(sqlite_place: DatabasePlace, chain: EvmChain) -> None:
    async def story(parts: Payments) -> None:
        one = await parts.begun(8)
        one.submit()
        await parts.watch.step(everything=True)
        assert await one.state() is PaymentState.INTENDED
        chain.tester.mine_blocks(2)
        await parts.watch.step(everything=True)
        assert (await parts.credit(), await one.state()) == (USD, PaymentState.CREDITED)

    within(sqlite_place, chain, story, confirmations=3)


def test_a_caller_who_goes_away_is_credited_all_the_same(sqlite_place: DatabasePlace, chain: EvmChain) -> None:
    async def story(parts: Payments) -> None:
        reached, opened = threading.Event(), threading.Event()

        def before(method: str) -> None:
            if method == "eth_getTransactionReceipt":
                reached.set()
                opened.wait(SETTLING_S)

        chain.before = before
        try:
            caller = asyncio.ensure_future(parts.desk.pay(ACCOUNT, parts.fresh(9)))
            assert await asyncio.to_thread(reached.wait, SETTLING_S)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
        finally:
            chain.before = lambda method: None
            opened.set()
        await parts.desk.aclose()
        assert await parts.credit() == USD

    within(sqlite_place, chain, story)


class LateRelayer(Relayer):
    """Checks payments when it is told to."""

    opened: asyncio.Event

    async def verify(self, payment: Payment) -> None:
        await self.opened.wait()
        await super().verify(payment)


def test_a_payment_that_settles_elsewhere_while_it_is_checked_here_is_not_refused(
    sqlite_place: DatabasePlace, chain: EvmChain
) -> None:
    async def story(parts: Payments) -> None:
        late = LateRelayer(parts.reader, RELAYER_KEY, parts.clock, SETTLING_S)
        late.opened = asyncio.Event()
        other, shown = parts.other_desk(late, parts.reader), parts.fresh(40)
        second = asyncio.ensure_future(other.pay(ACCOUNT, shown))
        first = await parts.desk.pay(ACCOUNT, shown)
        late.opened.set()
        assert (await second, await parts.credit()) == (first, USD)

    within(sqlite_place, chain, story)


def test_two_relayers_with_one_key_do_not_stand_in_each_others_way(
    sqlite_place: DatabasePlace, chain: EvmChain
) -> None:
    async def story(parts: Payments) -> None:
        other = parts.other_desk(Relayer(parts.reader, RELAYER_KEY, parts.clock, SETTLING_S), parts.reader)
        desks = (parts.desk, other, parts.desk, other)
        shown = [parts.fresh(20 + number) for number in range(4)]
        await asyncio.gather(*(desk.pay(ACCOUNT, one) for desk, one in zip(desks, shown, strict=True)))
        assert await parts.credit() == 4 * USD

    within(sqlite_place, chain, story)


def test_a_node_of_another_chain_is_not_believed(sqlite_place: DatabasePlace, chain: EvmChain) -> None:
    async def story(parts: Payments) -> None:
        parts.reader._chain_id = 8453
        with pytest.raises(GatewayError, match="the chain"):
            await parts.desk.pay(ACCOUNT, parts.fresh(30))
        assert await parts.rows.due(None, "", 10) == []

    within(sqlite_place, chain, story)


def test_a_transfer_in_the_last_moment_of_its_authorization_is_not_given_up(
    sqlite_place: DatabasePlace, chain: EvmChain
) -> None:
    """It arrives, and the authorization ends, between two looks at the chain."""

    async def story(parts: Payments) -> None:
        last = chain.tester.get_block_by_number("latest")["timestamp"] + 60
        one = await parts.begun(41, validBefore=str(last))

        def before(method: str) -> None:
            if method == "eth_getBlockByNumber":
                chain.before = lambda method: None
                one.submit()
                chain.tester.time_travel(last + 1)
                chain.tester.mine_block()

        chain.before = before
        await parts.watch.step(everything=True)
        assert (await one.state(), await parts.credit()) == (PaymentState.CREDITED, USD)

    within(sqlite_place, chain, story)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("eth_getLogs", None),
        ("eth_getLogs", [7]),
        ("eth_getLogs", [{"topics": []}]),
        ("eth_getTransactionReceipt", {"status": "0x1", "logs": [7]}),
        ("eth_getTransactionReceipt", {"status": "0x1", "logs": 7}),
    ],
)
def test_a_node_that_talks_nonsense_of_a_payment_keeps_nobody_else_from_credit(
    sqlite_place: DatabasePlace, chain: EvmChain, monkeypatch: pytest.MonkeyPatch, method: str, answer: Any
) -> None:
    """A node's first answer about the first one; the others are as they should be."""
    genuine = chain.answer

    def first_wrong(called: str, params: list[Any]) -> Any:
        if called != method:
            return genuine(called, params)
        monkeypatch.setattr(chain, "answer", genuine)
        return answer

    async def story(parts: Payments) -> None:
        both = [await parts.begun(number) for number in (42, 43)]
        for one in both:
            one.submit()
        monkeypatch.setattr(chain, "answer", first_wrong)
        assert await parts.watch.step(everything=True) == 1
        assert [await one.state() for one in both] == [PaymentState.INTENDED, PaymentState.CREDITED]
        assert await parts.watch.step(everything=True) == 1

    within(sqlite_place, chain, story)


def test_a_payment_that_cannot_be_credited_keeps_no_other_one_waiting(
    sqlite_place: DatabasePlace, chain: EvmChain
) -> None:
    async def story(parts: Payments) -> None:
        both = [await parts.begun(number) for number in (44, 45)]
        for one in both:
            one.submit()
        await parts.take_place(both[0].row)
        assert await parts.watch.step(everything=True) == 1
        assert [await one.state() for one in both] == [PaymentState.SETTLED, PaymentState.CREDITED]

    within(sqlite_place, chain, story)


class LostAnswers:
    """A facilitator: nobody knows what its first settlement did, and then it has another reason against each."""

    def __init__(self) -> None:
        self.settled = 0

    async def verify(self, payment: Payment) -> None:
        if self.settled:
            raise PaymentRefused(INSUFFICIENT_BALANCE)

    async def settle(self, row: PaymentRow, payment: Payment, note: Note) -> str:
        self.settled += 1
        raise GatewayError(Kind.UPSTREAM_TIMEOUT, "the facilitator gave no answer")


@pytest.mark.parametrize("repeated", [False, True])
def test_a_settlement_of_which_nobody_knows_is_for_a_person_to_look_at_though_it_is_refused_later(
    sqlite_place: DatabasePlace, chain: EvmChain, repeated: bool
) -> None:
    async def story(parts: Payments) -> None:
        desk, shown = parts.other_desk(LostAnswers(), None), parts.fresh(46)
        with pytest.raises(PaymentRefused, match="settlement_pending"):
            await desk.pay(ACCOUNT, shown)
        if repeated:
            with pytest.raises(PaymentRefused, match="insufficient_balance"):
                await desk.pay(ACCOUNT, shown)
        [row] = await parts.rows.due(None, "", 10)
        late = DrivenClock((row.valid_before + 1) * 1_000_000)
        await PaymentWatch(parts.rows, parts.books, late, None).step(everything=True)
        found = await parts.rows.get(row.id)
        assert found is not None
        assert found.state is PaymentState.UNCLEAR

    within(sqlite_place, chain, story)


def test_signatures_are_checked_one_after_another(
    sqlite_place: DatabasePlace, chain: EvmChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By libraries in Python, which keep the process from other work as long as they are at it."""
    genuine, running, most = evm_signatures.signer_of, threading.Semaphore(1), []

    def watched(*asked: Any) -> str | None:
        most.append(running.acquire(blocking=False))
        try:
            return genuine(*asked)
        finally:
            if most[-1]:
                running.release()

    async def story(parts: Payments) -> None:
        monkeypatch.setattr(evm_signatures, "signer_of", watched)
        shown = [parts.fresh(50 + number) for number in range(4)]
        await asyncio.gather(*(parts.relayer.verify(one) for one in shown))
        assert most == [True] * 4

    within(sqlite_place, chain, story)


def test_an_end_does_not_wait_for_the_chain(sqlite_place: DatabasePlace, chain: EvmChain) -> None:
    async def story(parts: Payments) -> None:
        one = await parts.begun(60)
        one.submit()
        reached = threading.Event()
        chain.before = lambda method: reached.set() if method == "eth_getTransactionReceipt" else None
        again = asyncio.ensure_future(parts.desk.pay(ACCOUNT, one.shown()))
        assert await asyncio.to_thread(reached.wait, SETTLING_S)
        chain.before = lambda method: None
        async with asyncio.timeout(SETTLING_S):
            await parts.desk.aclose()
        with pytest.raises(PaymentRefused, match="settlement_pending"):
            await again
        assert await one.state() is PaymentState.INTENDED

    within(sqlite_place, chain, story, confirmations=10, seconds=100.0)


def test_a_stop_does_not_wait_until_every_payment_was_looked_at(sqlite_place: DatabasePlace, chain: EvmChain) -> None:
    async def story(parts: Payments) -> None:
        stop = asyncio.Event()
        await parts.settled(1)
        stop.set()
        assert await parts.watch.step(stop, everything=True) == 0
        assert await parts.watch.step(everything=True) == 1

    within(sqlite_place, chain, story)
