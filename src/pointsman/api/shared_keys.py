"""``/api/keys``, a path of two contracts: people with a token see their own keys as CrossCompute has them,
and administrators those of OmniRoute's clients."""

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.crosscompute.client import is_its_client
from pointsman.api.crosscompute.keys import CrossComputeKeys
from pointsman.api.exchange import HttpRequest
from pointsman.api.omniroute.keys import OmniRouteKeys


class SharedKeys:
    """The views."""

    def __init__(self, omniroute: OmniRouteKeys, crosscompute: CrossComputeKeys) -> None:
        self._omniroute = omniroute
        self._crosscompute = crosscompute

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/keys")
        async def list_keys(request: HttpRequest) -> Response[bytes]:
            if is_its_client(request.scope):
                return await self._crosscompute.list_keys(request)
            return await self._omniroute.list_keys(request)

        @post("/api/keys", status_code=201)
        async def create_key(request: HttpRequest) -> Response[bytes]:
            if is_its_client(request.scope):
                return await self._crosscompute.create_key(request)
            return await self._omniroute.create_key(request)

        return [list_keys, create_key]
