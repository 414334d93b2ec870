"""``/api/v1/presets``: requests filled in beforehand. For administrators."""

from typing import Any, Final

from litestar import Response, delete, get, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pointsman.api.exchange import MAX_OFFSET, HttpRequest, answer, number, read_body
from pointsman.api.omniroute.resilience import Apply
from pointsman.api.openrouter.exchange import words_of
from pointsman.policy.presets import PresetService
from pointsman.storage.presets import PresetRow

MAX_LISTED: Final = 200
PATH: Final = "/api/v1/presets"
ONE: Final = "/api/v1/presets/{slug:str}"
_NOT_KEPT: Final = dict.fromkeys(
    (
        "description", "creator_user_id", "workspace_id", "status_updated_at", "designated_version_id",
        "designated_version",
    )
)  # fmt: skip


class PresetViews:
    """The views."""

    def __init__(self, service: PresetService, apply: Apply) -> None:
        self._service = service
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """One per operation."""

        @get(PATH)
        async def list_presets(request: HttpRequest) -> Response[bytes]:
            limit = number(request, "limit", MAX_LISTED, (0, MAX_LISTED))
            offset = number(request, "offset", 0, (0, MAX_OFFSET))
            rows = await self._service.list()
            data = [_shown(row) for row in rows[offset : offset + limit]]
            return answer({"data": data, "total_count": len(rows)})

        @get(ONE)
        async def show(request: HttpRequest, slug: FromPath[str]) -> Response[bytes]:
            return answer({"data": _shown(await self._service.find(slug))})

        @put(ONE)
        async def store(request: HttpRequest, slug: FromPath[str]) -> Response[bytes]:
            row, revision = await self._service.put(slug, await read_body(request, dict[str, Any]))
            await self._apply(revision)
            return answer({"data": _shown(row)})

        @delete(ONE, status_code=200)
        async def remove(request: HttpRequest, slug: FromPath[str]) -> Response[bytes]:
            await self._apply(await self._service.remove(slug))
            return answer({"deleted": True})

        return [list_presets, show, store, remove]


def _shown(row: PresetRow) -> dict[str, Any]:
    """A preset with what OpenRouter's clients demand of one. Presets have no versions here, and are nobody's own."""
    return {
        **_NOT_KEPT,
        "id": row.slug,
        "slug": row.slug,
        "name": row.slug,
        "status": "active",
        **row.document,
        "created_at": words_of(row.created_at),
        "updated_at": words_of(row.updated_at),
    }
