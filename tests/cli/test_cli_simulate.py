"""``pointsman simulate``: a real process, used and stopped."""

import http.client
import json
import signal
import socket
from urllib.parse import urlsplit

import pytest
from cli_gateway import Launch, Run


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_simulator_answers_and_ends_cleanly(launch: Launch, stop: signal.Signals) -> None:
    process = launch("simulate", "openai", "--port", "0", "--model", "one", "--model", "two", "--tokens", "3")
    assert process.stdout is not None
    base_url = process.stdout.readline().split()[-1]
    example = process.stdout.readline()
    assert f"pointsman connections add sim --base-url {base_url} --allow-private" in example
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=20)
    connection.request("GET", "/v1/models", headers={"Authorization": "Bearer any"})
    listed = json.loads(connection.getresponse().read())
    connection.close()
    assert [model["id"] for model in listed["data"]] == ["one", "two"]
    process.send_signal(stop)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "stopped\n")


def test_anthropics_api_is_simulated_too(launch: Launch) -> None:
    process = launch("simulate", "anthropic", "--port", "0", "--model", "one", "--api-key", "sk-1")
    assert process.stdout is not None
    told = process.stdout.readline()
    assert told.startswith("simulating Anthropic Messages at http://127.0.0.1:")
    connection = http.client.HTTPConnection(urlsplit(told.split()[-1]).netloc, timeout=20)
    connection.request("GET", "/v1/models", headers={"x-api-key": "sk-1", "anthropic-version": "2026-10-21"})
    listed = json.loads(connection.getresponse().read())
    connection.close()
    assert [model["id"] for model in listed["data"]] == ["one"]
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "stopped\n")


def test_the_faults_are_listed_with_what_they_do(run: Run) -> None:
    finished = run("simulate", "openai", "--list-faults")
    assert "rate_limit" in finished.out
    assert finished.code == 0


def test_the_faults_are_listed_without_choosing_an_api(run: Run) -> None:
    finished = run("simulate", "--faults")
    assert "content_filter_mid_stream" in finished.out
    assert finished.code == 0


def test_faults_at_random_come_from_a_simulator(launch: Launch) -> None:
    process = launch("simulate", "openai", "--port", "0", "--faults", "http_500=1.0", "--seed", "7")
    assert process.stdout is not None
    base_url = process.stdout.readline().split()[-1]
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=20)
    connection.request("GET", "/v1/models", headers={"Authorization": "Bearer any"})
    assert connection.getresponse().status == 500
    connection.close()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--faults", "rate_limt=0.1"), "rate_limt"),
        (("--faults", "reset=2"), "from 0 to 1"),
        (("--flap", "5s/2s"), "--fault"),
        (("--fault", "http_503", "--flap", "often"), "5s/2s"),
    ],
)
def test_wrong_options_of_failing_are_told(run: Run, options: tuple[str, ...], named: str) -> None:
    finished = run("simulate", "openai", "--port", "0", *options)
    assert finished.code == 2
    assert named in finished.err


def test_an_unknown_fault_gives_the_nearest_names(run: Run) -> None:
    finished = run("simulate", "openai", "--port", "0", "--fault", "rate_limt")
    assert finished.code == 2
    assert "'rate_limit'" in finished.err


def test_a_port_that_is_taken_is_told_in_one_line(launch: Launch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = launch("simulate", "openai", "--port", port)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 2
    assert errors.count("\n") == 1
    assert port in errors
