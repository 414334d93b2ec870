"""``pointsman logs`` against a running server."""

import json
import signal
from typing import Any

import pytest
from cli_gateway import Gateway, Launch, Run, wait_until

from pointsman.cli.logs import cost, milliseconds
from pointsman.cli.output import printable


def logged(run: Run, gateway: Gateway, text: str, *options: str) -> list[dict[str, Any]]:
    """The logged requests whose model holds ``text``, once there is one."""

    def read() -> list[dict[str, Any]]:
        lines = run("logs", "--json", "--limit", "100", *options, at=gateway).out.splitlines()
        return [row for line in lines if text in ((row := json.loads(line))["request_model"] or "")]

    return wait_until(read)


def test_a_request_is_in_the_log_with_its_tokens(gateway: Gateway, run: Run) -> None:
    gateway.chat("usual")
    row = logged(run, gateway, "usual")[-1]
    assert (row["status"], row["outcome"], row["connection_id"]) == (200, "success", "filed")
    assert row["output_tokens"] > 0
    assert row["cost_nano_usd"] is None
    table = run("logs", at=gateway).out
    assert row["request_id"] in table
    assert "unpriced" in table
    assert "bootstrap" in table


def test_errors_can_be_had_alone_with_their_kind(gateway: Gateway, run: Run) -> None:
    gateway.chat("usual")
    gateway.chat("no-such-model-in-the-log")
    row = logged(run, gateway, "no-such-model-in-the-log", "--errors")[-1]
    assert row["error_kind"] == "model_not_found"
    lines = run("logs", "--errors", "--json", at=gateway).out.splitlines()
    assert all(json.loads(line)["outcome"] != "success" for line in lines)
    assert "model_not_found" in run("logs", "--errors", at=gateway).out


def test_follow_prints_new_requests_and_ends_by_interrupt_without_a_trace(gateway: Gateway, launch: Launch) -> None:
    process = launch("logs", "--follow", "--json", "--limit", "1", at=gateway)
    assert process.stdout is not None
    gateway.chat("usual")
    first = json.loads(process.stdout.readline())  # it follows from here on
    gateway.chat("no-such-model-while-following")
    names = [first.get("request_model")]
    while names[-1] != "no-such-model-while-following":
        names.append(json.loads(process.stdout.readline()).get("request_model"))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert errors == ""


def test_a_closed_pipe_ends_following_silently(gateway: Gateway, launch: Launch) -> None:
    process = launch("logs", "--follow", "--limit", "1", at=gateway)
    assert process.stdout is not None
    gateway.chat("usual")
    process.stdout.readline()
    process.stdout.close()

    def ended() -> bool:
        gateway.chat("usual")
        return process.poll() is not None

    wait_until(ended)
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_logs_of_an_empty_installation_are_a_heading(run: Run) -> None:
    finished = run("logs")
    assert finished.code == 0
    assert "outcome" in finished.out
    assert run("logs", "--json").out == ""


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [(None, "unpriced"), (0, "$0.00"), (1, "$0.000000001"), (1_500_000_000, "$1.50"), (12_345_000, "$0.012345")],
)
def test_costs_are_shown_exactly(nano_usd: int | None, text: str) -> None:
    assert cost(nano_usd) == text


@pytest.mark.parametrize(
    ("microseconds", "text"), [(None, "-"), (1500, "1.5 ms"), (999_999, "1000.0 ms"), (2_340_000, "2.34 s")]
)
def test_durations_are_shown_in_ms_then_seconds(microseconds: int | None, text: str) -> None:
    assert milliseconds(microseconds) == text


def test_what_a_client_sent_can_not_drive_the_terminal() -> None:
    assert printable("\x1b[2Jmodel\n") == "?[2Jmodel?"
    assert len(printable("x" * 5000)) == 400
