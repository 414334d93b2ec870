"""``pointsman combos`` against a running server and a simulated upstream."""

import json

from cli_gateway import Gateway, Run


def test_a_combo_is_usable_when_the_command_is_done_and_gone_when_removed(gateway: Gateway, run: Run) -> None:
    models = ("any/sim-model#fault=http_500", "filed/sim-model")
    added = run("combos", "add", "pair", *models, "--strategy", "priority", "--set", "maxRetries=0", at=gateway)
    assert added.out == "combo 'pair' added (2 entries): in effect now\n"
    assert gateway.chat("pair")[1]["choices"][0]["message"]["content"] == "echo: hello"
    assert "any/sim-model#fault=http_500, filed/sim-model" in run("combos", "list", at=gateway).out
    shown = run("combos", "show", "pair", at=gateway).out
    assert "maxRetries" in shown
    tested = run("combos", "test", "pair", "--json", at=gateway)
    assert tested.code == 0
    assert [result["status"] for result in json.loads(tested.out)["results"]] == ["error", "ok"]
    assert run("combos", "remove", "pair", at=gateway).code == 0
    assert gateway.chat("pair")[0] == 404


def test_what_is_wrong_with_a_combo_is_told(gateway: Gateway, run: Run) -> None:
    wrong = run("combos", "add", "bad", "filed/sim-model", "--strategy", "best", at=gateway)
    assert (wrong.code, wrong.out) == (2, "")
    assert "strategy: must be one of" in wrong.err
    unknown = run("combos", "show", "nobody", at=gateway)
    assert unknown.code == 2
    assert "there is no combo 'nobody'" in unknown.err
