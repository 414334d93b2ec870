"""Logs: no credential is written, whatever it is called or wherever it stands; every line is valid JSON."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.canonical.record import RequestRecord
from pointsman.keyring import Secret
from pointsman.logs import REDACTED, RequestLog, configure_logging, redact, redact_text

CREDENTIAL = "sk-proj-Qm7wX2LrT0cE9vB4nHs6JyK"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def start_log() -> Iterator[Callable[[io.StringIO], Any]]:
    """Sets structlog up on a stream and gives a logger; put back afterwards."""

    def start(stream: io.StringIO) -> Any:
        configure_logging("debug", stream)
        return structlog.get_logger("test")

    yield start
    structlog.reset_defaults()


@pytest.mark.parametrize(
    "text",
    [
        CREDENTIAL,
        "sk-pm-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
        "sk-or-v1-0123456789abcdef0123456789abcdef",
        "sk_live_0123456789abcdef",
        "xai-0123456789abcdef",
        "gsk_0123456789abcdef",
        "cc_live_0123456789abcdef",
        "hmpk_0123456789abcdef",
        "Bearer abc.def-ghi",
        "BEARER  t0ken",
        "https://user:pass@example.com/v1",
        "postgresql+asyncpg://user:p%40ss@127.0.0.1/db",
        "redis://:hunter2@127.0.0.1:6379/0",
    ],
)
@pytest.mark.parametrize("around", ["{}", "the key {} is wrong", '{{"key": "{}"}}', "a\n{}\nb", "({})"])
def test_what_looks_like_a_credential_is_not_written(text: str, around: str) -> None:
    written = redact_text(around.format(text))
    assert REDACTED in written
    for secret in (
        CREDENTIAL,
        "abcdefghijklmnop",
        "0123456789abcdef",
        "abc.def",
        "t0ken",
        "pass@",
        "p%40ss",
        "hunter2",
    ):
        assert secret not in written


@pytest.mark.parametrize(
    "text", ["a risk-free task", "desk-top", "http://127.0.0.1:20128/v1", "model gpt-4o", "keyring"]
)
def test_ordinary_words_are_written(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "name", ["authorization", "Authorization", "api_key", "secret", "password", "token", "x-api-key", "cookie"]
)
@pytest.mark.parametrize("value", ["short", 12345, b"bytes", ["list"], {"a": "dict"}])
def test_what_is_called_a_credential_is_not_written(name: str, value: object) -> None:
    assert redact(None, "info", {name: value}) == {name: REDACTED}


@pytest.mark.parametrize(
    "event",
    [
        {"headers": {"authorization": CREDENTIAL}},
        {"headers": {"authorization": "plain-word"}, "plain": "word"},
        {"reasons": [f"bad {CREDENTIAL}"]},
        {"reasons": (f"bad {CREDENTIAL}",)},
        {"deep": [{"a": [{"password": "plain-word"}]}]},
        {"body": f"x {CREDENTIAL}".encode()},
        {"error": ValueError(CREDENTIAL)},
    ],
    ids=["header", "name", "list", "tuple", "deep", "bytes", "exception"],
)
def test_credentials_inside_values_are_not_written(
    start_log: Callable[[io.StringIO], Any], event: dict[str, object]
) -> None:
    stream = io.StringIO()
    start_log(stream).info("x", **event)
    assert "Qm7wX2" not in stream.getvalue()
    assert "plain-word" not in stream.getvalue()
    assert json.loads(stream.getvalue())["event"] == "x"


@pytest.mark.parametrize(
    "value", [Secret(CREDENTIAL), object(), {1, 2}, 2**80, float("nan"), "\ud800", b"\xff", ValueError("x"), 1 + 2j]
)
def test_any_value_can_be_logged(start_log: Callable[[io.StringIO], Any], value: object) -> None:
    stream = io.StringIO()
    start_log(stream).info("x", value=value)
    assert json.loads(stream.getvalue())["event"] == "x"
    assert CREDENTIAL not in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_trace_shows_the_error_without_its_credential(
    start_log: Callable[[io.StringIO], Any], stream: type[io.StringIO]
) -> None:
    out = stream()
    log = start_log(out)
    try:
        raise ValueError(f"refused {CREDENTIAL}")
    except ValueError:
        log.exception("call failed")
    assert "ValueError" in out.getvalue()
    assert "Qm7wX2" not in out.getvalue()


def test_a_line_has_level_time_and_event(start_log: Callable[[io.StringIO], Any]) -> None:
    stream = io.StringIO()
    start_log(stream).warning("connection left out", connection="a")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["connection"]) == ("connection left out", "warning", "a")
    assert line["timestamp"].endswith("Z")
    assert stream.getvalue().count("\n") == 1


def test_a_text_with_line_feeds_stays_on_one_line(start_log: Callable[[io.StringIO], Any]) -> None:
    stream = io.StringIO()
    start_log(stream).info("a\nb", reason="x\r\n{}\n")
    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue())["event"] == "a\nb"


def test_what_is_below_the_level_is_not_written() -> None:
    stream = io.StringIO()
    try:
        configure_logging("warning", stream)
        log = structlog.get_logger("level")
        log.info("quiet")
        log.warning("loud")
    finally:
        structlog.reset_defaults()
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_a_logger_that_wrote_before_writes_to_the_stream_of_the_latest_setting_up(
    start_log: Callable[[io.StringIO], Any],
) -> None:
    first, second = io.StringIO(), io.StringIO()
    log = start_log(first)
    log.info("one")
    start_log(second)
    log.info("two")
    assert [text.count("\n") for text in (first.getvalue(), second.getvalue())] == [1, 1]


@given(models=st.lists(st.text(max_size=20), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_request_lines_are_valid_json(models: list[str]) -> None:
    stream = io.StringIO()
    log = RequestLog(stream)
    for number, model in enumerate(models):
        record = RequestRecord(
            request_id=f"r{number}", created_at=1, operation="chat", route="/", dialect="d", request_model=model
        )
        log.line(msgspec.json.encode(record))
    log.flush()
    lines = [json.loads(line) for line in stream.getvalue().split("\n")[:-1]]
    assert [(line["event"], line["request_id"]) for line in lines] == [("request", f"r{i}") for i in range(len(models))]
    assert [line["request_model"] for line in lines] == models


def test_request_lines_wait_for_a_flush_or_for_enough_of_them() -> None:
    stream = io.StringIO()
    log = RequestLog(stream)
    for _ in range(RequestLog.MAX_PENDING - 1):
        log.line(b'{"a":1}')
    assert stream.getvalue() == ""
    log.line(b'{"a":1}')
    assert stream.getvalue().count("\n") == RequestLog.MAX_PENDING
    log.flush()
    assert stream.getvalue().count("\n") == RequestLog.MAX_PENDING


def test_a_closed_stream_does_not_stop_serving() -> None:
    stream = io.StringIO()
    log = RequestLog(stream)
    stream.close()
    log.line(b'{"a":1}')
    log.flush()
