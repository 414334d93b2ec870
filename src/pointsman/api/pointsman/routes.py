"""``/api/pointsman/route/...``: where a request would go and why, and why one went where it did."""

from typing import Final

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer, wrong
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
        async def explain_route(request: HttpRequest) -> Response[bytes]:
            key = admit(request)
            asked = read_asked(await request.body(), self._gateway.snapshot.presets)
            route = route_of(asked, self._gateway.snapshot.catalogue)
            problem = problem_of(self._gateway, judged(asked, route), route, key.workspace_id)
            return answer(explained(narrowed(problem) if route.kind == "profile" else problem))

        @get("/api/pointsman/route/replay")
        async def replay_route(request: HttpRequest) -> Response[bytes]:
            key = admit(request)
            request_id = request.query_params.get("request_id") or ""
            if not 1 <= len(request_id) <= MAX_ID:
                raise wrong("request_id", "is missing or too long")
            kept = await self._requests.find_plan(request_id, key.workspace_id)
            if kept is None:
                raise GatewayError(Kind.NOT_FOUND, "no routing decision is kept of this request")
            return answer({"request_id": request_id, **replayed(kept)})

        return [explain_route, replay_route]
