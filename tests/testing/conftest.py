"""A simulator in a thread for each test module."""

from collections.abc import Iterator

import pytest
from raw_http import KEY, Wire

from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    """One simulator per module, with a key and two models."""
    with running_simulator(OpenAIChat(api_key=KEY, models=("sim-model", "sim-large"))) as running:
        yield running


@pytest.fixture
def wire(simulator: RunningSimulator) -> Wire:
    """Raw access to the simulator, whose record starts empty."""
    simulator.log.clear()
    return Wire(simulator)
