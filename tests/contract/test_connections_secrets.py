"""Secrets of connections go in and never come out; private and metadata addresses stay out of reach."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from connections_client import SECRET, Admin
from contract_shapes import VALIDATED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import RunningGateway, wait_until
from pointsman.testing import RunningSimulator

PROXY = f"socks5h://me:{SECRET}-proxy@127.0.0.1:9"
CANARIES = (SECRET, SECRET[10:24])
SSRF = [
    "http://127.0.0.1:9/v1", "http://[::1]:9", "http://10.0.0.1", "http://localhost:9", "http://169.254.169.254/latest",
    "http://[::ffff:169.254.169.254]", "http://metadata.google.internal", "http://2130706433:9", "http://0x7f.1:9",
    "http://100.100.100.200", "http://[fd00:ec2::254]", "http://0.0.0.0:9", "http://127.1:9",
]  # fmt: skip


@pytest.fixture
def admin(gateway: RunningGateway) -> Iterator[Admin]:
    """An administrator at the module's gateway."""
    made = Admin(gateway)
    yield made
    made.close()


@pytest.fixture
def guarded(admin: Admin, gateway: RunningGateway, shared_simulator: RunningSimulator) -> Iterator[Any]:
    """A connection with a secret of every sort."""
    made = admin.create(
        provider="openai-compatible",
        name="guarded",
        apiKey=SECRET,
        allowPrivate=True,
        proxy=PROXY,
        headers={"X-Tenant": f"{SECRET}-header"},
        providerSpecificData={"baseUrl": shared_simulator.base_url, "extraApiKeys": [f"{SECRET}-extra"]},
    )
    yield made
    admin.ask("DELETE", f"/api/providers/{made['id']}")


def stored(gateway: RunningGateway, connection_id: str) -> Any:
    """The connection in the clear, as the service would change it."""
    return gateway.call(gateway.installation.connections.preview(connection_id, lambda connection: connection))


def test_what_is_shown_sent_back_leaves_every_stored_secret_as_it_is(
    admin: Admin, gateway: RunningGateway, guarded: Any
) -> None:
    path = f"/api/providers/{guarded['id']}"
    before = stored(gateway, guarded["id"])
    shown = admin.ask("GET", path)["connection"]
    assert shown["headers"] == {"X-Tenant": "****"}
    assert shown["proxy"] == "socks5h://****@127.0.0.1:9"
    for key in ("", "  ", "****", "sk-c***cret", "••••••", "sk-…ret", "[redacted]"):
        admin.ask("PUT", path, {**shown, "apiKey": key, "extraApiKeys": ["****"]})
        after = stored(gateway, guarded["id"])
        assert (after.secret, after.proxy, after.headers) == (before.secret, before.proxy, before.headers)
        assert after.extra_secrets == before.extra_secrets
    admin.ask("PATCH", path, {"apiKey": None, "headers": None, "extraApiKeys": [], "proxy": None})
    after = stored(gateway, guarded["id"])
    assert (after.secret, after.proxy, after.headers, after.extra_secrets) == (None, None, {}, ())


def test_a_masked_secret_without_a_stored_one_is_refused(admin: Admin) -> None:
    new = {"provider": "openai", "url": "https://api.example.com/v1"}
    assert admin.fault("POST", "/api/providers", {**new, "apiKey": "sk-***"}) == "apiKey"
    assert admin.fault("POST", "/api/providers", {**new, "proxy": "http://****@proxy:1"}) == "proxy"
    assert admin.fault("POST", "/api/providers", {**new, "headers": {"X-A": "****"}}) == "headers.X-A"
    assert admin.fault("POST", "/api/providers", {**new, "extraApiKeys": ["****"]}) == "extraApiKeys[0]"
    assert admin.fault("POST", "/api/providers/validate", {**new, "apiKey": "****"}) == "apiKey"


def test_no_secret_is_in_any_answer_log_or_file(admin: Admin, gateway: RunningGateway, guarded: Any) -> None:
    path = f"/api/providers/{guarded['id']}"
    admin.ask("GET", "/api/providers")
    admin.ask("GET", "/api/providers/client")
    admin.ask("POST", f"{path}/test")
    admin.ask("GET", f"{path}/models")
    admin.ask("POST", "/api/providers/test-batch", {"mode": "provider", "providerId": guarded["id"]})
    admin.ask(
        "POST",
        "/api/providers/validate",
        {"provider": "openai", "apiKey": SECRET, "baseUrl": "http://[::1]:9"},
        status=400,
    )
    admin.ask(
        "POST",
        "/api/providers",
        {"provider": "openai", "apiKey": f"{SECRET} blank", "url": "https://a.example"},
        status=400,
    )
    admin.ask("PATCH", path, {"headers": {"X-Tenant": f"{SECRET}\r\nx: y"}}, status=400)
    admin.ask("PATCH", path, {"proxy": f"ftp://me:{SECRET}@h:1"}, status=400)
    admin.ask("PATCH", path, {"apiKey": [SECRET]}, status=400)
    admin.ask("PATCH", path, {"caCertificates": SECRET}, status=400)
    broken = admin.send("PATCH", path, f'{{"apiKey": "{SECRET}"'.encode(), "application/json")
    assert broken.status_code == 400
    assert admin.chat(f"{guarded['id']}/m").status_code >= 400
    written = b"".join(file.read_bytes() for file in Path(gateway.data_dir).rglob("*") if file.is_file())
    for canary in CANARIES:
        assert canary not in gateway.log_text()
        assert canary not in "".join(admin.seen)
        assert canary.encode() not in written


def test_each_change_is_logged_with_who_made_it_and_no_value(admin: Admin, gateway: RunningGateway) -> None:
    made = admin.create(provider="openai", name="logged", url="https://api.example.com/v1", apiKey=SECRET)
    admin.ask("PATCH", f"/api/providers/{made['id']}", {"apiKey": f"{SECRET}2"})
    admin.ask("DELETE", f"/api/providers/{made['id']}")
    log = [line for line in gateway.log_text().splitlines() if "configuration changed" in line and '"logged"' in line]
    for action in ("created", "updated", "revoked"):
        [line] = [line for line in log if f"provider.credentials.{action}" in line]
        assert '"actor":"key_' in line


@pytest.mark.parametrize(
    ("header", "field"),
    [
        ({"Authorization": "Bearer x"}, "headers.Authorization"),
        ({"x-api-key": "x"}, "headers.x-api-key"),
        ({"Transfer-Encoding": "chunked"}, "headers.Transfer-Encoding"),
        ({"Content-Length": "1"}, "headers.Content-Length"),
        ({"Proxy-Authorization": "x"}, "headers.Proxy-Authorization"),
        ({"Host": "x"}, "headers.Host"),
        ({"Connection": "close"}, "headers.Connection"),
        ({"X-A": "a\r\nx-b: c"}, "headers.X-A"),
        ({"X-A": "a\nb"}, "headers.X-A"),
        ({"X-A": "ü"}, "headers.X-A"),
        ({"X-A": "1", "x-a": "2"}, "headers.X-A"),
        ({"X A": "1"}, "headers"),
        ({"X-A\r\nx-b": "1"}, "headers"),
        ({f"X-{number}": "1" for number in range(17)}, "headers"),
    ],
)
def test_a_header_that_is_not_the_operators_to_set_is_refused(admin: Admin, header: Any, field: str) -> None:
    new = {"provider": "openai", "url": "https://api.example.com/v1", "headers": header}
    assert admin.fault("POST", "/api/providers", new) == field


@pytest.mark.parametrize("url", SSRF)
def test_private_and_metadata_addresses_are_not_reached_by_trying_them_out(admin: Admin, url: str) -> None:
    asked = {"provider": "openai-compatible", "apiKey": "sk-x", "baseUrl": url}
    response = admin.send("POST", "/api/providers/validate", _json(asked), "application/json")
    if response.status_code == 200:
        found = response.json()
        assert (found["valid"], found["statusCode"], found["diagnosis"]["type"]) == (False, None, "network_error")
    else:
        assert response.status_code == 400
        assert response.json()["error"]["details"][0]["field"] == "url"


@pytest.mark.parametrize("url", ["http://169.254.169.254/v1", "http://100.100.100.200", "http://[fd00:ec2::254]"])
def test_a_metadata_service_is_not_reached_even_where_private_addresses_are_allowed(admin: Admin, url: str) -> None:
    asked = {"provider": "openai-compatible", "apiKey": "sk-x", "baseUrl": url, "allowPrivate": True}
    found = admin.ask("POST", "/api/providers/validate", asked, shape=VALIDATED)
    assert (found["valid"], found["diagnosis"]["type"]) == (False, "network_error")
    assert "metadata" in found["error"]


def test_a_name_that_turns_private_after_it_was_stored_is_not_reached(
    admin: Admin, gateway: RunningGateway, shared_simulator: RunningSimulator
) -> None:
    port = int(shared_simulator.origin.rpartition(":")[2])
    with renamed(gateway, "rebinding.example", "127.0.0.1"):
        made = admin.create(provider="openai-compatible", name="rebound", url=f"http://rebinding.example:{port}/v1")
        found = admin.ask("POST", f"/api/providers/{made['id']}/test")
        assert (found["valid"], found["diagnosis"]["type"]) == (False, "network_error")
        assert admin.chat(f"{made['id']}/m").status_code == 502
        admin.ask("PATCH", f"/api/providers/{made['id']}", {"allowPrivate": True})
        assert admin.ask("POST", f"/api/providers/{made['id']}/test")["statusCode"] == 401
    admin.ask("DELETE", f"/api/providers/{made['id']}")


def test_a_redirect_is_told_and_not_followed(admin: Admin, simulator: RunningSimulator) -> None:
    with redirecting(f"{simulator.base_url}/models") as url:
        asked = {"provider": "openai-compatible", "apiKey": SECRET, "baseUrl": url, "allowPrivate": True}
        found = admin.ask("POST", "/api/providers/validate", asked, shape=VALIDATED)
    assert (found["valid"], found["statusCode"]) == (False, 302)
    assert "redirect" in found["error"]
    assert list(simulator.requests) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["provider", "name", "url", "apiKey", "isActive", "maxConcurrent", "priority", "models", "headers", "tags", "proxy",
     "extraApiKeys", "providerSpecificData", "options", "prefix", "baseUrl", "type", "chatPath", "entries", "source"]
)  # fmt: skip
PATHS = (
    "/api/providers", "/api/providers/sim", "/api/providers/validate", "/api/providers/test-batch",
    "/api/provider-nodes", "/api/providers/agy-auth/import", "/api/providers/agy-auth/import-bulk",
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PATHS), document=st.dictionaries(FIELDS, JSON, max_size=6))
def test_no_body_whatever_is_answered_with_a_fault_of_ours(admin: Admin, path: str, document: Any) -> None:
    method = "PATCH" if path.endswith("/sim") else "POST"
    document.pop("mode", None)
    response = admin.send(method, path, _json({**document, "mode": "oauth"}), "application/json")
    assert response.status_code < 500, response.text
    assert response.status_code in (200, 201) or response.json()["error"]["message"]


def _json(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


@contextmanager
def renamed(gateway: RunningGateway, name: str, address: str) -> Iterator[None]:
    """``name`` stands for ``address`` in the gateway's loop."""
    loop: Any = gateway._loop
    usual = loop.getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **more: Any) -> Any:
        if host == name:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]
        return await usual(host, port, **more)

    gateway.read(lambda: setattr(loop, "getaddrinfo", getaddrinfo))
    try:
        yield
    finally:
        gateway.read(lambda: setattr(loop, "getaddrinfo", usual))


@contextmanager
def redirecting(target: str) -> Iterator[str]:
    """An upstream that answers everything with a redirect to ``target``."""
    ready: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async def serve(stop: asyncio.Event, loops: list[Any]) -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        loops.append(asyncio.get_running_loop())
        ready.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        await stop.wait()
        server.close()

    stop, loops = asyncio.Event(), list[Any]()
    thread = threading.Thread(target=lambda: asyncio.run(serve(stop, loops)), daemon=True)
    thread.start()
    try:
        yield wait_until(lambda: ready[0] if ready else None, "the redirecting upstream")
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(5)
