"""Upstreams' own lists of models: how they are read, asked for, kept and taken into use."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway import RunningGateway, running_gateway, wait_until
from pointsman.errors import GatewayError
from pointsman.providers.formats import ModelListing, listing_of
from pointsman.providers.model_lists import pico, read_models
from pointsman.upstream import model_lists
from pointsman.upstream.model_facts import listed_of

OPENAI = ModelListing("/models", "data", "id")
ROUTER_ROW = {
    "id": "openai/gpt-9",
    "name": "OpenAI: GPT-9",
    "created": 1_700_000_000,
    "context_length": 400_000,
    "architecture": {"input_modalities": ["text", "image", "smell"], "output_modalities": ["text"]},
    "pricing": {
        "prompt": "0.00000125", "completion": "0.00001", "request": "0", "image": "0.001",
        "input_cache_read": "1.25e-7",
        "overrides": [{"min_prompt_tokens": 200_000, "prompt": "0.0000025"}, {"utc_start": 1, "prompt": "0"}],
    },
    "top_provider": {"context_length": 272_000, "max_completion_tokens": 128_000, "is_moderated": True},
    "supported_parameters": ["tools", "seed"],
    "expiration_date": "2027-01-31",
}  # fmt: skip


def read(*rows: Any, listing: ModelListing = OPENAI) -> Any:
    return read_models(json.dumps({listing.member: rows}).encode(), listing)


def test_a_routers_row_tells_everything() -> None:
    [model] = [listed_of(row) for row in read(ROUTER_ROW)]
    facts = model.facts
    assert (model.name, facts.slug, facts.author, facts.name) == (
        "openai/gpt-9",
        "openai/gpt-9",
        "openai",
        "OpenAI: GPT-9",
    )
    assert (facts.context_tokens, facts.max_output_tokens) == (272_000, 128_000)
    assert (facts.inputs, facts.parameters) == (frozenset(("text", "image")), frozenset(("tools", "seed")))
    price = facts.price
    assert price is not None
    assert (price.prompt, price.completion, price.cache_read) == (1_250_000, 10_000_000, 125_000)
    assert (price.image, price.request) == (10**9, 0)
    [long] = price.long
    assert (long.above, long.prompt, long.completion, long.cache_read) == (200_000, 2_500_000, 10_000_000, 125_000)
    assert facts.created_at == 1_700_000_000_000_000


@pytest.mark.parametrize(
    ("wire", "row", "context", "output"),
    [
        ("openai.chat", {"id": "m", "context_window": 131_072, "max_completion_tokens": 8192}, 131_072, 8192),
        ("openai.chat", {"id": "m", "max_model_len": 4096}, 4096, None),
        ("openai.chat", {"id": "m", "max_context_length": 32_768}, 32_768, None),
        ("anthropic", {"id": "m", "max_input_tokens": 200_000, "max_tokens": 64_000}, 200_000, 64_000),
        ("gemini", {"name": "models/m", "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536}, 1_048_576, 65_536),
        ("cohere", {"name": "m", "context_length": 256_000}, 256_000, None),
        ("ollama", {"name": "m", "size": 5}, None, None),
    ],
)
def test_each_vendor_names_its_sizes_in_its_own_way(
    wire: str, row: dict[str, Any], context: int | None, output: int | None
) -> None:
    listing = listing_of(wire)
    assert listing is not None
    [found] = read(row, listing=listing)
    assert (found.name, found.context, found.output) == ("m", context, output)


@pytest.mark.parametrize(
    "row",
    [None, 5, [], {}, {"id": None}, {"id": ""}, {"id": "a\nb"}, {"id": "x" * 300}],
)
def test_an_odd_row_is_left_out(row: Any) -> None:
    assert [one.name for one in read(row, {"id": "good"})] == ["good"]


def test_odd_members_are_not_known() -> None:
    odd = {
        "id": "a/b", "name": 5, "context_length": True, "architecture": "text", "top_provider": [], "created": -1,
        "pricing": {"prompt": "-1", "completion": "-1"}, "supported_parameters": "tools", "expiration_date": "soon",
    }  # fmt: skip
    [found] = read(odd)
    assert found._replace(name="") == ("",) + (None,) * 8 + ((),) + (None,) * 3


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[", b'{"data": 5}', b'{"data": null}', b"\xff", b'"text"', b"[" * 10_000]
)
def test_what_is_no_list_is_refused(body: bytes) -> None:
    with pytest.raises(GatewayError):
        read_models(body, OPENAI)


def test_a_list_without_a_frame_is_read() -> None:
    assert [row.name for row in read_models(b'[{"id":"m"}]', OPENAI)] == ["m"]


@pytest.mark.parametrize(("usd", "amount"), [("0", 0), ("0.000001", 10**6), ("-1", None), ("NaN", None), ("x", None)])
def test_amounts_are_exact(usd: str, amount: int | None) -> None:
    assert pico(usd) == amount


# asking


class Upstream:
    """A server with a list of models."""

    def __init__(self) -> None:
        self.rows: list[Any] = [ROUTER_ROW]
        self.status = 200
        self.asked = 0
        self.url = ""


@contextmanager
def upstream() -> Iterator[Upstream]:
    """It answers ``GET /v1/models`` and nothing else."""
    state = Upstream()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            body = json.dumps({"data": state.rows}).encode()
            self.send_response(state.status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def gateway_of(data_dir: Path, url: str, **routing: Any) -> Iterator[RunningGateway]:
    """A gateway with one open connection to it."""
    row = {"id": "open", "kind": "openai-compatible", "base_url": url, "api_key": "sk-x"}
    with running_gateway(data_dir, {"connections": [row], "routing": routing}) as running:
        yield running


def names(gateway: RunningGateway) -> list[str]:
    return gateway.read(lambda: [target.id for target in gateway.server.gateway.snapshot.catalogue.targets])


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_lists, "FIRST_SECONDS", 0.0)


def test_an_open_connections_list_comes_into_use_and_outlives_a_restart(tmp_path: Path) -> None:
    with upstream() as peer:
        with gateway_of(tmp_path, peer.url) as gateway:
            wait_until(lambda: names(gateway) == ["open/openai/gpt-9"], "list in use")
            price = gateway.read(lambda: gateway.server.gateway.snapshot.endpoints["open"].known_price("openai/gpt-9"))
            assert price.tiers[0].input == 1_250_000, "the list's price is what a call costs"
            assert gateway.read(lambda: gateway.server.unpriced.count) == 0
            route = gateway.read(lambda: gateway.server.gateway.snapshot.catalogue.route("openai/gpt-9"))
            assert [step.target.id for step in route.steps] == ["open/openai/gpt-9"]
        with gateway_of(tmp_path, peer.url) as gateway:
            assert names(gateway) == ["open/openai/gpt-9"], "from the database, before anything is asked"
        assert peer.asked == 1, "it is not a day old"


def test_an_old_list_is_asked_for_again_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_lists, "LOOK_SECONDS", 0.02)
    with upstream() as peer, gateway_of(tmp_path, peer.url, model_list_hours=0.00001) as gateway:
        wait_until(lambda: names(gateway) == ["open/openai/gpt-9"], "first list")
        peer.rows = [{"id": "new"}, {"id": "newer"}]
        wait_until(lambda: names(gateway) == ["open/new", "open/newer"], "second list")
        revision = gateway.read(lambda: gateway.server.gateway.snapshot.revision)
        asked = peer.asked
        wait_until(lambda: peer.asked > asked + 2, "further lists")
        assert gateway.read(lambda: gateway.server.gateway.snapshot.revision) == revision, "nothing new, no change"


def test_an_upstream_that_fails_keeps_the_list_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_lists, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(model_lists, "RETRY_SECONDS", 0.0)
    with upstream() as peer, gateway_of(tmp_path, peer.url, model_list_hours=0.00001) as gateway:
        wait_until(lambda: names(gateway) == ["open/openai/gpt-9"], "first list")
        peer.status = 500
        wait_until(lambda: "does not tell its models" in gateway.log_text(), "failure told")
        assert names(gateway) == ["open/openai/gpt-9"]
        [row] = gateway.call(gateway.installation.model_lists.list())
        assert "500" in (row.problem or "")


def test_nobody_is_asked_when_lists_are_turned_off(tmp_path: Path) -> None:
    with upstream() as peer, gateway_of(tmp_path, peer.url, model_lists=False) as gateway:
        gateway.call(gateway.installation.connections.open_probes())
        assert names(gateway) == []
        assert peer.asked == 0


def test_one_claim_is_enough_for_all(tmp_path: Path) -> None:
    with upstream() as peer, gateway_of(tmp_path, peer.url, model_lists=False) as gateway:
        lists = gateway.installation.model_lists

        async def claim(at: int, place: str = "here") -> bool:
            return await lists.claim("open", place, at, at - 100)

        claims = [(1000, "here"), (1050, "here"), (1200, "here"), (1201, "there"), (1202, "there")]
        assert [gateway.call(claim(*one)) for one in claims] == [True, False, True, True, False]
        gateway.call(lists.forget(("open",)))
        assert gateway.call(lists.list()) == ()
