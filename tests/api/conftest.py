"""The SDK's clients of a gateway with two organizations, for modules whose ``gateway`` is one (router_accounts.py)."""

from collections.abc import Iterator

import openrouter
import pytest

from gateway import RunningGateway
from router_accounts import ACCOUNTS, client_of, secret_of


@pytest.fixture(scope="module")
def manager(gateway: RunningGateway) -> Iterator[openrouter.OpenRouter]:
    """A client with a management key of the first organization."""
    with client_of(gateway, secret_of(gateway, ACCOUNTS[0], role="management")) as client:
        yield client


@pytest.fixture(scope="module")
def stranger(gateway: RunningGateway) -> Iterator[openrouter.OpenRouter]:
    """The same of the second one."""
    with client_of(gateway, secret_of(gateway, ACCOUNTS[1], role="management")) as client:
        yield client
