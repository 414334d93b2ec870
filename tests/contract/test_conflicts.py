"""Where the contracts contradict each other on one path: what is answered, and to whom."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from contract_site import BEGINNINGS, CHAT, MESSAGES, Site, running_site
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from gateway import KEY
from pointsman.contracts.operations import Contract
from pointsman.dialects import hardcarrx, hybrid, openai_chat, openrouter
from pointsman.errors import GatewayError, Kind

BODY = {"model": CHAT, "messages": MESSAGES}
HOST = "hard.example"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    hosts = {HOST: "hardcarrx", "router.example:8080": "openrouter", "hybrid.example": "hybrid"}
    with running_site(tmp_path_factory.mktemp("conflicts"), {"server": {"hosts": hosts}}) as running:
        yield running


def call(site: Site, method: str, path: str, body: Any = None, key: str | None = KEY, **headers: str) -> httpx.Response:
    """One request."""
    sent = {name.replace("_", "-"): text for name, text in headers.items()}
    if key is not None:
        sent["authorization"] = f"Bearer {key}"
    return site.http.request(method, path, json=body, headers=sent)


def chat(site: Site, path: str = "/v1/chat/completions", **members: Any) -> httpx.Response:
    """One chat call."""
    return call(site, "POST", path, {**BODY, **members})


def told(response: httpx.Response) -> Any:
    """A body without what differs from call to call."""
    found = response.json()
    if isinstance(found, dict):
        for name in ("id", "created", "request_id", "requestId", "logs"):
            found.pop(name, None)
    return found


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models", None),
        ("/v1/models/sim/sim-model", None),
        ("/v1/chat/completions", {**BODY, "provider": "sim"}),
        ("/v1/chat/completions", {"provider": "sim"}),
        ("/v1/request-logs", None),
        ("/v1/nothing", None),
    ],
)
def test_a_host_a_mount_and_a_key_of_the_contract_give_the_same_answer(site: Site, path: str, body: Any) -> None:
    method = "GET" if body is None else "POST"
    key = site.key_of(Contract.HARDCARRX)
    by_mount, by_host = call(site, method, f"/hardcarrx{path}", body), call(site, method, path, body, host=HOST)
    by_key = call(site, method, path, body, key=key)
    assert by_mount.status_code == by_host.status_code == by_key.status_code
    assert told(by_mount) == told(by_host)
    assert told(by_mount) == told(by_key)


def test_a_host_counts_with_its_port_or_without_and_before_a_mount(site: Site) -> None:
    bare = call(site, "GET", "/v1/models", host="HYBRID.example:1234")
    assert isinstance(bare.json(), list)
    assert call(site, "POST", "/api/v1/chat/completions", {}, host="router.example:8080").json()["error"]["code"] == 400
    assert "type" in call(site, "POST", "/api/v1/chat/completions", {}, host="router.example").json()["error"]
    assert call(site, "GET", "/hybrid/v1/models", host=HOST).status_code == 404


def test_no_2_a_provider_is_an_object_of_wishes_or_a_name_that_pins(site: Site) -> None:
    assert chat(site, provider={"only": ["sim"]}).status_code == 200
    assert chat(site, provider="sim").json()["provider"] == "OpenAI"
    assert chat(site, provider="nobody").status_code == 400
    pinned = chat(site, "/openrouter/api/v1/chat/completions", provider="openai")
    assert pinned.status_code == 200
    for wrong in (["sim"], 5, True, ""):
        assert chat(site, provider=wrong).status_code == 400, wrong
        assert chat(site, "/openrouter/api/v1/chat/completions", provider=wrong).status_code == 400, wrong


def test_no_3_only_hardcarrx_wants_a_provider(site: Site) -> None:
    assert chat(site).status_code == 200
    for mount, base in (("openrouter", "/api/v1"), ("omniroute", "/api/v1"), ("crosscompute", "/v1")):
        assert chat(site, f"/{mount}{base}/chat/completions").status_code == 200
    assert chat(site, "/hardcarrx/v1/chat/completions").status_code == 400


def test_no_4_the_provider_of_an_answer_is_a_name(site: Site) -> None:
    for path, more in (("/openrouter/api/v1", {}), ("/hardcarrx/v1", {"provider": "sim"})):
        assert chat(site, f"{path}/chat/completions", **more).json()["provider"] == "OpenAI"


def test_no_5_the_list_of_models_is_an_array_for_hybrid_thinking_alone(site: Site) -> None:
    assert isinstance(call(site, "GET", "/hybrid/v1/models").json(), list)
    for path in ("/v1/models", "/hardcarrx/v1/models", "/crosscompute/v1/models", "/omniroute/v1/models"):
        found = call(site, "GET", path).json()
        assert found["object"] == "list"
        assert {"id", "object", "created", "owned_by", "provider", "display_name"} <= set(found["data"][0])


def test_no_6_lists_are_public_unless_a_wrong_key_or_a_strict_contract_asks(site: Site) -> None:
    wrong = "sk-pm-" + "w" * 40
    for path in ("/v1/models", "/api/v1/models", "/hardcarrx/v1/models", "/openrouter/api/v1/models"):
        assert call(site, "GET", path, key=None).status_code == 200, path
        assert call(site, "GET", path, key=wrong).status_code == 401, path
    for path in ("/crosscompute/v1/models", "/hybrid/v1/models", "/omniroute/v1/models", "/omniroute/api/v1/models"):
        assert call(site, "GET", path, key=None).status_code == 401, path


def test_no_7_the_tail_of_a_model_s_path_is_its_name(site: Site) -> None:
    for path in ("sim/sim-model", "sim%2Fsim-model"):
        assert call(site, "GET", f"/v1/models/{path}").json()["id"] == CHAT
        assert call(site, "GET", f"/v1/models/{path}/health").json() == {"ready": True}
    assert call(site, "GET", "/v1/models/health").status_code == 404
    assert call(site, "GET", "/v1/models/no%2Fsuch/health").json()["code"] == "not_found"


@pytest.mark.parametrize(
    ("mount", "path", "code"),
    [
        ("openrouter", "/api/v1/chat/completions", 400),
        ("hardcarrx", "/v1/chat/completions", 400),
        ("crosscompute", "/v1/chat/completions", None),
        ("omniroute", "/api/v1/chat/completions", None),
    ],
)
def test_no_9_to_11_a_refusal_is_400_in_the_contract_s_words(
    site: Site, mount: str, path: str, code: int | None
) -> None:
    answer = call(site, "POST", f"/{mount}{path}", {"model": 5})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["code"] == code
    assert "type" in error or error["metadata"]["error_type"]


def test_no_12_only_omniroute_wants_a_limit_of_a_message(site: Site) -> None:
    for path in ("/v1/messages", "/api/v1/messages", "/openrouter/api/v1/messages"):
        assert chat(site, path).status_code == 200, path
    refusal = chat(site, "/omniroute/api/v1/messages")
    assert (refusal.status_code, refusal.json()["error"]["type"]) == (400, "invalid_request_error")
    assert chat(site, "/omniroute/api/v1/messages", max_tokens=5).status_code == 200


def test_no_13_only_openrouter_wants_a_ranking_s_model(site: Site) -> None:
    body = {"query": "x", "documents": ["a"]}
    assert call(site, "POST", "/openrouter/api/v1/rerank", body).status_code == 400
    assert "model" in call(site, "POST", "/openrouter/api/v1/rerank", body).json()["error"]["message"]
    assert call(site, "POST", "/omniroute/api/v1/rerank", body).status_code in (200, 404)


def test_no_14_several_answers_are_given_where_they_are_asked_for(site: Site) -> None:
    for path in ("/v1", "/openrouter/api/v1", "/omniroute/api/v1"):
        assert len(chat(site, f"{path}/chat/completions", n=2).json()["choices"]) == 2, path


def test_no_15_parts_have_crosscompute_s_names_too(site: Site) -> None:
    parts = [
        {"type": "input_text", "text": "hello"},
        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"},
        {"type": "input_image", "url": "data:image/png;base64,iVBORw0KGgo="},
    ]
    site.chat.log.clear()
    messages = [{"role": "user", "content": parts}]
    assert chat(site, "/crosscompute/v1/chat/completions", messages=messages).status_code == 200
    picture = {"url": "data:image/png;base64,iVBORw0KGgo="}
    assert json.loads(site.chat.requests[0].body)["messages"][0]["content"] == [
        {"type": "text", "text": "hello"},
        {"type": "image_url", "image_url": {**picture, "detail": "low"}},
        {"type": "image_url", "image_url": picture},
    ]


def test_no_16_roles_are_a_closed_set_for_hardcarrx_alone(site: Site) -> None:
    messages = [{"role": "developer", "content": "Be short."}, *MESSAGES]
    assert chat(site, messages=messages).status_code == 200
    assert chat(site, "/openrouter/api/v1/chat/completions", messages=messages).status_code == 200
    refusal = chat(site, "/hardcarrx/v1/chat/completions", messages=messages, provider="sim")
    assert "messages[0].role" in refusal.json()["error"]["message"]


def test_no_17_and_41_unknown_members_pass_and_switches_for_the_gateway_do_not(site: Site) -> None:
    site.chat.log.clear()
    more = {"something_new": 1, "cache": False, "memory": True, "llm_provider": "x", "llm_api_key": "sk-secret"}
    assert chat(site, "/hardcarrx/v1/chat/completions", provider="sim", **more).status_code == 200
    [request] = site.chat.requests
    assert set(json.loads(request.body)) == {"model", "messages", "something_new"}
    assert chat(site, "/openrouter/api/v1/chat/completions", something_new=1).status_code == 200


@pytest.mark.parametrize("contract", BEGINNINGS)
def test_no_18_a_key_tells_whose_client_it_is_and_never_gives_a_right(site: Site, contract: Contract) -> None:
    key = BEGINNINGS[contract] + "x" * 40
    assert call(site, "POST", "/v1/chat/completions", BODY, key=key).status_code == 401
    assert call(site, "GET", "/api/combos", key=key).status_code == 401
    assert call(site, "POST", f"/{contract}/v1/chat/completions", BODY, key=key).status_code in (401, 404)


def test_no_19_a_key_in_another_header_is_the_same_and_a_bearer_goes_before_it(site: Site) -> None:
    assert call(site, "POST", "/v1/chat/completions", BODY, key=None, x_api_key=KEY).status_code == 200
    assert call(site, "POST", "/v1/chat/completions", BODY, x_api_key="sk-wrong").status_code == 200
    assert call(site, "POST", "/v1/chat/completions", BODY, key="sk-wrong", x_api_key=KEY).status_code == 401


def test_no_21_and_22_some_contracts_have_no_403_and_all_have_402() -> None:
    denied, unpaid = GatewayError(Kind.PERMISSION_DENIED, "no"), GatewayError(Kind.PAYMENT_REQUIRED, "no")
    assert (hardcarrx.status_of(denied), hybrid.status_of(denied), openrouter.status_of(denied)) == (401, 401, 403)
    assert hardcarrx.status_of(unpaid) == hybrid.status_of(unpaid) == openrouter.status_of(unpaid) == 402
    for dialect in (hardcarrx, openrouter):
        assert b'"code":402' in dialect.render_error(unpaid, "")
    assert b"insufficient_quota" in openai_chat.render_error(unpaid, "")


def test_no_26_a_page_out_of_range_is_refused_and_not_cut_down(site: Site) -> None:
    for path in ("/v1/request-logs?limit=101", "/v1/request-logs?offset=-1", "/api/sessions?limit=0",
                 "/openrouter/api/v1/models?limit=0"):  # fmt: skip
        assert call(site, "GET", path).status_code == 400, path


def test_no_29_health_asks_no_upstream(site: Site) -> None:
    site.chat.log.clear()
    found = call(site, "GET", "/health", key=None).json()
    assert {"ok", "status", "supabaseConfigured", "x402", "paymentChannels", "providersConfigured"} <= set(found)
    assert list(site.chat.requests) == []


def test_no_30_headers_of_one_contract_are_for_its_clients(site: Site) -> None:
    name = "x-crosscompute-model-count"
    listed = call(site, "GET", "/crosscompute/v1/models")
    assert listed.headers[name] == str(len(listed.json()["data"]))
    for path in ("/hardcarrx/v1/models", "/hybrid/v1/models", "/omniroute/v1/models", "/openrouter/api/v1/models"):
        assert name not in call(site, "GET", path).headers
    assert {"authorization", "host"} <= set(call(site, "GET", "/v1/models").headers["vary"].split(", "))


@pytest.mark.parametrize("path", ["/v1", "/openrouter/api/v1", "/omniroute/api/v1", "/crosscompute/v1"])
def test_no_40_only_the_body_asks_for_a_stream(site: Site, path: str) -> None:
    answer = call(site, "POST", f"{path}/chat/completions", BODY, accept="text/event-stream")
    assert answer.headers["content-type"].startswith("application/json")


def test_a_mount_is_stripped_once_and_does_not_change_who_may_do_what(site: Site) -> None:
    assert call(site, "GET", "/openrouter/omniroute/api/combos").status_code == 404
    assert call(site, "GET", "/omniroute/api/combos", key=None).status_code == 401
    assert call(site, "GET", "/omniroute/omniroute/api/combos").status_code == 404
    assert call(site, "GET", "/Omniroute/api/combos").status_code == 404
    assert call(site, "GET", "/omniroute//api/combos").status_code == 404


@pytest.mark.parametrize("path", ["/omniroute/v1/ws", "/omniroute/api/v1/ws", "/v1/ws"])
def test_a_socket_opens_below_the_mount_too(site: Site, path: str) -> None:
    address = site.gateway.address.replace("http", "ws") + path
    with connect(f"{address}?api_key={KEY}", open_timeout=5, close_timeout=1) as socket:
        assert json.loads(socket.recv(5))["type"]
    with pytest.raises(InvalidStatus):
        connect(address, open_timeout=5)
