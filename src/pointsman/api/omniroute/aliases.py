"""Other names for models: OmniRoute's `/api/models/alias`."""

from typing import Any

from litestar import Response, delete, get, post, put
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.configured import note
from pointsman.api.omniroute.management import ManagementError, admit, invalid, read_object
from pointsman.api.omniroute.resilience import Apply
from pointsman.policy.aliases import AliasNotFoundError, AliasRefusedError, AliasService

PATH = "/api/models/alias"
_FIELDS = {"name": "alias", "target": "model"}  # ours by the contract's


class Aliases:
    """The views. For administrators."""

    def __init__(self, service: AliasService, apply: Apply) -> None:
        self._service = service
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """One per operation."""

        @get(PATH)
        async def list_aliases(request: HttpRequest) -> Response[bytes]:
            admit(request)
            return answer({"aliases": {one.name: one.target for one in await self._service.list_all()}})

        @post(PATH, status_code=200)
        async def create(request: HttpRequest) -> Response[bytes]:
            return await self._put(request)

        @put(PATH)
        async def change(request: HttpRequest) -> Response[bytes]:
            return await self._put(request)

        @delete(PATH, status_code=200)
        async def remove(request: HttpRequest) -> Response[bytes]:
            key = admit(request)
            name = request.query_params.get("alias", "")
            try:
                await self._apply(await self._service.remove(name))
            except AliasNotFoundError:
                raise ManagementError(404, "Alias not found") from None
            except AliasRefusedError as error:
                raise invalid([(_FIELDS[error.field], str(error))]) from None
            note("alias removed", key, name)
            return answer({"success": True})

        return [list_aliases, create, change, remove]

    async def _put(self, request: HttpRequest) -> Response[bytes]:
        key = admit(request)
        body = await read_object(request)
        name, target = _text(body, "alias"), _text(body, "model")
        try:
            await self._apply(await self._service.put(name, target))
        except AliasRefusedError as error:
            raise invalid([(_FIELDS[error.field], str(error))]) from None
        note("alias set", key, name)
        return answer({"success": True, "model": target, "alias": name})


def _text(body: dict[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str):
        raise invalid([(field, "must be a text")])
    return value
