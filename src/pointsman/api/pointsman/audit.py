"""``GET /api/pointsman/audit``: the audit log by pages, newest first, for those who may manage the gateway."""

from typing import Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler

from pointsman.canonical.audit import shown
from pointsman.clock import instant_us
from pointsman.errors import GatewayError, Kind
from pointsman.identity.audit_trail import AuditTrail
from pointsman.storage.audit import AuditFilter

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 500
MAX_NUMBER: Final = 2**62
MOST_TEXT: Final = 200
TEXTS: Final = ("action", "actor", "object_kind", "object_id", "outcome", "address", "request_id")
KNOWN: Final = frozenset((*TEXTS, "since", "until", "limit", "before"))
HttpRequest = Request[Any, Any, Any]


class AuditViews:
    """The view."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    def handlers(self) -> list[HTTPRouteHandler]:
        """The route for Litestar."""

        @get("/api/pointsman/audit")
        async def list_rows(request: HttpRequest) -> Response[bytes]:
            unknown = sorted(set(request.query_params) - KNOWN)
            if unknown:
                raise _wrong(unknown[0], "is not known")
            limit = _number(request, "limit", DEFAULT_LIMIT, MAX_LIMIT)
            before = _number(request, "before", MAX_NUMBER, MAX_NUMBER)
            found = await self._trail.repository.page(_filter(request, self._trail), limit + 1, before)
            more = found[limit - 1].link.sequence if len(found) > limit else None
            told = {"data": [shown(row) for row in found[:limit]], "next": more}
            return Response(msgspec.json.encode(told), media_type="application/json")

        return [list_rows]


def _filter(request: HttpRequest, trail: AuditTrail) -> AuditFilter:
    texts = {name: _text(request, name) for name in TEXTS}
    return AuditFilter(
        action=texts["action"],
        actor=texts["actor"],
        object_kind=texts["object_kind"],
        objects=_objects(trail, texts["object_id"]),
        outcome=texts["outcome"],
        address=texts["address"],
        request_id=texts["request_id"],
        since=_instant(request, "since"),
        until=_instant(request, "until"),
    )


def _objects(trail: AuditTrail, object_id: str | None) -> tuple[str, ...]:
    return trail.object_names(object_id) if object_id is not None else ()


def _text(request: HttpRequest, name: str) -> str | None:
    text = request.query_params.get(name)
    if text is not None and (not 1 <= len(text) <= MOST_TEXT or "\0" in text):
        raise _wrong(name, f"must be 1 to {MOST_TEXT} characters")
    return text


def _number(request: HttpRequest, name: str, otherwise: int, most: int) -> int:
    text = request.query_params.get(name, str(otherwise))
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and 1 <= int(text) <= most):
        raise _wrong(name, f"must be 1 to {most}")
    return int(text)


def _instant(request: HttpRequest, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return instant_us(text)
    except ValueError:
        raise _wrong(name, "must be an instant like 2026-01-31T12:00:00Z") from None


def _wrong(name: str, what: str) -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, f"'{name}' {what}", param=name)
