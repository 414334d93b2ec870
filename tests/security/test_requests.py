"""What a request may not do, whatever it says: choose where it goes, take another's key, start something, forge a line.

Everything here goes through HTTP to a gateway before two upstreams with a key each, and a trap beside them.
"""

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from gateway import KEY, RunningGateway, running_gateway
from pointsman.api.access import RULES
from pointsman.identity.keys import NewKey
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from scripted_upstream import running_upstream

KEYS = {"sim": "sk-first-0123456789abcdefghij", "other": "sk-second-0123456789abcdefghij"}
HELLO = [{"role": "user", "content": "hello"}]
ADMIN = {"authorization": f"Bearer {KEY}"}
# Words by which a program may be told to go elsewhere, in other gateways.
PLACES = (
    "base_url", "baseUrl", "api_base", "apiBase", "base_urls", "endpoint", "endpoint_url", "url", "host", "custom_host",
    "customHost", "proxy", "http_proxy", "api_url", "upstream", "target", "server", "callback_url", "webhook_url",
    "webhook", "azure_endpoint", "aws_bedrock_runtime_endpoint", "vertex_base_url", "litellm_params", "extra_body",
    "provider_options", "fallback_url",
)  # fmt: skip
HEADERS = (
    "x-base-url", "x-api-base", "x-portkey-custom-host", "x-portkey-config", "x-custom-host", "x-target-url",
    "x-forwarded-host", "x-original-url", "x-rewrite-url", "x-upstream", "x-litellm-api-base", "helicone-target-url",
    "x-pointsman-base-url", "forwarded", "x-http-destinationurl", "proxy",
)  # fmt: skip
STATEMENTS = (
    "' OR '1'='1", "1; DROP TABLE keys --", "x' UNION SELECT digest FROM keys --", "%", "_", "%25%27", "\\", "*",
    "\x00", "1) OR (1=1", "created_at; DELETE FROM requests", "-1", "9" * 40, "NaN", "../../etc/passwd", "[]", "{}",
    "é\u202e",
)  # fmt: skip
FILTERS = (
    "limit", "offset", "sort", "order", "orderBy", "order_by", "q", "query", "search", "filter", "page", "page_size",
    "id", "model", "provider", "status", "from", "to", "date", "since", "until", "account", "account_id", "scope",
    "subject", "key", "key_id", "name", "kind", "group_by", "user_id", "workspace_id", "api_key_hash", "cursor",
    "after", "request_id", "combo", "includeDisabled", "include_disabled",
)  # fmt: skip


class Trap:
    """A listener that nobody has a reason to speak to."""

    def __init__(self) -> None:
        self.visits = 0
        self.address = ""


@contextmanager
def running_trap() -> Iterator[Trap]:
    """One in a thread of its own."""
    trap = Trap()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            trap.visits += 1

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        trap.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield trap
        server.shutdown()
        thread.join(5)


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    with running_trap() as running:
        yield running


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, RunningSimulator]]:
    """Two upstreams; each knows its own key alone."""
    with (
        running_simulator(OpenAIChat(api_key=KEYS["sim"], strict=False)) as sim,
        running_simulator(OpenAIChat(api_key=KEYS["other"], strict=False)) as other,
    ):
        yield {"sim": sim, "other": other}


@pytest.fixture(scope="module")
def gateway(
    upstreams: dict[str, RunningSimulator], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    rows = [
        {
            "id": name,
            "kind": "openai",
            "base_url": running.base_url,
            "api_key": KEYS[name],
            "models": ["m", f"of-{name}"],
        }
        for name, running in upstreams.items()
    ]
    settings = {
        "connections": rows,
        "models": [{"name": "theirs", "target": "other/m"}],
        "combos": [{"name": "both", "targets": ["other/m", "sim/m"]}],
    }
    with running_gateway(tmp_path_factory.mktemp("requests"), settings) as started:
        yield started


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.address, headers=ADMIN, timeout=20) as opened:
        yield opened


def calls(model: str) -> list[tuple[str, dict[str, Any]]]:
    """A call of each API."""
    return [
        ("/v1/chat/completions", {"model": model, "messages": HELLO}),
        ("/v1/responses", {"model": model, "input": "hello"}),
        ("/v1/messages", {"model": model, "max_tokens": 9, "messages": HELLO}),
        (f"/v1beta/models/{model}:generateContent", {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}),
        ("/api/chat", {"model": model, "messages": HELLO, "stream": False}),
    ]


# Where a request goes


@pytest.mark.parametrize("number", range(5))
def test_no_member_of_a_body_and_no_query_says_where_a_call_goes(
    client: httpx.Client, upstreams: dict[str, RunningSimulator], trap: Trap, number: int
) -> None:
    path, body = calls("sim/m")[number]
    upstreams["sim"].log.clear()
    answered = 0
    for name in PLACES:
        for value in (trap.address, {name: trap.address, "base_url": trap.address, "api_base": trap.address}):
            for member in ({name: value}, {"metadata": {name: trap.address}}, {"provider": {name: value}}):
                answer = client.post(path, json={**body, **member})
                assert answer.status_code == 200 or 400 <= answer.status_code < 500, (member, answer.text)
                answered += answer.status_code == 200
        answered += client.post(path, json=body, params={name: trap.address}).status_code == 200
    assert trap.visits == 0
    assert answered == len(upstreams["sim"].requests) > 0


def test_no_header_says_where_a_call_goes(
    client: httpx.Client, upstreams: dict[str, RunningSimulator], trap: Trap
) -> None:
    host = trap.address.removeprefix("http://")
    upstreams["sim"].log.clear()
    for path, body in calls("sim/m"):
        for name in HEADERS:
            for value in (trap.address, host, json.dumps({"base_url": trap.address}), f"host={host}"):
                assert client.post(path, json=body, headers={name: value}).status_code == 200
        assert client.post(path, json=body, headers={"host": host}).status_code == 200
    assert trap.visits == 0
    assert all(host not in str(request.headers) for request in upstreams["sim"].requests)


def test_no_name_of_a_model_says_where_a_call_goes(client: httpx.Client, trap: Trap) -> None:
    host = trap.address.removeprefix("http://")
    for model in (
        trap.address, f"{trap.address}/v1/m", f"sim/m@{host}", f"sim/../../{host}", f"sim/m?base_url={trap.address}",
        f"//{host}/m", f"sim/m#@{host}", f"openai-compatible:{trap.address}/m", f"sim/m\r\nhost: {host}", f"@{host}/m",
    ):  # fmt: skip
        for path, body in calls("sim/m"):
            place = (
                path
                if "sim/m" not in path
                else f"/v1beta/models/{httpx.URL('/', params={'a': model}).query.decode()[2:]}:generateContent"
            )
            answer = client.post(place, json={**body, "model": model} if "model" in body else body)
            assert answer.status_code < 500, (place, answer.text)
    assert trap.visits == 0


def test_addresses_that_are_kept_for_others_to_use_are_asked_by_nobody(client: httpx.Client, trap: Trap) -> None:
    """An agent's skill, where a program is told its code: stored or sent on, never asked."""
    agent = {"agentId": "agent-with-skill", "skillMdUrl": f"{trap.address}/skill.md"}
    made = client.post("/api/agents/register", json=agent)
    if made.status_code == 200:
        shown = {"authorization": f"Bearer {made.json()['apiKey']}"}
        for path in ("/api/agents/me", "/api/agents/skill-md", "/api/agents/usage-models"):
            assert httpx.get(f"{client.base_url}{path}", headers=shown).status_code < 500
    local = trap.address.replace("127.0.0.1", "localhost")
    assert client.get("/auth", params={"callback_url": f"{local}/back"}).status_code == 200
    assert client.post("/api/v1/auth/keys/code", json={"callback_url": f"{local}/back"}).status_code == 200
    assert trap.visits == 0


def test_a_providers_redirect_takes_no_key_anywhere(tmp_path_factory: pytest.TempPathFactory, trap: Trap) -> None:
    with running_upstream() as upstream:
        for status in (301, 302, 303, 307, 308):
            away = (
                f"HTTP/1.1 {status} Away\r\nlocation: {trap.address}/v1/chat/completions\r\ncontent-length: 0\r\n\r\n"
            )
            upstream.script = lambda number, body, away=away: [away.encode()]  # type: ignore[misc]
            row = {"id": "up", "kind": "openai", "base_url": upstream.base_url, "api_key": KEYS["sim"]}
            with (
                running_gateway(tmp_path_factory.mktemp("redirect"), {"connections": [row]}) as gateway,
                httpx.Client(base_url=gateway.address, headers=ADMIN, timeout=20) as client,
            ):
                for stream in (False, True):
                    body = {"model": "up/m", "messages": HELLO, "stream": stream}
                    answer = client.post("/v1/chat/completions", json=body)
                    assert answer.status_code >= 500
                    assert KEYS["sim"] not in answer.text
    assert trap.visits == 0


# Whose key is used


def test_each_upstream_is_shown_its_own_key_alone(client: httpx.Client, upstreams: dict[str, RunningSimulator]) -> None:
    for running in upstreams.values():
        running.log.clear()
    for model in ("sim/m", "other/m", "both", "theirs"):
        for path, body in calls(model):
            for shown in ({}, {"x-api-key": KEYS["other"]}, {"openai-organization": "org"}):
                assert client.post(path, json=body, headers=shown).status_code == 200
    for name, running in upstreams.items():
        assert running.requests
        for request in running.requests:
            text = f"{request.headers} {request.body!r}"
            assert KEYS[name] in text
            assert KEY not in text
            assert not any(key in text for other, key in KEYS.items() if other != name)


@pytest.fixture(scope="module")
def confined(gateway: RunningGateway) -> Iterator[httpx.Client]:
    """A key that may use the connection ``sim`` alone."""
    work = gateway.installation

    async def make() -> str:
        new = NewKey(name="confined", kind="omniroute", settings={"allowedConnections": ["sim"]})
        row, secret = await work.keys.issue(new)
        assert await work.await_revision(row.revision)
        return secret.reveal()

    headers = {"authorization": f"Bearer {gateway.call(make())}"}
    with httpx.Client(base_url=gateway.address, headers=headers, timeout=20) as opened:
        yield opened


@pytest.mark.parametrize(
    "said",
    [
        {"model": "other/m"}, {"model": "theirs"}, {"model": "of-other"}, {"model": "other/of-other"},
        {"model": "both"}, {"model": "sim/m", "models": ["other/m"]}, {"model": "m", "provider": {"only": ["other"]}},
        {"model": "m", "provider": {"order": ["other"], "allow_fallbacks": False}}, {"model": "m:other"},
        {"model": "sim/none", "models": ["other/m", "theirs"]}, {"model": "sim/m", "fallbacks": [{"model": "other/m"}]},
        {"model": "m", "provider": "other"}, {"model": "sim/m", "route": "fallback", "models": ["theirs"]},
        {"model": "OTHER/m"}, {"model": "other%2fm"}, {"model": " other/m"}, {"model": "sim/../other/m"},
    ],
    ids=str,
)  # fmt: skip
def test_a_key_uses_no_credential_that_is_not_its_own_to_use(
    confined: httpx.Client, upstreams: dict[str, RunningSimulator], said: dict[str, Any]
) -> None:
    upstreams["other"].log.clear()
    for path in ("/v1/chat/completions", "/api/v1/chat/completions", "/v1/providers/other/chat/completions"):
        for headers in ({}, {"x-pointsman-provider": "other"}, {"x-omniroute-connection": "other"}):
            confined.post(path, json={"messages": HELLO, **said}, headers=headers)
    assert list(upstreams["other"].requests) == []


def test_a_confined_key_works_where_it_may(confined: httpx.Client) -> None:
    assert confined.post("/v1/chat/completions", json={"model": "sim/m", "messages": HELLO}).status_code == 200


# What is written is not carried out


def test_filters_are_values_and_no_part_of_a_statement(client: httpx.Client, gateway: RunningGateway) -> None:
    client.post("/v1/chat/completions", json={"model": "sim/m", "messages": HELLO})
    before = len(gateway.call(gateway.installation.keys.list_newest(1000)))
    faults = []
    for method, path in RULES:
        if method != "GET":
            continue
        for text in STATEMENTS:
            place = re.sub(r"\{[^}]*\}", httpx.QueryParams({"a": text.replace("/", "")}).__str__()[2:] or "x", path)
            answer = client.get(place, params=dict.fromkeys(FILTERS, text))
            if answer.status_code >= 500:
                faults.append((path, text, answer.text[:200]))
    assert faults == []
    assert len(gateway.call(gateway.installation.keys.list_newest(1000))) == before


@pytest.mark.parametrize(
    "text",
    ["{{7*7}}", "${7*7}", "<%= 7*7 %>", "#{7*7}", "{0.__class__.__mro__}", "%(model)s {model} %s", "{% for x in y %}",
     "$(touch /tmp/pwned)", "`id`", "{{config}}", "${jndi:ldap://127.0.0.1/a}"],
)  # fmt: skip
def test_a_prompt_is_no_template(client: httpx.Client, text: str) -> None:
    preset = {"model": "sim/m", "messages": [{"role": "system", "content": text}]}
    assert client.put("/api/v1/presets/plain-text", json={"system_prompt": text, "model": "sim/m"}).status_code < 500
    for path, body in calls("sim/m"):
        told = json.loads(json.dumps(body).replace('"hello"', json.dumps(text)))
        answer = client.post(path, json=told)
        assert answer.status_code == 200, answer.text
        assert json.dumps(text)[1:-1] in answer.text
    assert client.post("/v1/chat/completions", json=preset).status_code < 500


def test_a_line_of_the_log_is_one_line_of_json_whatever_was_said(client: httpx.Client, gateway: RunningGateway) -> None:
    forged = 'x\n{"event":"request","forged":true}\r\n\x1b[31mred\x1b[0m\u2028\x00'
    for model in (forged, f"sim/{forged}", f"none/{forged}"):
        client.post("/v1/chat/completions", json={"model": model, "messages": HELLO, "user": forged})
    client.post("/api/v1/keys", json={"name": forged})
    client.post("/api/agents/register", json={"agentId": forged, "name": forged})
    client.post("/api/auth/login", json={"password": forged, "email": forged})
    lines = gateway.log_text().split("\n")
    assert all(json.loads(line).get("forged") is None for line in lines if line)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", "\n".join(lines))


def test_nothing_is_written_that_a_spreadsheet_would_calculate(client: httpx.Client) -> None:
    """There is no export in such a form; one that comes has to write formulas as text."""
    for method, path in RULES:
        if method == "GET":
            place = re.sub(r"\{[^}]*\}", "x", path)
            for accept in ("text/csv", "application/vnd.ms-excel"):
                kind = client.get(place, headers={"accept": accept}, params={"format": "csv"}).headers.get(
                    "content-type", ""
                )
                assert not re.search("csv|excel|spreadsheet|tab-separated", kind), path


MOVES = (
    {"url": "{trap}/v1"},
    {"providerSpecificData": {"baseUrl": "{trap}/v1"}},
    {"url": "{trap}/v1", "apiKey": "sk-***"},
    {"url": "{trap}/v1", "apiKey": "", "headers": {"x-tenant": "****"}},
)


def test_a_stored_key_of_a_routing_service_goes_to_no_other_host(client: httpx.Client, trap: Trap) -> None:
    path, new = "/api/pointsman/profiles/notdiamond", {"api_key": KEYS["sim"], "base_url": "https://routing.example"}
    try:
        assert client.put(path, json=new).status_code == 200
        refused = client.put(path, json={"base_url": trap.address, "allow_private": True})
        assert (refused.status_code, "api_key" in refused.text) == (400, True)
        assert client.put(path, json={"timeout_ms": 900}).status_code == 200
        moved = client.put(path, json={"base_url": "https://other.example", "api_key": "nd-another-0123456789"})
        assert moved.status_code == 200
    finally:
        client.delete(path)


@pytest.mark.parametrize("move", MOVES, ids=str)
@pytest.mark.parametrize("method", ["PATCH", "PUT", "POST"])
def test_a_stored_key_goes_to_no_other_host_by_a_change_of_its_connections_address(
    client: httpx.Client, upstreams: dict[str, RunningSimulator], trap: Trap, method: str, move: dict[str, Any]
) -> None:
    """Who may change connections may use their keys, but is never shown one: not at a host of its own either."""
    moved = json.loads(json.dumps(move).replace("{trap}", trap.address))
    new = {"provider": "openai-compatible", "name": "stays", "url": upstreams["sim"].base_url, "apiKey": KEYS["sim"],
           "allowPrivate": True, "headers": {"x-tenant": "kept"}}  # fmt: skip
    made = client.post("/api/providers", json=new).json()["connection"]
    path = f"/api/providers/{made['id']}"
    try:
        same = {"provider": "openai-compatible", "name": "stays", "allowPrivate": True}
        answer = client.request(method, path if method != "POST" else "/api/providers", json={**same, **moved})
        if answer.status_code == 400:
            assert "apiKey" in answer.text
        else:
            assert answer.json()["connection"]["id"] != made["id"], "a connection of its own, without the key"
        client.post(f"{path}/test")
        client.post("/v1/chat/completions", json={"model": f"{made['id']}/m", "messages": HELLO})
        assert trap.visits == 0
        inside = upstreams["sim"].base_url.removesuffix("/v1") + "/v1/"
        assert client.patch(path, json={"url": inside}).status_code == 200, "another path of the same host"
        again = {"url": f"{trap.address}/v1", "apiKey": "sk-another-0123456789", "headers": None}
        assert client.patch(path, json=again).status_code == 200, "with a new key it may go anywhere"
    finally:
        for row in client.get("/api/providers").json()["connections"]:
            if row["name"] == "stays":
                client.delete(f"/api/providers/{row['id']}")
