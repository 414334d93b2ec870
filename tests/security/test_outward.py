"""Every way out of this program: which modules can open a connection, and that what is named from outside is judged.

What is found in the sources is held against the tables here: a new way out fails until it stands in one of them.
"""

import ast
import re
import socket
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

import pointsman
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import AnyPart, ImagePart, Source
from pointsman.clock import SystemClock
from pointsman.errors import GatewayError
from pointsman.guard_settings import GuardRuleSettings
from pointsman.hub.fetching import fetch_parts
from pointsman.keyring import Secret
from pointsman.upstream import egress
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.guard_hook import GuardHook, HookFailed
from pointsman.upstream.identity_documents import DocumentError, fetch_document
from pointsman.upstream.json_posts import JsonPost
from pointsman.upstream.origins import Origin
from upstream_peers import Peer, get, listening, run, upstream_client

SOURCES: Final = Path(pointsman.__file__).parent
# Modules that can speak to the network, or start what can.
NETWORK: Final = frozenset((
    "_socket", "aiohttp", "asyncpg", "aiosqlite", "boto3", "botocore", "ftplib", "google", "grpc", "h11", "h2",
    "http.client", "httpcore", "httpx", "imaplib", "multiprocessing", "nntplib", "paramiko", "poplib", "psycopg",
    "pycurl", "redis", "requests", "smtplib", "socket", "socketserver", "ssl", "subprocess", "telnetlib",
    "urllib.request", "urllib3", "uvicorn", "websockets", "wsproto", "xmlrpc", "zmq",
))  # fmt: skip
OPENERS: Final = (
    "create_connection", "open_connection", "sock_connect", "connect", "connect_ex", "create_datagram_endpoint",
)  # fmt: skip
# What each of those that use one does with it. ``guard``: only what the egress guard has judged is connected to.
USES: Final = {
    "upstream/dialing.py": {"socket", "ssl"},  # guard: the only one that connects
    "upstream/egress.py": {"socket"},  # the guard itself: spells addresses
    "upstream/resolver.py": {"socket"},  # looks names up, connects to nothing
    "upstream/tls.py": {"ssl"},  # contexts for dialing.py
    "server/listeners.py": {"socket"},  # takes connections
    "server/worker_link.py": {"socket"},  # inherited from the supervisor
    "server/workers.py": {"socket"},
    "server/half_close.py": {"socket"},
    "server/host.py": {"socket"},
    "server/handshakes.py": {"ssl"},  # of connections that were taken
    "server/tls.py": {"ssl"},
    "server/websockets.py": {"wsproto"},  # framing alone
    "upstream/local_weights.py": {"subprocess"},  # pip, for pinned weights, when the local model is wanted
    "accounting/burst.py": {"subprocess"},  # this program itself, to project records
    "accounting/redis_connections.py": {"redis"},  # as redis_store.py, which says where to
    "accounting/redis_store.py": {"redis"},  # POINTSMAN_REDIS_URL, the operator's
    "storage/database.py": {"asyncpg"},  # POINTSMAN_DATABASE_URL, the operator's
    "storage/sqlite_driver.py": {"aiosqlite"},  # a file
    "cli/chat_client.py": {"http.client", "ssl"},  # the operator's own command, to the operator's own server
}
CONNECTS: Final = {"upstream/dialing.py", "storage/database.py", "storage/sqlite_driver.py", "cli/chat_client.py",
                   "app.py"}  # fmt: skip
# Where an `Origin`, without which the client sends nothing, is made, and what says whether it may be private.
ORIGINS: Final = {
    ("hub/fetching.py", "allow_private"),  # False in lane.py: addresses in clients' requests
    ("upstream/identity_documents.py", "allow_private"),  # a provider's own; declared issuers are the operator's
    ("upstream/json_posts.py", "allow_private"),  # webhooks, engines, facilitators, nodes of chains: their own
    ("upstream/probes.py", "allow_private"),  # a connection's
    ("upstream/endpoints.py", "self.allow_private"),  # a connection's
    ("upstream/endpoints.py", "True"),  # the local model: a child of this process
    ("upstream/local_vectors.py", "True"),  # the same
}
# Who hands a private address to those of them that take what they are told.
TRUSTED: Final = {"upstream/engines.py", "upstream/identity_documents.py", "upstream/endpoints.py",
                  "upstream/local_vectors.py"}  # fmt: skip


@cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    """The program's modules that could have to do with it, by path; simulators for tests are none of it."""
    words = "|".join(re.escape(name) for name in (*sorted(NETWORK), *OPENERS, "Origin", "Dialer", "allow_private"))
    telling = re.compile(rf"\b(?:{words})\b")
    found = []
    for path in sorted(SOURCES.rglob("*.py")):
        place, text = path.relative_to(SOURCES), path.read_text(encoding="utf-8")
        if place.parts[0] != "testing" and telling.search(text):
            found.append((str(place), ast.parse(text)))
    return tuple(found)


def imports_of(tree: ast.Module) -> set[str]:
    """The network's modules among what is imported anywhere in a module, also by name and inside functions."""
    found: set[str] = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            found |= {known for known in NETWORK if parts[: known.count(".") + 1] == known.split(".")}
    return found


def calls(tree: ast.Module, name: str) -> list[ast.Call]:
    """Every call of a function or method of this name."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == name:
                found.append(node)
    return found


def test_no_module_uses_the_network_that_is_not_listed_here() -> None:
    found = {place: used for place, tree in modules() if (used := imports_of(tree))}
    assert found == USES


def test_connections_are_opened_in_one_place_behind_the_guard() -> None:
    found = {place for place, tree in modules() for name in OPENERS if calls(tree, name)}
    assert found == CONNECTS
    [dialing] = [tree for place, tree in modules() if place == "upstream/dialing.py"]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = {node.name: node for node in ast.walk(dialing) if isinstance(node, kinds)}
    judging = {name for name, body in functions.items() if calls(ast.Module([body], []), "judged")}
    assert judging == {"_reach", "_pass_proxy"}
    racing = {name for name, body in functions.items() if calls(ast.Module([body], []), "_race")}
    assert racing == {"_reach"}
    assert calls(ast.Module([functions["judged"]], []), "check_address")
    dialers = {place for place, tree in modules() if calls(tree, "Dialer")}
    assert dialers == {"upstream/client.py"}


def test_every_origin_says_what_may_be_private_and_who_decides_it() -> None:
    found = set()
    for place, tree in modules():
        for call in calls(tree, "Origin"):
            [value] = [word.value for word in call.keywords if word.arg == "allow_private"]
            found.add((place, ast.unparse(value)))
    assert found == ORIGINS
    trusting = set()
    for place, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                words = {word.arg: ast.unparse(word.value) for word in node.keywords}
                if words.get("allow_private") == "True":
                    trusting.add(place)
    assert trusting == TRUSTED


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of this machine that counts as public here; all others stay what they are."""
    usual = egress.is_public
    monkeypatch.setattr(egress, "is_public", lambda address: str(address) == "127.0.0.2" or usual(address))
    return "127.0.0.2"


async def fetch_picture(client: UpstreamClient, url: str) -> None:
    """A picture in a request."""
    parts: list[AnyPart] = [ImagePart(source=Source(url=url), path="messages.0.content.0")]
    await fetch_parts(client, parts, Fidelity(), allow_private=False)


async def fetch_identity(client: UpstreamClient, url: str) -> None:
    """An OpenID provider's document, its keys, its tokens."""
    await fetch_document(client, url, allow_private=False)


async def ask_guard(client: UpstreamClient, url: str) -> None:
    """A rule's webhook."""
    settings = GuardRuleSettings(name="hook", kind="webhook", url=url, allow_private=False)
    await GuardHook("hook", settings, client, SystemClock()).judge(("request", "req_1"), "m", [])


async def post_json(client: UpstreamClient, url: str) -> None:
    """A facilitator of payments, a chain's node."""
    await JsonPost("it", client, Secret(url)).ask(b"{}", 5.0)


async def call_upstream(client: UpstreamClient, url: str) -> None:
    """A connection's upstream."""
    host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    told = await get(client, Origin(scheme="http", host=host, port=int(port)))
    if "private" in told or "closed" in told:
        raise GatewayError(egress.Kind.UPSTREAM_UNAVAILABLE, told)


WAYS: Final[dict[str, Callable[[UpstreamClient, str], Awaitable[None]]]] = {
    "pictures": fetch_picture, "identity": fetch_identity, "guards": ask_guard, "upstreams": call_upstream,
    "payments": post_json,
}  # fmt: skip


class TurningNames:
    """A resolver whose answers differ from one look-up to the next, as a hostile one's do."""

    def __init__(self, answers: list[list[str]]) -> None:
        self.answers = answers
        self.lookups = 0

    async def getaddrinfo(self, host: str, port: int, **more: Any) -> list[Any]:
        """As the event loop's."""
        found = self.answers[min(self.lookups, len(self.answers) - 1)]
        self.lookups += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port)) for text in found]


@pytest.mark.parametrize("way", WAYS)
def test_a_name_that_turns_to_a_private_address_is_not_followed_there(world: str, way: str) -> None:
    async def main() -> tuple[int, int]:
        async with listening(Peer()) as private:
            names = TurningNames([["127.0.0.1"], [world]])
            async with upstream_client(names) as client:  # type: ignore[arg-type]
                with pytest.raises((GatewayError, DocumentError, HookFailed)):
                    await WAYS[way](client, f"http://rebinding.example:{private.port}/")
            return len(private.seen), names.lookups

    assert run(main()) == (0, 1)


@pytest.mark.parametrize("way", WAYS)
def test_the_address_that_was_judged_is_the_one_that_is_connected_to(world: str, way: str) -> None:
    """The first answer is public, the second private: there must be no second look-up to believe."""

    async def main() -> tuple[int, int]:
        answer = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        async with listening(Peer(answer)) as private:
            public = Peer(answer)
            public.port = private.port  # nobody else has ports of that address, as many have of 127.0.0.1
            async with listening(public, host=world):
                names = TurningNames([[world], ["127.0.0.1"]])
                async with upstream_client(names) as client:  # type: ignore[arg-type]
                    try:
                        await WAYS[way](client, f"http://rebinding.example:{public.port}/")
                    except (GatewayError, DocumentError, HookFailed):
                        pass
                return len(public.seen), len(private.seen)

    assert run(main()) == (1, 0)
