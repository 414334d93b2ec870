"""Every client's official SDK against every provider format: what arrives was said, or the ledger tells why not.

A test is a cell of the table that docs/translation-matrix.md shows, named by client, provider, feature and mode.
"""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client_terms import Answer, Client, Count, Wish, result_of
from matrix_clients import CLIENTS, open_clients
from matrix_table import DOCUMENT, FEATURE_NAMES, Reason, document, proven_table, reason_of
from matrix_upstreams import PROVIDERS, Place, matrix_place, model_of

from gateway import wait_until
from pointsman.canonical.record import Outcome, RequestRecord
from run_summary import tell_at_the_end

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
WEATHER = (
    "get_weather",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
)
CLOCK = (
    "get_time",
    {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
)
CALLED = {"get_weather": {"city": "example city", "days": 1}, "get_time": {"zone": "example zone"}}
SCHEMA = {
    "type": "object",
    "properties": {"echo": {"type": "string"}},
    "required": ["echo"],
    "additionalProperties": False,
}


PROVEN: set[tuple[str, str, str, str]] = set()


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    tell_at_the_end(request.config, "translation matrix, cells that hold", lambda: proven_table(PROVEN))
    with matrix_place(tmp_path_factory.mktemp("matrix")) as made:
        yield made


@pytest.fixture(scope="module")
def clients(place: Place) -> Iterator[dict[str, Client]]:
    yield from open_clients(place.gateway.address)


class Cell:
    """One client before one provider, in one mode."""

    def __init__(self, place: Place, client: Client, provider: str, stream: bool, reason: Reason | None) -> None:
        self.client = client
        self.provider = provider
        self.stream = stream
        self.reason = reason
        self._place = place

    def ask(self, wish: Wish, messages: list[Any], case: str = "plain") -> Answer:
        return self.client.ask(model_of(self.provider, case), wish, messages, stream=self.stream)

    def sent(self) -> str:
        """The last request's body as the upstream got it."""
        return self._place.simulators[self.provider].requests[-1].body.decode()

    def record(self) -> RequestRecord:
        """What the journal holds of the last request."""
        gateway, identity = self._place.gateway, self.client.last.headers["x-request-id"]
        wait_until(lambda: gateway.journal.of(identity), "record")  # one of a broken stream may come after its error
        return gateway.journal.the(identity)

    def check_ledger(self) -> None:
        """What the reason says is lost is in the record's ledger."""
        if self.reason is not None and self.reason.ledger is not None:
            notes = json.loads(self.record().fidelity or "[]")
            assert any(path.startswith(self.reason.ledger) for path, _, _ in notes), notes


def text(cell: Cell) -> None:
    wish = Wish(text="hello there")
    opening = cell.client.open(wish)
    first = cell.ask(wish, opening)
    assert first.text == "echo: hello there"
    second = cell.ask(wish, [*opening, *first.turn, *cell.client.follow("and again")])
    assert second.text == "echo: and again"


def tools(cell: Cell) -> None:
    wish = Wish(text="please call the tool", tools=(WEATHER, CLOCK))
    opening = cell.client.open(wish)
    first = cell.ask(wish, opening)
    assert [(call.name, call.arguments) for call in first.calls] == [("get_weather", CALLED["get_weather"])]
    second = cell.ask(wish, [*opening, *first.turn, *cell.client.results(first.calls)])
    assert second.text.startswith("echo:")
    assert result_of(first.calls[0]) in cell.sent()


def parallel_tools(cell: Cell) -> None:
    wish = Wish(text="please call the tool twice", tools=(WEATHER, CLOCK))
    opening = cell.client.open(wish)
    first = cell.ask(wish, opening)
    assert [(call.name, call.arguments) for call in first.calls] == list(CALLED.items())
    ids = [call.id for call in first.calls if call.id]
    assert len(set(ids)) == len(ids)
    second = cell.ask(wish, [*opening, *first.turn, *cell.client.results(first.calls)])
    assert second.text.startswith("echo:")
    sent = cell.sent()
    places = [sent.index(result_of(call)) for call in first.calls]
    assert places == sorted(places)


def reasoning(cell: Cell) -> None:
    """Thoughts are shown, where the upstream shows them, and the next turns are taken by who verifies signatures."""
    wish = Wish(text="think, then call the tool", tools=(WEATHER,), think=True)
    opening = cell.client.open(wish)
    first = cell.ask(wish, opening)
    assert [(call.name, call.arguments) for call in first.calls] == [("get_weather", CALLED["get_weather"])]
    if cell.reason is None:
        assert "think, then call the tool" in first.thought
    else:
        assert "reasoning_effort" in cell.sent()
        assert cell.record().reasoning_tokens > 0
        cell.check_ledger()
    conversation = [*opening, *first.turn, *cell.client.results(first.calls)]
    second = cell.ask(wish, conversation)
    assert second.text.startswith("echo:")
    third = cell.ask(wish, [*conversation, *second.turn, *cell.client.follow("thank you")])
    assert third.text == "echo: thank you"


def image(cell: Cell) -> None:
    wish = Wish(text="what is this", image=PICTURE)
    answer = cell.ask(wish, cell.client.open(wish))
    assert "what is this" in answer.text
    assert base64.b64encode(PICTURE).decode() in cell.sent()


def structured_output(cell: Cell) -> None:
    wish = Wish(text="answer in JSON", schema=SCHEMA)
    answer = cell.ask(wish, cell.client.open(wish))
    found = json.loads(answer.text)
    assert list(found) == ["echo"]
    assert isinstance(found["echo"], str)


def error(cell: Cell) -> None:
    wish = Wish(text="hello there")
    opening = cell.client.open(wish)
    for case, status in (("limited", 429), ("refused", 400), *((("broken", 0), ("cut", 0)) if cell.stream else ())):
        with pytest.raises(Exception) as caught:
            cell.ask(wish, opening, case)
        assert cell.client.status_of(caught.value) == status, repr(caught.value)
        record = cell.record()
        assert record.status == (status or 200)
        assert record.outcome is Outcome.ERROR


def usage(cell: Cell) -> None:
    wish = Wish(text="count me")
    answer = cell.ask(wish, cell.client.open(wish), "counted")
    record, counted = cell.record(), PROVIDERS[cell.provider].counted
    assert not record.usage_estimated
    read, written = record.input_tokens, record.output_tokens
    assert Count(read, record.cache_read_tokens, written, record.reasoning_tokens) == counted
    if cell.client.NAME == "ollama":
        assert answer.count == Count(read, None, written, None)
    else:
        assert answer.count == counted
    cell.check_ledger()


FEATURES: tuple[Callable[[Cell], None], ...] = (
    text,
    tools,
    parallel_tools,
    reasoning,
    image,
    structured_output,
    error,
    usage,
)


@pytest.mark.parametrize("mode", ["buffered", "stream"])
@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.__name__)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("client", [kind.NAME for kind in CLIENTS])
def test_cell(
    place: Place,
    clients: dict[str, Client],
    client: str,
    provider: str,
    feature: Callable[[Cell], None],
    mode: str,
) -> None:
    name = feature.__name__
    feature(Cell(place, clients[client], provider, mode == "stream", reason_of(client, provider, name)))
    PROVEN.add((client, provider, name, mode))


def test_the_documented_table_is_this_one() -> None:
    assert [feature.__name__ for feature in FEATURES] == list(FEATURE_NAMES)
    assert DOCUMENT.read_text() == document(), "run: python tests/translation/matrix_table.py"
