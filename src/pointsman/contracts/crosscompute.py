"""The operations of CrossCompute's contract: method, native path, who serves it, who may call it, status of success."""

from pointsman.contracts.operations import AGENT, EDGE, INFERENCE, PUBLIC, USER, VIEWS, Contract, list_operations

# Paths that its document does not have, and its pages name.
MORE_PATHS = (
    "/api/agents/usage-models", "/api/agents/skill-md", "/robots.txt", "/llms.txt", "/openapi.json",
    "/api-parameters.md", "/agent-skill.md", "/.well-known/agent-trust-policy.json", "/.well-known/ai-plugin.json",
    "/.well-known/security.txt",
)  # fmt: skip
OPERATIONS = list_operations(
    Contract.CROSSCOMPUTE,
    ("GET", "/health", EDGE, PUBLIC, 200),
    ("GET", "/api/config", VIEWS, PUBLIC, 200),
    ("GET", "/api/me", VIEWS, USER, 200),
    ("POST", "/api/bootstrap-account", VIEWS, USER, 200),
    ("GET", "/api/keys", VIEWS, USER, 200),
    ("POST", "/api/keys", VIEWS, USER, 200),
    ("POST", "/api/keys/{id}/deactivate", VIEWS, USER, 200),
    ("POST", "/api/agents/register", VIEWS, PUBLIC, 200),
    ("GET", "/api/agents/me", VIEWS, AGENT, 200),
    ("GET", "/api/agents/usage", VIEWS, AGENT, 200),
    ("POST", "/api/agents/topup", VIEWS, AGENT, 200),
    ("GET", "/v1/models", EDGE, INFERENCE, 200),
    ("GET", "/v1/models/{model_id}", EDGE, INFERENCE, 200),
    ("POST", "/v1/chat/completions", EDGE, INFERENCE, 200),
)
