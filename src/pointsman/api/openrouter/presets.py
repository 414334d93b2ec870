"""``/api/v1/presets``: requests filled in beforehand. For administrators."""

from typing import Any, Final

import msgspec
from litestar import Request, Response, delete, get, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pointsman.api.omniroute.resilience import Apply
from pointsman.api.openrouter.exchange import words_of
from pointsman.errors import GatewayError, Kind
from pointsman.policy.presets import PresetService
from pointsman.storage.presets import PresetRow
from pointsman.wire.json_faults import describe

MAX_BODY: Final = 1024 * 1024
MAX_LISTED: Final = 200
PATH: Final = "/api/v1/presets"
ONE: Final = "/api/v1/presets/{slug:str}"
HttpRequest = Request[Any, Any, Any]
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
            limit, offset = _number(request, "limit", MAX_LISTED, MAX_LISTED), _number(request, "offset", 0, 10**6)
            rows = await self._service.list()
            data = [_shown(row) for row in rows[offset : offset + limit]]
            return _json({"data": data, "total_count": len(rows)})

        @get(ONE)
        async def show(request: HttpRequest, slug: FromPath[str]) -> Response[bytes]:
            return _json({"data": _shown(await self._service.find(slug))})

        @put(ONE)
        async def store(request: HttpRequest, slug: FromPath[str]) -> Response[bytes]:
            row, revision = await self._service.put(slug, await _object(request))
            await self._apply(revision)
            return _json({"data": _shown(row)})

        @delete(ONE, status_code=200)
        async def remove(request: HttpRequest, slug: FromPath[str]) -> Response[bytes]:
            await self._apply(await self._service.remove(slug))
            return _json({"deleted": True})

        return [list_presets, show, store, remove]


async def _object(request: HttpRequest) -> dict[str, Any]:
    body = await request.body()
    if len(body) > MAX_BODY:
        raise GatewayError(Kind.INVALID_REQUEST, f"the body is longer than {MAX_BODY} bytes", param="body")
    try:
        found: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise describe(error, body) from None
    return found


def _number(request: HttpRequest, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= most):
        raise GatewayError(Kind.INVALID_REQUEST, f"'{name}' must be a whole number up to {most}", param=name)
    return int(text)


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


def _json(value: Any) -> Response[bytes]:
    return Response(msgspec.json.encode(value), media_type="application/json")
