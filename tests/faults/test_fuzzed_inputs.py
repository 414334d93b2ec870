"""What the fuzzer starts from and what it once found: every input keeps the promises. `make fuzz` finds new ones."""

import importlib
from pathlib import Path

import pytest

from gateway import captured_log

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
INPUTS = sorted(path for folder in ("corpus", "regressions") for path in (FUZZ / folder).glob("*/*"))


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: "-".join(path.parts[-3:]))
def test_an_input_keeps_every_promise(path: Path) -> None:
    with captured_log():
        importlib.import_module(f"fuzz.{path.parent.name}").check(path.read_bytes())


@pytest.mark.parametrize("cuts", [0, 1, 6, 255])
@pytest.mark.parametrize("options", range(32))
def test_pipelined_requests_keep_every_promise_in_any_mode(options: int, cuts: int) -> None:
    requests = (FUZZ / "corpus" / "edge" / "continue").read_bytes()[2:] * 2 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with captured_log():
        importlib.import_module("fuzz.edge").check(bytes([options, cuts]) + requests)
