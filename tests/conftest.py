"""Fixtures that every test may use."""

import pytest

pytest_plugins = ["databases", "gateway_fixtures", "local_weights_fixture", "redis_server"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the tests of contracts make up requests (make schemathesis)."""
    parser.addoption("--examples", type=int, default=3, help="requests of each kind to each operation of a contract")
    parser.addoption("--seed", type=int, default=1, help="what made-up requests are drawn from")
