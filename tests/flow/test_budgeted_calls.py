"""Budgets as clients see them: what is reserved, what is charged, what is refused, and who is told."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.accounting.ledger_service import LedgerService, Movement
from pointsman.canonical.windows import Window
from pointsman.clock import SystemClock
from pointsman.identity.keys import NewKey
from pointsman.policy.budget_service import Standing
from pointsman.storage.budgets import BudgetRow
from pointsman.testing import RunningSimulator
from raw_client import Answer, Connection, ask, ask_all, chat, chat_body, request

DOLLAR = 1_000_000_000
FOREVER = Window()
FLAT = "sim/sim-model"  # a cent a call, whatever its size
CENT = DOLLAR // 100
LONG = "sim/sim-model#tokens=10"  # a dollar for a thousand tokens of answer
BROKEN = "sim/sim-model#fault=http_500"
CUT = "sim/sim-model#tokens=50,fault=cut_mid_stream,after_events=10"
SLOW = "sim/sim-model#tokens=20,pace_ms=20"
DEAR = "sim/sim-model#tokens=4"  # half a dollar a call
FACTS = [
    *({"model": name, "prompt": 0, "completion": 0, "request": 0.01} for name in (FLAT, BROKEN, CUT, SLOW)),
    {"model": LONG, "prompt": 0, "completion": 1000},
    {"model": DEAR, "prompt": 0, "completion": 0, "request": 0.5},
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


def test_a_target_that_is_too_dear_leaves_the_call_to_a_cheaper_one(gateway: RunningGateway) -> None:
    owner = Owner(gateway, 2 * CENT)
    before = gateway.read(lambda: dict(gateway.server.health.events))
    answer = owner.ask(DEAR, models=[FLAT])
    assert answer.status == 200
    assert owner.settled(1).spent == CENT
    both = owner.ask(DEAR, models=[DEAR])
    assert both.status == 402
    assert "may cost up to $0.50" in both.json()["error"]["message"]
    assert gateway.read(lambda: dict(gateway.server.health.events)) == before


@pytest.mark.parametrize(
    ("kind", "scope", "source", "status"),
    [
        ("openrouter", "key", "operator", 402),
        ("openrouter", "workspace", "operator", 403),
        ("openrouter", "member", "operator", 403),
        ("plain", "workspace", "operator", 402),
        ("omniroute", "key", "omniroute", 429),
    ],
)
def test_a_refusal_has_the_status_of_its_contract(
    gateway: RunningGateway, kind: Any, scope: str, source: str, status: int
) -> None:
    async def work() -> str:
        installation = gateway.installation
        name = f"ws-{kind}-{scope}"
        row, secret = await installation.keys.issue(NewKey(name="x", kind=kind, workspace_id=name, user_id=name))
        subject = row.id if scope == "key" else name
        _, revision = await installation.budgets.set(scope, subject, 0, Window("day"), source=source)
        assert await installation.await_revision(revision)
        return secret.reveal()

    answer = ask(gateway.port, chat(key=gateway.call(work())))
    assert answer.status == status
    assert ("retry-after" in answer.headers) is (status == 429)


def test_openrouter_s_clients_are_told_the_budget_beside_the_message(gateway: RunningGateway) -> None:
    owner = Owner(gateway, 0, Window("month"))
    body = chat_body(model=FLAT)
    answer = ask(gateway.port, request("POST", "/openrouter/api/v1/chat/completions", body, key=owner.key))
    assert answer.status == 402
    told = answer.json()["error"]["metadata"]["budget"]
    assert (told["id"], told["scope"], told["remaining_usd"]) == (owner.budget.id, "key", 0)
    assert told["resets_at"].endswith("-01T00:00:00Z")


def test_an_account_spends_its_credit_and_no_more_when_credits_are_enforced(
    shared_simulator: RunningSimulator, tmp_path: Path
) -> None:
    sim = {"id": "sim", "kind": "openai", "base_url": shared_simulator.base_url, "api_key": UPSTREAM_KEY}
    settings = {"connections": [sim], "facts": FACTS[:1], "credits": {"enforced": True}}
    with running_gateway(tmp_path, settings) as running:
        assert ask(running.port, chat()).status == 402
        ledger = LedgerService(running.installation.database, SystemClock())
        running.call(ledger.grant(Movement(account_id="default", nano_usd=3 * CENT, key="gift", source="test")))
        wait_until(lambda: ask(running.port, chat()).status == 200, "credit")
        answers = asyncio.run(ask_all(running.port, [chat("", "connection: close")] * 10))
        assert sorted(answer.status for answer in answers) == [200] * 2 + [402] * 8
        refusal = next(answer for answer in answers if answer.status == 402)
        assert "the account's credit" in refusal.error["message"]
        wait_until(lambda: running.call(ledger.credit("default")) == 0, "spent credit")


def test_all_calls_of_a_panel_are_reserved_and_charged_together(gateway: RunningGateway) -> None:
    panel = {"name": "panel", "models": [FLAT, SLOW], "strategy": "fusion", "config": {"judgeModel": FLAT}}
    made = ask(gateway.port, request("POST", "/api/combos", json.dumps(panel).encode()))
    assert made.status == 201
    owner = Owner(gateway, 5 * CENT)
    assert owner.ask("panel").status == 200
    assert owner.settled(1).spent == 3 * CENT
    refused = owner.ask("panel")  # its panel has two cents, the judge has not
    assert refused.status == 402
    standing = owner.settled(2)
    assert standing.spent == 5 * CENT
    assert gateway.call(gateway.installation.budgets.recount(owner.budget)) == (5 * CENT, 5 * CENT)
