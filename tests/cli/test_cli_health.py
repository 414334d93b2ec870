"""``pointsman health`` next to a running server: what has failed is shown, and forgotten on demand."""

import io
import json
import sys

import pytest
from cli_gateway import UPSTREAM_KEY, Gateway, Run, wait_until

from pointsman.testing import RunningSimulator


def test_a_failing_connection_is_shown_and_reset(
    gateway: Gateway, upstream: RunningSimulator, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{UPSTREAM_KEY}\n"))
    address = ("--base-url", upstream.base_url, "--allow-private", "--api-key", "-")
    assert run("connections", "add", "weak", *address, "--model", "sim-model", at=gateway).code == 0
    run("connections", "add", "open", *address[:3], "--model", "sim-model#fault=unauthorized", at=gateway)
    try:
        assert gateway.chat("open/sim-model#fault=unauthorized")[0] == 502

        def rows() -> dict[str, dict[str, str]]:
            shown = json.loads(run("health", "--json", at=gateway).out)
            return {row["name"]: row for row in shown if row["what"] == "connection"}

        wait_until(lambda: rows()["open"]["state"] == "error")
        assert (rows()["open"]["reason"], rows()["weak"]["state"]) == ("rejected", "active")
        assert rows()["open"]["until"].endswith("Z")
        assert "rejected" in run("health", "open", at=gateway).out
        assert run("health", "none", at=gateway).code == 2
        assert run("health", "open", "--reset", at=gateway).out == "1 reset\n"
        assert rows()["open"]["state"] == "active"
        run("health", "--reset", at=gateway)  # what other tests have left
        assert run("health", "--reset", at=gateway).out == "nothing was amiss\n"
    finally:
        run("connections", "remove", "weak", at=gateway)
        run("connections", "remove", "open", at=gateway)
