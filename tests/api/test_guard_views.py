"""``/api/pointsman/guards``: in effect at once, secrets unseen, the file's untouched, and a text to try them on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from guard_hook_server import running_hook
from pointsman.cli import app
from pointsman.identity.keys import NewKey
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from raw_client import CHAT, Answer, ask, chat_body, request

PATH = "/api/pointsman/guards"
MAIL = "jane.doe@example.org"
SECRET = "hook-secret-QwErTy0123456789"
PERSONAL = {"name": "mail", "kind": "personal", "find": ["email"], "action": "redact"}
WORDS = {"name": "words", "kind": "keywords", "words": ["zebra"]}
SETTINGS = {"guards": [{"name": "filed", "rules": [WORDS | {"words": ["lion"]}]}]}


def call(gateway: RunningGateway, method: str, path: str = "", body: Any = None, key: str | None = KEY) -> Answer:
    """One operation."""
    content = b"" if body is None else msgspec.json.encode(body)
    return ask(gateway.port, request(method, PATH + path, content, key=key))


def say(gateway: RunningGateway, text: str) -> Answer:
    """A call of a model."""
    return ask(gateway.port, request("POST", CHAT, chat_body(text=text)))


@pytest.fixture(autouse=True)
def cleared(gateway: RunningGateway) -> Iterator[None]:
    """Without stored guards afterwards."""
    yield
    for one in call(gateway, "GET", "?limit=200").json()["data"]:
        if one["source"] == "stored":
            assert call(gateway, "DELETE", f"/{one['name']}").status == 200


def test_a_guard_is_in_effect_from_its_answer_on_until_it_is_removed(
    gateway: RunningGateway, simulator: RunningSimulator
) -> None:
    made = call(gateway, "POST", body={"name": "team", "everybody": True, "rules": [PERSONAL, WORDS]})
    assert made.status == 201
    assert say(gateway, f"I am {MAIL}").text == f"echo: I am {MAIL}"
    assert MAIL not in simulator.requests[-1].body.decode()
    assert say(gateway, "a zebra").status == 400
    changed = call(gateway, "PATCH", "/team", {"rules": [PERSONAL]}).json()
    assert [rule["name"] for rule in changed["rules"]] == ["mail"]
    assert changed["everybody"] is True
    assert say(gateway, "a zebra").status == 200
    assert call(gateway, "GET", "/team").json() == changed
    assert call(gateway, "DELETE", "/team").json() == {"deleted": True, "name": "team"}
    say(gateway, f"I am {MAIL}")
    assert MAIL in simulator.requests[-1].body.decode()
    assert call(gateway, "DELETE", "/team").status == 404
    assert call(gateway, "GET", "/team").status == 404


def test_the_files_guards_are_shown_and_stay_as_they_are(gateway: RunningGateway) -> None:
    shown = call(gateway, "GET", "/filed").json()
    assert (shown["source"], shown["in_effect"], shown["created_at"]) == ("file", True, None)
    for method, path, body in (
        ("POST", "", {"name": "filed", "rules": [WORDS]}),
        ("PATCH", "/filed", {"everybody": True}),
        ("DELETE", "/filed", None),
    ):
        assert call(gateway, method, path, body).status == 409, method


def test_lists_are_paged(gateway: RunningGateway) -> None:
    for name in ("a", "b", "z"):
        assert call(gateway, "POST", body={"name": name, "rules": [WORDS]}).status == 201
    assert call(gateway, "POST", body={"name": "a", "rules": [WORDS]}).status == 409
    first = call(gateway, "GET", "?limit=3").json()
    assert [one["name"] for one in first["data"]] == ["a", "b", "filed"]
    second = call(gateway, "GET", f"?limit=3&after={first['next']}").json()
    assert ([one["name"] for one in second["data"]], second["next"]) == (["z"], None)
    assert call(gateway, "GET", "?limit=0").error["param"] == "limit"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"rules": [WORDS]}, "name"),
        ({"name": "Team", "rules": [WORDS]}, "name"),
        ({"name": "guardrail-1", "rules": [WORDS]}, "name"),
        ({"name": "team", "rules": []}, "rules"),
        ({"name": "team", "rules": "all"}, "rules"),
        ({"name": "team", "rules": [1]}, "rules[0]"),
        ({"name": "team", "keys": [""], "rules": [WORDS]}, "keys"),
        ({"name": "team", "rules": [WORDS | {"kind": "magic"}]}, "rules[0].kind"),
        ({"name": "team", "rules": [WORDS | {"words": []}]}, "rules[0].words"),
        ({"name": "team", "rules": [WORDS, WORDS]}, "rules[1].name"),
        ({"name": "team", "rules": [{"name": "r", "kind": "regex", "patterns": ["(?=x)"]}]}, "rules[0].patterns"),
        ({"name": "team", "rules": [{"name": "h", "kind": "webhook", "url": "ftp://x"}]}, "rules[0].url"),
        (
            {"name": "team", "rules": [{"name": "h", "kind": "webhook", "url": "http://x", "secret": "env:HOME"}]},
            "rules[0].secret",
        ),
        ({"name": "team", "everyone": True, "rules": [WORDS]}, "everyone"),
        ({"name": "team", "rules": [WORDS | {"wrods": ["x"]}]}, "rules[0]"),
    ],
)
def test_what_is_wrong_is_named(gateway: RunningGateway, body: Any, field: str) -> None:
    answer = call(gateway, "POST", body=body)
    assert answer.status == 400
    assert answer.error["param"] == field


def test_administrators_alone_may_look_and_change(gateway: RunningGateway) -> None:
    async def make() -> str:
        _, secret = await gateway.installation.keys.issue(NewKey(name="caller"))
        assert await gateway.installation.await_revision(await gateway.installation.configuration.revision())
        return secret.reveal()

    for key, status in ((gateway.call(make()), 403), (None, 401)):
        for method, path in (("GET", ""), ("POST", ""), ("POST", "/test")):
            assert call(gateway, method, path, {}, key=key).status == status, (method, path)
        for method, path in (("GET", "/x"), ("PATCH", "/x"), ("DELETE", "/x")):
            assert call(gateway, method, path, {}, key=key).status == status, (method, path)


def test_a_webhooks_secret_signs_and_is_never_shown_and_lies_sealed(tmp_path: Path) -> None:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as upstream, running_hook() as hook:
        row = {"id": "sim", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        rule = {"name": "hook", "kind": "webhook", "url": hook.url, "secret": SECRET, "allow_private": True}
        with running_gateway(tmp_path, {"connections": [row]}) as gateway:
            made = call(gateway, "POST", body={"name": "team", "everybody": True, "rules": [rule]})
            assert (made.status, made.json()["rules"][0]["has_secret"]) == (201, True)
            del rule["secret"]
            changed = call(gateway, "PATCH", "/team", {"rules": [rule | {"timeout_seconds": 60}]})  # it is kept
            assert changed.json()["rules"][0]["has_secret"] is True
            moved = call(gateway, "PATCH", "/team", {"everybody": True, "keys": ["key_1"]})
            assert moved.json()["rules"] == changed.json()["rules"]
            for answer in (made, changed, moved, call(gateway, "GET"), call(gateway, "GET", "/team")):
                assert SECRET.encode() not in answer.body
            assert SECRET not in gateway.log_text()
        with running_gateway(tmp_path, {"connections": [row]}) as gateway:
            assert say(gateway, "hello").status == 200
            assert hook.heads[-1]["x-pointsman-signature"].startswith("t=")
            without = call(gateway, "PATCH", "/team", {"rules": [rule | {"secret": None}]})
            assert without.json()["rules"][0]["has_secret"] is False
            private = call(gateway, "PATCH", "/team", {"rules": [{**rule, "allow_private": False}]})
            assert private.json()["rules"][0]["allow_private"] is False
            assert say(gateway, "hello").status == 503
            assert len(hook.asked) == 1
        stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert SECRET.encode() not in stored


def test_a_key_whose_guard_is_removed_calls_nothing(gateway: RunningGateway) -> None:
    async def make() -> str:
        _, secret = await gateway.installation.keys.issue(NewKey(name="bound", settings={"guards": ["soon"]}))
        assert await gateway.installation.await_revision(await gateway.installation.configuration.revision())
        return secret.reveal()

    assert call(gateway, "POST", body={"name": "soon", "rules": [WORDS]}).status == 201
    key = gateway.call(make())
    message = request("POST", CHAT, chat_body(text="hello"), key=key)
    assert ask(gateway.port, message).status == 200
    assert call(gateway, "DELETE", "/soon").status == 200
    assert ask(gateway.port, message).status == 403


def test_a_text_is_tried_and_nothing_of_it_is_kept(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    hook = {"name": "hook", "kind": "webhook", "url": "https://example.org/judge"}
    assert call(gateway, "POST", body={"name": "quiet", "rules": [PERSONAL, hook]}).status == 201
    tried = call(gateway, "POST", "/test", {"text": f"a lion wrote to {MAIL}"}).json()
    assert tried == {
        "blocked": True,
        "findings": [
            {"rule": "filed.words", "action": "block", "label": "REDACTED", "start": 2, "end": 6},
            {"rule": "quiet.mail", "action": "redact", "label": "EMAIL", "start": 16, "end": 36},
        ],
        "text": "a lion wrote to [EMAIL_1]",
        "not_asked": ["quiet.hook"],
    }
    only = call(gateway, "POST", "/test", {"text": f"a lion wrote to {MAIL}", "guards": ["quiet"]}).json()
    assert (only["blocked"], len(only["findings"])) == (False, 1)
    answer = call(gateway, "POST", "/test", {"text": "a lion", "where": "answer"}).json()
    assert (answer["findings"], answer["not_asked"]) == ([], [])
    rules = [{"name": "new", "kind": "regex", "patterns": ["li.n"], "action": "flag"}]
    new = call(gateway, "POST", "/test", {"text": "a lion", "rules": rules}).json()
    assert (new["findings"][0]["rule"], new["text"], new["blocked"]) == ("tried.new", "a lion", False)
    assert MAIL not in gateway.log_text()
    assert simulator.requests == ()
    metrics = ask(gateway.port, request("GET", "/metrics")).body.decode()
    assert "quiet.mail" not in metrics


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "text"),
        ({"text": "x" * 100_001}, "text"),
        ({"text": "x", "where": "both"}, "where"),
        ({"text": "x", "role": "king"}, "role"),
        ({"text": "x", "guards": ["none"]}, "guards"),
        ({"text": "x", "rules": [{"name": "a", "kind": "regex"}]}, "rules[0].patterns"),
    ],
)
def test_what_is_wrong_with_a_trial_is_named(gateway: RunningGateway, body: Any, field: str) -> None:
    answer = call(gateway, "POST", "/test", body)
    assert (answer.status, answer.error["param"]) == (400, field)


def test_a_stored_guard_gives_way_to_one_of_the_file(tmp_path: Path) -> None:
    with running_gateway(tmp_path, {}) as gateway:
        assert call(gateway, "POST", body={"name": "filed", "everybody": True, "rules": [WORDS]}).status == 201
    with running_gateway(tmp_path, SETTINGS) as gateway:
        shown = call(gateway, "GET").json()["data"]
        assert [(one["source"], one["in_effect"]) for one in shown] == [("file", True), ("stored", False)]
        assert call(gateway, "POST", "/test", {"text": "a zebra"}).json()["findings"] == []
        result = CliRunner().invoke(app, ["guards", "list", "--json", "--data-dir", str(tmp_path)])
        assert (result.exit_code, msgspec.json.decode(result.stdout)[0]["name"]) == (0, "filed")
        command = ["guards", "test", "a zebra", "--json", "--data-dir", str(tmp_path)]
        tried = msgspec.json.decode(CliRunner().invoke(app, command).stdout)
        assert (tried["blocked"], tried["findings"][0]["rule"]) == (True, "filed.words")
    with running_gateway(tmp_path, {}) as gateway:
        assert CliRunner().invoke(app, ["guards", "remove", "filed", "--data-dir", str(tmp_path)]).exit_code == 0
        assert call(gateway, "GET").json()["data"] == []
