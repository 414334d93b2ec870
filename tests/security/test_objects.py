"""Each route with an object in its path, and each list: another tenant's object is as one that is not there.

Which routes those are is data, here. A route with a parameter that has no row fails the first test.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from two_tenants import CREDENTIALS, Tenant

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.api.access import RULES, SHARED
from pointsman.policy import authorization
from pointsman.testing import Gemini, OpenAIChat, OpenAIResponses, running_simulator

INSTALLATION = "the installation's own: no other account's credential comes in"
CATALOGUE = "what every caller may use: nothing in it is anybody's"
# Management routes with a parameter: what it names.
VIEWS = {
    "/api/pointsman/budgets/{budget_id}": INSTALLATION,
    "/api/pointsman/guards/{name}": INSTALLATION,
    "/api/v1/keys/{fingerprint}": "router key",
    "/api/v1/guardrails/{guardrail_id}": "guardrail",
    "/api/v1/guardrails/{guardrail_id}/assignments/keys": "guardrail",
    "/api/v1/guardrails/{guardrail_id}/assignments/members": "guardrail",
    "/api/v1/guardrails/{guardrail_id}/assignments/keys/remove": "guardrail",
    "/api/v1/guardrails/{guardrail_id}/assignments/members/remove": "guardrail",
    "/api/v1/presets/{slug}": INSTALLATION,
    "/openapi/{name}": CATALOGUE,
    "/api/auth/oidc/{provider}/login": CATALOGUE,
    "/api/auth/oidc/{provider}/callback": CATALOGUE,
    "/api/providers/{connection_id}": INSTALLATION,
    "/api/providers/{connection_id}/test": INSTALLATION,
    "/api/providers/{connection_id}/models": INSTALLATION,
    "/api/provider-nodes/{node_id}": INSTALLATION,
    "/api/combos/{combo_id}": INSTALLATION,
    "/api/keys/{key_id}": INSTALLATION,
    "/api/cli/tokens/{token_id}": INSTALLATION,
    "/api/keys/{key_id}/deactivate": "person's key",
}
# What stands below a prefix of the edge. Behind the id: the tails that have a meaning.
EDGE = {
    "/v1/responses/": ("response", ("", "/input_items", "/cancel", "?stream=true")),
    "/api/v1/responses/": ("response", ("", "/input_items", "/cancel")),
    "/v1/files/": ("file", ("", "/content")),
    "/api/v1/files/": ("file", ("", "/content")),
    "/v1beta/files/": ("gemini file", ("", ":download?alt=media")),
    "/api/v1beta/files/": ("gemini file", ("",)),
    "/v1/models/": (CATALOGUE, ()),
    "/api/v1/models/": (CATALOGUE, ()),
    "/api/v1/model/": (CATALOGUE, ()),
    "/v1beta/models/": (CATALOGUE, ()),
    "/api/v1beta/models/": (CATALOGUE, ()),
    "/v1/providers/": (CATALOGUE, ()),
    "/api/v1/providers/": (CATALOGUE, ()),
}
# Objects that are named in a query or in a body: method, path, and where the id stands.
NAMED = {
    "generation by id": ("GET", "/api/v1/generation?id={generation}", None),
    "generation by request": ("GET", "/api/v1/generation?id={request}", None),
    "key under a guardrail": (
        "POST", "/api/v1/guardrails/{guardrail}/assignments/keys", {"key_hashes": ["{router key}"]},
    ),
    "key freed of a guardrail": (
        "POST", "/api/v1/guardrails/{guardrail}/assignments/keys/remove", {"key_hashes": ["{router key}"]},
    ),
    "activity of a key": ("GET", "/api/v1/activity?api_key_hash={router key}", None),
    "previous response": (
        "POST", "/v1/responses", {"model": "sim/m", "input": "x", "previous_response_id": "{response}"},
    ),
    "file in a request": (
        "POST", "/v1/responses",
        {"model": "shelf/m", "input": [
            {"role": "user", "content": [{"type": "input_file", "file_id": "{file}"}]}]},
    ),
    "workspace of a new key": ("POST", "/api/v1/keys", {"name": "x", "workspace_id": "{account}"}),
    "files behind another's": ("GET", "/v1/files?after={file}", None),
}  # fmt: skip
MISSING = {
    "response": "resp_" + "0" * 32,
    "file": "file-" + "0" * 24,
    "gemini file": "0" * 12,
    "router key": "0" * 64,
    "guardrail": "01234567-89ab-4cde-8f01-23456789ab00",
    "person's key": "01234567-89ab-8cde-8f01-23456789ab00",
    "generation": "gen-req_" + "0" * 26,
    "request": "req_" + "0" * 26,
    "account": "acc_nobody",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with a chat upstream and two that keep files."""
    apis: list[Any] = [
        OpenAIChat(api_key=UPSTREAM_KEY, strict=False),
        OpenAIResponses(api_key=UPSTREAM_KEY),
        Gemini(api_key=UPSTREAM_KEY, strict=False),
    ]
    with (
        running_simulator(apis[0]) as chat,
        running_simulator(apis[1]) as shelf,
        running_simulator(apis[2]) as google,
    ):
        rows = [
            {"id": "sim", "kind": "openai", "base_url": chat.base_url, "api_key": UPSTREAM_KEY, "models": ["m"]},
            {"id": "shelf", "kind": "openai-responses", "base_url": shelf.base_url, "api_key": UPSTREAM_KEY,
             "models": ["m"]},
            {"id": "google", "kind": "gemini", "base_url": google.origin, "api_key": UPSTREAM_KEY, "models": ["g"]},
        ]  # fmt: skip
        settings = {"connections": rows, "responses": {"keep": True}, "identity": {"agent_registrations": 10}}
        with running_gateway(tmp_path_factory.mktemp("objects"), settings) as started:
            yield started


@pytest.fixture(scope="module")
def owner(gateway: RunningGateway) -> Iterator[Tenant]:
    """Who has made one of everything."""
    tenant = Tenant(gateway, "owner")
    tenant.furnish()
    yield tenant
    tenant.close()


@pytest.fixture(scope="module")
def stranger(gateway: RunningGateway) -> Iterator[Tenant]:
    """Somebody else."""
    tenant = Tenant(gateway, "stranger")
    yield tenant
    tenant.close()


@pytest.fixture(scope="module")
def onlooker(gateway: RunningGateway) -> Iterator[Tenant]:
    """Somebody else again, who has asked for nothing: its own requests' paths are shown to itself."""
    tenant = Tenant(gateway, "onlooker")
    yield tenant
    tenant.close()


def test_every_route_with_a_parameter_says_what_it_names(gateway: RunningGateway) -> None:
    assert {path for _, path in RULES if "{" in path} == set(VIEWS)
    router = gateway.server.edge.router
    assert {prefix.decode() for prefix, _ in router._prefixes} == set(EDGE)


def asked(tenant: Tenant, method: str, path: str, body: Any = None) -> dict[str, httpx.Response]:
    """The answers to each credential of a tenant that the route lets in."""
    answers = {}
    for kind in CREDENTIALS:
        answer = tenant.clients[kind].request(method, path, json=body)
        if answer.status_code not in (401, 403):
            answers[kind] = answer
    return answers


def plain(answer: httpx.Response, identifier: str) -> tuple[int, str]:
    """An answer without what differs from one request to the next."""
    text = re.sub(r"req_[0-9a-z]+", "", answer.text.replace(identifier, "ID"))
    return answer.status_code, text


def object_paths() -> list[tuple[str, str, str]]:
    """Method, path with ``{}`` in the place of the id, and what it names, of every route to somebody's object."""
    found = []
    for (method, path), _ in RULES.items():
        if "{" in path and VIEWS.get(path) not in (INSTALLATION, CATALOGUE):
            found.append((method, re.sub(r"\{[^}]*\}", "{}", path), VIEWS[path]))
    for prefix, (what, tails) in EDGE.items():
        found += [(method, prefix + "{}" + tail, what) for tail in tails for method in ("GET", "POST", "DELETE")]
    return found


@pytest.mark.parametrize(("method", "path", "what"), object_paths())
def test_somebody_elses_object_is_answered_as_one_that_is_not_there(
    owner: Tenant, stranger: Tenant, method: str, path: str, what: str
) -> None:
    theirs, nothing = owner.objects[what], MISSING[what]
    body: Any = {"name": "taken"} if method == "PATCH" else None
    if method == "POST" and "/assignments/" in path:
        body = {"key_hashes": [MISSING["router key"]]} if "/keys" in path else {"member_user_ids": ["usr_nobody"]}
    of_theirs, of_nothing = (asked(stranger, method, path.format(name), body) for name in (theirs, nothing))
    assert set(of_theirs) == set(of_nothing)
    for kind in of_theirs:
        assert of_theirs[kind].status_code in (400, 404, 405), (kind, of_theirs[kind].text)
        assert plain(of_theirs[kind], theirs) == plain(of_nothing[kind], nothing), kind


def test_the_owner_still_has_all_of_it(owner: Tenant) -> None:
    had = owner.objects
    reads = {
        "plain": [f"/v1/responses/{had['response']}", f"/v1/responses/{had['response']}/input_items",
                  f"/v1/files/{had['file']}", f"/v1beta/files/{had['gemini file']}"],
        "openrouter_management": [f"/api/v1/keys/{had['router key']}", f"/api/v1/guardrails/{had['guardrail']}"],
        "openrouter": [f"/api/v1/generation?id={had['generation']}"],
    }  # fmt: skip
    for kind, paths in reads.items():
        for path in paths:
            answer = owner.clients[kind].get(path)
            assert answer.status_code == 200, (path, answer.text)
            assert "taken" not in answer.text
    assert owner.clients["jwt"].get("/api/keys").json()["keys"][0]["active"] is True


@pytest.mark.parametrize("name", NAMED)
def test_an_object_that_a_query_or_a_body_names_is_the_callers_own(owner: Tenant, stranger: Tenant, name: str) -> None:
    method, path, body = NAMED[name]
    text = json.dumps(body)
    answers = []
    for names in ({**owner.objects, "account": owner.account}, MISSING):
        for what, identifier in names.items():
            path, text = path.replace(f"{{{what}}}", identifier), text.replace(f"{{{what}}}", identifier)
        answers.append(asked(stranger, method, path, json.loads(text)))
        method, path, body = NAMED[name]
        text = json.dumps(body)
    theirs, nothing = answers
    assert theirs
    assert set(theirs) == set(nothing)
    for kind in theirs:
        assert theirs[kind].status_code in (400, 404), (kind, theirs[kind].text)
        assert theirs[kind].status_code == nothing[kind].status_code, kind


def test_a_guardrail_of_ones_own_takes_in_nobody_elses_key(owner: Tenant, stranger: Tenant) -> None:
    manager = stranger.clients["openrouter_management"]
    mine = manager.post("/api/v1/guardrails", json={"name": "mine"}).json()["data"]["id"]
    path = f"/api/v1/guardrails/{mine}/assignments/keys"
    theirs, nothing = (
        manager.post(path, json={"key_hashes": [name]}) for name in (owner.objects["router key"], MISSING["router key"])
    )
    assert plain(theirs, owner.objects["router key"]) == plain(nothing, MISSING["router key"])
    assert owner.objects["router key"] not in manager.get(path).text


def lists() -> list[str]:
    """Every path that is read without naming anything."""
    return sorted({path for method, path in RULES if method == "GET" and "{" not in path})


def test_no_list_shows_anything_of_somebody_else(gateway: RunningGateway, owner: Tenant, onlooker: Tenant) -> None:
    router = gateway.server.edge.router
    paths = lists() + sorted(path.decode() for path, table in router._exact.items() if b"GET" in table)
    marks = [*owner.objects.values(), owner.account, "owner@example.org", "agent-owner"]
    marks += ["owned by owner", "owned-note", " of owner"]
    shown, read = [], 0
    for path in paths:
        for kind in CREDENTIALS:
            answer = onlooker.clients[kind].get(path)
            read += answer.status_code == 200
            shown += [(path, kind, mark) for mark in marks if mark in answer.text]
    assert shown == []
    assert read > 100


def test_its_own_lists_show_its_owner_what_strangers_are_not_shown(owner: Tenant) -> None:
    assert owner.objects["request"] in owner.clients["plain"].get("/v1/request-logs").text
    assert owner.objects["router key"] in owner.clients["openrouter_management"].get("/api/v1/keys").text
    assert owner.objects["person's key"] in owner.clients["jwt"].get("/api/keys").text
    assert owner.objects["file"] in owner.clients["plain"].get("/v1/files").text
    assert owner.objects["gemini file"] in owner.clients["plain"].get("/v1beta/files").text


def test_what_is_the_installations_is_reached_with_no_credential_of_another_account(stranger: Tenant) -> None:
    for (method, path), rule in RULES.items():
        if VIEWS.get(path) is not INSTALLATION and rule not in (authorization.ADMIN, authorization.HIGH):
            continue
        if (method, path) in SHARED:
            continue  # where CrossCompute's people reach their own keys at the same path
        answers = asked(stranger, method, re.sub(r"\{[^}]*\}", "anything", path), None if method == "GET" else {})
        assert answers == {}, (method, path)


def test_a_manager_of_the_installation_does_not_find_another_accounts_key(
    gateway: RunningGateway, owner: Tenant
) -> None:
    from gateway import KEY

    rows = gateway.call(gateway.installation.keys.list_newest(1000))
    theirs = [row.id for row in rows if row.account_id == owner.account]
    assert theirs
    with httpx.Client(base_url=gateway.address, headers={"authorization": f"Bearer {KEY}"}) as manager:
        for identifier in theirs:
            for method in ("GET", "PATCH", "DELETE"):
                body = None if method == "GET" else {"name": "taken"}
                answer = manager.request(method, f"/api/keys/{identifier}", json=body)
                assert answer.status_code == 404, answer.text
            assert manager.delete(f"/api/cli/tokens/{identifier}").status_code == 404
        assert not any(identifier in manager.get("/api/keys").text for identifier in theirs)
