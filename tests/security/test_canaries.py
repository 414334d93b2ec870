"""Marks planted in every input appear in no place where they have no business.

The places are data, below: one that is new gets a row, and is read like all others.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from canary_inputs import SAID, SECRETS, drive, manage, mark, show_wrong_credentials

from gateway import KEY, RunningGateway, running_gateway, wait_until
from pointsman.api.access import RULES
from pointsman.canonical.record import Outcome
from pointsman.identity.users import NewUser
from pointsman.keyring import Secret
from pointsman.testing import OpenAIChat, OpenAIResponses, running_simulator
from scripted_upstream import running_upstream
from serve_process import serving, toml

REFUSAL: Final = (
    f'{{"error":{{"message":"Incorrect API key provided: {SECRETS["UpstreamKey"]}","type":"invalid_request_error",'
    '"param":null,"code":"invalid_api_key"}}'
).encode()


class Harvest:
    """What was answered, and the gateway that answered it."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.gateway = gateway
        self.answers: list[httpx.Response] = []
        self.sessions: dict[str, str] = {}  # credentials that were made here, by what they are


@pytest.fixture(scope="module")
def harvest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harvest]:
    """A gateway with every kind of secret, through which everything was driven."""
    with ExitStack() as stack:
        chat = stack.enter_context(running_simulator(OpenAIChat(api_key=SECRETS["UpstreamKey"], strict=False)))
        shelf = stack.enter_context(running_simulator(OpenAIResponses(api_key=SECRETS["UpstreamKey"])))
        bad = stack.enter_context(running_upstream())
        head = b"HTTP/1.1 401 No\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(REFUSAL)
        bad.script = lambda number, body: [head + REFUSAL]
        gateway = stack.enter_context(running_gateway(tmp_path_factory.mktemp("canaries"), settings(chat, shelf, bad)))
        found = Harvest(gateway)
        make_people(found)
        with httpx.Client(
            base_url=gateway.address, headers={"authorization": f"Bearer {found.sessions['key']}"}, timeout=30
        ) as client:
            found.answers += drive(client)
        found.answers += show_wrong_credentials(gateway.address)
        found.answers += manage(gateway.address, chat.base_url)
        crash(found)
        projected(gateway)
        yield found


def settings(chat: Any, shelf: Any, bad: Any) -> dict[str, Any]:
    """The configuration file, with a secret wherever one can stand."""
    known = {"api_key": SECRETS["UpstreamKey"], "extra_api_keys": [SECRETS["ExtraKey"]], "models": ["m"],
             "headers": {"x-tenant": SECRETS["HeaderValue"]}}  # fmt: skip
    rows = [
        {"id": "sim", "kind": "openai", "base_url": chat.base_url, "api_key": SECRETS["UpstreamKey"], "models": ["m"],
         "headers": {"x-tenant": SECRETS["HeaderValue"]}},
        {"id": "shelf", "kind": "openai-responses", "base_url": shelf.base_url, "api_key": SECRETS["UpstreamKey"],
         "models": ["f"]},
        {"id": "bad", "kind": "openai", "base_url": bad.base_url, **known},
        {"id": "dead", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", **known,
         "proxy": f"socks5://me:{SECRETS['ProxyPassword']}@127.0.0.1:9"},
    ]  # fmt: skip
    hook = {"name": "hook", "kind": "webhook", "url": "http://127.0.0.1:9/", "secret": SECRETS["GuardSecret"],
            "on_failure": "open"}  # fmt: skip
    personal = {"name": "personal", "kind": "personal", "find": ["email"], "action": "redact"}
    return {
        "connections": rows,
        "guards": [{"name": "team", "everybody": True, "rules": [personal, hook]}],
        "budgets": {"webhook_url": "http://127.0.0.1:9/", "webhook_secret": SECRETS["AlertSecret"]},
        "identity": {"agent_registration_secret": SECRETS["RegistrationSecret"], "public_url": "http://127.0.0.1"},
        "sign_in": [{"id": "company", "issuer": "http://127.0.0.1:9", "client_id": "c",
                     "client_secret": SECRETS["ClientSecret"], "allow_private": True}],
        "issuers": [{"issuer": "https://issuer.example", "audience": "api",
                     "secret": SECRETS["IssuerSecret"].ljust(64, "x")}],
        "responses": {"keep": True},
    }  # fmt: skip


def make_people(found: Harvest) -> None:
    """A person with a password, a session and a token, and a key for calls."""
    work = found.gateway.installation

    async def make() -> None:
        person = await work.users.create(NewUser(email="ada@example.org"), Secret(SECRETS["UserPassword"]))
        _, session = await work.users.open_session(person, 1)
        token, _ = work.tokens.issue(person, work.clock.now_us())
        _, key = await work.keys.create("caller")
        found.sessions |= {"session": session.reveal(), "token": token.reveal(), "key": key.reveal()}
        assert await work.await_revision(await work.configuration.revision())

    found.gateway.call(make())
    for name in ("session", "token"):
        headers = {"cookie": f"auth_token={found.sessions[name]}"}
        if name == "token":
            headers = {"authorization": f"Bearer {found.sessions[name]}"}
        found.answers.append(httpx.get(f"{found.gateway.address}/v1/request-logs", headers=headers))
    body = {"email": "ada@example.org", "password": SECRETS["UserPassword"]}
    found.answers.append(httpx.post(f"{found.gateway.address}/api/auth/login", json=body, timeout=20))


def crash(found: Harvest) -> None:
    """A call that meets a fault of ours, with everything in its hands."""
    gateway, body = found.gateway, {"model": "sim/m", "messages": [{"role": "user", "content": SAID["User"]}]}
    client: Any = gateway.server.gateway.client
    usual = client.send

    async def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    gateway.read(lambda: setattr(client, "send", broken))
    try:
        for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": found.sessions["key"]}):
            url = f"{gateway.address}/v1/chat/completions"
            found.answers.append(httpx.post(url, json=body, headers=headers, timeout=20))
            assert found.answers[-1].status_code == 500
    finally:
        gateway.read(lambda: setattr(client, "send", usual))


def projected(gateway: RunningGateway) -> None:
    """Wait until every record is in the database."""
    wanted = {record.request_id for record in gateway.journal.records()}
    file = next(gateway.data_dir.glob("*.db"))

    def there() -> bool:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            return wanted <= {row[0] for row in database.execute("SELECT request_id FROM requests")}

    wait_until(there, "all records in the database", 20)


# The places


def logs(found: Harvest) -> str:
    """Every line, with debugging on, traces of faults included."""
    text = found.gateway.log_text()
    assert "ZeroDivisionError" in text
    return text


def metrics(found: Harvest) -> str:
    """What a collector reads."""
    return httpx.get(f"{found.gateway.address}/metrics").text


def refusals(found: Harvest) -> str:
    """Bodies and heads of every answer that is none, and the heads of all others."""
    bodies = [answer.text for answer in found.answers if answer.status_code >= 400]
    return "\n".join([*bodies, *(str(answer.headers.raw) for answer in found.answers)])


def journal(found: Harvest) -> str:
    """What is written before an answer ends."""
    return _files(found.gateway.data_dir / "journal")


def stored(found: Harvest) -> str:
    """Every file of the data directory: the database, its log, the journal, temporary ones."""
    return _files(found.gateway.data_dir)


def audit(found: Harvest) -> str:
    """The rows of every table for the record of who did what."""
    file = next(found.gateway.data_dir.glob("*.db"))
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [row for name in tables if "audit" in name for row in database.execute(f'SELECT * FROM "{name}"')]
    assert rows
    return str(rows)


def management(found: Harvest) -> str:
    """Everything that an administrator can read: lists, logs, figures, health, exports, explanations."""
    seen = []
    ids = [record.request_id for record in found.gateway.journal.records()]
    with httpx.Client(base_url=found.gateway.address, headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:
        for method, path in RULES:
            if method == "GET" and "{" not in path:
                seen.append(client.get(path))
        seen += [client.get(f"/api/v1/generation?id={name}") for name in ids]
        seen += [client.get(f"/api/pointsman/route/replay?request_id={name}") for name in ids]
        connections = client.get("/api/providers").json()["connections"]
        seen += [client.get(f"/api/providers/{row['id']}") for row in connections]
    assert sum(answer.status_code == 200 for answer in seen) > 30
    return "\n".join(answer.text + str(answer.headers.raw) for answer in seen)


def arguments(found: Harvest) -> str:
    """The command lines of this process and of every one that it has started."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode("latin-1"))
        except OSError:
            continue
    return "\n".join(lines)


def traces(found: Harvest) -> str:
    """Spans: there are none, and nothing imports what would send them. What changes that writes its reader here."""
    import sys

    assert [name for name in sys.modules if name.startswith("opentelemetry.sdk")] == []
    return ""


def _files(directory: Path) -> str:
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    return "\n".join(path.read_bytes().decode("latin-1") for path in files)


SINKS: Final[dict[str, Callable[[Harvest], str]]] = {
    "logs": logs, "metrics": metrics, "refusals": refusals, "journal": journal, "stored": stored, "audit": audit,
    "management": management, "arguments": arguments, "traces": traces,
}  # fmt: skip


@pytest.mark.parametrize("sink", SINKS)
def test_nothing_secret_is_there(harvest: Harvest, sink: str) -> None:
    text = SINKS[sink](harvest)
    assert [place for place, secret in SECRETS.items() if secret in text] == []
    assert [name for name, secret in harvest.sessions.items() if secret in text] == []
    assert sink == "arguments" or KEY not in text


@pytest.mark.parametrize("sink", SINKS)
def test_nothing_that_was_said_is_there(harvest: Harvest, sink: str) -> None:
    text = SINKS[sink](harvest)
    assert [place for place, said in SAID.items() if said in text] == []


def test_all_of_it_was_sent_and_the_calls_went_every_way(harvest: Harvest) -> None:
    """The marks would be found: the upstream got them, and the answers hold them."""
    answers = "\n".join(answer.text for answer in harvest.answers if answer.status_code == 200)
    assert mark("User") in answers
    statuses = {answer.status_code for answer in harvest.answers}
    assert {200, 400, 401, 404, 500, 502} <= statuses
    outcomes = {record.outcome for record in harvest.gateway.journal.records()}
    assert {Outcome.SUCCESS, Outcome.ERROR} <= outcomes
    assert len(harvest.gateway.journal.records()) > 60
    assert re.search(r"cnry", answers)


def test_a_process_that_serves_shows_no_secret_in_its_arguments(tmp_path: Path) -> None:
    row = {"id": "up", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": SECRETS["UpstreamKey"]}
    with serving(tmp_path / "data", toml([row], {}), secret_key=SECRETS["AdminPassword"] * 2) as server:
        line = Path(f"/proc/{server.process.pid}/cmdline").read_bytes().decode("latin-1")
        assert "pointsman" in line
        for secret in (KEY, SECRETS["UpstreamKey"], SECRETS["AdminPassword"]):
            assert secret not in line
            assert secret not in server.log
