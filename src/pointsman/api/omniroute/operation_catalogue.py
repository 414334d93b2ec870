"""``GET /api/openapi/spec``: what is served of OmniRoute's contract, as a flat list to look through. Public."""

from typing import Any, Final

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer
from pointsman.contracts.documents import served_document
from pointsman.contracts.operations import Contract

METHODS: Final = ("get", "post", "put", "patch", "delete")


class OperationCatalogue:
    """The view. The list is made when it is first asked for, and kept."""

    def __init__(self) -> None:
        self._catalogue: dict[str, Any] | None = None

    def handler(self) -> HTTPRouteHandler:
        """The route for Litestar."""

        @get("/api/openapi/spec")
        async def show(request: HttpRequest) -> Response[bytes]:
            if self._catalogue is None:
                self._catalogue = catalogue(served_document(Contract.OMNIROUTE))
            return answer(self._catalogue)

        return show


def catalogue(document: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI document's operations as a list, and the names of its schemas."""
    endpoints = [
        _endpoint(method, path, item[method]) for path, item in document["paths"].items() for method in METHODS
        if method in item
    ]  # fmt: skip
    return {
        "info": document["info"],
        "servers": document["servers"],
        "tags": document.get("tags", []),
        "endpoints": endpoints,
        "schemas": sorted(document["components"]["schemas"]),
    }


def _endpoint(method: str, path: str, told: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": method.upper(),
        "path": path,
        "tags": told.get("tags", []),
        "summary": told.get("summary", ""),
        "description": told.get("description", ""),
        "security": bool(told.get("security")),
        "parameters": told.get("parameters", []),
        "requestBody": "requestBody" in told,
        "responses": list(told["responses"]),
    }
