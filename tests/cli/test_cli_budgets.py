"""``pointsman budgets`` against a running server."""

import json

from cli_gateway import Gateway, Run


def test_a_budget_binds_when_the_command_is_done_and_no_more_when_it_is_removed(gateway: Gateway, run: Run) -> None:
    key = run("keys", "create", "--name", "thrifty", at=gateway).out.strip()
    made = run("budgets", "set", "key", "thrifty", "0", "--window", "day", "--alert", "80", "--json", at=gateway)
    budget = json.loads(made.out)
    assert (budget["limit_usd"], budget["window"], budget["alerts"]) == (0, "day", [80])
    assert gateway.chat("any/gpt-4o", key)[0] == 402
    listed = run("budgets", "list", at=gateway).out
    assert budget["id"] in listed
    shown = json.loads(run("budgets", "show", budget["id"], "--json", at=gateway).out)
    assert (shown["spent_usd"], shown["recounted"]) == (0, "equal")
    assert run("budgets", "remove", budget["id"], at=gateway).code == 0
    assert gateway.chat("filed/sim-model", key)[0] == 200
    assert run("budgets", "show", budget["id"], at=gateway).code == 2


def test_what_is_wrong_with_a_budget_is_told(run: Run) -> None:
    assert "limit_usd: must be an amount" in run("budgets", "set", "tag", "x", "much").err
    assert "window_seconds" in run("budgets", "set", "tag", "x", "1", "--window", "rolling").err
    assert run("budgets", "remove", "bud_nobody").code == 2
