"""``/openapi/{contract}.json``: what is served of each contract, for tools that read OpenAPI documents. Public."""

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest
from pointsman.contracts.documents import served_document
from pointsman.contracts.operations import Contract
from pointsman.errors import GatewayError, Kind


class ContractDocuments:
    """The view. A document is written when it is first asked for, and kept."""

    def __init__(self) -> None:
        self._written: dict[Contract, bytes] = {}

    def handler(self) -> HTTPRouteHandler:
        """The route for Litestar."""

        @get("/openapi/{name:str}")
        async def show(request: HttpRequest) -> Response[bytes]:
            name = request.path_params["name"]
            contract = next((one for one in Contract if name == f"{one}.json"), None)
            if contract is None:
                known = ", ".join(f"{one}.json" for one in Contract)
                raise GatewayError(Kind.NOT_FOUND, f"there is no such document; known: {known}")
            if contract not in self._written:
                self._written[contract] = msgspec.json.encode(served_document(contract))
            return Response(self._written[contract], media_type="application/json")

        return show
