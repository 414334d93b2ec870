"""``pointsman ledger`` beside a running server: top-ups, entries, the check, and invoices."""

import http.client
import json
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cli_gateway import ADMIN_KEY, Gateway, Run

from pointsman.storage.database import FILE_NAME


def call(gateway: Gateway, method: str, path: str, body: Any = None, key: str = ADMIN_KEY) -> tuple[int, Any]:
    """One management call."""
    connection = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=10)
    try:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_a_top_up_is_an_entry_and_is_credited_once(gateway: Gateway, run: Run) -> None:
    first = run("ledger", "top-up", "shop", "12.50", "--key", "invoice-7", "--note", "by transfer", at=gateway)
    assert first.out == "shop: $12.50 credited; it has $12.50 now\n"
    again = run("ledger", "top-up", "shop", "12.50", "--key", "invoice-7", at=gateway)
    assert again.out == "shop: $12.50 was credited before, nothing changed; it has $12.50 now\n"
    other = run("ledger", "top-up", "shop", "13", "--key", "invoice-7", at=gateway)
    assert other.code == 1
    assert "was used for another transaction" in other.err
    (entry,) = json.loads(run("ledger", "entries", "shop", "--json", at=gateway).out)
    assert (entry["kind"], entry["amount_nano_usd"], entry["note"]) == ("top_up", 12_500_000_000, "by transfer")
    assert "-$12.50" in run("ledger", "balance", at=gateway).out  # it came from outside


@pytest.mark.parametrize("amount", ["x", "-1", "0", "0.0000000001", "1e30", "NaN"])
def test_an_amount_that_makes_no_sense_changes_nothing(gateway: Gateway, run: Run, amount: str) -> None:
    wrong = run("ledger", "top-up", "nobody", "--", amount, at=gateway)
    assert wrong.code in (1, 2)
    assert wrong.out == ""
    assert json.loads(run("ledger", "entries", "nobody", "--json", at=gateway).out) == []


def test_the_books_are_right_after_calls_and_a_falsified_balance_is_found_and_rebuilt(
    gateway: Gateway, run: Run
) -> None:
    assert gateway.chat("usual")[0] == 200
    run("ledger", "top-up", "checked", "1", at=gateway)
    right = run("ledger", "verify", at=gateway)
    assert (right.code, "the books are right" in right.out) == (0, True)
    with sqlite3.connect(gateway.data_dir / FILE_NAME) as database:
        database.execute("UPDATE ledger_balances SET balance_nano_usd = 5 WHERE ledger_account = 'credit:checked'")
    database.close()
    wrong = run("ledger", "verify", "--json", at=gateway)
    assert wrong.code == 1
    checks = {one["check"] for one in json.loads(wrong.out)["findings"]}
    assert checks == {"balance equals its postings", "all balances sum to 0"}
    table = run("ledger", "verify", at=gateway)
    assert "credit:checked" in table.out
    assert run("ledger", "rebuild", at=gateway).out == "balances corrected: 1\n"
    assert run("ledger", "rebuild", at=gateway).out == "every balance was right\n"
    assert run("ledger", "verify", at=gateway).code == 0


def test_an_invoice_of_what_was_not_recorded_is_exit_code_1(gateway: Gateway, run: Run, tmp_path: Path) -> None:
    invoice = tmp_path / "costs.csv"
    invoice.write_text("day,model,cost\n2025-01-02,gpt-5,1.25\n")
    missing = run("ledger", "reconcile", str(invoice), at=gateway)
    assert missing.code == 2
    found = run("ledger", "reconcile", str(invoice), "--provider", "openai", at=gateway)
    assert (found.code, "not recorded" in found.out) == (1, True)
    assert "2025-01-02: billed $1.25, recorded $0.00: 1 rows differ" in found.out
    (row,) = json.loads(run("ledger", "reconcile", str(invoice), "--provider", "openai", "--json", at=gateway).out)[
        "rows"
    ]
    assert (row["model"], row["difference_nano_usd"], row["verdict"]) == ("gpt-5", 1_250_000_000, "not recorded")
    bad = run("ledger", "reconcile", str(invoice), "--provider", "openai", "--column", "day=when", at=gateway)
    assert (bad.code, "no columns for day and cost" in bad.err) == (2, True)


def test_the_api_shows_the_same_and_pages(gateway: Gateway) -> None:
    for number in range(3):
        body = {"account_id": "api", "amount_usd": "0.000000001", "idempotency_key": f"p{number}", "gift": number == 2}
        assert call(gateway, "POST", "/api/pointsman/ledger/top-ups", body)[1]["replayed"] is False
    status, again = call(gateway, "POST", "/api/pointsman/ledger/top-ups", body)
    assert (status, again["replayed"], again["credit_nano_usd"]) == (200, True, 3)
    assert call(gateway, "GET", "/api/pointsman/ledger/credit?account_id=api") == (
        200, {"account_id": "api", "credit_nano_usd": 3},
    )  # fmt: skip
    page = call(gateway, "GET", "/api/pointsman/ledger/entries?account_id=api&limit=2")[1]
    rest = call(gateway, "GET", f"/api/pointsman/ledger/entries?account_id=api&limit=2&before={page['next']}")[1]
    assert [one["kind"] for one in (*page["data"], *rest["data"])] == ["grant", "top_up", "top_up"]
    assert rest["next"] is None
    balances = call(gateway, "GET", "/api/pointsman/ledger/balances?limit=1")[1]
    assert len(balances["data"]) == 1
    assert call(gateway, "GET", f"/api/pointsman/ledger/balances?after={balances['next']}")[0] == 200
    status, report = call(gateway, "POST", "/api/pointsman/ledger/verify")
    assert (status, report["is_right"]) == (200, True)


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("GET", "entries", None, "account_id"),
        ("GET", "credit", None, "account_id"),
        ("GET", "entries?account_id=a&before=x", None, "before"),
        ("GET", "entries?account_id=a&limit=201", None, "limit"),
        ("GET", "balances?limit=0", None, "limit"),
        ("POST", "top-ups", {"account_id": "a", "amount_usd": "x", "idempotency_key": "k"}, "amount_usd"),
        ("POST", "top-ups", {"account_id": "a", "amount_usd": -1, "idempotency_key": "k"}, "nano_usd"),
        ("POST", "top-ups", {"account_id": "", "amount_usd": 1, "idempotency_key": "k"}, "account_id"),
    ],
)
def test_bad_input_is_refused_by_the_name_of_the_field(
    gateway: Gateway, method: str, path: str, body: Any, field: str
) -> None:
    status, answer = call(gateway, method, f"/api/pointsman/ledger/{path}", body)
    assert (status, answer["error"]["param"]) == (400, field)


def test_ordinary_keys_and_strangers_see_nothing_of_the_ledger(gateway: Gateway, run: Run) -> None:
    made = run("keys", "create", "--name", "ledgerless", at=gateway).out.split()
    plain = next(word for word in made if word.startswith("sk-pm-"))
    paths = (("GET", "balances"), ("GET", "credit"), ("GET", "entries"), ("POST", "top-ups"), ("POST", "verify"))
    for method, path in paths:
        assert call(gateway, method, f"/api/pointsman/ledger/{path}", None, plain)[0] == 403
        assert call(gateway, method, f"/api/pointsman/ledger/{path}", None, "sk-wrong")[0] == 401
