"""Budgets as clients see them: what is reserved, what is charged, what is refused, and who is told."""

import asyncio
from typing import Any

from gateway import RunningGateway, wait_until
from pointsman.canonical.windows import Window
from pointsman.policy.budget_service import Standing
from pointsman.storage.budgets import BudgetRow
from raw_client import Answer, Connection, ask, ask_all, chat

DOLLAR = 1_000_000_000
FOREVER = Window()
FLAT = "sim/sim-model"  # a cent a call, whatever its size
CENT = DOLLAR // 100
LONG = "sim/sim-model#tokens=10"  # a dollar for a thousand tokens of answer
BROKEN = "sim/sim-model#fault=http_500"
CUT = "sim/sim-model#tokens=50,fault=cut_mid_stream,after_events=10"
SLOW = "sim/sim-model#tokens=20,pace_ms=20"
FACTS = [
    *({"model": name, "prompt": 0, "completion": 0, "request": 0.01} for name in (FLAT, BROKEN, CUT, SLOW)),
    {"model": LONG, "prompt": 0, "completion": 1000},
    {"model": "dear/sim-model", "prompt": 0, "completion": 0, "request": 0.5, "slug": "lab/model"},
]
SETTINGS = {"facts": FACTS, "budgets": {"assumed_output_tokens": 100}}


class Owner:
    """A key of its own with one budget."""

    def __init__(self, gateway: RunningGateway, limit: int, window: Window = FOREVER, **options: Any) -> None:
        self.gateway = gateway

        async def work() -> tuple[str, BudgetRow]:
            installation = gateway.installation
            row, secret = await installation.keys.create("budgeted")
            budget, revision = await installation.budgets.set("key", row.id, limit, window, **options)
            assert await installation.await_revision(revision)
            return secret.reveal(), budget

        self.key, self.budget = gateway.call(work())

    def ask(self, model: str = FLAT, **members: Any) -> Answer:
        """A chat by this key."""
        return ask(self.gateway.port, chat(key=self.key, model=model, **members))

    def standing(self) -> Standing:
        """How the budget stands in the database."""
        return self.gateway.call(self.gateway.installation.budgets.standing(self.budget))

    def settled(self, calls: int) -> Standing:
        """How it stands when all calls are stored and nothing is held any more."""

        def found() -> Standing | None:
            standing = self.standing()
            return standing if standing.calls == calls and not standing.held else None

        return wait_until(found, f"{calls} calls and nothing held; there is {self.standing()}")


def test_a_budget_lets_through_what_fits_and_refuses_the_rest_with_402(gateway: RunningGateway) -> None:
    owner = Owner(gateway, 3 * CENT)
    answers = [owner.ask() for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 402, 402]
    error = answers[-1].error
    assert "the key's budget" in error["message"]
    assert owner.budget.id in error["message"]
    assert "$0.01" in error["message"]
    assert owner.settled(3).spent == 3 * CENT
    record = gateway.journal.the(answers[-1].request_id)
    assert (record.status, record.error_kind, record.cost_nano_usd, record.charges) == (
        402,
        "payment_required",
        None,
        None,
    )
    assert gateway.read(lambda: gateway.server.health.quiet)


def test_calls_in_parallel_never_spend_more_and_leave_nothing_of_it(gateway: RunningGateway) -> None:
    owner = Owner(gateway, 20 * CENT)
    messages = [chat("", "connection: close", key=owner.key) for _ in range(100)]
    answers = asyncio.run(ask_all(gateway.port, messages, 100))
    statuses = [answer.status for answer in answers]
    assert (statuses.count(200), statuses.count(402)) == (20, 80)
    assert owner.settled(20).spent == 20 * CENT
    stored, counted = gateway.call(gateway.installation.budgets.recount(owner.budget))
    assert stored == counted == 20 * CENT


def test_the_most_that_a_call_can_cost_is_reserved_and_its_real_cost_charged(gateway: RunningGateway) -> None:
    owner = Owner(gateway, 50 * CENT)
    assert owner.ask(LONG, max_tokens=501).status == 402
    assert owner.ask(LONG, max_tokens=500).status == 200
    assert owner.ask(LONG, max_tokens=490).status == 200
    assert owner.settled(2).spent == 2 * CENT  # ten tokens each
    assert owner.ask(LONG).status == 200  # 100 are assumed


def test_a_failed_call_costs_nothing_and_gives_all_back(gateway: RunningGateway) -> None:
    owner = Owner(gateway, CENT)
    assert {owner.ask(BROKEN).status for _ in range(3)} <= {500, 502, 503}
    assert owner.ask().status == 200
    assert owner.ask().status == 402
    assert owner.settled(1).spent == CENT


def test_a_client_that_leaves_pays_once_for_what_it_has_begun(gateway: RunningGateway) -> None:
    owner = Owner(gateway, 2 * CENT)
    with Connection(gateway.port) as connection:
        connection.send(chat(key=owner.key, model=SLOW, stream=True))
        connection.read_until(b"data: ")
    assert owner.settled(1).spent == CENT
    assert [owner.ask().status for _ in range(2)] == [200, 402]


def test_a_stream_that_breaks_is_not_charged_and_gives_all_back(gateway: RunningGateway) -> None:
    owner = Owner(gateway, CENT)
    assert owner.ask(CUT, stream=True).status == 200
    assert owner.settled(1).spent == 0
    assert [owner.ask().status for _ in range(2)] == [200, 402]


def test_all_budgets_of_a_call_are_charged_and_the_narrowest_refuses(gateway: RunningGateway) -> None:
    owner = Owner(gateway, DOLLAR, Window("month"))
    narrow = gateway.call(_set(gateway, "key", owner.budget.subject, 2 * CENT, Window("day")))
    assert [owner.ask().status for _ in range(3)] == [200, 200, 402]
    assert owner.settled(2).spent == 2 * CENT
    refusal = owner.ask().error["message"]
    assert narrow.id in refusal
    assert "the key's budget of the day" in refusal
    assert "it resets at 20" in refusal


def test_a_soft_budget_counts_and_refuses_nothing(gateway: RunningGateway) -> None:
    owner = Owner(gateway, CENT, hard=False)
    assert [owner.ask().status for _ in range(3)] == [200] * 3
    assert owner.settled(3).spent == 3 * CENT


def test_tags_that_calls_name_themselves_have_budgets_too(gateway: RunningGateway) -> None:
    gateway.call(_set(gateway, "tag", "nightly", CENT, Window("day")))
    tagged = chat("", "x-pointsman-tags: other, nightly")
    assert [ask(gateway.port, tagged).status for _ in range(2)] == [200, 402]
    assert ask(gateway.port, chat()).status == 200


def test_spending_from_before_a_budget_counts_in_it(gateway: RunningGateway) -> None:
    async def new_key() -> tuple[str, str]:
        row, secret = await gateway.installation.keys.create("late")
        assert await gateway.installation.await_revision(await gateway.installation.configuration.revision())
        return row.id, secret.reveal()

    key_id, secret = gateway.call(new_key())
    for _ in range(2):
        answer = ask(gateway.port, chat(key=secret))
    wait_until(lambda: gateway.call(gateway.installation.requests.find(answer.request_id)), "the record")
    budget = gateway.call(_set(gateway, "key", key_id, 3 * CENT, Window("month")))
    assert gateway.call(gateway.installation.budgets.standing(budget)).spent == 2 * CENT
    assert [ask(gateway.port, chat(key=secret)).status for _ in range(2)] == [200, 402]


def test_calls_without_a_price_are_counted_as_such(gateway: RunningGateway) -> None:
    owner = Owner(gateway, CENT)
    assert owner.ask("sim/sim-model#tokens=3").status == 200
    standing = owner.settled(1)
    assert (standing.spent, standing.unpriced_calls) == (0, 1)


async def _set(gateway: RunningGateway, scope: str, subject: str, limit: int, window: Window) -> BudgetRow:
    row, revision = await gateway.installation.budgets.set(scope, subject, limit, window)
    assert await gateway.installation.await_revision(revision)
    return row
