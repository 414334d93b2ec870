"""The response cache over sockets: what is given again, to whom, in which words, and what is never kept."""

from collections.abc import Iterator

import pytest

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.canonical.record import CacheOutcome
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from raw_client import ask, chat

ON = "x-pointsman-cache: on"


class Site:
    """A gateway before an upstream."""

    def __init__(self, gateway: RunningGateway, simulator: RunningSimulator) -> None:
        self.gateway = gateway
        self.simulator = simulator
        self.port = gateway.port


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as simulator:
        row = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
        with running_gateway(tmp_path_factory.mktemp("gateway"), {"connections": [row]}) as gateway:
            yield Site(gateway, simulator)


@pytest.fixture
def site(shared_site: Site) -> Site:
    shared_site.simulator.log.clear()
    shared_site.gateway.read(shared_site.gateway.server.gateway.cache.forget)  # type: ignore[union-attr]
    return shared_site


@pytest.mark.parametrize("then", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_an_answer_is_given_again_whole_or_as_a_stream(site: Site, first: bool, then: bool) -> None:
    text = f"whole or stream {first} {then}"
    one = ask(site.port, chat("", ON, stream=first, text=text))
    two = ask(site.port, chat("", ON, stream=then, text=text))
    assert (one.status, two.status) == (200, 200), site.gateway.log_text()[-3000:]
    assert one.headers["x-pointsman-cache"] == "miss"
    assert two.headers["x-pointsman-cache"] == "hit"
    assert one.text == two.text != ""
    assert len(site.simulator.requests) == 1
    record = site.gateway.journal.the(two.request_id)
    assert (record.cache, record.cache_source) == (CacheOutcome.HIT, one.request_id)
    assert (record.cost_nano_usd, record.input_tokens, record.output_tokens) == (0, 0, 0)
    assert site.gateway.journal.the(one.request_id).cache is CacheOutcome.MISS
