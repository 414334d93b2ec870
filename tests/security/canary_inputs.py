"""Marks that stand in every input, and calls that carry them: good ones, failing ones, wrong ones.

A secret's mark has no form by which a filter could know it: only what is never written at all stays unseen.
"""

import json
import secrets
from collections.abc import Iterator
from typing import Any, Final

import httpx

from gateway import KEY

_RUN: Final = secrets.token_hex(6)


def mark(place: str) -> str:
    """A word that stands nowhere else in the world."""
    return f"cnry{place}{_RUN}"


# What nobody may ever read again, wherever it was shown, sent or stored.
SECRETS: Final = {
    place: mark(place)
    for place in (
        "UpstreamKey", "ExtraKey", "HeaderValue", "ProxyPassword", "StoredKey", "StoredHeader", "EngineKey",
        "AlertSecret", "GuardSecret", "ClientSecret", "IssuerSecret", "RegistrationSecret", "AdminPassword",
        "UserPassword", "WrongBearer", "WrongApiKey", "WrongGoogleKey", "WrongQueryKey", "WrongCookie", "WrongBasic",
        "WrongPassword", "WrongRegistration", "WrongCode", "WrongVerifier", "TriedKey", "HalfBody",
    )
}  # fmt: skip
# What a client says: its own answer may repeat it, nothing else.
SAID: Final = {
    place: mark(place)
    for place in (
        "System", "User", "Assistant", "ToolName", "ToolArgument", "ToolResult", "ToolWords", "Metadata", "Stop",
        "Instructions", "Input", "Completion", "Embedding", "GeminiText", "GeminiSystem", "OllamaText", "ClaudeText",
        "ClaudeSystem", "ClaudeTool", "FileContent", "Header", "Query", "Cut", "Schema", "Prediction",
    )
}  # fmt: skip
SENT_WITH: Final = {"x-some-header": SAID["Header"], "user-agent": f"agent {SAID['Header']}",
                    "cookie": f"other={SAID['Header']}"}  # fmt: skip


def chat_body(model: str) -> dict[str, Any]:
    """A chat in OpenAI's words with a mark in each of its places."""
    arguments = json.dumps({"q": SAID["ToolArgument"]})
    call = {"id": "call_1", "type": "function", "function": {"name": SAID["ToolName"], "arguments": arguments}}
    parameters = {"type": "object", "properties": {"q": {"type": "string", "description": SAID["Schema"]}}}
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": SAID["System"]},
            {"role": "user", "content": SAID["User"]},
            {"role": "assistant", "content": SAID["Assistant"], "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": SAID["ToolResult"]},
            {"role": "user", "content": SAID["User"]},
        ],
        "tools": [
            {"type": "function", "function": {
                "name": SAID["ToolName"], "description": SAID["ToolWords"], "parameters": parameters}}
        ],
        "metadata": {"note": SAID["Metadata"]},
        "stop": [SAID["Stop"]],
        "prediction": {"type": "content", "content": SAID["Prediction"]},
        "max_tokens": 50,
    }  # fmt: skip


def bodies(model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A path and a body of each API."""
    yield "/v1/chat/completions", chat_body(model)
    yield "/api/v1/chat/completions", chat_body(model)
    yield "/v1/responses", {"model": model, "instructions": SAID["Instructions"], "input": SAID["Input"], "store": True}
    yield "/v1/completions", {"model": model, "prompt": SAID["Completion"]}
    yield "/v1/embeddings", {"model": model, "input": SAID["Embedding"]}
    said = [{"role": "user", "content": [{"type": "text", "text": SAID["ClaudeText"]}]}]
    use = {"name": "t", "input_schema": {"type": "object"}, "description": SAID["ClaudeTool"]}
    system, metadata = SAID["ClaudeSystem"], {"user_id": SAID["Metadata"]}
    yield "/v1/messages", {"model": model, "max_tokens": 50, "system": system, "messages": said, "tools": [use],
                           "metadata": metadata}  # fmt: skip
    parts = [{"role": "user", "parts": [{"text": SAID["GeminiText"]}]}]
    told = {"parts": [{"text": SAID["GeminiSystem"]}]}
    yield f"/v1beta/models/{model}:generateContent", {"contents": parts, "systemInstruction": told}
    yield "/api/chat", {"model": model, "messages": [{"role": "user", "content": SAID["OllamaText"]}], "stream": False}
    yield "/api/generate", {"model": model, "prompt": SAID["OllamaText"], "stream": False}


def drive(client: httpx.Client) -> list[httpx.Response]:
    """Calls of every API that succeed, fail behind the gateway and fail before it."""
    seen = []
    for model in ("sim/m", "bad/m", "dead/m", "nobody/m"):
        for path, body in bodies(model):
            seen.append(client.post(path, json=body, headers=SENT_WITH, params={"x": SAID["Query"]}))
            if "Content" not in path:
                seen.append(client.post(path, json={**body, "stream": True}))
    for path, body in bodies("sim/m"):
        cut = json.dumps({**body, "cut": SAID["Cut"]}).encode()[:-3]
        seen.append(client.post(path, content=cut, headers={"content-type": "application/json"}))
        wrong = {**body, "temperature": SAID["Cut"], "messages": {"a": SAID["Cut"]}, "contents": 5}
        seen.append(client.post(path, json=wrong))
    cached = {**chat_body("sim/m"), "tools": [], "messages": [{"role": "user", "content": SAID["User"]}]}
    seen += [client.post("/v1/chat/completions", json=cached, headers={"x-cache": "on"}) for _ in range(2)]
    seen.append(client.post("/api/translator/translate", json={"body": chat_body("sim/m"), "step": 4}))
    files = {"file": ("note.txt", SAID["FileContent"].encode(), "text/plain"), "purpose": (None, "user_data")}
    seen.append(client.post("/v1/files", files=files, params={"provider": "shelf"}))
    return seen


def show_wrong_credentials(address: str) -> list[httpx.Response]:
    """Every place in which somebody may show what is no credential here."""
    body = chat_body("sim/m")
    shown: list[dict[str, Any]] = [
        {"headers": {"authorization": f"Bearer {SECRETS['WrongBearer']}"}},
        {"headers": {"authorization": f"Basic {SECRETS['WrongBasic']}"}},
        {"headers": {"x-api-key": SECRETS["WrongApiKey"]}},
        {"headers": {"x-goog-api-key": SECRETS["WrongGoogleKey"]}},
        {"headers": {"cookie": f"auth_token={SECRETS['WrongCookie']}"}},
        {"params": {"key": SECRETS["WrongQueryKey"]}},
    ]
    paths = ("/v1/chat/completions", "/v1/messages", "/v1beta/models/m:generateContent", "/api/providers", "/v1/files")
    seen = []
    with httpx.Client(base_url=address, timeout=20) as client:
        for more in shown:
            seen += [client.post(path, json=body, **more) for path in paths]
            seen.append(client.get("/v1beta/files", **more))
        opening = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
                   "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
        query = dict.fromkeys(("key", "api_key", "apiKey", "token", "access_token"), SECRETS["WrongQueryKey"])
        seen += [client.get(path, params=query, headers=opening) for path in ("/v1/ws", "/v1/responses")]
        login = {"password": SECRETS["WrongPassword"]}
        seen.append(client.post("/api/auth/login", json=login))
        seen.append(client.post("/api/pointsman/auth/token", json={**login, "email": "a@example.org"}))
        seen.append(client.post("/api/cli/connect", json=login))
        secret = {"x-agent-registration-secret": SECRETS["WrongRegistration"]}
        seen.append(client.post("/api/agents/register", json={"agentId": "agent-x"}, headers=secret))
        code = {"code": SECRETS["WrongCode"], "code_verifier": SECRETS["WrongVerifier"]}
        seen.append(client.post("/api/v1/auth/keys", json=code))
    return seen


def manage(address: str, upstream: str) -> list[httpx.Response]:
    """What an administrator stores and tries out, and what it gets wrong."""
    new = {
        "provider": "openai-compatible", "name": "stored", "apiKey": SECRETS["StoredKey"], "allowPrivate": True,
        "url": upstream, "headers": {"X-Tenant": SECRETS["StoredHeader"]},
        "proxy": f"http://me:{SECRETS['ProxyPassword']}@127.0.0.1:9",
    }  # fmt: skip
    tried = {"provider": "openai-compatible", "apiKey": SECRETS["TriedKey"], "baseUrl": upstream, "allowPrivate": True}
    engine = {"api_key": SECRETS["EngineKey"], "base_url": upstream, "allow_private": True, "timeout_ms": 500}
    half = f'{{"provider": "openai", "apiKey": "{SECRETS["HalfBody"]}"'.encode()
    with httpx.Client(base_url=address, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as client:
        seen = [
            client.post("/api/settings/require-login", json={"password": SECRETS["AdminPassword"]}),
            client.post("/api/auth/login", json={"password": SECRETS["AdminPassword"]}),
            client.post("/api/providers", json=new),
            client.post("/api/providers", content=half, headers={"content-type": "application/json"}),
            client.post("/api/providers", json={**new, "apiKey": [SECRETS["HalfBody"]]}),
            client.post("/api/providers", json={**new, "apiKey": f"{SECRETS['HalfBody']} blank"}),
            client.post("/api/providers/validate", json=tried),
            client.post("/api/providers/validate", json={**tried, "baseUrl": "http://[::1]:9", "allowPrivate": False}),
            client.put("/api/pointsman/profiles/notdiamond", json=engine),
            client.post("/api/provider-nodes/validate", json={**tried, "type": "openai-compatible"}),
        ]
        assert seen[2].status_code in (200, 201), seen[2].text
        identifier = seen[2].json()["connection"]["id"]
        seen.append(client.post(f"/api/providers/{identifier}/test"))
        seen.append(client.post("/v1/chat/completions", json=chat_body(f"{identifier}/m")))
    return seen
