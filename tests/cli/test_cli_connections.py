"""``pointsman connections`` and ``models`` against a running server and a simulated upstream."""

import io
import json
import socket
import sys
from pathlib import Path

import pytest
from cli_gateway import UPSTREAM_KEY, Gateway, Run, terminal

from pointsman.testing import RunningSimulator


def dead_url() -> str:
    """A loopback address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


@pytest.fixture
def piped_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upstream's key on standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{UPSTREAM_KEY}\n"))


@pytest.mark.usefixtures("piped_key")
def test_a_connection_is_usable_when_the_command_is_done_and_gone_when_removed(
    gateway: Gateway, upstream: RunningSimulator, run: Run
) -> None:
    address = ("--base-url", upstream.base_url, "--allow-private")
    added = run("connections", "add", "atonce", *address, "--api-key", "-", at=gateway)
    assert added.out == "connection 'atonce' added (2 models): in effect now\n"
    status, answer = gateway.chat("atonce/sim-large")
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == "echo: hello"
    assert upstream.requests[-1].header("authorization") == f"Bearer {UPSTREAM_KEY}"
    assert run("connections", "remove", "atonce", at=gateway).code == 0
    assert gateway.chat("atonce/sim-large")[0] == 404


@pytest.mark.usefixtures("piped_key")
def test_the_credential_is_nowhere_in_the_clear(gateway: Gateway, upstream: RunningSimulator, run: Run) -> None:
    address = ("--base-url", upstream.base_url, "--allow-private")
    outputs = [
        run("connections", "add", "sealed", *address, "--api-key", "-", at=gateway),
        run("connections", "test", "sealed", at=gateway),
        run("connections", "list", at=gateway),
        run("connections", "list", "--json", at=gateway),
    ]
    gateway.chat("sealed/sim-model")
    assert all(output.code == 0 for output in outputs)
    assert not any(UPSTREAM_KEY in output.out + output.err for output in outputs)
    written = gateway.everything_written()
    assert b"sealed" in written
    assert UPSTREAM_KEY.encode() not in written
    run("connections", "remove", "sealed", at=gateway)


def test_the_key_may_stand_in_a_variable_or_a_file(
    upstream: RunningSimulator, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(f"{UPSTREAM_KEY}\n")
    monkeypatch.setenv("UPSTREAM_KEY", UPSTREAM_KEY)
    for name, reference in (("variable", "env:UPSTREAM_KEY"), ("file", f"file:{tmp_path / 'key'}")):
        address = ("--base-url", upstream.base_url, "--allow-private")
        finished = run("connections", "add", name, *address, "--api-key", reference)
        assert "added (2 models)" in finished.out
        assert "warning" not in finished.err
        assert "ok" in run("connections", "test", name).out


def test_a_key_on_the_command_line_is_taken_with_a_warning(upstream: RunningSimulator, run: Run) -> None:
    address = ("--base-url", upstream.base_url, "--allow-private")
    finished = run("connections", "add", "literal", *address, "--api-key", UPSTREAM_KEY)
    assert finished.code == 0
    assert "history" in finished.err
    assert UPSTREAM_KEY not in finished.err + finished.out


def test_at_a_terminal_the_key_is_asked_for_and_not_shown(
    gateway: Gateway, upstream: RunningSimulator, run: Run
) -> None:
    address = ("--base-url", upstream.base_url, "--allow-private")
    with terminal(gateway, "connections", "add", "typed", *address) as person:
        person.expect("API key")
        person.type_hidden(f"{UPSTREAM_KEY}\n")
        person.expect("added (2 models)")
        assert person.process.wait(10) == 0
        assert UPSTREAM_KEY not in person.everything
    assert run("connections", "remove", "typed", at=gateway).code == 0


def test_ctrl_c_ends_the_question_for_a_key_and_stores_nothing(
    gateway: Gateway, upstream: RunningSimulator, run: Run
) -> None:
    address = ("--base-url", upstream.base_url, "--allow-private")
    with terminal(gateway, "connections", "add", "never", *address) as person:
        person.expect("API key")
        person.type_hidden("\x03")
        assert person.process.wait(10) == 130
    assert "never" not in run("connections", "list", at=gateway).out


def test_an_upstream_that_is_down_is_stored_with_the_reason_and_fails_its_test(run: Run) -> None:
    added = run("connections", "add", "down", "--base-url", dead_url(), "--allow-private")
    assert added.code == 0
    assert "open to any model" in added.out
    assert "refused the connection or can't be reached" in added.err
    tested = run("connections", "test", "down")
    assert tested.code == 1
    assert tested.err.startswith("down: not reachable")
    assert "down/*" in run("models").out


def test_a_refused_credential_fails_the_test(upstream: RunningSimulator, run: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-wrong-0123456789")
    address = ("--base-url", upstream.base_url, "--allow-private", "--model", "sim-model")
    run("connections", "add", "wrong", *address, "--api-key", f"file:{tmp_path / 'key'}")
    tested = run("connections", "test", "wrong")
    assert tested.code == 1
    assert "did not accept the credential: it answered 401" in tested.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("x", "--base-url", "http://127.0.0.1:1/v1"), "--allow-private"),
        (("x", "--base-url", "ftp://host/v1"), "connection.base_url"),
        (("x",), "connection.base_url: is missing"),
        (("a b", "--base-url", "https://api.example.com"), "connection.id"),
        (("x", "--base-url", "https://api.example.com", "--kind", "opena"), "did you mean 'openai'?"),
        (("filed", "--base-url", "https://api.example.com"), "declared in the configuration file"),
        (("x", "--base-url", "https://api.example.com", "--api-key", "env:NO_SUCH_NAME"), "NO_SUCH_NAME is not set"),
        (("x", "--base-url", "https://api.example.com", "--api-key", "a\nb"), "visible ASCII"),
    ],
)
def test_what_can_not_work_is_refused_before_anything_is_stored(
    gateway: Gateway, run: Run, arguments: tuple[str, ...], reason: str
) -> None:
    finished = run("connections", "add", *arguments, at=gateway)
    assert finished.code == 2
    assert reason in finished.err
    stored = json.loads(run("connections", "list", "--json", at=gateway).out)
    assert "x" not in [row["id"] for row in stored]


def test_unknown_connections_give_the_nearest_ids(gateway: Gateway, run: Run) -> None:
    tested = run("connections", "test", "fileds", at=gateway)
    assert tested.code == 2
    assert "did you mean 'filed'?" in tested.err
    assert run("connections", "remove", "nothing", at=gateway).code == 2


def test_a_connection_of_the_file_is_listed_with_its_source_and_removed_there(gateway: Gateway, run: Run) -> None:
    rows = json.loads(run("connections", "list", "--json", at=gateway).out)
    filed = next(row for row in rows if row["id"] == "filed")
    assert (filed["source"], filed["has_secret"]) == ("file", True)
    removed = run("connections", "remove", "filed", at=gateway)
    assert removed.code == 2
    assert "remove it there" in removed.err


def test_a_model_that_the_upstream_does_not_list_is_told(upstream: RunningSimulator, run: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(UPSTREAM_KEY)
    address = ("--base-url", upstream.base_url, "--allow-private", "--api-key", f"file:{tmp_path / 'key'}")
    run("connections", "add", "odd", *address, "--model", "sim-model", "--model", "no-such-model")
    tested = run("connections", "test", "odd")
    assert tested.code == 0
    assert "not in the upstream's list: no-such-model" in tested.err


def test_models_show_connections_owners_and_aliases_without_a_server(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pointsman.toml").write_text(
        '[[connections]]\nid = "acme"\nkind = "openai"\nbase_url = "https://api.example.com"\n'
        'models = ["big", "small"]\nprovider = "acme-corp"\n'
        '[[models]]\nname = "usual"\ntarget = "acme/big"\n'
        '[[models]]\nname = "broken"\ntarget = "acme/none"\n'
    )
    rows = {row["id"]: row for row in json.loads(run("models", "--json").out)}
    assert rows["acme/big"]["owner"] == "acme-corp"
    assert rows["usual"]["target"] == "acme/big"
    assert rows["usual"]["connection"] == "acme"
    assert "does not exist" in rows["broken"]["note"]
    assert "not installed" in rows["local/smollm2-135m-instruct"]["note"]
    table = run("models")
    assert "alias of acme/big" in table.out
    assert "more not shown" in run("models", "--limit", "1").err


def test_a_host_of_the_table_needs_no_address(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pointsman.toml").write_text('[[connections]]\nid = "fast"\nkind = "groq"\nmodels = ["m"]\n')
    row = next(row for row in json.loads(run("connections", "list", "--json").out) if row["id"] == "fast")
    assert (row["base_url"], row["provider"]) == ("https://api.groq.com/openai/v1", "groq")


def test_a_connection_is_added_by_the_name_of_its_host(run: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1")
    key = ("--api-key", f"file:{tmp_path / 'key'}", "--model", "m")
    assert run("connections", "add", "deepseek", *key).code == 0
    assert run("connections", "add", "mine", "--kind", "mistral", *key).code == 0
    rows = {row["id"]: row for row in json.loads(run("connections", "list", "--json").out)}
    assert rows["deepseek"]["base_url"] == "https://api.deepseek.com"
    assert rows["mine"]["provider"] == "mistral"


def test_the_hosts_are_listed_with_their_addresses(run: Run) -> None:
    rows = {row["id"]: row for row in json.loads(run("connections", "hosts", "--json").out)}
    assert rows["groq"]["base_url"] == "https://api.groq.com/openai/v1"
    assert "https://api.mistral.ai/v1" in run("connections", "hosts").out


def test_models_show_facts_and_where_each_comes_from(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pointsman.toml").write_text(
        '[[connections]]\nid = "work"\nkind = "openai"\napi_key = "sk-x"\nmodels = ["gpt-5.2", "our-own"]\n'
        '[[facts]]\nmodel = "work/gpt-5.2"\nquantization = "bf16"\nzdr = true\n'
        '[[facts]]\nmodel = "work/our-own"\nprompt = 0.5\ncompletion = 2\n'
        "[local]\nenabled = false\n"
    )
    rows = {row["id"]: row for row in json.loads(run("models", "list", "--facts", "--json").out)}
    gpt = rows["work/gpt-5.2"]
    assert gpt["slug"] == "openai/gpt-5.2"
    assert gpt["facts"]["price"]["prompt"] == "1.75 per M"
    assert (gpt["from"]["price"], gpt["from"]["context_tokens"]) == ("price data", "models.json")
    assert (gpt["facts"]["quantization"], gpt["from"]["zdr"]) == ("bf16", "operator")
    assert rows["work/our-own"]["price"] == "0.5 per M in, 2 per M out"
    shown = run("models", "show", "openai/gpt-5.2")
    assert "work/gpt-5.2" in shown.out
    assert "operator" in shown.out
    assert run("models", "show", "gpt-9").code == 1
    assert "400000" in run("models", "list", "--facts").out


def test_an_unpriced_model_is_shown_as_such(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pointsman.toml").write_text(
        '[[connections]]\nid = "x"\nkind = "vllm"\nbase_url = "http://127.0.0.1:9"\nmodels = ["m"]\n'
        "[local]\nenabled = false\n"
    )
    assert "unpriced" in run("models", "list", "--facts").out
    assert "unpriced" in run("models", "show", "x/m").out


def test_a_connection_is_changed_in_place_turned_off_and_on(
    gateway: Gateway, upstream: RunningSimulator, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(UPSTREAM_KEY)
    address = ("--base-url", upstream.base_url, "--allow-private", "--api-key", f"file:{tmp_path / 'key'}")
    assert run("connections", "add", "changing", *address, at=gateway).code == 0
    changed = run("connections", "update", "changing", "--exclude", "sim-l*", "--default-model", "sim-model",
                  "--tag", "eu", "--max-concurrent", "3", "--header", "X-Tenant=blue", at=gateway)  # fmt: skip
    assert (changed.code, changed.err) == (0, "")
    assert gateway.chat("changing")[0] == 200
    assert gateway.chat("changing/sim-large")[0] == 404
    [shown] = [
        row for row in json.loads(run("connections", "list", "--json", at=gateway).out) if row["id"] == "changing"
    ]
    assert (shown["tags"], shown["max_concurrent"], shown["headers"]) == (["eu"], 3, ["X-Tenant"])
    assert shown["has_secret"], "what isn't named stays as it is"
    assert run("connections", "disable", "changing", at=gateway).code == 0
    assert gateway.chat("changing")[0] == 404
    assert "off" in run("connections", "list", at=gateway).out
    assert run("connections", "enable", "changing", at=gateway).code == 0
    assert gateway.chat("changing")[0] == 200
    assert run("connections", "update", "changing", at=gateway).code == 2
    assert run("connections", "update", "filed", "--priority", "1", at=gateway).code == 2
    assert run("connections", "remove", "changing", at=gateway).code == 0


def test_limits_of_a_connection_are_given_changed_and_taken_away(run: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1")
    key = ("--api-key", f"file:{tmp_path / 'key'}", "--model", "m")

    def shown() -> tuple[int | None, ...]:
        [row] = [row for row in json.loads(run("connections", "list", "--json").out) if row["id"] == "deepseek"]
        return (row["requests_per_minute"], row["requests_per_day"], row["tokens_per_minute"])

    most = ("--requests-per-minute", "3", "--requests-per-day", "40", "--tokens-per-minute", "500")
    assert run("connections", "add", "deepseek", *key, *most).code == 0
    assert shown() == (3, 40, 500)
    assert run("connections", "update", "deepseek", "--requests-per-day", "60").code == 0
    assert shown() == (3, 60, 500)
    assert run("connections", "update", "deepseek", "--requests-per-day", "0").code == 0
    assert shown() == (3, None, 500)


def test_all_connections_are_tested_at_once(upstream: RunningSimulator, run: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(UPSTREAM_KEY)
    key = ("--allow-private", "--model", "sim-model", "--api-key", f"file:{tmp_path / 'key'}")
    run("connections", "add", "good", "--base-url", upstream.base_url, *key)
    assert run("connections", "test", "--all").code == 0
    run("connections", "add", "down", "--base-url", dead_url(), *key)
    tested = run("connections", "test", "--all")
    assert tested.code == 1
    assert "good: ok" in tested.out
    assert "down: not reachable" in tested.err
    run("connections", "disable", "down")
    assert run("connections", "test", "--all").code == 0
    assert run("connections", "test").code == 2
