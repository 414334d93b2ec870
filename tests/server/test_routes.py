"""Routes: exact raw paths first, then prefixes, then the fallback; a near miss is no match."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.operations import Contract
from pointsman.errors import GatewayError, Kind
from pointsman.server.routes import Handler, Router, contract_hosts
from pointsman.settings import ServerSettings


def handler(name: str) -> Handler:
    """A handler that can be recognised."""

    async def serve(exchange: Any) -> None:
        """Never run."""

    serve.__name__ = name
    return serve


NAMES = ("fallback", "chat", "models", "chat-get", "below", "deeper", "post-below")
FALLBACK, CHAT, MODELS, CHAT_GET, BELOW, DEEPER, POST_BELOW = (handler(name) for name in NAMES)


def router() -> Router:
    """A router with some of everything."""
    router = Router(FALLBACK)
    router.add("POST", "/v1/chat/completions", CHAT)
    router.add("GET", "/v1/models", MODELS)
    router.add("GET", "/v1/chat", CHAT_GET)
    router.add("GET", "/files/*", BELOW)
    router.add("GET", "/files/deep/*", DEEPER)
    router.add("POST", "/files/*", POST_BELOW)
    return router


ROUTER = router()


def find(method: str, path: str) -> Handler:
    """What a request is answered by."""
    return ROUTER.find(SimpleNamespace(method=method.encode(), path=path.encode()))


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/chat/completions", CHAT),
        ("GET", "/v1/models", MODELS),
        ("HEAD", "/v1/models", MODELS),
        ("GET", "/v1/chat", CHAT_GET),
        ("GET", "/files/a", BELOW),
        ("GET", "/files/a/b/c", BELOW),
        ("POST", "/files/a", POST_BELOW),
        ("HEAD", "/files/a", BELOW),
        ("GET", "/files/deep/a", DEEPER),
        ("GET", "/files/deep", BELOW),
        ("GET", "/files/deep/", BELOW),
        ("GET", "/files/", FALLBACK),
        ("GET", "/files", FALLBACK),
        ("GET", "/", FALLBACK),
        ("GET", "", FALLBACK),
    ],
)
def test_a_request_is_answered_by(method: str, path: str, expected: Handler) -> None:
    assert find(method, path) is expected


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/./completions",
        "/x/../v1/chat/completions",
        "/V1/chat/completions",
        "/v1/chat/completions%20",
        "/v1/chat%2fcompletions",
        "/v1/chat/completion%73",
        "/v1/chat/completions;a=b",
        "/v1/chat/completions.",
        "/v1/chat/completions?x=1",
        "/v1/chat/completions#x",
        "/v1/chat/completions\x00",
        "http://h/v1/chat/completions",
        "v1/chat/completions",
        " /v1/chat/completions",
    ],
)
def test_a_path_that_is_not_byte_for_byte_the_route_is_not_the_route(path: str) -> None:
    assert find("POST", path) is FALLBACK


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("post", "/v1/chat/completions", "POST"),
        ("HEAD", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("PUT", "/files/a", "GET, POST"),
        ("POST", "/files/deep/a", "GET"),
    ],
)
def test_another_method_is_refused_with_those_that_are_allowed(method: str, path: str, allowed: str) -> None:
    with pytest.raises(GatewayError, match=f"answers to {allowed} only") as caught:
        asyncio.run(find(method, path)(SimpleNamespace()))  # type: ignore[arg-type]
    assert (caught.value.kind, caught.value.status) == (Kind.METHOD_NOT_ALLOWED, 405)
    assert caught.value.allow is not None
    head = ["HEAD"] if "GET" in allowed else []
    assert caught.value.allow == ", ".join(sorted([*allowed.split(", "), *head, "OPTIONS"]))


def asked(path: str, host: str = "here") -> Any:
    """A request as the router sees it."""
    return SimpleNamespace(method=b"GET", path=path.encode(), headers={b"host": host.encode()}, contract=None)


@pytest.mark.parametrize(
    ("path", "native", "contract", "found"),
    [
        ("/hybrid/v1/models", "/v1/models", Contract.HYBRID, MODELS),
        ("/omniroute/v1/models", "/v1/models", Contract.OMNIROUTE, MODELS),
        ("/omniroute/api/combos", "/api/combos", Contract.OMNIROUTE, FALLBACK),
        ("/v1/models", "/v1/models", None, MODELS),
        ("/api/combos", "/api/combos", None, FALLBACK),
        ("/omniroutes/v1/models", "/omniroutes/v1/models", None, FALLBACK),
    ],
)
def test_below_a_mount_stand_the_paths_of_its_contract(
    path: str, native: str, contract: Contract | None, found: Handler
) -> None:
    request = asked(path)
    assert ROUTER.find(request) is found
    assert (request.path, request.contract) == (native.encode(), contract)


@pytest.mark.parametrize(
    "path",
    ["/hybrid/api/combos", "/hybrid/files/a", "/openrouter/v1/models", "/hybrid/hybrid/v1/models", "/hybrid",
     "/hybrid/", "/hybrid//v1/models", "/hardcarrx/health"],
)  # fmt: skip
def test_below_a_mount_nothing_else_is_found(path: str) -> None:
    with pytest.raises(GatewayError) as caught:
        asyncio.run(ROUTER.find(asked(path))(SimpleNamespace()))  # type: ignore[arg-type]
    assert caught.value.kind is Kind.NOT_FOUND


@pytest.mark.parametrize(
    ("host", "contract"),
    [("one.example", Contract.HARDCARRX), ("ONE.example:80", Contract.HARDCARRX), ("two.example:81", Contract.HYBRID),
     ("two.example", None), ("one.example.evil", None), ("", None)],
)  # fmt: skip
def test_a_host_says_whose_client_it_is(host: str, contract: Contract | None) -> None:
    hosts = contract_hosts(ServerSettings(hosts={"One.example": Contract.HARDCARRX, "two.example:81": Contract.HYBRID}))
    named = Router(FALLBACK, hosts)
    named.add("GET", "/v1/models", MODELS)
    request = asked("/v1/models", host)
    assert named.find(request) is MODELS
    assert request.contract is contract
    mounted = asked("/openrouter/v1/models", host)
    assert named.find(mounted) is not MODELS


@given(method=st.binary(max_size=10), path=st.binary(max_size=30))
def test_any_request_finds_a_handler(method: bytes, path: bytes) -> None:
    found = ROUTER.find(SimpleNamespace(method=method, path=path, headers={}, contract=None))
    assert asyncio.iscoroutinefunction(found)
