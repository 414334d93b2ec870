"""``pointsman audit`` and ``pointsman secrets``; commands leave rows in the log."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from cli_gateway import Gateway, Run

from pointsman.cli import app
from pointsman.cli.audited import CHANGES, READS
from pointsman.cli.reference import render_reference


def rows(run: Run, *options: str, at: Gateway | None = None) -> list[dict[str, Any]]:
    """The log, newest first."""
    shown = run("audit", "list", "--json", *options, at=at)
    assert shown.code == 0, shown.err
    return list(json.loads(shown.out))


def tamper(tmp_path: Path, statement: str) -> None:
    database = sqlite3.connect(tmp_path / "data" / "pointsman.db")
    try:
        for trigger in ("audit_no_update", "audit_no_delete"):
            database.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        database.execute(statement)
        database.commit()
    finally:
        database.close()


def test_every_command_is_known_to_change_something_or_to_change_nothing() -> None:
    assert app is not None
    names = {line[len("## pointsman ") :] for line in render_reference().splitlines() if line.startswith("## pointsm")}
    names = {name for name in names if not name.startswith("simulate ")}
    assert names == CHANGES.keys() | READS
    assert CHANGES.keys().isdisjoint(READS)


def test_commands_leave_rows_that_say_who_did_what_to_what(run: Run) -> None:
    assert run("keys", "create", "--name", "mine", "--quiet").code == 0
    [row] = rows(run)
    assert (row["action"], row["source"], row["outcome"], row["credential_kind"]) == (
        "apikey.created", "cli", "success", "cli",
    )  # fmt: skip
    assert (row["object_id"][:4], row["fields"]) == ("key_", ["name"])
    assert run("keys", "revoke", row["object_id"]).code == 0
    assert run("keys", "revoke", "nothing-like-it").code == 2
    refused, revoked, _ = rows(run)
    assert (revoked["action"], revoked["object_id"]) == ("apikey.revoked", row["object_id"])
    assert (refused["outcome"], refused["status"], refused["object_id"][0]) == ("refused", 2, "~")
    assert rows(run, "--object", "nothing-like-it") == [refused]
    assert rows(run, "--outcome", "success", "--limit", "1") == [revoked]


def test_commands_that_read_leave_none(run: Run) -> None:
    assert run("keys", "list").code == 0
    assert run("aliases", "list").code == 0
    assert rows(run) == []
    assert run("audit", "verify").out == "the audit log is whole: 0 rows\n"


def test_an_argument_that_is_a_secret_is_in_no_row(run: Run) -> None:
    key = run("keys", "create", "--quiet").out.strip()
    assert run("keys", "revoke", key).code == 0
    assert run("users", "create", "a@example.org", "--password-stdin", stdin="four words are enough\n").code == 0
    text = run("audit", "export").out
    assert len(text.splitlines()) == 3
    assert key not in text
    assert "four words" not in text
    assert "a@example.org" not in text


def test_a_log_that_was_changed_has_an_exit_code_of_its_own(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        assert run("aliases", "set", name, "x/y").code == 0
    assert run("audit", "verify").code == 0
    tamper(tmp_path, "UPDATE audit SET object_id = 'z' WHERE sequence = 2")
    found = run("audit", "verify")
    assert (found.code, "changed" in found.out) == (3, True)
    tamper(tmp_path, "DELETE FROM audit WHERE sequence = 3")
    found = run("audit", "verify", "--json")
    assert found.code == 3
    assert {one["kind"] for one in json.loads(found.out)["findings"]} == {"changed", "tail"}


def test_an_instant_that_is_none_is_refused(run: Run) -> None:
    assert run("audit", "list", "--since", "yesterday").code == 2


def test_the_master_key_is_changed_and_the_log_says_so(run: Run, tmp_path: Path) -> None:
    assert run("connections", "add", "one", "--kind", "openai", "--api-key", "-", stdin="sk-upstream-1\n").code == 0
    before = json.loads(run("secrets", "status", "--json").out)
    assert (before["from"], [row["state"] for row in before["generations"]]) == ("file", ["current"])
    done = run("secrets", "rotate")
    assert (done.code, done.out.startswith("1 values are sealed anew")) == (0, True)
    after = json.loads(run("secrets", "status", "--json").out)
    assert after["key_id"] != before["key_id"]
    assert [row["state"] for row in after["generations"]] == ["retired", "current"]
    assert sum(one["other"] for one in after["sealed"]) == 0
    assert (rows(run)[0]["action"], rows(run)[0]["object_id"]) == ("secrets.rotated", after["key_id"])
    assert "current" in run("secrets", "status").out
    assert run("audit", "verify").code == 0
    assert run("secrets", "rotate", "--new-key", "env:X").code == 2


def test_commands_and_a_running_server_write_one_log(gateway: Gateway, run: Run) -> None:
    assert run("aliases", "set", "audited", "filed/sim-model", at=gateway).code == 0
    log = rows(run, at=gateway)
    assert [row["sequence"] for row in log] == list(range(len(log), 0, -1))
    assert {row["source"] for row in log} >= {"server", "cli"}
    assert run("audit", "verify", at=gateway).code == 0
    assert run("aliases", "remove", "audited", at=gateway).code == 0
