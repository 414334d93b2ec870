"""The OpenAPI document of each contract as it is served here: operations that nobody serves yet are left out.

It is the contract's own document with its native paths, and with the answers that this gateway gives beside those that
the contract names: refusals of a credential, of a body or a parameter, of an unknown id. Every refusal has a schema.
"""

import json
from collections.abc import Iterable
from copy import deepcopy
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

from pointsman.contracts.operations import PUBLIC, Contract, Operation, Plane, operations_of

_FILES: Final = MappingProxyType({Contract.HYBRID: "hybrid_thinking"})
# What the paths of a document stand below.
_NATIVE: Final = MappingProxyType({Contract.OPENROUTER: "/api/v1", Contract.HYBRID: "/v1"})
_TEXT: Final = {"type": "string"}
_NESTED: Final = {"type": "object", "required": ["message"], "properties": {"message": _TEXT}}
_OF_OPENAI: Final = {"type": "object", "required": ["error"], "properties": {"error": _NESTED}}
_WITH_CODE: Final = {
    **_NESTED,
    "required": ["code", "message"],
    "properties": {"code": {"type": "integer"}, "message": _TEXT},
}
_NUMBERED: Final = {"type": "object", "required": ["error"], "properties": {"error": _WITH_CODE}}
_FLAT: Final = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": _TEXT, "message": _TEXT, "details": {"type": "object"}},
}
_WORDS_OR_OBJECT: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"anyOf": [{"type": "string"}, _NESTED]}},
}
# How each contract's clients read a refusal.
REFUSALS: Final = MappingProxyType(
    {
        Contract.OPENROUTER: _NUMBERED,
        Contract.OMNIROUTE: _WORDS_OR_OBJECT,
        Contract.CROSSCOMPUTE: _OF_OPENAI,
        Contract.HARDCARRX: _NUMBERED,
        Contract.HYBRID: _FLAT,
    }
)
# Paths where clients of another API come, who read its refusals.
_WITH_TYPE: Final = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {"type": {"const": "error"}, "error": _NESTED},
}
_ONE_TEXT: Final = {"type": "object", "required": ["error"], "properties": {"error": _TEXT}}
_BY_PATH: Final = MappingProxyType(
    {
        "/api/v1/messages": _WITH_TYPE,
        "/api/v1/api/chat": _ONE_TEXT,
        "/api/tags": _ONE_TEXT,
        "/api/v1beta/": _NUMBERED,
    }
)
# Statuses of calls to models, beside those that the contract names. The contracts of `_ALL_NAMED` name all of theirs.
_CALLS: Final = ("400", "402", "403", "404", "408", "413", "429", "500", "502", "503", "504")
_ALL_NAMED: Final = frozenset((Contract.HARDCARRX, Contract.HYBRID))
# Beside those of their kind: conflicts with what is there already (another of the name, or what stands in the
# configuration file), and a body that names what is not there.
_MORE: Final = MappingProxyType(
    {
        ("POST", "/api/v1/credits/coinbase"): "410",
        ("GET", "/api/v1/organization/members"): "404",
        ("POST", "/api/agents/register"): "429",
        ("POST", "/api/providers"): "409",
        ("PATCH", "/api/providers/{id}"): "409",
        ("DELETE", "/api/providers/{id}"): "409",
        ("POST", "/api/provider-nodes"): "409",
        ("PATCH", "/api/provider-nodes/{id}"): "409",
        ("POST", "/api/combos/test"): "404",
    }
)


def contract_document(contract: Contract) -> dict[str, Any]:
    """The contract's document whole, as its makers wrote it; paths as they stand there."""
    name = _FILES.get(contract, contract.value)
    found: dict[str, Any] = json.loads(_read(name))
    return found


@cache
def _read(name: str) -> bytes:
    return (resources.files("pointsman.contracts") / "specs" / f"{name}.json").read_bytes()


def served_document(contract: Contract) -> dict[str, Any]:
    """The contract's document as it is served here."""
    document = contract_document(contract)
    base, paths = _NATIVE.get(contract, ""), document["paths"]
    served: dict[str, Any] = {}
    for operation in operations_of(contract):
        if operation.plane is None:
            continue
        item = paths[operation.path.removeprefix(base)]
        kept = served.setdefault(operation.path, {"parameters": item["parameters"]} if "parameters" in item else {})
        told = deepcopy(item[operation.method.lower()])
        told["responses"] = _responses(document, operation, told)
        kept[operation.method.lower()] = told
    document["paths"] = served
    document["servers"] = [{"url": "/"}]
    return document


def _responses(document: dict[str, Any], operation: Operation, told: dict[str, Any]) -> dict[str, Any]:
    """The answers of an operation: the contract's, and ours; each refusal with its schema."""
    found: dict[str, Any] = dict(told["responses"])
    for status in _added(operation, told):
        found.setdefault(status, {"description": "Refused."})
    for response in found.values():
        if "text/event-stream" in response.get("content", {}):
            response["content"]["text/event-stream"] = {}  # "a string" tells tools of events nothing true
    schema = refusal_of(operation)
    for status, response in found.items():
        if status >= "400":
            words = _resolve(document, response).get("description") or "Refused."
            found[status] = {"description": words, "content": {"application/json": {"schema": schema}}}
    return found


def refusal_of(operation: Operation) -> dict[str, Any]:
    """The schema of an operation's refusals."""
    shapes = (shape for prefix, shape in _BY_PATH.items() if operation.path.startswith(prefix))
    return next(shapes, REFUSALS[operation.contract])


def _added(operation: Operation, told: dict[str, Any]) -> Iterable[str]:
    if operation.credentials != PUBLIC:
        yield "401"
        if operation.contract in (Contract.OMNIROUTE, Contract.OPENROUTER):
            yield "403"
    if operation.contract in _ALL_NAMED:
        if operation.method == "GET":
            yield "400"
        return
    yield "400"
    if "{" in operation.path:
        yield "404"
    if (operation.method, operation.path) in _MORE:
        yield _MORE[operation.method, operation.path]
    if operation.plane is Plane.EDGE and operation.method == "POST":
        yield from _CALLS


def _resolve(document: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    reference = response.get("$ref")
    if reference is None:
        return response
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)
