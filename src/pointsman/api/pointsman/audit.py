"""``GET /api/pointsman/audit``: the audit log by pages, newest first, for those who may manage the gateway."""

from typing import Final

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer, number, text, wrong
from pointsman.canonical.audit import shown
from pointsman.clock import instant_us
from pointsman.identity.audit_trail import AuditTrail
from pointsman.storage.audit import AuditFilter

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 500
MAX_NUMBER: Final = 2**62
TEXTS: Final = ("action", "actor", "object_kind", "object_id", "outcome", "address", "request_id")
KNOWN: Final = frozenset((*TEXTS, "since", "until", "limit", "before"))


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
                raise wrong(unknown[0], "is not known")
            limit = number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
            before = number(request, "before", MAX_NUMBER, (1, MAX_NUMBER))
            found = await self._trail.repository.page(_filter(request, self._trail), limit + 1, before)
            more = found[limit - 1].link.sequence if len(found) > limit else None
            told = {"data": [shown(row) for row in found[:limit]], "next": more}
            return answer(told)

        return [list_rows]


def _filter(request: HttpRequest, trail: AuditTrail) -> AuditFilter:
    texts = {name: text(request, name) for name in TEXTS}
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


def _instant(request: HttpRequest, name: str) -> int | None:
    given = request.query_params.get(name)
    try:
        return instant_us(given) if given is not None else None
    except ValueError:
        raise wrong(name, "must be an instant like 2026-01-31T12:00:00Z") from None
