"""Fixtures that every test may use."""

import sys
from collections.abc import Iterator
from typing import Final

import pytest

RECURSION: Final = sys.getrecursionlimit()
pytest_plugins = ["databases", "gateway_fixtures", "local_weights_fixture", "redis_server"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the tests of contracts make up requests (make schemathesis)."""
    parser.addoption("--examples", type=int, default=3, help="requests of each kind to each operation of a contract")
    parser.addoption("--seed", type=int, default=1, help="what made-up requests are drawn from")


@pytest.fixture(autouse=True)
def usual_recursion() -> Iterator[None]:
    """The interpreter's own limit, which py-evm raises for its whole process when a test has loaded it.

    With its limit a body of nested JSON, which others refuse, overflows the stack.
    """
    sys.setrecursionlimit(RECURSION)
    yield
    sys.setrecursionlimit(RECURSION)
