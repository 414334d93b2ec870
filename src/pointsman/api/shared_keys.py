"""``/api/keys``, a path of two contracts: people with a token see their own keys as CrossCompute has them."""

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.crosscompute.client import HttpRequest, is_its_client
from pointsman.api.crosscompute.keys import CrossComputeKeys
from pointsman.api.omniroute.management import ManagementError


class SharedKeys:
    """The views."""

    def __init__(self, crosscompute: CrossComputeKeys) -> None:
        self._crosscompute = crosscompute

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/keys")
        async def list_keys(request: HttpRequest) -> Response[bytes]:
            if is_its_client(request.scope):
                return await self._crosscompute.list_keys(request)
            raise ManagementError(404, "Not found")

        @post("/api/keys", status_code=201)
        async def create_key(request: HttpRequest) -> Response[bytes]:
            if is_its_client(request.scope):
                return await self._crosscompute.create_key(request)
            raise ManagementError(404, "Not found")

        return [list_keys, create_key]
