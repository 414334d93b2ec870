"""``/api/combos``, ``/api/settings/combo-defaults`` and ``/api/fallback/chains``.

A change is in effect at every server when its answer comes, or after three seconds at the latest.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from litestar import Response, delete, get, patch, post, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.management import ManagementError, admit, invalid, read_object, whole_number
from pointsman.gateway import Gateway
from pointsman.policy.combos import ComboNotFoundError, ComboRefusedError, ComboService
from pointsman.routing.combo_shapes import InvalidFieldsError

MAX_LISTED: Final = 2000
Apply = Callable[[int], Awaitable[bool]]
T = TypeVar("T")


class Combos:
    """The views of combos."""

    def __init__(self, gateway: Gateway, service: ComboService, apply: Apply) -> None:
        """``apply`` waits until every server works with a revision."""
        self._gateway = gateway
        self._service = service
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/combos")
        async def list_combos(request: HttpRequest) -> Response[bytes]:
            admit(request)
            limit = whole_number(request, "limit", MAX_LISTED, (1, MAX_LISTED))
            offset = whole_number(request, "offset", 0, (0, 1_000_000))
            found = await self._service.list_all()
            return answer({"combos": found[offset : offset + limit], "total": len(found)})

        @post("/api/combos", status_code=201)
        async def create(request: HttpRequest) -> Response[bytes]:
            admit(request)
            combo, revision = await told(self._service.create(await read_object(request)))
            return await self._applied(combo, revision, 201)

        @get("/api/combos/{combo_id:str}")
        async def show(request: HttpRequest, combo_id: FromPath[str]) -> Response[bytes]:
            admit(request)
            return answer(await told(self._service.find(combo_id)))

        @put("/api/combos/{combo_id:str}")
        async def replace(request: HttpRequest, combo_id: FromPath[str]) -> Response[bytes]:
            return await self._change(request, combo_id)

        @patch("/api/combos/{combo_id:str}")
        async def change(request: HttpRequest, combo_id: FromPath[str]) -> Response[bytes]:
            return await self._change(request, combo_id)

        @delete("/api/combos/{combo_id:str}", status_code=200)
        async def remove(request: HttpRequest, combo_id: FromPath[str]) -> Response[bytes]:
            admit(request)
            await self._apply(await told(self._service.remove(combo_id)))
            return answer({"success": True})

        @post("/api/combos/reorder", status_code=200)
        async def reorder(request: HttpRequest) -> Response[bytes]:
            admit(request)
            body = await read_object(request)
            ids = body.get("comboIds", body.get("ids"))
            if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids) or len(ids) > MAX_LISTED:
                raise invalid([("comboIds", f"must be a list of at most {MAX_LISTED} ids")])
            await self._apply(await told(self._service.reorder(ids)))
            return answer({"success": True, "combos": await self._service.list_all()})

        return [list_combos, create, show, replace, change, remove, reorder]

    async def _change(self, request: HttpRequest, combo_id: str) -> Response[bytes]:
        admit(request)
        combo, revision = await told(self._service.change(combo_id, await read_object(request)))
        return await self._applied(combo, revision, 200)

    async def _applied(self, combo: dict[str, Any], revision: int, status: int) -> Response[bytes]:
        """The stored combo, and a warning when its name hides a model's."""
        await self._apply(revision)
        hidden = self._gateway.snapshot.catalogue.named(combo["name"])
        if hidden is not None:
            warning = {
                "code": "COMBO_NAME_SHADOWS_MODEL",
                "modelId": hidden.model,
                "providerId": hidden.connection.vendor,
                "message": f"the model '{hidden.id}' can't be reached by this name any more",
            }
            combo = {**combo, "warning": warning}
        return answer(combo, status)


class ComboOptions:
    """The views of what holds for all combos, and of fallback chains."""

    def __init__(self, gateway: Gateway, service: ComboService, apply: Apply) -> None:
        self._gateway = gateway
        self._service = service
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/settings/combo-defaults")
        async def show(request: HttpRequest) -> Response[bytes]:
            admit(request)
            return answer(await self._service.options())

        @patch("/api/settings/combo-defaults")
        async def change(request: HttpRequest) -> Response[bytes]:
            return await self._set(request)

        @put("/api/settings/combo-defaults")
        async def replace(request: HttpRequest) -> Response[bytes]:
            return await self._set(request)

        @get("/api/fallback/chains")
        async def chains(request: HttpRequest) -> Response[bytes]:
            admit(request)
            return answer(await self._service.chains())

        @post("/api/fallback/chains", status_code=200)
        async def set_chain(request: HttpRequest) -> Response[bytes]:
            admit(request)
            body = await read_object(request)
            await self._apply(await told(self._service.set_chain(body)))
            return answer({"success": True, "model": body["model"]})

        @delete("/api/fallback/chains", status_code=200)
        async def remove_chain(request: HttpRequest) -> Response[bytes]:
            admit(request)
            model = request.query_params.get("model") or (await read_object(request)).get("model")
            if not isinstance(model, str) or not model:
                raise invalid([("model", "is missing")])
            revision = await self._service.remove_chain(model)
            if revision is not None:
                await self._apply(revision)
            return answer({"success": True, "removed": revision is not None})

        return [show, change, replace, chains, set_chain, remove_chain]

    async def _set(self, request: HttpRequest) -> Response[bytes]:
        admit(request)
        options, revision = await told(self._service.set_options(await read_object(request)))
        await self._apply(revision)
        return answer(options)


async def told(work: Awaitable[T]) -> T:
    """What ``work`` gives; what the service refuses becomes an answer of the contract."""
    try:
        return await work
    except InvalidFieldsError as error:
        raise invalid(error.faults) from None
    except ComboRefusedError as error:
        raise ManagementError(400, str(error)) from None
    except ComboNotFoundError:
        raise ManagementError(404, "Combo not found") from None
