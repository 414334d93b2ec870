"""Who may use which route: every route with every kind of credential, and none with none but those pinned here.

What each rule means is written down here once more, by hand: the program's own table is what is on trial.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import KEY, RunningGateway, running_gateway
from pointsman.api.access import RULES
from pointsman.contracts.operations import Plane, all_operations
from pointsman.identity.keys import KeyChange, NewKey
from pointsman.identity.users import NewUser
from pointsman.keyring import Secret
from pointsman.policy import authorization
from pointsman.policy.authorization import Rule
from pointsman.server_routes import load_management
from pointsman.storage.accounts import AccountRow

CALLERS = {"plain", "admin", "openrouter", "hardcarrx", "crosscompute", "crosscompute_agent", "omniroute",
           "omniroute_manage", "session", "session_admin", "jwt", "jwt_admin"}  # fmt: skip
READERS = {"admin", "session_admin", "omniroute_manage", "cli_read", "cli_write", "cli_admin"}
WRITERS = READERS - {"cli_read"}
OWNERS = WRITERS - {"cli_write"}
CREDENTIALS = sorted(
    CALLERS | READERS | {"openrouter_management", "other_tenant_manage", "other_tenant_cli", "disabled", "expired"}
)
# Whoever has none of these: nothing of them tells or changes what belongs to somebody.
OPEN = {
    ("POST", "/api/pointsman/auth/token"),
    ("POST", "/api/auth/login"),
    ("POST", "/api/auth/logout"),
    ("GET", "/api/auth/status"),
    ("GET", "/api/auth/oidc/{provider}/login"),
    ("GET", "/api/auth/oidc/{provider}/callback"),
    ("GET", "/api/init"),
    ("GET", "/api/config"),
    ("POST", "/api/cli/connect"),
    ("POST", "/api/agents/register"),
    ("GET", "/openapi/{name}"),
    ("GET", "/robots.txt"),
    ("GET", "/llms.txt"),
    ("GET", "/openapi.json"),
    ("GET", "/api-parameters.md"),
    ("GET", "/agent-skill.md"),
    ("GET", "/.well-known/agent-trust-policy.json"),
    ("GET", "/.well-known/ai-plugin.json"),
    ("GET", "/.well-known/security.txt"),
    ("GET", "/api/openapi/spec"),
    ("GET", "/api/settings/require-login"),
    ("POST", "/api/v1/credits/coinbase"),
    ("POST", "/api/v1/auth/keys"),
    ("GET", "/auth"),
    ("POST", "/auth"),
    ("GET", "/api/monitoring/health"),
}
OPEN_AT_THE_EDGE = {
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/v1/models"),
    ("GET", "/api/v1/models"),
    ("GET", "/api/v1/models/count"),
    ("GET", "/api/v1/providers"),
    ("GET", "/api/v1/endpoints/zdr"),
    ("GET", "/api/v1/embeddings/models"),
    ("GET", "/api/v1/rerank/models"),
    ("GET", "/api/v1beta/models"),
    ("GET", "/v1beta/models"),
    ("GET", "/api/tags"),
    ("GET", "/api/ps"),
    ("GET", "/api/version"),
    ("POST", "/api/show"),
    ("GET", "/metrics"),  # from this machine only
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with nothing behind it."""
    with running_gateway(tmp_path_factory.mktemp("authorisation"), {"limits": {}}) as started:
        yield started


@pytest.fixture(scope="module")
def presented(gateway: RunningGateway) -> dict[str, dict[str, str]]:
    """The headers of each kind of credential."""
    found: dict[str, dict[str, str]] = {}
    work = gateway.installation

    async def make() -> None:
        async def key(name: str, **fields: Any) -> None:
            _, secret = await work.keys.issue(NewKey(name=name, **fields))
            found[name] = {"authorization": f"Bearer {secret.reveal()}"}

        found["admin"] = {"authorization": f"Bearer {KEY}"}
        await key("plain")
        await key("disabled", role="admin")
        await key("expired", role="admin", expires_at=1)
        agent = AccountRow(id="acc_1", kind="agent", name="a", external_id="agent-1", created_at=1, updated_at=1)
        await work.accounts.add(agent)
        for kind in ("openrouter", "hardcarrx", "crosscompute", "crosscompute_agent"):
            await key(kind, kind=kind, account_id="acc_1", workspace_id="acc_1")
        await key("openrouter_management", kind="openrouter", role="management", account_id="acc_1")
        await key("omniroute", kind="omniroute")
        await key("omniroute_manage", kind="omniroute", scopes=("manage",))
        await key("other_tenant_manage", kind="omniroute", role="management", scopes=("manage",), account_id="acc_1")
        await key("other_tenant_cli", kind="omniroute_cli", role="management", scopes=("admin",), account_id="acc_1")
        for scope in ("read", "write", "admin"):
            await key(f"cli_{scope}", kind="omniroute_cli", role="management", scopes=(scope,))
        for name, role in (("", "user"), ("_admin", "admin")):
            user = await work.users.create(NewUser(email=f"{role}@example.org", role=role), Secret("a password"))
            _, session = await work.users.open_session(user, 1)
            found[f"session{name}"] = {"cookie": f"auth_token={session.reveal()}"}
            token, _ = work.tokens.issue(user, work.clock.now_us())
            found[f"jwt{name}"] = {"authorization": f"Bearer {token.reveal()}"}
        [disabled] = [row for row in await work.keys.list_newest(100) if row.name == "disabled"]
        await work.keys.change(disabled.id, KeyChange(disabled=True))
        assert await work.await_revision(await work.configuration.revision())

    gateway.call(make())
    return found


def expected(rule: Rule) -> set[str]:
    """The credentials that a rule lets in."""
    table = {
        id(authorization.INFERENCE): CALLERS,
        id(authorization.HIGH): OWNERS,
        id(authorization.ACCOUNT): {"admin", "openrouter_management", "session", "session_admin"},
        id(authorization.OWN): CALLERS | {"openrouter_management", "other_tenant_manage"},
        id(authorization.GRANT): {"plain", "admin", "openrouter", "openrouter_management", "session", "session_admin"},
        id(authorization.USER): {"admin", "session", "session_admin", "jwt", "jwt_admin"},
        id(authorization.NEW_KEYS): OWNERS | {"jwt", "jwt_admin"},
        id(authorization.AGENT): {"crosscompute_agent"},
    }
    return table[id(rule)]


def allowed(rule: Rule, method: str) -> set[str]:
    """The same, where it depends on the method."""
    if rule is authorization.ADMIN:
        return READERS if method == "GET" else WRITERS
    if rule is authorization.KEYS:
        return READERS | {"jwt", "jwt_admin"}
    return expected(rule)


def ask(client: httpx.Client, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    """One call with the names of things that are not there, and a body that nobody wants."""
    parts = ["nothing" if part.startswith("{") else part for part in path.split("/")]
    return client.request(method, "/".join(parts), headers=headers, content=b"" if method == "GET" else b"[]")


def test_every_route_of_the_management_plane_has_a_rule_and_every_rule_a_route(gateway: RunningGateway) -> None:
    application: Any = load_management(gateway.server, gateway.installation)[0]
    application = application.app  # within the one that keeps the audit log
    served = {
        (method, route.path_format)
        for route in application.routes
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS"
    }
    assert served == set(RULES)


def test_without_a_credential_only_the_pinned_routes_answer(gateway: RunningGateway) -> None:
    with httpx.Client(base_url=gateway.address) as client:
        statuses = {route: ask(client, *route, headers={}).status_code for route in RULES}
        assert {route for route, status in statuses.items() if status != 401} - {("POST", "/api/auth/login")} <= OPEN
        assert {route for route, rule in RULES.items() if rule.public} == OPEN


def test_without_a_credential_only_the_pinned_routes_of_the_edge_answer(gateway: RunningGateway) -> None:
    router = gateway.server.edge.router
    routes = {(verb.decode(), path.decode()) for path, table in router._exact.items() for verb in table}
    routes |= {(verb.decode(), f"{prefix.decode()}x") for prefix, table in router._prefixes for verb in table}
    with httpx.Client(base_url=gateway.address) as client:
        statuses = {route: client.request(*route, content=b"{}").status_code for route in routes}
    opened = {route for route, status in statuses.items() if status not in (401, 404, 426)}
    opened -= {(method, mount + path) for method, path in OPEN_AT_THE_EDGE for mount in ("", "/openrouter")}
    assert sorted((*route, statuses[route]) for route in opened) == []


@pytest.mark.parametrize("name", CREDENTIALS)
def test_each_route_takes_the_credentials_of_its_rule_and_no_others(
    gateway: RunningGateway, presented: dict[str, dict[str, str]], name: str
) -> None:
    wrong = []
    with httpx.Client(base_url=gateway.address, timeout=20) as client:
        for (method, path), rule in RULES.items():
            if rule.public:
                continue
            status = ask(client, method, path, presented[name]).status_code
            if name in ("disabled", "expired"):
                right = status == 401
            elif name.startswith("jwt") and path.startswith("/api/v1/"):
                right = status == 401  # people's tokens are for /v1 and /api
            elif name in allowed(rule, method):
                right = status not in (401, 403)
            else:
                right = status in (401, 403)  # some contracts have no 403
            if not right:
                wrong.append(f"{method} {path}: {status}")
    assert wrong == []


@pytest.mark.parametrize("name", CREDENTIALS)
def test_models_are_called_with_credentials_for_calls_alone(
    gateway: RunningGateway, presented: dict[str, dict[str, str]], name: str
) -> None:
    body = {"model": "nobody/has-it", "messages": [{"role": "user", "content": "hello"}]}
    status = httpx.post(f"{gateway.address}/v1/chat/completions", json=body, headers=presented[name]).status_code
    if name in CALLERS:
        assert status in (400, 404)  # nothing is behind this gateway; OpenRouter's clients are told 400
    else:
        assert status in ((401,) if name in ("disabled", "expired") else (401, 403))


@pytest.mark.parametrize(
    "path",
    [
        "//api/providers", "/api//providers", "/api/providers/", "/API/providers", "/api/%70roviders",
        "/api/providers;a=b", "/api/./providers", "/api/init/../providers", "/api/providers%2f", "/api/providers.",
        "/api/init/%2e%2e/providers",
    ],
)  # fmt: skip
def test_another_spelling_of_a_path_is_no_way_around_its_rule(
    gateway: RunningGateway, presented: dict[str, dict[str, str]], path: str
) -> None:
    import http.client

    for headers in ({}, presented["admin"]):
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
        connection.request("GET", path, headers=headers)
        assert connection.getresponse().status == 404
        connection.close()


def test_a_route_that_no_rule_names_is_closed_to_administrators_too(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from pointsman.api.access import Guard
    from pointsman.errors import GatewayError
    from pointsman.identity.key_table import KeyTable

    snapshot = SimpleNamespace(keys=KeyTable(b"p" * 32, ()), login_required=False)
    guard = Guard(SimpleNamespace(snapshot=snapshot, clock=SimpleNamespace(now_us=lambda: 1)))  # type: ignore[arg-type]
    scope = {
        "method": "GET", "path_template": "/api/pointsman/forgotten", "headers": [(b"host", b"localhost")], "state": {},
        "client": ("127.0.0.1", 1),
    }  # fmt: skip
    with pytest.raises(GatewayError, match="open to nobody"):
        guard(SimpleNamespace(scope=scope), SimpleNamespace())  # type: ignore[arg-type]


def test_the_contracts_tables_say_the_same_of_who_may_call() -> None:
    def plain(path: str) -> str:
        return re.sub(r"\{[^}]*\}", "{}", path)

    rules = {(method, plain(path)): rule for (method, path), rule in RULES.items()}
    taken: dict[tuple[str, str], set[str]] = {}
    for row in all_operations():
        if row.plane is Plane.VIEWS:  # a path that two contracts share takes what either does
            taken.setdefault((row.method, plain(row.path)), set()).update(row.credentials)
    assert {place: rules[place].credentials for place in taken} == taken
    for row in all_operations():
        if row.plane is Plane.EDGE and row.credentials:
            assert row.credentials <= authorization.INFERENCE.credentials, row  # the path is shared with others
