"""What real calls cost their account, as the ledger has it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.accounting.ledger_check import verify
from pointsman.accounting.ledger_service import Movement
from pointsman.canonical.ledger import TransactionKind, credit_of
from pointsman.canonical.record import Exemption, RequestRecord
from pointsman.storage.ledger import LedgerEntry
from pointsman.testing import RunningSimulator
from raw_client import CHAT, Answer, ask, chat, request


def settings(simulator: RunningSimulator) -> dict[str, object]:
    """A connection of ours, one of the caller's own, and a price."""
    place = {"kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
    return {
        "facts": [{"model": "*/sim-model*", "prompt": 1, "completion": 1_000}],  # USD per million tokens
        "connections": [{"id": "sim", **place}, {"id": "theirs", **place, "options": {"byok": "true"}}],
    }


@pytest.fixture(scope="module")
def charging(shared_simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that charges and lets nobody be refused for want of credit."""
    with running_gateway(tmp_path_factory.mktemp("charging"), settings(shared_simulator)) as running:
        yield running


def charged(gateway: RunningGateway, answer: Answer) -> tuple[RequestRecord, LedgerEntry | None]:
    """The request's row and its entry in the ledger."""
    requests, ledger = gateway.installation.requests, gateway.installation.ledger
    record = wait_until(lambda: gateway.call(requests.find(answer.request_id)), "row")
    found = gateway.call(ledger.entries(credit_of(record.account_id)))
    keys = {f"usage:{answer.request_id}"}
    return record, next((entry for entry in found if entry.idempotency_key in keys), None)


def test_a_call_is_charged_to_its_keys_account(charging: RunningGateway) -> None:
    record, entry = charged(charging, ask(charging.port, chat("tokens=4")))
    assert record.cost_nano_usd == record.input_tokens * 1_000 + 4 * 1_000_000
    assert (record.account_id, record.exemption, record.byok) == ("default", None, False)
    assert entry is not None
    assert (entry.kind, entry.amount_nano_usd) == (TransactionKind.USAGE, -record.cost_nano_usd)


def test_an_answer_that_broke_is_insured(charging: RunningGateway) -> None:
    answer = ask(charging.port, chat("fault=cut_mid_stream,tokens=9", stream=True))
    record, entry = charged(charging, answer)
    assert (record.cost_nano_usd, record.exemption) == (0, Exemption.FINISHED_IN_ERROR)
    assert (record.upstream_cost_nano_usd or 0) > 0
    assert entry is None


def test_a_call_through_the_callers_own_connection_costs_a_fee(charging: RunningGateway) -> None:
    answer = ask(charging.port, chat(model="theirs/sim-model#tokens=4"))
    record, entry = charged(charging, answer)
    assert record.byok
    assert record.upstream_cost_nano_usd is not None
    assert record.cost_nano_usd == (record.upstream_cost_nano_usd * 5 + 50) // 100
    assert entry is not None
    assert entry.amount_nano_usd == -record.cost_nano_usd


def test_the_books_agree_after_calls_of_every_kind(charging: RunningGateway) -> None:
    directives = ["tokens=3", "fault=http_500", "fault=cut_mid_stream", "fault=no_usage", "fault=wrong_usage"]
    for number in range(20):
        ask(charging.port, chat(directives[number % 5], "connection: close", stream=number % 2 == 0))
    wait_until(lambda: charging.read(lambda: charging.server.projector.lag().bytes == 0), "projection")
    installation = charging.installation
    report = charging.call(verify(installation.database, installation.data_dir / "journal"))
    assert report.findings == ()
    assert report.journal_records >= 20


def test_an_account_without_credit_is_refused_until_it_is_topped_up(
    shared_simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    enforced = {**settings(shared_simulator), "credits": {"enforced": True}}
    with running_gateway(tmp_path_factory.mktemp("enforced"), enforced) as gateway:
        refused = ask(gateway.port, chat("tokens=4"))
        assert refused.status == 402
        ledger = gateway.installation.ledger
        gateway.call(ledger.top_up(Movement(account_id="default", nano_usd=10**10, key="one", source="test")))
        answer = wait_until(lambda: _answered(gateway), "a call that is paid for")
        record, entry = charged(gateway, answer)
        assert entry is not None
        assert gateway.call(ledger.credit("default")) <= 10**10 - (record.cost_nano_usd or 0)


def _answered(gateway: RunningGateway) -> Answer | None:
    answer = ask(gateway.port, chat("tokens=4"))
    return answer if answer.status == 200 else None


@pytest.mark.parametrize("stream", [False, True])
def test_openrouter_s_clients_are_told_what_a_call_costs(charging: RunningGateway, stream: bool) -> None:
    for connection in ("sim", "theirs"):
        answer = ask(charging.port, router_chat(f"{connection}/sim-model#tokens=4", stream=stream))
        usage = answer.events[-2]["usage"] if stream else answer.json()["usage"]
        record = charging.journal.the(answer.request_id)
        own = connection == "theirs"
        upstream = record.upstream_cost_nano_usd
        assert usage["cost"] == (record.cost_nano_usd or 0) / 1e9 > 0
        assert usage["is_byok"] is own is record.byok
        assert usage["cost_details"] == {"upstream_inference_cost": upstream / 1e9 if own and upstream else None}


def test_a_call_whose_upstream_bills_the_caller_reserves_its_fee_alone(charging: RunningGateway) -> None:
    work = charging.installation
    row, secret = charging.call(work.keys.create("own accounts", "inference"))
    # 10 tokens of answer cost 10,000,000 nano-USD at most, and the fee of that 500,000.
    _, revision = charging.call(work.budgets.set("key", row.id, 2_000_000))
    assert charging.call(work.await_revision(revision))
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}
    statuses = {
        name: ask(charging.port, post(CHAT, {**body, "model": f"{name}/sim-model"}, key=secret.reveal())).status
        for name in ("sim", "theirs")
    }
    assert statuses == {"sim": 402, "theirs": 200}


def test_an_account_that_the_upstream_bills_to_the_caller_comes_first(charging: RunningGateway) -> None:
    connections = charging.read(lambda: charging.server.gateway.snapshot.catalogue.connections)
    assert "byok" in connections["theirs"].tags
    assert "byok" not in connections["sim"].tags


def router_chat(model: str, *, stream: bool) -> bytes:
    """A call as OpenRouter's clients make it."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return post("/openrouter/api/v1/chat/completions", body)


def post(path: str, body: dict[str, Any], key: str = KEY) -> bytes:
    """A request with a body in JSON."""
    return request("POST", path, json.dumps(body).encode(), "content-type: application/json", key=key)
