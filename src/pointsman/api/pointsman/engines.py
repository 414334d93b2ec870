"""``/api/pointsman/profiles/notdiamond``: who chooses among a profile's models. The key goes in and never comes out."""

from typing import Any, Final

from litestar import Response, delete, get, put
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer, decoded, wrong
from pointsman.api.omniroute.resilience import Apply
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.keyring import Secret
from pointsman.upstream.engines import EngineOfFileError, EngineService

PATH: Final = "/api/pointsman/profiles/notdiamond"


class EngineViews:
    """The views."""

    def __init__(self, engines: EngineService, apply: Apply) -> None:
        self._engines = engines
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get(PATH)
        async def show_engine(request: HttpRequest) -> Response[bytes]:
            return answer(await self._engines.shown())

        @put(PATH, status_code=200)
        async def set_engine(request: HttpRequest) -> Response[bytes]:
            await self._set(await request.body())
            return answer(await self._engines.shown())

        @delete(PATH, status_code=200)
        async def remove_engine(request: HttpRequest) -> Response[bytes]:
            try:
                revision = await self._engines.remove()
            except ConfigError as error:
                raise _refusal(error) from None
            if revision is None:
                raise GatewayError(Kind.NOT_FOUND, "no such service is configured")
            await self._apply(revision)
            return answer({"configured": False})

        return [show_engine, set_engine, remove_engine]

    async def _set(self, body: bytes) -> None:
        changes = decoded(body, dict[str, Any])
        key = changes.pop("api_key", None)
        if key is not None and not isinstance(key, str):
            raise wrong("api_key", "must be a text")
        try:
            await self._apply(await self._engines.set(changes, Secret(key) if key is not None else None))
        except ConfigError as error:
            raise _refusal(error) from None


def _refusal(error: ConfigError) -> GatewayError:
    if isinstance(error, EngineOfFileError):
        return GatewayError(Kind.INVALID_REQUEST, str(error), status=409)
    field = str(error).partition(":")[0].partition(".")[2]
    return GatewayError(Kind.INVALID_REQUEST, str(error), param=field or None)
