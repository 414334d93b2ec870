"""Bodies that operations take, for tests that change them a little: most contracts leave theirs open."""

from typing import Any, Final

from contract_site import CHAT, MESSAGES

from gateway import UPSTREAM_KEY

ASKED: Final = {"model": CHAT, "messages": MESSAGES, "max_tokens": 20, "temperature": 0.5, "stream": False}
TOOLS: Final = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
CONNECTION: Final = {"provider": "openai", "name": "Work", "url": "http://127.0.0.1:9/v1", "apiKey": UPSTREAM_KEY,
                     "allowPrivate": True, "maxConcurrent": 2, "priority": 3, "models": ["a"]}  # fmt: skip
NODE: Final = {"name": "Lab", "prefix": "lab", "apiType": "chat", "baseUrl": "http://127.0.0.1:9/v1",
               "type": "openai-compatible", "allowPrivate": True}  # fmt: skip
COMBO: Final = {
    "name": "mine",
    "strategy": "weighted",
    "models": [CHAT, {"kind": "model", "model": "usual", "weight": 5}],
    "config": {"maxRetries": 1, "timeoutMs": 500, "handoffThreshold": 0.8},
}
RESILIENCE: Final = {
    "requestQueue": {"autoEnableApiKeyProviders": True},
    "connectionCooldown": {"apikey": {"baseCooldownMs": 200}},
    "providerBreaker": {"apikey": {"failureThreshold": 12, "resetTimeoutMs": 3000}},
}
CHAIN: Final = {"model": "sim-model", "chain": [{"provider": "sim", "priority": 1, "enabled": True}]}
BODIES: Final[dict[str, dict[str, Any]]] = {
    "POST /api/v1/chat/completions": {**ASKED, "tools": TOOLS, "provider": {"order": ["sim"]}, "models": [CHAT]},
    "POST /api/v1/providers/{provider}/chat/completions": {**ASKED, "model": "sim-model"},
    "POST /api/v1/api/chat": {**ASKED, "options": {"num_predict": 5}},
    "POST /api/v1/messages": {**ASKED, "system": "Be short.", "thinking": {"type": "disabled"}},
    "POST /api/v1/messages/count_tokens": {"model": CHAT, "messages": MESSAGES},
    "POST /api/v1/responses": {"model": CHAT, "input": "hello", "instructions": "Be short.", "store": False},
    "POST /api/v1/embeddings": {"model": "ops/text-embedding-3-small", "input": ["a", "b"], "dimensions": 8},
    "POST /api/v1/providers/{provider}/embeddings": {"model": "sim-model", "input": "a"},
    "POST /api/v1/rerank": {"model": "ranks/rerank-v3.5", "query": "a", "documents": ["a", "b"], "top_n": 1},
    "POST /api/v1/images/generations": {"model": "ops/gpt-image-1", "prompt": "a cat", "n": 1, "size": "1024x1024"},
    "POST /api/v1/audio/speech": {"model": "ops/tts-1", "input": "hello", "voice": "alloy"},
    "POST /api/v1/moderations": {"model": "ops/omni-moderation-latest", "input": "hello"},
    "POST /api/v1beta/models/{path}": {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
    "POST /api/v1/keys": {
        "name": "made",
        "limit": 5,
        "limit_reset": "daily",
        "include_byok_in_limit": False,
        "expires_at": "2099-01-01T00:00:00Z",
    },
    "PATCH /api/v1/keys/{hash}": {"name": "made", "disabled": False, "limit": 7, "limit_reset": "weekly"},
    "POST /api/v1/guardrails": {
        "name": "made",
        "description": "usual",
        "limit_usd": 5,
        "reset_interval": "daily",
        "allowed_providers": ["openai"],
        "ignored_models": ["a/b"],
        "enforce_zdr": True,
        "content_filter_builtins": [{"slug": "email", "action": "redact"}],
    },
    "PATCH /api/v1/guardrails/{id}": {"name": "made", "limit_usd": 7, "reset_interval": "weekly"},
    "POST /api/v1/guardrails/{id}/assignments/keys": {"key_hashes": ["0" * 64]},
    "POST /api/v1/guardrails/{id}/assignments/keys/remove": {"key_hashes": ["0" * 64]},
    "POST /api/v1/guardrails/{id}/assignments/members": {"member_user_ids": ["usr_1"]},
    "POST /api/v1/guardrails/{id}/assignments/members/remove": {"member_user_ids": ["usr_1"]},
    "POST /api/v1/auth/keys/code": {
        "callback_url": "https://app.example/back",
        "code_challenge": "c" * 43,
        "limit": 3,
        "code_challenge_method": "S256",
        "key_label": "app",
        "usage_limit_type": "daily",
    },
    "POST /api/v1/auth/keys": {"code": "auth_code_x", "code_verifier": "v" * 43, "code_challenge_method": "S256"},
    "POST /api/v1/credits/coinbase": {"amount": 100, "sender": "0x0", "chain_id": 1},
    "POST /v1/chat/completions": {**ASKED, "provider": "sim", "tools": TOOLS},
    "POST /api/providers": CONNECTION,
    "PATCH /api/providers/{id}": {"maxConcurrent": 5, "isActive": True, "headers": {"x-a": "b"}, "tags": ["a"]},
    "POST /api/providers/validate": {**CONNECTION, "baseUrl": "http://127.0.0.1:9/v1"},
    "POST /api/providers/test-batch": {"mode": "provider", "providerId": "openai"},
    "POST /api/providers/agy-auth/import-bulk": {"entries": [{"json": {"access_token": "a"}}]},
    "POST /api/keys": {"label": "Laptop", "quotaCredits": 5, "allowedModels": ["a/*"], "scopes": ["manage"]},
    "POST /api/cli/connect": {"password": "four words", "name": "Laptop", "scope": "read", "expiresInDays": 1},
    "POST /api/cli/tokens": {"name": "Laptop", "scope": "read", "expiresInDays": 1},
    "PUT /api/settings/ip-filter": {"addBlacklist": "192.0.2.1", "tempBan": {"ip": "192.0.2.2"}},
    "PATCH /api/keys/{id}": {"name": "Den", "maxSessions": 2, "noLog": True, "dailyUsageLimitUsd": 1.5},
    "POST /api/agents/register": {"agentId": "ops-agent-001", "name": "Ops"},
    "POST /api/provider-nodes": NODE,
    "PATCH /api/provider-nodes/{id}": {"name": "Den", "prefix": "den"},
    "POST /api/provider-nodes/validate": {**NODE, "apiKey": UPSTREAM_KEY},
    "POST /api/combos": COMBO,
    "PATCH /api/combos/{id}": {"strategy": "random", "models": [CHAT]},
    "POST /api/combos/test": {"comboName": "mine"},
    "POST /api/models/alias": {"alias": "other-*", "model": CHAT},
    "POST /api/rate-limit": {"connectionId": "sim", "enabled": True},
    "PATCH /api/resilience": RESILIENCE,
    "POST /api/fallback/chains": CHAIN,
    "DELETE /api/fallback/chains": {"model": "sim-model"},
    "POST /api/translator/detect": {"body": ASKED},
    "POST /api/translator/translate": {"sourceFormat": "openai", "targetFormat": "claude", "body": ASKED},
    "POST /api/translator/send": {"provider": "sim", "body": ASKED},
}
