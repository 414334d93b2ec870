"""One gateway and one simulator for each test module. A module's ``SETTINGS`` are laid over the defaults."""

from collections.abc import Iterator

import pytest

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator


@pytest.fixture(scope="module")
def shared_simulator() -> Iterator[RunningSimulator]:
    """An upstream that knows one key and takes members that it doesn't know."""
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, strict=False)) as running:
        yield running


@pytest.fixture
def simulator(shared_simulator: RunningSimulator) -> RunningSimulator:
    """The module's simulator, whose record starts empty."""
    shared_simulator.log.clear()
    return shared_simulator


@pytest.fixture(scope="module")
def gateway(
    request: pytest.FixtureRequest, shared_simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """A gateway with the connection ``sim``, which takes any model."""
    settings = dict(getattr(request.module, "SETTINGS", {}))
    settings["connections"] = [
        {"id": "sim", "kind": "openai", "base_url": shared_simulator.base_url, "api_key": UPSTREAM_KEY},
        *settings.get("connections", []),
    ]
    with running_gateway(tmp_path_factory.mktemp("gateway"), settings) as running:
        yield running
