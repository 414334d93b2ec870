"""The operations of Hybrid Thinking: method, native path, who serves it, who may call it, status of success."""

from pointsman.contracts.operations import EDGE, USER, Contract, list_operations

OPERATIONS = list_operations(
    Contract.HYBRID,
    ("POST", "/v1/tokens", None, USER, 200),
    ("DELETE", "/v1/tokens", None, USER, 200),
    ("POST", "/v1/run-hybrid", None, USER, 202),
    ("POST", "/v1/run-workflow", None, USER, 202),
    ("GET", "/v1/jobs/{jobId}", None, USER, 200),
    ("GET", "/v1/workflows", None, USER, 200),
    ("POST", "/v1/workflows", None, USER, 200),
    ("GET", "/v1/workflows/{name}", None, USER, 200),
    ("DELETE", "/v1/workflows/{name}", None, USER, 200),
    ("GET", "/v1/models", EDGE, USER, 200),
    ("GET", "/v1/models/{modelId}/health", EDGE, USER, 200),
)
