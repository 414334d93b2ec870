"""A client strips the thinking of a turn, and the next turn lands elsewhere: another worker, node, or a later life."""

import asyncio
import contextlib
import json
import re
import signal
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from node_tools import MASTER_KEY, command

from gateway import KEY, UPSTREAM_KEY, running_gateway, wait_until
from pointsman.policy.opaque_state import UNREAD
from pointsman.testing import AnthropicMessages, OpenAIChat, RunningSimulator, running_simulator
from raw_client import Answer, ask, chat, request
from serve_process import ServeProcess, serving, toml

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
WISH: dict[str, Any] = {
    "model": "claude/claude-sonnet-4-5",
    "tools": [TOOL],
    "reasoning_effort": "low",
    "max_tokens": 4000,
}
OPENING = {"role": "user", "content": "think, then call the tool"}
ID_TAIL = 10  # digits of a request's id that tell the process


@pytest.fixture(scope="module")
def claude() -> Iterator[RunningSimulator]:
    """An upstream that signs its thoughts, and refuses those that were changed or left out."""
    with running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)) as running:
        yield running


def upstream_row(name: str, place: RunningSimulator) -> dict[str, str]:
    """A connection to a signing upstream."""
    return {"id": name, "kind": "anthropic", "base_url": place.origin, "api_key": UPSTREAM_KEY}


def start(stack: ExitStack, claude: RunningSimulator, home: Path, **settings: Any) -> ServeProcess:
    """A gateway in front of the signing upstream."""
    connection = {"id": "claude", "kind": "anthropic", "base_url": claude.origin, "api_key": UPSTREAM_KEY}
    return stack.enter_context(serving(home, toml([connection], settings), secret_key=MASTER_KEY))


def first_turn(server: ServeProcess) -> Answer:
    """The model thinks and calls a tool."""
    answer = ask(server.port, chat(messages=[OPENING], **WISH))
    assert answer.status == 200, answer.body
    return answer


def second_turn(server: ServeProcess, first: Answer, key: str = KEY, **members: Any) -> Answer:
    """The tool's result, behind a turn of which the client kept the calls alone."""
    calls = first.json()["choices"][0]["message"]["tool_calls"]
    turn = {"role": "assistant", "content": None, "tool_calls": calls}
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "seen"} for call in calls]
    return ask(server.port, chat(messages=[OPENING, turn, *results], key=key, **{**WISH, **members}))


def sent_thoughts(claude: RunningSimulator) -> list[dict[str, Any]]:
    """The thinking that the last request handed back, while it asked to think on: then the upstream verifies it."""
    sent = json.loads(claude.requests[-1].body)
    assert sent["messages"][-1]["role"] == "user"
    blocks = [
        block for message in sent["messages"] if isinstance(message["content"], list) for block in message["content"]
    ]
    thoughts = [block for block in blocks if block["type"] == "thinking"]
    assert bool(thoughts) == (sent.get("thinking", {}).get("type") == "enabled")
    return thoughts


def metrics(server: ServeProcess) -> str:
    """All figures of the server."""
    return ask(server.port, request("GET", "/metrics", b"", "connection: close", key=None)).body.decode()


def count(server: ServeProcess, name: str, result: str) -> float:
    """A counter of the vault."""
    text = metrics(server)
    found = re.search(rf'^pointsman_vault_{name}_total\{{result="{result}"\}} (\S+)$', text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def written(server: ServeProcess) -> None:
    """Wait until one answer's state is in the database."""
    wait_until(lambda: count(server, "writes", "written") >= 1, "write of the state")


def test_the_next_turn_gets_its_signature_back_at_the_other_worker(claude: RunningSimulator, tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = start(stack, claude, tmp_path, server={"workers": 2})
        first = first_turn(server)
        written(server)
        for _ in range(200):
            second = second_turn(server, first)
            assert second.status == 200, second.body
            assert [bool(thought["signature"]) for thought in sent_thoughts(claude)] == [True]
            if second.request_id[-ID_TAIL:] != first.request_id[-ID_TAIL:]:
                break
        else:
            pytest.fail("no request reached the other worker")
        assert "synthesised=1" in second.headers["x-pointsman-fidelity"]
        wait_until(lambda: count(server, "reads", "found") == 1, "count of the other worker")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_loses_no_signature(claude: RunningSimulator, tmp_path: Path, end: signal.Signals) -> None:
    with ExitStack() as stack:
        server = start(stack, claude, tmp_path)
        first = first_turn(server)
        if end is signal.SIGKILL:
            written(server)
        server.signal(end)
        server.wait(10)
    with ExitStack() as stack:
        server = start(stack, claude, tmp_path)
        assert second_turn(server, first).status == 200
        [thought] = sent_thoughts(claude)
    files = b"".join(path.read_bytes() for path in tmp_path.glob("pointsman.db*"))
    assert files
    assert thought["signature"].encode() not in files
    assert thought["thinking"].encode() not in files


def test_another_tenant_gets_nothing_of_it(claude: RunningSimulator, tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = start(stack, claude, tmp_path)
        stranger = command(server, "keys", "create", "--quiet", "--name", "stranger")
        first = first_turn(server)
        server.signal(signal.SIGTERM)
        server.wait(10)
    with contextlib.closing(sqlite3.connect(tmp_path / "pointsman.db", isolation_level=None)) as database:
        database.execute("UPDATE keys SET workspace_id = 'other' WHERE name = 'stranger'")
    with ExitStack() as stack:
        server = start(stack, claude, tmp_path)
        for _ in range(2):  # the second time, its owner has it in the memory of the same process
            assert second_turn(server, first, stranger).status == 200
            assert sent_thoughts(claude) == []
            assert second_turn(server, first).status == 200
            assert len(sent_thoughts(claude)) == 1


def test_another_node_on_the_same_postgresql_puts_it_back_and_goes_on_without_it_when_that_is_gone(
    claude: RunningSimulator, tmp_path: Path, database_url: str, postgres_server: str
) -> None:
    with ExitStack() as stack:
        storage = {"database_url": database_url}
        one, two = (start(stack, claude, tmp_path / name, storage=storage) for name in ("one", "two"))
        first = first_turn(one)
        written(one)
        assert second_turn(two, first).status == 200
        assert len(sent_thoughts(claude)) == 1
        another = first_turn(one)
        wait_until(lambda: count(one, "writes", "written") >= 2, "write of the state")
        asyncio.run(cut_off(postgres_server, urlsplit(database_url).path[1:]))
        second = second_turn(two, another)
        assert second.status == 200
        assert sent_thoughts(claude) == []
        notes = json.loads(two.journal.the(second.request_id).fidelity or "[]")
        assert ["messages[1]", "approximated", UNREAD] in notes
        assert count(two, "reads", "unread") >= 1
        assert second_turn(one, another).status == 200  # who made it has it in memory
        assert len(sent_thoughts(claude)) == 1
        asyncio.run(cut_off(postgres_server, urlsplit(database_url).path[1:], allow=True))


async def cut_off(server: str, database: str, *, allow: bool = False) -> None:
    """Let nobody connect to a database, and end who is."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS {str(allow).lower()}')
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database)
    finally:
        await connection.close()


def test_without_durability_nothing_is_written_and_another_life_knows_nothing(
    claude: RunningSimulator, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        server = start(stack, claude, tmp_path, vault={"durable": False})
        first = first_turn(server)
        assert second_turn(server, first).status == 200
        assert len(sent_thoughts(claude)) == 1
        server.signal(signal.SIGTERM)
        server.wait(10)
    with ExitStack() as stack:
        server = start(stack, claude, tmp_path, vault={"durable": False})
        assert second_turn(server, first).status == 200
        assert sent_thoughts(claude) == []
        assert count(server, "writes", "written") == 0


def test_a_repeated_request_gets_its_answer_at_the_other_worker(tmp_path: Path) -> None:
    message = chat("", "idempotency-key: the-same", "connection: close")
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as upstream, ExitStack() as stack:
        row = {"id": "sim", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        settings = {"server": {"workers": 2}, "vault": {"read_timeout_seconds": 5}, "routing": {"model_lists": False}}
        server = stack.enter_context(serving(tmp_path, toml([row], settings)))
        first = ask(server.port, message)
        wait_until(lambda: 'kept_answer_writes_total{result="written"} 1' in metrics(server), "write of the answer")
        for _ in range(200):
            again = ask(server.port, message)
            assert (again.status, again.body) == (200, first.body)
            assert again.headers["x-pointsman-replay-of"] == first.request_id
            if again.request_id[-ID_TAIL:] != first.request_id[-ID_TAIL:]:
                break
        else:
            pytest.fail("no request reached the other worker")
        assert len(upstream.requests) == 1


def test_a_signature_does_not_go_to_another_host_of_the_same_api(claude: RunningSimulator, tmp_path: Path) -> None:
    with running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)) as other, ExitStack() as stack:
        rows: list[Mapping[str, Any]] = [
            {"id": name, "kind": "anthropic", "base_url": place.origin, "api_key": UPSTREAM_KEY}
            for name, place in (("claude", claude), ("other", other))
        ]
        server = stack.enter_context(serving(tmp_path, toml(rows, {}), secret_key=MASTER_KEY))
        first = first_turn(server)
        answer = second_turn(server, first, model="other/claude-sonnet-4-5")
        assert answer.status == 200
        assert sent_thoughts(other) == []
        notes = json.loads(server.journal.the(answer.request_id).fidelity or "[]")
        assert any(path == "messages[1]" and "only its maker reads" in detail for path, _, detail in notes)


def test_when_the_signer_fails_the_next_target_of_a_combo_gets_the_turn_without_its_state(
    claude: RunningSimulator, tmp_path: Path
) -> None:
    with running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)) as other, ExitStack() as stack:
        targets = ["claude/claude-sonnet-4-5#fault=http_500", "other/claude-sonnet-4-5"]
        settings = {
            "connections": [upstream_row("claude", claude), upstream_row("other", other)],
            "combos": [{"name": "both", "targets": targets, "strategy": "priority"}],
        }
        gateway = stack.enter_context(running_gateway(tmp_path, settings))
        first = ask(gateway.port, chat(messages=[OPENING], **WISH))
        calls = first.json()["choices"][0]["message"]["tool_calls"]
        turn = {"role": "assistant", "content": None, "tool_calls": calls}
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "seen"} for call in calls]
        claude.log.clear()
        answer = ask(gateway.port, chat(messages=[OPENING, turn, *results], **{**WISH, "model": "both"}))
        assert answer.status == 200, answer.body
        assert len(sent_thoughts(claude)) == 1
        assert sent_thoughts(other) == []
