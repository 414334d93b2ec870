"""``GET /api/compliance/audit-log``: the audit log as OmniRoute shows it, a bare list with its length in headers."""

from typing import Any, Final

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from pointsman.api.audited_operations import NOTABLE
from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.management import admit, invalid, whole_number
from pointsman.api.omniroute.moments import instant
from pointsman.canonical.audit import Row
from pointsman.clock import instant_us
from pointsman.identity.audit_trail import AuditTrail
from pointsman.storage.audit import AuditFilter

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 500
MAX_OFFSET: Final = 10_000
MOST_TEXT: Final = 200
_TEXTS: Final = ("action", "actor", "target", "resourceType", "status", "requestId")


class AuditLog:
    """The view."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    def handler(self) -> HTTPRouteHandler:
        """The route for Litestar."""

        @get("/api/compliance/audit-log")
        async def show(request: HttpRequest) -> Response[bytes]:
            admit(request)
            limit = whole_number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
            offset = whole_number(request, "offset", 0, (0, MAX_OFFSET))
            wanted = _filter(request, self._trail)
            rows = await self._trail.repository.page(wanted, limit, offset=offset)
            told = answer([_shown(row) for row in rows])
            total = await self._trail.repository.count(wanted)
            for name, value in (("count", total), ("page-limit", limit), ("page-offset", offset)):
                told.headers[f"x-{'total-' if name == 'count' else ''}{name}"] = str(value)
            return told

        return show


def _filter(request: HttpRequest, trail: AuditTrail) -> AuditFilter:
    texts: dict[str, str | None] = {name: request.query_params.get(name) for name in _TEXTS}
    faults = [
        (name, f"must be 1 to {MOST_TEXT} characters")
        for name, text in texts.items()
        if text is not None and (not 1 <= len(text) <= MOST_TEXT or "\0" in text)
    ]
    level = request.query_params.get("level", "all")
    if level not in ("all", "high"):
        faults.append(("level", "must be all or high"))
    instants: dict[str, int | None] = {}
    for name, names in (("since", ("from", "since")), ("until", ("to", "until"))):
        given = next((one for one in names if one in request.query_params), None)
        try:
            instants[name] = instant_us(request.query_params[given]) if given is not None else None
        except ValueError:
            faults.append((str(given), "must be an instant like 2026-01-31T12:00:00Z"))
    if faults:
        raise invalid(faults)
    return AuditFilter(
        action=texts["action"],
        actor=texts["actor"],
        objects=trail.object_names(texts["target"]) if texts["target"] is not None else (),
        object_kind=texts["resourceType"],
        outcome=texts["status"],
        request_id=texts["requestId"],
        beginnings=NOTABLE if level == "high" else (),
        since=instants["since"],
        until=instants["until"],
    )


def _shown(row: Row) -> dict[str, Any]:
    entry = row.entry
    return {
        "id": row.link.sequence,
        "timestamp": instant(entry.at),
        "action": entry.action,
        "actor": entry.user_id or entry.credential_id or "anonymous",
        "target": entry.object_id,
        "details": {"fields": entry.fields, "digest": entry.digest, "count": entry.count},
        "ip_address": entry.address,
        "resource_type": entry.object_kind,
        "status": entry.outcome,
        "request_id": entry.request_id,
        "metadata": {
            "source": entry.source,
            "accountId": entry.account_id,
            "credentialId": entry.credential_id,
            "credentialKind": entry.credential_kind,
            "httpStatus": entry.status,
            "hash": row.link.hash.hex(),
        },
    }
