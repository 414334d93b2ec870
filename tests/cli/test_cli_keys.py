"""``pointsman keys`` against a running server."""

import asyncio
import json
from pathlib import Path

from cli_gateway import ADMIN_KEY, Gateway, Run

from pointsman.installation import open_installation
from pointsman.settings import Settings, read_environment
from pointsman.storage.nodes import NodeRow

MODEL = "filed/sim-model"


def key_id(run: Run, name: str, at: Gateway | None = None) -> str:
    """The id of the newest key of this name."""
    rows = json.loads(run("keys", "list", "--json", at=at).out)
    return str([row["id"] for row in rows if row["name"] == name][-1])


def test_a_new_key_works_at_once_and_a_revoked_one_stops_at_once(gateway: Gateway, run: Run) -> None:
    created = run("keys", "create", "--name", "at-once", at=gateway)
    key = created.out.strip()
    assert created.out == f"{key}\n"
    assert gateway.chat(MODEL, key)[0] == 200
    revoked = run("keys", "revoke", "at-once", at=gateway)
    assert gateway.chat(MODEL, key)[0] == 401
    assert revoked.code == 0
    assert "in effect now" in revoked.out


def test_revoking_twice_says_so_and_is_no_failure(run: Run) -> None:
    run("keys", "create", "--name", "twice")
    assert "is revoked: no server is running" in run("keys", "revoke", "twice").out
    again = run("keys", "revoke", "twice")
    assert again.code == 0
    assert "was revoked already" in again.out


def test_a_key_is_found_by_id_by_the_beginning_of_its_id_and_by_itself(run: Run) -> None:
    for name in ("by-id", "by-prefix", "by-itself"):
        created = run("keys", "create", "--name", name)
        identity = key_id(run, name)
        reference = {"by-id": identity, "by-prefix": identity[:-1], "by-itself": created.out.strip()}[name]
        assert f"{identity} ({name}) is revoked" in run("keys", "revoke", reference).out


def test_an_unknown_key_gives_the_nearest_names(run: Run) -> None:
    run("keys", "create", "--name", "laptop")
    finished = run("keys", "revoke", "labtop")
    assert finished.code == 2
    assert "did you mean 'laptop'?" in finished.err


def test_a_short_prefix_never_means_the_only_key(run: Run) -> None:
    run("keys", "create", "--name", "only")
    assert run("keys", "revoke", "key_").code == 2


def test_a_name_that_two_keys_have_is_not_guessed(run: Run) -> None:
    run("keys", "create", "--name", "same")
    run("keys", "create", "--name", "same")
    finished = run("keys", "revoke", "same")
    assert finished.code == 2
    assert finished.err.count("key_") == 2


def test_a_secret_that_is_no_key_here_is_not_repeated(run: Run) -> None:
    finished = run("keys", "revoke", "sk-pm-somebody-elses-key-0123456789")
    assert finished.code == 2
    assert "somebody" not in finished.err


def test_the_list_never_holds_a_key_or_its_digest(run: Run) -> None:
    key = run("keys", "create", "--name", "listed", "--admin", "--expires-days", "7").out.strip()
    table, rows = run("keys", "list").out, json.loads(run("keys", "list", "--json").out)
    assert "listed" in table
    assert key not in table
    assert rows[0]["role"] == "admin"
    assert rows[0]["state"] == "active"
    assert abs(rows[0]["expires_at"] - rows[0]["created_at"] - 7 * 86_400_000_000) < 60_000_000
    assert "digest" not in rows[0]


def test_the_list_is_bounded_and_says_so(run: Run) -> None:
    for name in ("one", "two", "three"):
        run("keys", "create", "--name", name)
    finished = run("keys", "list", "--limit", "1")
    assert "three" in finished.out
    assert "one" not in finished.out
    assert "2 older keys not shown" in finished.err


def test_revoking_the_last_admin_key_warns(run: Run) -> None:
    run("keys", "create", "--name", "boss", "--admin")
    assert "no admin key is left" in run("keys", "revoke", "boss").err


def test_a_name_that_could_drive_a_terminal_is_refused(run: Run) -> None:
    assert run("keys", "create", "--name", "\x1b[2J").code == 2


def test_the_first_admin_key_of_a_server_is_in_its_list(gateway: Gateway, run: Run) -> None:
    assert gateway.chat(MODEL, ADMIN_KEY)[0] == 200
    assert "bootstrap" in run("keys", "list", at=gateway).out


def test_a_server_that_does_not_confirm_is_named_with_exit_code_1(run: Run, tmp_path: Path) -> None:
    run("keys", "create", "--name", "stuck")

    async def register_a_server_that_hangs() -> None:
        async with open_installation(Settings(), read_environment(tmp_path / "data")) as installation:
            now = installation.clock.now_us()
            node = NodeRow(id="node_1", address="http://hangs:1", version="0", started_at=now, heartbeat_at=now)
            await installation.nodes.register(node)

    asyncio.run(register_a_server_that_hangs())
    finished = run("keys", "revoke", "stuck")
    assert finished.code == 1
    assert "not confirmed in time by the server at http://hangs:1" in finished.err
    rows = json.loads(run("keys", "list", "--json").out)
    assert rows[0]["state"] == "revoked"


def test_limits_are_set_shown_changed_and_taken_away(gateway: Gateway, run: Run) -> None:
    key = run("keys", "create", "--name", "limited", "--rpm", "1", "--tpm", "5000", at=gateway).out.strip()
    assert [gateway.chat(MODEL, key)[0] for _ in range(2)] == [200, 429]
    shown = run("keys", "limit", "limited", at=gateway)
    assert "may use 1 requests per minute, 5000 tokens per minute; priority normal\n" in shown.out
    changed = run("keys", "limit", "limited", "--rpm", "0", "--rpd", "9", "--priority", "high", at=gateway)
    assert "may use 9 requests per day, 5000 tokens per minute; priority high: in effect now" in changed.out
    assert gateway.chat(MODEL, key)[0] == 200
    rows = json.loads(run("keys", "list", "--json", at=gateway).out)
    row = next(row for row in rows if row["name"] == "limited")
    assert (row["requests_per_minute"], row["requests_per_day"], row["priority"]) == (None, 9, "high")


def test_a_negative_limit_is_refused(run: Run) -> None:
    assert run("keys", "create", "--rpm", "-1").code == 2
