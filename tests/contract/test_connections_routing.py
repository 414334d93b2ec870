"""What is said of a connection over the API is in effect for the next call, and for routing."""

from collections.abc import Iterator
from typing import Any

import pytest
from connections_client import Admin

from gateway import UPSTREAM_KEY, RunningGateway
from pointsman.testing import AnthropicMessages, RunningSimulator, running_simulator


@pytest.fixture
def admin(gateway: RunningGateway) -> Iterator[Admin]:
    """An administrator at the module's gateway."""
    made = Admin(gateway)
    yield made
    for row in made.ask("GET", "/api/providers")["connections"]:
        if not row["readOnly"]:
            made.ask("DELETE", f"/api/providers/{row['id']}")
    made.close()


def fields(simulator: RunningSimulator, **more: Any) -> dict[str, Any]:
    """A connection to the simulator in the documented shape."""
    return {"provider": "openai", "url": simulator.base_url, "apiKey": UPSTREAM_KEY, "allowPrivate": True, **more}


def test_both_shapes_make_a_connection_that_serves_at_once(admin: Admin, simulator: RunningSimulator) -> None:
    one = admin.create(**fields(simulator, name="Spec Shape"))
    two = admin.create(
        provider="openai",
        name="program",
        apiKey=UPSTREAM_KEY,
        allowPrivate=True,
        providerSpecificData={"baseUrl": f"{simulator.base_url}/chat/completions"},
    )
    assert (one["id"], two["id"], two["url"]) == ("spec-shape", "program", simulator.base_url)
    for made in (one, two):
        assert admin.chat(f"{made['id']}/m").status_code == 200


def test_a_name_is_made_where_none_is_sent_and_the_same_name_takes_the_old_ones_place(
    admin: Admin, simulator: RunningSimulator
) -> None:
    first, second = (admin.create(**fields(simulator)) for _ in range(2))
    assert [first["id"], second["id"]] == ["openai", "openai-2"]
    assert first["name"] != second["name"]
    again = admin.create(**fields(simulator, name=second["name"], priority=9))
    assert (again["id"], again["priority"], again["createdAt"]) == (second["id"], 9, second["createdAt"])
    assert admin.ask("GET", "/api/providers?provider=openai")["total"] == 3  # with the one of the file


def test_a_connection_of_the_file_is_listed_and_not_changed(admin: Admin) -> None:
    shown = admin.ask("GET", "/api/providers/sim")["connection"]
    assert (shown["source"], shown["readOnly"]) == ("file", True)
    for method, body in (("PATCH", {"priority": 3}), ("PUT", {"isActive": False}), ("DELETE", None)):
        refusal = admin.ask(method, "/api/providers/sim", body, status=409)
        assert "configuration file" in refusal["error"]["message"]
    assert admin.ask("POST", "/api/providers/sim/test")["valid"]
    assert admin.ask("GET", "/api/providers/sim")["connection"]["testStatus"] == "active"


def test_an_inactive_connection_leaves_the_catalogue_and_is_still_listed(
    admin: Admin, simulator: RunningSimulator
) -> None:
    made = admin.create(**fields(simulator, name="off", models=["only-here"], isActive=False))
    assert admin.chat("only-here").status_code == 404
    admin.ask("PATCH", f"/api/providers/{made['id']}", {"isActive": True})
    assert admin.chat("only-here").status_code == 200
    assert "off" in [row["connectionId"] for row in admin.ask("GET", "/api/provider-models")["models"]]
    admin.ask("PUT", f"/api/providers/{made['id']}", {"isActive": False})
    assert admin.chat("only-here").status_code == 404
    assert not admin.ask("GET", f"/api/providers/{made['id']}")["connection"]["isActive"]


def test_excluded_models_are_neither_offered_nor_called(admin: Admin, simulator: RunningSimulator) -> None:
    made = admin.create(**fields(simulator, name="picky", excludedModels=["gpt-4*", "old"]))
    assert admin.chat("picky/gpt-5").status_code == 200
    assert [admin.chat(f"picky/{name}").status_code for name in ("gpt-4", "gpt-4o-mini", "old")] == [404] * 3
    admin.ask("PATCH", f"/api/providers/{made['id']}", {"models": ["gpt-4o", "new"]})
    offered = admin.ask("GET", "/api/provider-models")["models"]
    assert [row["id"] for row in offered if row["connectionId"] == "picky"] == ["new"]
    admin.ask("PATCH", f"/api/providers/{made['id']}", {"models": ["gpt-4o"]})
    assert admin.chat("picky/anything").status_code == 404, "an emptied list must not mean any model"


def test_a_default_model_stands_behind_the_connections_own_name(admin: Admin, simulator: RunningSimulator) -> None:
    admin.create(**fields(simulator, name="usual", defaultModel="the-default"))
    assert admin.chat("usual").status_code == 200
    assert simulator.requests[-1].model == "the-default"


def test_tags_reach_routing_and_no_limit_is_written_as_zero_or_null(
    admin: Admin, gateway: RunningGateway, simulator: RunningSimulator
) -> None:
    made = admin.create(**fields(simulator, name="tagged", tags=["eu", "cheap"], maxConcurrent=0))
    assert made["maxConcurrent"] is None
    routed = gateway.read(lambda: gateway.server.gateway.snapshot.catalogue.connections["tagged"])
    assert routed.tags == {"eu", "cheap"}


def test_headers_go_with_every_request_on_both_lanes(admin: Admin, simulator: RunningSimulator) -> None:
    made = admin.create(**fields(simulator, name="headed", headers={"X-Tenant": "blue", "OpenAI-Organization": "o"}))
    assert admin.chat("headed/m").status_code == 200
    body = {"model": "headed/m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    admin.ask("POST", "/v1/messages", body)
    admin.ask("POST", f"/api/providers/{made['id']}/test")
    for received in simulator.requests[-3:]:
        headers = {str(name).lower(): value for name, value in dict(received.headers).items()}
        assert (headers["x-tenant"], headers["openai-organization"]) == ("blue", "o")
        assert headers["authorization"] == f"Bearer {UPSTREAM_KEY}"


def test_further_keys_take_turns(admin: Admin, simulator: RunningSimulator) -> None:
    made = admin.create(**fields(simulator, name="many", extraApiKeys=["sk-wrong-one"]))
    assert made["extraApiKeyCount"] == 1
    statuses = [admin.chat("many/m").status_code for _ in range(4)]
    assert statuses == [200, 502, 200, 502]


def test_a_path_of_ones_own_is_used_for_calls_and_for_the_list(admin: Admin, simulator: RunningSimulator) -> None:
    data = {"baseUrl": simulator.origin, "chatPath": "/v1/chat/completions", "modelsPath": "/v1/models"}
    made = admin.create(provider="openai-compatible", name="placed", apiKey=UPSTREAM_KEY, allowPrivate=True,
                        providerSpecificData=data)  # fmt: skip
    assert admin.ask("POST", f"/api/providers/{made['id']}/test")["valid"]
    assert admin.chat("placed/m").status_code == 200
    body = {"model": "placed/m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    admin.ask("POST", "/v1/messages", body)
    assert {received.path for received in simulator.requests} == {"/v1/models", "/v1/chat/completions"}
    assert (
        admin.fault("PATCH", f"/api/providers/{made['id']}", {"providerSpecificData": {"chatPath": "x y"}})
        == "chatPath"
    )


def test_a_node_may_speak_anthropics_api(admin: Admin) -> None:
    with running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)) as upstream:
        new = {"type": "anthropic-compatible", "name": "Claude-like", "prefix": "cl", "allowPrivate": True,
               "baseUrl": f"{upstream.base_url}/messages"}  # fmt: skip
        node = admin.ask("POST", "/api/provider-nodes", new, status=201)["node"]
        assert node["baseUrl"] == upstream.base_url
        admin.create(provider=node["id"], apiKey=UPSTREAM_KEY, allowPrivate=True)
        answer = admin.chat("cl/claude-x")
        assert answer.status_code == 200, answer.text
        admin.ask("DELETE", f"/api/provider-nodes/{node['id']}")


def test_what_makes_no_sense_is_refused_with_the_fields_name(admin: Admin, simulator: RunningSimulator) -> None:
    good = fields(simulator)
    for wrong, field in (
        ({"provider": "opnai"}, "provider"), ({"provider": "local"}, "provider"), ({"url": "ftp://x"}, "url"),
        ({"url": "http://10.0.0.1", "allowPrivate": False}, "url"), ({"maxConcurrent": -1}, "maxConcurrent"),
        ({"maxConcurrent": "4"}, "maxConcurrent"), ({"apiKey": "two words"}, "apiKey"), ({"name": ""}, "name"),
        ({"authType": "oauth"}, "authType"), ({"tags": ["a\nb"]}, "tags"),
        ({"url": "https://a.example", "caCertificates": "no pem"}, "caCertificates"),
        ({"models": [""]}, "models[0]"), ({"isActive": "yes"}, "isActive"), ({"proxy": "ftp://h:1"}, "proxy"),
    ):  # fmt: skip
        named = admin.fault("POST", "/api/providers", {**good, **wrong})
        assert named == field, wrong
    assert admin.fault("POST", "/api/providers", {"provider": "openai", "name": "no key"}) == "apiKey"
    assert admin.fault("PATCH", "/api/providers/sim", {}) == "body"
    assert admin.send("POST", "/api/providers", b"[]", "application/json").status_code == 400


def test_members_without_an_effect_are_told(admin: Admin, simulator: RunningSimulator) -> None:
    sent = fields(simulator, name="told", rateLimitProtection=True, providerSpecificData={"customUserAgent": "x"})
    found = admin.ask("POST", "/api/providers", sent, status=201)
    assert found["warnings"] == [
        "'rateLimitProtection' has no effect here",
        "'providerSpecificData.customUserAgent' has no effect here",
    ]
