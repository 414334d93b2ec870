"""Calls to a running gateway, each answer held against a contract's OpenAPI document as it is served."""

import json
import re
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema_rs
from contract_shapes import SHAPES, SHAPES_OF

from gateway import KEY, RunningGateway
from pointsman.contracts.documents import served_document
from pointsman.contracts.operations import Contract


class ContractClient:
    """Calls one contract's operations below its mount, or at their bare paths."""

    def __init__(
        self, gateway: RunningGateway, contract: Contract, *, key: str | None = KEY, mounted: bool = True
    ) -> None:
        headers = {"authorization": f"Bearer {key}"} if key is not None else {}
        base = f"{gateway.address}/{contract}" if mounted else gateway.address
        self._client = httpx.Client(base_url=base, headers=headers, timeout=20)
        self._document = served_document(contract)
        self.contract = contract
        self.asked: set[tuple[str, str]] = set()  # operations that gave a success

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()

    def parameters(self, path: str) -> list[str]:
        """The names of a path's parameters."""
        return re.findall(r"\{([^}]*)\}", path)

    def ask(self, method: str, path: str, body: Any = None, /, *, status: int | None = None, **sent: Any) -> Any:
        """The decoded answer to an operation, checked against its document; ``path`` is the document's.

        ``status``: the one that is expected, else the operation's success. ``sent``: the path's parameters by name, and
        ``query``, ``headers`` or ``content``.
        """
        told = self._document["paths"][path][method.lower()]
        place = re.sub(r"\{([^}]*)\}", lambda found: quote(str(sent[found[1]]), safe=":"), path)
        more = {"json": body} if body is not None else {}
        if "content" in sent:
            more = {"content": sent["content"]}
        response = self._client.request(method, place, params=sent.get("query"), headers=sent.get("headers"), **more)
        wanted = success(told) if status is None else status
        assert response.status_code == wanted, f"{method} {place}: {response.status_code} {response.text[:500]}"
        found = self.check(method, path, response)
        if response.status_code < 400:
            self.asked.add((method, path))
        return found

    def check(self, method: str, path: str, response: httpx.Response) -> Any:
        """The decoded body of an answer that the document allows; AssertionError says what is wrong with any other."""
        told = self._document["paths"][path][method.lower()]
        answers = told["responses"]
        assert str(response.status_code) in answers, f"{method} {path}: undocumented {response.status_code}"
        answer = self._resolve(answers[str(response.status_code)])
        kind = response.headers.get("content-type", "").partition(";")[0]
        if kind != "application/json":
            return response.content
        found = response.json()
        for schema in self._schemas(method, path, response.status_code, answer):
            jsonschema_rs.validate({**schema, "components": self._document["components"]}, found)
        return found

    def _schemas(self, method: str, path: str, status: int, answer: dict[str, Any]) -> list[dict[str, Any]]:
        found = answer.get("content", {}).get("application/json", {}).get("schema")
        shapes = {**SHAPES, **SHAPES_OF.get(self.contract, {})}
        shape = shapes.get((method, path)) if status < 400 else None
        return [schema for schema in (found, shape) if schema]

    def _resolve(self, part: dict[str, Any]) -> dict[str, Any]:
        reference = part.get("$ref")
        if reference is None:
            return part
        found: Any = self._document
        for name in reference.removeprefix("#/").split("/"):
            found = found[name]
        return dict(found)


def success(told: dict[str, Any]) -> int:
    """The first status of success that a document has for an operation."""
    return min(int(status) for status in told["responses"] if status.startswith("2"))


def events(content: bytes) -> list[Any]:
    """The JSON of a stream's events."""
    lines = [line[6:] for line in content.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]
