"""``/api/pointsman/route/...``: where a request would go and why, and why one went where it did."""

from typing import Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.omniroute.management import admit
from pointsman.dry_run import judged, read_asked, route_of
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Gateway
from pointsman.pursuit import problem_of
from pointsman.routing.explain import explained
from pointsman.routing.profiles.narrowing import narrowed
from pointsman.routing.replay import replayed
from pointsman.storage.requests import RequestRepository

MAX_ID: Final = 100


class RouteExplanations:
    """The views."""

    def __init__(self, gateway: Gateway, requests: RequestRepository) -> None:
        self._gateway = gateway
        self._requests = requests

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @post("/api/pointsman/route/explain", status_code=200)
        async def explain_route(request: Request[Any, Any, Any]) -> Response[bytes]:
            key = admit(request)
            asked = read_asked(await request.body(), self._gateway.snapshot.presets)
            route = route_of(asked, self._gateway.snapshot.catalogue)
            problem = problem_of(self._gateway, judged(asked, route), route, key.workspace_id)
            return _json(explained(narrowed(problem) if route.kind == "profile" else problem))

        @get("/api/pointsman/route/replay")
        async def replay_route(request: Request[Any, Any, Any]) -> Response[bytes]:
            key = admit(request)
            request_id = request.query_params.get("request_id") or ""
            if not 1 <= len(request_id) <= MAX_ID:
                raise GatewayError(Kind.INVALID_REQUEST, "'request_id' is missing or too long", param="request_id")
            kept = await self._requests.find_plan(request_id, key.workspace_id)
            if kept is None:
                raise GatewayError(Kind.NOT_FOUND, "no routing decision is kept of this request")
            return _json({"request_id": request_id, **replayed(kept)})

        return [explain_route, replay_route]


def _json(value: Any) -> Response[bytes]:
    return Response(msgspec.json.encode(value), media_type="application/json")
