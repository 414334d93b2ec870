"""``pointsman aliases`` against a running server and a simulated upstream."""

import json

from cli_gateway import Gateway, Run


def test_an_alias_is_usable_when_the_command_is_done_and_gone_when_removed(gateway: Gateway, run: Run) -> None:
    assert run("aliases", "set", "claude-*", "filed/sim-model", at=gateway).out.endswith("in effect now\n")
    assert gateway.chat("claude-anything")[0] == 200
    shown = json.loads(run("aliases", "list", "--json", at=gateway).out)
    assert {"name": "claude-*", "target": "filed/sim-model", "source": "database"} in shown
    assert "claude-*" in run("models", "list", at=gateway).out
    assert run("aliases", "remove", "claude-*", at=gateway).code == 0
    assert gateway.chat("claude-anything")[0] == 404


def test_what_is_wrong_with_an_alias_is_told(gateway: Gateway, run: Run) -> None:
    wrong = run("aliases", "set", "plain", "any/*", at=gateway)
    assert (wrong.code, wrong.out) == (2, "")
    assert "alias target: has a '*'" in wrong.err
    unknown = run("aliases", "remove", "nobody", at=gateway)
    assert unknown.code == 2
    assert "there is no alias 'nobody'" in unknown.err
