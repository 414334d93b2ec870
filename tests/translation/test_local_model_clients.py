"""The embedded model answers clients of every dialect: real weights, the official SDKs, a whole gateway."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from client_terms import Client, Wish
from matrix_clients import CLIENTS, open_clients

from gateway import RunningGateway, running_gateway
from pointsman.upstream.local_weights import weights_path

MODEL = "local/smollm2-135m-instruct"
QUESTION = Wish(text="What is the capital of France? Answer in one sentence.", limit=16)
SETTINGS = {"local": {"enabled": True, "start_timeout_seconds": 120}}


@pytest.fixture(scope="module")
def gateway(local_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway whose data directory has the weights; the model starts with the first request."""
    data = tmp_path_factory.mktemp("local")
    place = weights_path(data)
    place.parent.mkdir(parents=True)
    place.symlink_to(local_weights)
    with running_gateway(data, SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def clients(gateway: RunningGateway) -> Iterator[dict[str, Client]]:
    yield from open_clients(gateway.address, timeout_seconds=120)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "stream"])
@pytest.mark.parametrize("name", [kind.NAME for kind in CLIENTS])
def test_the_local_model_answers(gateway: RunningGateway, clients: dict[str, Client], name: str, stream: bool) -> None:
    client = clients[name]
    answer = client.ask(MODEL, QUESTION, client.open(QUESTION), stream=stream)
    assert "Paris" in answer.text
    assert answer.count is not None
    record = gateway.journal.the(client.last.headers["x-request-id"])
    assert (record.input_tokens, record.output_tokens) == (answer.count.read, answer.count.written)
    assert record.connection_id == "local"
    assert not record.usage_estimated
