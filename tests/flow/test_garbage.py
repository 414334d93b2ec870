"""What calls leave behind: nothing that only the garbage collector would find, since it looks seldom."""

import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from gateway import RunningGateway, wait_until
from pointsman.server.exchange import Exchange
from pointsman.testing import RunningSimulator
from pointsman.upstream.answers import CollectedAnswer
from raw_client import Connection, ask, chat

CALLS = 10


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Nothing but reference counts frees anything."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left_behind() -> Counter[str]:
    """Calls that are still in memory."""
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, Exchange | CollectedAnswer))


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("how", ["buffered", "stream", "fault in the stream"])
def test_a_call_leaves_no_cycle(gateway: RunningGateway, simulator: RunningSimulator, how: str) -> None:
    directives = "fault=cut_mid_stream,after_events=2" if "fault" in how else "tokens=3"
    for _ in range(CALLS):
        assert ask(gateway.port, chat(directives, stream=how != "buffered")).status == 200
    wait_until(lambda: not left_behind(), "end of all calls")


@pytest.mark.usefixtures("without_collector")
def test_a_client_that_leaves_its_stream_leaves_no_cycle(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    for _ in range(CALLS):
        with Connection(gateway.port) as connection:
            connection.send(chat("tokens=1000,pace_ms=10", stream=True))
            connection.read_until(b"\n\n")
    wait_until(lambda: len(gateway.journal.records()) >= CALLS, "records")
    wait_until(lambda: not left_behind(), "end of all calls")
