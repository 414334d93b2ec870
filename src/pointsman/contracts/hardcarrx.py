"""The operations of Hardcarrx's contract: method, native path, who serves it, who may call it, status of success."""

from pointsman.contracts.operations import EDGE, INFERENCE, PUBLIC, VIEWS, Contract, list_operations

OPERATIONS = list_operations(
    Contract.HARDCARRX,
    ("GET", "/v1/models", EDGE, PUBLIC, 200),
    ("POST", "/v1/chat/completions", EDGE, INFERENCE, 200),
    ("POST", "/memory/store", None, INFERENCE, 200),
    ("POST", "/v1/memory/query", None, INFERENCE, 200),
    ("GET", "/v1/request-logs", VIEWS, INFERENCE, 200),
)
