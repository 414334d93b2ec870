"""``/api/pointsman/guardrails/defaults``: the guardrails that bind all calls of an account, or of one workspace.

OpenRouter sets them in its own pages; its API has no operation for them.
"""

from typing import Any, Final

import msgspec
from litestar import Response, get, put
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer, read_body, short
from pointsman.api.omniroute.resilience import Apply
from pointsman.api.openrouter.exchange import caller_of, words_of
from pointsman.policy.guardrail_service import GuardrailService
from pointsman.storage.guardrails import AssignmentRow

PATH: Final = "/api/pointsman/guardrails/defaults"


class DefaultBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which guardrail; null: none. Without a workspace the whole account's."""

    guardrail_id: str | None
    workspace_id: str | None = None


class GuardrailDefaults:
    """The views."""

    def __init__(self, guardrails: GuardrailService, apply: Apply) -> None:
        self._guardrails = guardrails
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """One per operation."""

        @get(PATH)
        async def list_defaults(request: HttpRequest) -> Response[bytes]:
            rows = await self._guardrails.defaults(caller_of(request))
            return answer({"data": [_shown(row) for row in rows]})

        @put(PATH, status_code=200)
        async def set_default(request: HttpRequest) -> Response[bytes]:
            caller, body = caller_of(request), await read_body(request, DefaultBody)
            workspace = None if body.workspace_id is None else short(body.workspace_id, "workspace_id")
            guardrail = None if body.guardrail_id is None else short(body.guardrail_id, "guardrail_id")
            await self._apply(await self._guardrails.set_default(caller, workspace, guardrail))
            rows = await self._guardrails.defaults(caller)
            return answer({"data": [_shown(row) for row in rows]})

        return [list_defaults, set_default]


def _shown(row: AssignmentRow) -> dict[str, Any]:
    return {
        "workspace_id": row.subject if row.scope == "workspace" else None,
        "guardrail_id": row.guardrail_id,
        "assigned_by": row.assigned_by,
        "created_at": words_of(row.created_at),
    }
