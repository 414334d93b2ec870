"""Bytes that are no UTF-8, and depth without end, at every place of a body that a reader may come by."""

import json
import re
from pathlib import Path
from typing import Final

import pytest

from gateway import RunningGateway, running_gateway
from raw_client import ask, request
from scripted_upstream import running_upstream

DEEP: Final = b"[" * 100_000 + b"]" * 100_000
NO_UTF8: Final = b'"\xff\xfe"'
HELLO: Final = b'"messages":[{"role":"user","content":"hello"}]'
GEMINI: Final = b'{"contents":[{"role":"user","parts":[{"text":"hello"}]}]'
BODIES: Final = {
    "/v1/chat/completions": b'{"model":"sim/m","stream":true,"stream_options":{"include_usage":false},' + HELLO + b"}",
    "/v1/completions": b'{"model":"sim/m","prompt":"hello"}',
    "/v1/responses": b'{"model":"sim/m","input":"hello","store":false}',
    "/v1/messages": b'{"model":"sim/m","max_tokens":9,' + HELLO + b"}",
    "/v1/embeddings": b'{"model":"sim/m","input":["hello"]}',
    "/v1/rerank": b'{"model":"sim/m","query":"a","documents":["b"]}',
    "/v1/moderations": b'{"model":"sim/m","input":"hello"}',
    "/v1/images/generations": b'{"model":"sim/m","prompt":"hello"}',
    "/api/chat": b'{"model":"sim/m","stream":false,' + HELLO + b"}",
    "/api/generate": b'{"model":"sim/m","stream":false,"prompt":"hello"}',
    "/api/embed": b'{"model":"sim/m","input":["hello"]}',
    "/v1beta/models/sim/m:generateContent": GEMINI + b',"generationConfig":{"maxOutputTokens":9}}',
    "/v1beta/models/sim/m:countTokens": GEMINI + b"}",
    "/v1/messages/count_tokens": b'{"model":"sim/m",' + HELLO + b"}",
    "/api/pointsman/budgets": b'{"scope":"tag","subject":"a","limit_usd":1}',
    "/api/pointsman/ledger/top-ups": b'{"account_id":"default","amount_usd":"1","idempotency_key":"k"}',
    "/api/pointsman/guards": b'{"name":"a","scope":"gateway"}',
}
METHODS: Final = {"/api/pointsman/budgets": "PUT"}
MEMBERS: Final = ("provider", "models", "session_id", "plugins", "metadata", "tools", "tool_choice", "user", "route")


def spoilt(body: bytes) -> dict[str, bytes]:
    """The body with something odd added, and in place of each of its values and names."""
    inside = body[1:]
    odd = {
        "unknown deep": b'{"zzz":' + DEEP + b"," + inside,
        "unknown value": b'{"zzz":' + NO_UTF8 + b"," + inside,
        "unknown name": b"{" + NO_UTF8 + b":1," + inside,
    }
    for name in MEMBERS:
        start = b'{"' + name.encode() + b'":'
        odd[f"{name} deep"] = start + DEEP + b"," + inside
        odd[f"{name} text"] = start + NO_UTF8 + b"," + inside
        odd[f"{name} inner"] = start + b"{" + NO_UTF8 + b":" + NO_UTF8 + b"}," + inside
    for number, found in enumerate(re.finditer(rb"[:\[,{](\"[^\"]*\"|\d+|true|false)", body)):
        before, after = body[: found.start(1)], body[found.end(1) :]
        odd[f"{number} {found[1].decode()} text"] = before + NO_UTF8 + after
        if after[:1] != b":":
            odd[f"{number} {found[1].decode()} deep"] = before + DEEP + after
    for number, found in enumerate(re.finditer(rb"{", body)):
        odd[f"{number} name inside"] = body[: found.end()] + NO_UTF8 + b":1," + body[found.end() :]
    return odd


@pytest.mark.parametrize("path", BODIES)
def test_odd_bytes_in_a_body_are_never_a_fault_of_ours(gateway: RunningGateway, path: str) -> None:
    answers = {
        what: ask(gateway.port, request(METHODS.get(path, "POST"), path, body))
        for what, body in spoilt(BODIES[path]).items()
    }
    assert {what: answer.status for what, answer in answers.items() if answer.status == 500} == {}


@pytest.mark.parametrize("path", [path for path in BODIES if path.startswith("/v1")])
def test_a_depth_that_is_just_too_much_is_the_callers_mistake(gateway: RunningGateway, path: str) -> None:
    # One reader's limit is not another's: each calls from another depth.
    bodies = [b'{"zzz":' + b"[" * depth + b"]" * depth + b"," + BODIES[path][1:] for depth in range(940, 1001, 2)]
    statuses = {ask(gateway.port, request("POST", path, body)).status for body in bodies}
    assert 500 not in statuses


def test_a_depth_that_is_just_too_much_in_an_answer_is_the_upstreams_fault(tmp_path: Path) -> None:
    call = b'"tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":%b}}]'
    answer = (
        b'{"id":"a","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
    )
    answer += b'"message":{"role":"assistant","content":null,' + call + b"}}]}"
    asked = b'{"model":"one/m","stream":false,"tools":[{"type":"function","function":{"name":"f"}}],' + HELLO + b"}"
    statuses: set[int] = set()
    with running_upstream() as upstream:
        one = {"id": "one", "kind": "openai", "base_url": upstream.base_url, "models": ["m"]}
        with running_gateway(tmp_path, {"connections": [one]}) as running:
            for depth in range(960, 985):
                body = answer % json.dumps('{"a":' + "[" * depth + "]" * depth + "}").encode()
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
                upstream.script = lambda number, asked, told=head + body: [told]
                statuses.add(ask(running.port, request("POST", "/api/chat", asked)).status)
            log = running.log_text()
    assert statuses == {200, 502}
    assert "RecursionError" in log
