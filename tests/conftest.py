"""Fixtures that every test may use."""

import signal
import sys
from collections.abc import Iterator
from typing import Final

import pytest

# Whoever starts the tests in the background ignores it, and so would every program that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
RECURSION: Final = sys.getrecursionlimit()
LONGEST: Final = ("test_documentation.py", "test_matrix.py", "test_schemathesis.py", "test_leaf_walk.py")
pytest_plugins = [
    "client_certificates",
    "databases",
    "gateway_fixtures",
    "local_weights_fixture",
    "redis_server",
    "run_summary",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the tests of contracts make up requests (make schemathesis)."""
    parser.addoption("--examples", type=int, default=3, help="requests of each kind to each operation of a contract")
    parser.addoption("--seed", type=int, default=1, help="what made-up requests are drawn from")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that none is begun when the other processes of a run are through."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True)
def usual_recursion() -> Iterator[None]:
    """The interpreter's own limit, which py-evm raises for its whole process when a test has loaded it.

    With its limit a body of nested JSON, which others refuse, overflows the stack.
    """
    sys.setrecursionlimit(RECURSION)
    yield
    sys.setrecursionlimit(RECURSION)
