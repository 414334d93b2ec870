"""The operations of CrossCompute's contract: method, native path, who serves it, who may call it, status of success."""

from pointsman.contracts.operations import AGENT, EDGE, INFERENCE, PUBLIC, USER, Contract, list_operations

OPERATIONS = list_operations(
    Contract.CROSSCOMPUTE,
    ("GET", "/health", EDGE, PUBLIC, 200),
    ("GET", "/api/config", None, PUBLIC, 200),
    ("GET", "/api/me", None, USER, 200),
    ("POST", "/api/bootstrap-account", None, USER, 200),
    ("GET", "/api/keys", None, USER, 200),
    ("POST", "/api/keys", None, USER, 200),
    ("POST", "/api/keys/{id}/deactivate", None, USER, 200),
    ("POST", "/api/agents/register", None, PUBLIC, 200),
    ("GET", "/api/agents/me", None, AGENT, 200),
    ("GET", "/api/agents/usage", None, AGENT, 200),
    ("POST", "/api/agents/topup", None, AGENT, 200),
    ("GET", "/v1/models", EDGE, INFERENCE, 200),
    ("GET", "/v1/models/{model_id}", EDGE, INFERENCE, 200),
    ("POST", "/v1/chat/completions", EDGE, INFERENCE, 200),
)
