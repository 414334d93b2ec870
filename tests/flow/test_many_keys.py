"""With more keys than a process holds, every one of them works, is bound by its limits, and is refused once revoked."""

from pathlib import Path

import pytest

from gateway import RunningGateway, running_gateway, wait_until
from pointsman.canonical.limits import Limits
from pointsman.identity.key_source import Found
from pointsman.identity.keys import Key, NewKey
from pointsman.storage.database import StorageError
from pointsman.storage.keys import insert_key
from raw_client import CHAT, Connection, ask, chat, request

SETTINGS = {"identity": {"keys_in_memory": 100}}
MANY = 130


def issue(gateway: RunningGateway, **fields: object) -> tuple[str, str]:
    """A new key's id and secret, in effect."""

    async def work() -> tuple[str, str]:
        installation = gateway.installation
        row, secret = await installation.keys.issue(NewKey(name="late", **fields))  # type: ignore[arg-type]
        assert await installation.await_revision(row.revision)
        return row.id, secret.reveal()

    return gateway.call(work())


def crowd(gateway: RunningGateway) -> None:
    """So many keys that not all of them are held."""

    async def work() -> None:
        installation = gateway.installation
        async with installation.database.write() as connection:
            for _ in range(MANY):
                row, _ = installation.keys.draw(NewKey(name="one of many"))
                revision = await insert_key(connection, row)
        assert await installation.await_revision(revision)

    gateway.call(work())
    assert not gateway.read(lambda: gateway.server.late_keys.table.whole)


def revoke(gateway: RunningGateway, key_id: str) -> None:
    """Revoke, everywhere."""

    async def work() -> None:
        row = await gateway.installation.keys.revoke(key_id)
        assert row is not None
        assert await gateway.installation.await_revision(row.revision)

    gateway.call(work())


def budget(gateway: RunningGateway, key_id: str, nano: int) -> None:
    """Give a key a budget."""

    async def work() -> None:
        _, revision = await gateway.installation.budgets.set("key", key_id, nano)
        assert await gateway.installation.await_revision(revision)

    gateway.call(work())


def test_keys_that_are_not_held_work_with_their_limits_until_they_are_revoked(gateway: RunningGateway) -> None:
    crowd(gateway)
    key_id, secret = issue(gateway, limits=Limits(requests_per_minute=2))
    assert gateway.read(lambda: gateway.server.late_keys.table.by_id(key_id)) is None
    assert [ask(gateway.port, chat(key=secret)).status for _ in range(3)] == [200, 200, 429]
    revoke(gateway, key_id)
    assert ask(gateway.port, chat(key=secret)).status == 401


def test_the_budget_of_a_key_that_is_not_held_binds_it(gateway: RunningGateway) -> None:
    crowd(gateway)
    key_id, secret = issue(gateway)
    budget(gateway, key_id, 0)
    assert ask(gateway.port, chat(key=secret)).status == 402


def test_a_call_with_a_key_that_was_seen_looks_for_it_once(gateway: RunningGateway) -> None:
    crowd(gateway)
    _, secret = issue(gateway)
    assert ask(gateway.port, chat(key=secret)).status == 200
    table, asked = gateway.server.late_keys.table, []
    find = table.find

    def counted(presented: bytes) -> Key | None:
        asked.append(presented)
        return find(presented)

    table.find = counted  # type: ignore[method-assign]
    for path in ("/v1/chat/completions", "/api/v1/chat/completions", "/v1/messages"):
        body = b'{"model": "sim/gpt-test", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}'
        assert ask(gateway.port, request("POST", path, body, key=secret)).status == 200
    assert asked == [secret.encode()] * 3


def test_a_refusal_of_a_key_that_nobody_knows_is_in_the_words_of_its_clients_api(gateway: RunningGateway) -> None:
    crowd(gateway)
    body = b'{"model": "sim/gpt-test", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}'
    refused = ask(gateway.port, request("POST", "/v1/messages", body, key="sk-pm-" + "0" * 43))
    assert (refused.status, refused.json()["error"]["type"]) == (401, "authentication_error")


def test_a_key_that_names_a_guard_calls_nothing_where_there_are_none(gateway: RunningGateway) -> None:
    _, known = issue(gateway, settings={"guards": ["gone"]})
    assert ask(gateway.port, chat(key=known)).status == 403
    crowd(gateway)
    _, late = issue(gateway, settings={"guards": ["gone"]})
    body = b'{"model": "sim/gpt-test", "messages": [{"role": "user", "content": "hello"}]}'
    for key in (known, late):
        assert ask(gateway.port, chat(key=key)).status == 403
        assert ask(gateway.port, request("POST", "/v1/messages/count_tokens", body, key=key)).status == 403


def test_a_key_that_can_not_be_looked_up_is_told_so_on_every_path(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd(gateway)
    _, secret = issue(gateway)

    async def away(digests: list[bytes]) -> tuple[Found, ...]:
        raise StorageError("the database is away")

    monkeypatch.setattr(gateway.server.late_keys._source, "look_up", away)
    for message in (chat(key=secret), request("GET", "/v1/models", key=secret)):
        answer = ask(gateway.port, message)
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert gateway.read(lambda: gateway.server.edge.active) == 0


def test_management_finds_a_key_that_is_not_held_and_a_wrong_one_is_refused_alike(gateway: RunningGateway) -> None:
    crowd(gateway)
    _, manager = issue(gateway, kind="openrouter", role="management")
    assert ask(gateway.port, request("GET", "/api/v1/keys", b"", key=manager)).status == 200
    assert ask(gateway.port, chat(key=manager)).status == 403
    for path in ("/api/v1/keys", "/v1/models"):
        assert ask(gateway.port, request("GET", path, b"", key="sk-pm-" + "0" * 43)).status == 401


def test_a_key_in_the_query_is_looked_up_too(gateway: RunningGateway) -> None:
    crowd(gateway)
    _, secret = issue(gateway)
    body = b'{"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}'
    path = f"/v1beta/models/sim%2Fgpt-test:generateContent?key={secret}"
    assert ask(gateway.port, request("POST", path, body, key=None)).status in (200, 404)


def test_an_upload_with_a_key_that_is_not_held_may_be_as_large_as_any(tmp_path: Path) -> None:
    settings = {**SETTINGS, "server": {"max_body_bytes": 65_536}}
    with running_gateway(tmp_path, settings) as gateway:
        crowd(gateway)
        _, secret = issue(gateway)
        body = bytes(300_000)
        head = ("content-type: multipart/form-data; boundary=x",)
        assert ask(gateway.port, request("POST", "/v1/files", body, *head, key=secret)).status not in (401, 413)
        stranger = "sk-pm-" + "0" * 43
        assert ask(gateway.port, request("POST", "/v1/files", body, *head, key=stranger)).status in (401, 413)


def test_a_large_body_with_a_key_that_is_not_held_is_a_strangers_until_it_was_looked_up(tmp_path: Path) -> None:
    settings = {**SETTINGS, "server": {"max_body_memory_bytes": 1024 * 1024}}
    with running_gateway(tmp_path, settings) as gateway, Connection(gateway.port) as stranger:
        crowd(gateway)
        key_id, secret = issue(gateway)
        memory, table = gateway.server.edge.body_memory, gateway.server.late_keys.table
        stranger.send(request("POST", CHAT, b"", "content-length: 300000", key=None) + b" " * 299_000)
        wait_until(lambda: gateway.read(lambda: memory.held_by.get(None, 0)) >= 299_000, "a stranger's body")
        message = chat(text="x" * 300_000, key=secret)
        assert ask(gateway.port, message).status == 503
        wait_until(lambda: gateway.read(lambda: table.by_id(key_id)), "the key")
        assert ask(gateway.port, message).status in (200, 404)
