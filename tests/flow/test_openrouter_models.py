"""OpenRouter's lists of models, endpoints and providers: what its SDK reads, filters, and who may see what."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from xml.etree import ElementTree

import openrouter
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator

BASES = ("/api/v1", "/openrouter/api/v1")
HELLO: list[Any] = [{"role": "user", "content": "hello there"}]


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    def row(name: str, kind: str, *models: str, **more: Any) -> dict[str, Any]:
        place = {"base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
        return {"id": name, "kind": kind, "models": list(models), **place, **more}

    connections = [
        row("home", "vllm", "gpt-5.2", "text-embedding-3-small", "odd"),
        row("work", "vllm", "gpt-5.2", "claude-opus-4-5-20251101", priority=5),
    ]
    facts = [
        {"model": "work/gpt-5.2", "prompt": 1.75, "completion": 14, "cache_read": 0.175, "zdr": True},
        {"model": "anthropic/*", "prompt": 5, "completion": 25, "distillable": False, "name": "Claude <Opus> & 4.5"},
    ]
    settings = {
        "connections": connections,
        "facts": facts,
        "models": [{"name": "usual", "target": "home/odd"}],
        "combos": [{"name": "smart", "targets": ["home/gpt-5.2", "work/claude-opus-4-5-20251101"]}],
        "local": {"enabled": True},
    }
    with running_gateway(tmp_path_factory.mktemp("ormodels"), settings) as running:
        yield running


@pytest.fixture(params=BASES)
def base(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(gateway: RunningGateway, base: str) -> Iterator[openrouter.OpenRouter]:
    with openrouter.OpenRouter(api_key=KEY, server_url=gateway.address + base, retry_config=None) as client:
        yield client


def get(gateway: RunningGateway, path: str, **headers: str) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers["content-type"], answer.read()
    finally:
        connection.close()


def listed(gateway: RunningGateway, query: str, base: str = BASES[0]) -> list[str]:
    """The ids of ``GET /models`` with a query."""
    status, _, body = get(gateway, f"{base}/models{query}")
    assert status == 200, body
    return [row["id"] for row in json.loads(body)["data"]]


def test_its_sdk_reads_every_list(client: openrouter.OpenRouter) -> None:
    found = client.models.list()
    assert found is not None
    by_id = {model.id: model for model in found.result.data}
    assert found.result.total_count == len(by_id)
    opus = by_id["anthropic/claude-opus-4.5"]
    assert (opus.context_length, opus.pricing.prompt, opus.pricing.completion) == (200_000, "0.000005", "0.000025")
    assert opus.architecture.tokenizer == "Claude"
    assert "image" in opus.architecture.input_modalities
    assert "tools" in opus.supported_parameters
    assert by_id["home/odd"].pricing.prompt == "-1"
    assert client.models.count().data.count == len(by_id)
    own = client.models.list_for_user(security=openrouter.operations.ListModelsUserSecurity(bearer=KEY))
    assert own is not None
    assert {model.id for model in own.result.data} == set(by_id)
    embeddings: Any = client.embeddings.list_models()
    assert "openai/text-embedding-3-small" in {model.id for model in getattr(embeddings, "result", embeddings).data}
    providers: Any = client.providers.list()
    assert {one.slug for one in providers.data} >= {"vllm", "local"}


def test_its_sdk_reads_endpoints(client: openrouter.OpenRouter) -> None:
    found = client.endpoints.list(author="openai", slug="gpt-5.2").data
    assert (found.id, found.architecture.tokenizer) == ("openai/gpt-5.2", "GPT")
    assert [one.tag for one in found.endpoints] == ["work", "home"], "two connections of one vendor: the larger first"
    assert found.endpoints[0].pricing.input_cache_read == "0.000000175"
    private = client.endpoints.list_zdr_endpoints().data
    assert "openai/gpt-5.2" in {one.model_id for one in private}
    with pytest.raises(openrouter.errors.NotFoundResponseError):
        client.endpoints.list(author="nobody", slug="nothing")
    one = client.models.get(author="openai", slug="gpt-5.2")
    assert one.data.id == "openai/gpt-5.2"


def test_an_endpoint_s_figures_are_measured_and_its_speeds_are_for_callers_with_a_key(gateway: RunningGateway) -> None:
    path = "/api/v1/models/openai/gpt-5.2/endpoints"

    def endpoints(**headers: str) -> dict[str, Any]:
        return {one["tag"]: one for one in json.loads(get(gateway, path, **headers)[2])["data"]["endpoints"]}

    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    body = json.dumps({"model": "home/gpt-5.2", "messages": HELLO, "stream": True})
    connection.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {KEY}"})
    connection.getresponse().read()
    connection.close()
    found = wait_until(lambda: endpoints()["home"] if endpoints()["home"]["uptime_last_30m"] else None, "figures")
    assert (found["uptime_last_5m"], found["uptime_last_1d"], found["status"]) == (100, 100, 0)
    assert (found["latency_last_30m"], found["throughput_last_30m"]) == (None, None)
    told = endpoints(authorization=f"Bearer {KEY}")["home"]["latency_last_30m"]
    assert set(told) == {"p50", "p75", "p90", "p99"}
    assert 0 < told["p50"] < 5000


def test_every_listed_name_can_be_asked_for(gateway: RunningGateway, client: openrouter.OpenRouter) -> None:
    for name in listed(gateway, ""):
        if not name.startswith("huggingface"):  # this machine's own model may not be installed
            client.chat.send(model=name, messages=HELLO)


def test_aliases_and_combos_are_listed(gateway: RunningGateway, base: str) -> None:
    assert {"usual", "smart"} <= set(listed(gateway, "", base))


@pytest.mark.parametrize(
    ("query", "there", "not_there"),
    [
        ("?output_modalities=embeddings", "openai/text-embedding-3-small", "openai/gpt-5.2"),
        ("?output_modalities=all", "openai/text-embedding-3-small", None),
        ("", "openai/gpt-5.2", "openai/text-embedding-3-small"),
        ("?input_modalities=image", "openai/gpt-5.2", "home/odd"),
        ("?supported_parameters=tools,reasoning", "openai/gpt-5.2", "home/odd"),
        ("?q=claude", "anthropic/claude-opus-4.5", "openai/gpt-5.2"),
        ("?context=300000", "openai/gpt-5.2", "anthropic/claude-opus-4.5"),
        ("?max_price=2", "openai/gpt-5.2", "anthropic/claude-opus-4.5"),
        ("?min_price=2", "anthropic/claude-opus-4.5", "home/odd"),
        ("?min_output_price=20", "anthropic/claude-opus-4.5", "openai/gpt-5.2"),
        ("?arch=claude", "anthropic/claude-opus-4.5", "openai/gpt-5.2"),
        ("?model_authors=openai", "openai/gpt-5.2", "anthropic/claude-opus-4.5"),
        ("?providers=work", "anthropic/claude-opus-4.5", "home/odd"),
        ("?zdr=true", "openai/gpt-5.2", "anthropic/claude-opus-4.5"),
        ("?distillable=false", "anthropic/claude-opus-4.5", "openai/gpt-5.2"),
        ("?category=programming", "openai/gpt-5.2", None),
        ("?region=eu", None, "openai/gpt-5.2"),
        ("?min_coding_index=10", None, "openai/gpt-5.2"),
        ("?max_age_days=1", None, "openai/gpt-5.2"),
    ],
)
def test_a_filter_keeps_what_it_names(
    gateway: RunningGateway, query: str, there: str | None, not_there: str | None
) -> None:
    found = listed(gateway, query)
    assert there is None or there in found
    assert not_there not in found


@pytest.mark.parametrize(
    "query",
    ["category=sports", "output_modalities=smell", "input_modalities=all", "sort=best", "limit=0", "limit=1001",
     "offset=-1", "offset=x", "context=many", "min_price=cheap", "max_price=-1", "distillable=maybe", "zdr=false",
     "region=mars", "min_price=nan"],
)  # fmt: skip
def test_a_filter_that_makes_no_sense_is_refused_by_name(gateway: RunningGateway, base: str, query: str) -> None:
    status, _, body = get(gateway, f"{base}/models?{query}")
    told = json.loads(body)["error"]
    assert (status, told["code"]) == (400, 400)
    assert f"'{query.partition('=')[0]}'" in told["message"]


def test_orders_put_what_is_not_known_last(gateway: RunningGateway) -> None:
    cheap = listed(gateway, "?sort=pricing-low-to-high&model_authors=openai,anthropic")
    assert cheap == ["openai/gpt-5.2", "anthropic/claude-opus-4.5"]
    assert listed(gateway, "?sort=pricing-high-to-low")[0] == "anthropic/claude-opus-4.5"
    assert listed(gateway, "?sort=pricing-low-to-high&providers=home")[-1] in ("home/odd", "usual")
    assert listed(gateway, "?sort=context-high-to-low")[0] in ("openai/gpt-5.2", "smart")


def test_pages_follow_each_other(gateway: RunningGateway) -> None:
    names, path, pages = [], "/api/v1/models?limit=2", 0
    while path:
        page = json.loads(get(gateway, path)[2])
        assert len(page["data"]) <= 2
        names += [row["id"] for row in page["data"]]
        path, pages = page["links"]["next"], pages + 1
    assert names == listed(gateway, "")
    assert pages == -(-len(names) // 2)


def test_a_feed_is_well_formed_whatever_a_model_is_called(gateway: RunningGateway, base: str) -> None:
    status, kind, body = get(gateway, f"{base}/models?use_rss=true")
    assert (status, kind) == (200, "application/rss+xml; charset=utf-8")
    titles = [one.text for one in ElementTree.fromstring(body).iter("title")]
    assert "Claude <Opus> & 4.5" in titles


def test_a_user_s_list_needs_a_key_and_a_wrong_key_is_refused_everywhere(gateway: RunningGateway, base: str) -> None:
    assert get(gateway, f"{base}/models/user")[0] == 401
    for path in (
        "models",
        "models/count",
        "models/user",
        "providers",
        "endpoints/zdr",
        "models/openai/gpt-5.2/endpoints",
    ):
        status, _, body = get(gateway, f"{base}/{path}", authorization="Bearer sk-wrong")
        assert (status, json.loads(body)["error"]["code"]) == (401, 401), path
    assert get(gateway, f"{base}/models/user?q=nothing-like-it", authorization=f"Bearer {KEY}")[0] == 404


def test_other_apis_clients_get_their_own_shape_on_the_shared_path(gateway: RunningGateway) -> None:
    omni = json.loads(get(gateway, "/api/v1/models", x_omniroute_no_memory="true")[2])["data"]
    assert "work/gpt-5.2" in {row["id"] for row in omni}
    claude = json.loads(get(gateway, "/api/v1/models", anthropic_version="2023-06-01")[2])
    assert "first_id" in claude


def test_openai_s_list_tells_facts_and_which_models_are_unpriced(gateway: RunningGateway) -> None:
    rows = {row["id"]: row for row in json.loads(get(gateway, "/v1/models")[2])["data"]}
    assert rows["home/odd"]["pricing"] is None
    assert rows["work/gpt-5.2"]["pricing"]["prompt"] == "0.00000175"
    assert rows["work/gpt-5.2"]["context_length"] == 400_000


def test_an_unpriced_model_is_told_of_once_and_counted(gateway: RunningGateway) -> None:
    def told() -> int:
        return sum("unpriced" in line and "home/odd" in line for line in gateway.log_text().splitlines())

    wait_until(lambda: told() > 0, "line of an unpriced model", 20)
    assert told() == 1
    _, _, metrics = get(gateway, "/metrics")
    assert b"pointsman_unpriced_models" in metrics


def test_what_the_operator_says_a_model_costs_is_what_a_call_costs(gateway: RunningGateway) -> None:
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    body = json.dumps({"model": "work/gpt-5.2", "messages": HELLO})
    connection.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {KEY}"})
    answer = connection.getresponse()
    usage = json.loads(answer.read())["usage"]
    record = gateway.journal.the(answer.headers["x-request-id"])
    connection.close()
    assert (
        record.cost_nano_usd
        == (usage["prompt_tokens"] * 1_750_000 + usage["completion_tokens"] * 14_000_000 + 500) // 1000
    )
