"""``pointsman chat`` through a running server: once, in a pipe, and at a terminal."""

import json
import signal

from cli_gateway import ADMIN_KEY, Gateway, Launch, Run, terminal

from pointsman.testing import RunningSimulator

STREAMS_SLOWLY = "any/sim-model#tokens=10000,pace_ms=5"


def temporary_keys(run: Run, gateway: Gateway) -> list[str]:
    """The states of the keys that chats made for themselves."""
    rows = json.loads(run("keys", "list", "--json", at=gateway).out)
    return [row["state"] for row in rows if row["name"] == "cli"]


def test_a_prompt_is_answered_once_with_a_key_that_is_revoked_afterwards(
    gateway: Gateway, launch: Launch, run: Run
) -> None:
    process = launch("chat", "--model", "usual", "good morning", at=gateway)
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, out, errors) == (0, "echo: good morning\n", "")
    states = temporary_keys(run, gateway)
    assert states
    assert set(states) == {"revoked"}


def test_a_given_key_is_used_and_the_first_model_is_the_default(gateway: Gateway, launch: Launch, run: Run) -> None:
    before = temporary_keys(run, gateway)
    process = launch("chat", "hi", "--url", f"{gateway.url}/v1", POINTSMAN_API_KEY=ADMIN_KEY)
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, out, errors) == (0, "echo: hi\n", "")
    assert temporary_keys(run, gateway) == before


def test_standard_input_is_the_prompt_in_a_pipe(gateway: Gateway, launch: Launch) -> None:
    process = launch("chat", "--model", "usual", "--key", ADMIN_KEY, at=gateway)
    out, _ = process.communicate("two\nlines", timeout=20)
    assert out == "echo: two\nlines\n"


def test_an_error_of_the_server_is_one_line_and_exit_code_1(gateway: Gateway, run: Run) -> None:
    finished = run("chat", "--model", "usuall", "--key", ADMIN_KEY, "hi", at=gateway)
    assert (finished.code, finished.out, finished.err.count("\n")) == (1, "", 1)
    assert "did you mean 'usual'" in finished.err
    assert run("chat", "--key", "sk-wrong", "hi", at=gateway).code == 1


def test_an_answer_that_breaks_off_is_told(gateway: Gateway, run: Run) -> None:
    finished = run(
        "chat", "--key", ADMIN_KEY, "--model", "any/sim-model#fault=cut_mid_stream,tokens=50", "hi", at=gateway
    )
    assert finished.code == 1
    assert finished.out
    assert finished.err.startswith("pointsman: the upstream")


def test_where_no_server_listens_the_message_says_how_to_start_one(run: Run) -> None:
    finished = run("chat", "--url", "http://127.0.0.1:9", "--key", ADMIN_KEY, "hi")
    assert (finished.code, finished.err.count("\n")) == (1, 1)
    assert "pointsman serve" in finished.err


def test_without_a_key_and_without_a_local_server_a_key_is_asked_for(gateway: Gateway, run: Run) -> None:
    finished = run("chat", "--url", gateway.url, "hi")
    assert finished.code == 2
    assert "POINTSMAN_API_KEY" in finished.err


def test_an_interrupted_answer_ends_with_130_and_the_upstream_is_told(
    gateway: Gateway, launch: Launch, upstream: RunningSimulator
) -> None:
    upstream.log.clear()
    process = launch("chat", "--model", STREAMS_SLOWLY, "--key", ADMIN_KEY, "go on", at=gateway)
    assert process.stdout is not None
    process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (130, "")
    assert upstream.wait_for_disconnect().path == "/v1/chat/completions"


def test_a_terminated_chat_still_revokes_its_key(gateway: Gateway, launch: Launch, run: Run) -> None:
    process = launch("chat", "--model", STREAMS_SLOWLY, "go on", at=gateway)
    assert process.stdout is not None
    process.stdout.read(20)
    assert "active" in temporary_keys(run, gateway)
    process.terminate()
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (128 + signal.SIGTERM, "")
    assert set(temporary_keys(run, gateway)) == {"revoked"}


def test_a_conversation_at_the_terminal(gateway: Gateway, upstream: RunningSimulator) -> None:
    with terminal(gateway, "chat", "--model", "usual", "--key", ADMIN_KEY) as person:
        person.expect("> ")
        person.type("**first** question\n")
        person.expect("echo: ")
        person.expect("> ")
        person.type("second question\n")
        person.expect("echo: second question")
        person.expect("> ")
        sent = json.loads(upstream.requests[-1].body)["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant", "user"]
        assert sent[1]["content"] == "echo: **first** question"
        person.type("/model no-such-model\n")
        person.expect("error: ")
        person.type("/model filed/sim-model\n")
        person.expect("now with filed/sim-model")
        person.type("/reset\n")
        person.expect("forgotten")
        person.type("third question\n")
        person.expect("echo: third question")
        assert len(json.loads(upstream.requests[-1].body)["messages"]) == 1
        person.expect("> ")
        person.type("/quit\n")
        assert person.process.wait(10) == 0


def test_ctrl_c_stops_an_answer_and_ctrl_d_ends_the_chat(gateway: Gateway, upstream: RunningSimulator) -> None:
    with terminal(gateway, "chat", "--model", STREAMS_SLOWLY, "--key", ADMIN_KEY) as person:
        person.expect("> ")
        upstream.log.clear()
        person.type("go on\n")
        upstream.wait_for_requests(1)
        person.expect("echo: go on")
        person.type("\x03")
        person.expect("(stopped)")
        assert upstream.wait_for_disconnect().path == "/v1/chat/completions"
        person.expect("> ")
        person.type("\x04")
        assert person.process.wait(10) == 0
