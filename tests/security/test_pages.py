"""Pages and cookies: what a browser may do with our answers, and what another site's page may have it do."""

import re
from collections.abc import Iterator

import httpx
import pytest

from gateway import KEY, RunningGateway, running_gateway
from pointsman.api.access import RULES
from pointsman.identity.users import NewUser
from pointsman.keyring import Secret

WISH = "/auth?callback_url=https%3A%2F%2Fprogram.example%2Fback"
SCRIPT = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
# What every page says to browsers: nothing is loaded, framed, sniffed or kept.
POLICY = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
CROSS_SITE = (
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "origin": "https://evil.example", "content-type": "text/plain"},
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with nothing behind it."""
    with running_gateway(tmp_path_factory.mktemp("pages"), {}) as started:
        yield started


@pytest.fixture(scope="module")
def cookies(gateway: RunningGateway) -> dict[str, str]:
    """The cookie of an administrator who is signed in."""
    work = gateway.installation

    async def make() -> str:
        user = await work.users.create(NewUser(email="root@example.org", role="admin"))
        _, session = await work.users.open_session(user, 1)
        assert await work.await_revision(await work.configuration.revision())
        return session.reveal()

    return {"cookie": f"auth_token={gateway.call(make())}"}


def test_every_page_has_a_strict_policy(gateway: RunningGateway, cookies: dict[str, str]) -> None:
    pages = 0
    with httpx.Client(base_url=gateway.address, timeout=20) as client:
        router = gateway.server.edge.router
        paths = [path for method, path in RULES if method == "GET" and "{" not in path]
        paths += [path.decode() for path, table in router._exact.items() if b"GET" in table] + [WISH, "/nothing-here"]
        for path in paths:
            for headers in ({}, cookies, {"accept": "text/html", **cookies}):
                answer = client.get(path, headers=headers)
                if "html" not in answer.headers.get("content-type", ""):
                    continue
                pages += 1
                policy = answer.headers["content-security-policy"]
                assert "default-src 'none'" in policy, path
                assert "frame-ancestors 'none'" in policy, path
                assert "unsafe" not in policy, path
                assert {name: answer.headers.get(name) for name in POLICY} == POLICY, path
                assert not re.search(r"<script|\son\w+\s*=|javascript:|style=", answer.text), path
    assert pages >= 3


def test_words_of_a_program_are_words_on_the_page(gateway: RunningGateway, cookies: dict[str, str]) -> None:
    query = {"callback_url": "https://program.example/back", "key_label": SCRIPT}
    page = httpx.get(f"{gateway.address}/auth", params=query, headers=cookies, timeout=20)
    assert page.status_code == 200
    assert "&lt;script&gt;" in page.text
    assert "<script" not in page.text
    assert "<img" not in page.text
    for address in (f"https://program.example/{SCRIPT}", "javascript:alert(1)", "https://a.example'; script-src *"):
        refused = httpx.get(f"{gateway.address}/auth", params={"callback_url": address}, timeout=20)
        assert refused.status_code == 400
        assert "html" not in refused.headers["content-type"]


@pytest.mark.parametrize("headers", CROSS_SITE)
def test_another_sites_page_can_use_no_route_with_the_cookie(
    gateway: RunningGateway, cookies: dict[str, str], headers: dict[str, str]
) -> None:
    """Not one of the management plane, whatever its method: reading is refused as well."""
    let_in = []
    with httpx.Client(base_url=gateway.address, timeout=20) as client:
        for (method, path), rule in RULES.items():
            if rule.public:
                continue
            place = re.sub(r"\{[^}]*\}", "nothing", path)
            answer = client.request(method, place, headers={**cookies, **headers}, content=b"{}")
            if answer.status_code not in (401, 403):
                let_in.append((method, path, answer.status_code))
        for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/files", "/api/chat"):
            answer = client.post(path, headers={**cookies, **headers}, content=b"{}")
            if answer.status_code not in (401, 403):
                let_in.append(("POST", path, answer.status_code))
    assert let_in == []


@pytest.mark.parametrize("headers", CROSS_SITE)
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/ws"])
def test_another_sites_page_opens_no_socket_with_the_cookie(
    gateway: RunningGateway, cookies: dict[str, str], headers: dict[str, str], path: str
) -> None:
    opening = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
               "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    answer = httpx.get(f"{gateway.address}{path}", headers={**opening, **cookies, **headers}, timeout=20)
    assert answer.status_code in (401, 403)


@pytest.mark.parametrize("headers", CROSS_SITE)
def test_another_sites_page_gets_nothing_done_at_open_routes(
    gateway: RunningGateway, cookies: dict[str, str], headers: dict[str, str]
) -> None:
    sent = {**cookies, **headers}
    with httpx.Client(base_url=gateway.address, timeout=20) as client:
        login = client.post("/api/auth/login", json={"password": "four words are enough"}, headers=sent)
        assert "set-cookie" not in login.headers
        out = client.post("/api/auth/logout", headers=sent)
        assert client.get("/api/auth/status", headers=cookies).json()["authenticated"] is True, out.text
        decided = client.post(WISH, data={"decision": "allow"}, headers={**sent, "content-type": FORM})
        assert decided.status_code in (400, 401, 403)
        assert "location" not in decided.headers
        connected = client.post("/api/cli/connect", json={"password": "x"}, headers=sent)
        assert connected.status_code >= 400


FORM = "application/x-www-form-urlencoded"


def test_a_sites_page_is_not_let_read_our_answers(gateway: RunningGateway, cookies: dict[str, str]) -> None:
    evil = {"origin": "https://evil.example", "access-control-request-method": "POST", "host": "127.0.0.1"}
    with httpx.Client(base_url=gateway.address, timeout=20) as client:
        for path in ("/api/providers", "/api/keys", "/v1/chat/completions", "/v1/request-logs", "/auth"):
            for method in ("OPTIONS", "GET"):
                answer = client.request(method, path, headers={**evil, **cookies})
                assert answer.headers.get("access-control-allow-credentials") is None, path
                assert answer.headers.get("access-control-allow-origin") != "https://evil.example", path


def test_the_cookie_is_for_this_site_alone_and_no_script_reads_it(gateway: RunningGateway) -> None:
    work = gateway.installation
    gateway.call(work.users.create(NewUser(email="eve@example.org"), Secret("four words are enough")))
    body = {"email": "eve@example.org", "password": "four words are enough"}
    done = httpx.post(f"{gateway.address}/api/auth/login", json=body, timeout=20)
    parts = {part.strip().lower() for part in done.headers["set-cookie"].split(";")}
    assert {"httponly", "samesite=lax", "path=/"} <= parts
    assert not any(part.startswith("domain=") for part in parts)


@pytest.mark.parametrize("text", [SCRIPT, "=cmd|' /C calc'!A0", "</title><script>", "{{7*7}}", "${7*7}"])
def test_names_come_back_as_json_that_no_browser_takes_for_a_page(gateway: RunningGateway, text: str) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=gateway.address, headers=headers, timeout=20) as client:
        made = client.post("/api/v1/keys", json={"name": text})
        listed = client.get("/api/v1/keys")
        failed = client.post("/v1/chat/completions", json={"model": text, "messages": []})
        for answer in (made, listed, failed):
            assert answer.headers["content-type"].startswith("application/json")
        if made.status_code == 201:
            assert made.json()["data"]["name"] == text
            assert text in [row["name"] for row in listed.json()["data"]]
