"""``/api/v1/guardrails``: rules on the money, targets and content of an account's calls, and whom they bind."""

import asyncio
import re
from typing import Any, Final

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pointsman.api.exchange import MAX_OFFSET, MAX_TEXT, HttpRequest, answer, line, number, read_body, short, wrong
from pointsman.api.omniroute.resilience import Apply
from pointsman.api.openrouter.exchange import caller_of, words_of
from pointsman.api.openrouter.guardrail_bodies import (
    GuardrailChangeBody,
    NewGuardrailBody,
    changed_row,
    check_body,
    shown,
)
from pointsman.clock import Clock
from pointsman.policy.guardrail_service import Assignee, GuardrailService, unknown
from pointsman.storage.guardrails import AssignmentRow, KeyAssignment

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100
MAX_ASSIGNED: Final = 1000  # of one request
PATH: Final = "/api/v1/guardrails"
ONE: Final = "/api/v1/guardrails/{guardrail_id:str}"
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


class KeysBody(msgspec.Struct, frozen=True, kw_only=True):
    """Keys, each by the SHA-256 of its text in hex."""

    key_hashes: list[str]


class MembersBody(msgspec.Struct, frozen=True, kw_only=True):
    """Members, each by the id of the person."""

    member_user_ids: list[str]


class GuardrailViews:
    """The views of guardrails themselves."""

    def __init__(self, guardrails: GuardrailService, clock: Clock, apply: Apply) -> None:
        self._guardrails = guardrails
        self._clock = clock
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """One per operation."""

        @get(PATH)
        async def list_guardrails(request: HttpRequest) -> Response[bytes]:
            limit, offset = _page(request)
            workspace = line(request, "workspace_id")
            rows, total = await self._guardrails.list_page(caller_of(request), workspace, limit, offset)
            return answer({"data": [shown(row) for row in rows], "total_count": total})

        @post(PATH, status_code=201)
        async def create_guardrail(request: HttpRequest) -> Response[bytes]:
            caller, body = caller_of(request), await read_body(request, NewGuardrailBody)
            await asyncio.to_thread(check_body, body)  # many patterns take a while to compile
            workspace = None if body.workspace_id is None else short(body.workspace_id, "workspace_id")
            drawn = changed_row(self._guardrails.draw(caller, body.name, workspace), body, None)
            row, revision = await self._guardrails.create(caller, drawn)
            await self._apply(revision)
            return answer({"data": shown(row)})

        @get(ONE)
        async def show_guardrail(request: HttpRequest, guardrail_id: FromPath[str]) -> Response[bytes]:
            return answer({"data": shown(await self._guardrails.find(caller_of(request), _id(guardrail_id)))})

        @patch(ONE)
        async def change_guardrail(request: HttpRequest, guardrail_id: FromPath[str]) -> Response[bytes]:
            caller, body = caller_of(request), await read_body(request, GuardrailChangeBody)
            await asyncio.to_thread(check_body, body)  # many patterns take a while to compile
            now = self._clock.now_us()
            row, revision = await self._guardrails.change(
                caller, _id(guardrail_id), lambda row: changed_row(row, body, now)
            )
            await self._apply(revision)
            return answer({"data": shown(row)})

        @delete(ONE, status_code=200)
        async def delete_guardrail(request: HttpRequest, guardrail_id: FromPath[str]) -> Response[bytes]:
            await self._apply(await self._guardrails.remove(caller_of(request), _id(guardrail_id)))
            return answer({"deleted": True})

        return [list_guardrails, create_guardrail, show_guardrail, change_guardrail, delete_guardrail]


class AssignmentViews:
    """The views of whom guardrails bind: keys, or members."""

    def __init__(self, guardrails: GuardrailService, apply: Apply, scope: Assignee) -> None:
        self._guardrails = guardrails
        self._apply = apply
        self._scope: Assignee = scope

    def handlers(self) -> list[HTTPRouteHandler]:
        """One per operation."""
        path = f"assignments/{self._scope}s"

        @get(f"{PATH}/{path}")
        async def list_all(request: HttpRequest) -> Response[bytes]:
            return await self._page(request, None)

        @get(f"{ONE}/{path}")
        async def list_some(request: HttpRequest, guardrail_id: FromPath[str]) -> Response[bytes]:
            return await self._page(request, _id(guardrail_id))

        @post(f"{ONE}/{path}", status_code=200)
        async def assign(request: HttpRequest, guardrail_id: FromPath[str]) -> Response[bytes]:
            caller, names = caller_of(request), await self._names(request)
            count, revision = await self._guardrails.assign(caller, _id(guardrail_id), self._scope, names)
            await self._apply(revision)
            return answer({"assigned_count": count})

        @post(f"{ONE}/{path}/remove", status_code=200)
        async def remove(request: HttpRequest, guardrail_id: FromPath[str]) -> Response[bytes]:
            caller, names = caller_of(request), await self._names(request)
            count, revision = await self._guardrails.unassign(caller, _id(guardrail_id), self._scope, names)
            await self._apply(revision)
            return answer({"unassigned_count": count})

        return [list_all, list_some, assign, remove]

    async def _page(self, request: HttpRequest, guardrail_id: str | None) -> Response[bytes]:
        caller, (limit, offset) = caller_of(request), _page(request)
        if self._scope == "key":
            keys, total = await self._guardrails.key_assignments(caller, guardrail_id, limit, offset)
            return answer({"data": [_shown_key(row) for row in keys], "total_count": total})
        members, total = await self._guardrails.member_assignments(caller, guardrail_id, limit, offset)
        return answer({"data": [_shown_member(row) for row in members], "total_count": total})

    async def _names(self, request: HttpRequest) -> list[str]:
        """Whom the body names. Raises GatewayError(INVALID_REQUEST)."""
        if self._scope == "key":
            return _fingerprints((await read_body(request, KeysBody)).key_hashes)
        return _people((await read_body(request, MembersBody)).member_user_ids)


def _page(request: HttpRequest) -> tuple[int, int]:
    limit = number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
    return limit, number(request, "offset", 0, (0, MAX_OFFSET))


def _id(guardrail_id: str) -> str:
    """What stands in the path, as it is stored. Raises GatewayError(NOT_FOUND) for what is no guardrail's id."""
    if len(guardrail_id) > MAX_TEXT or _UUID.fullmatch(guardrail_id) is None:
        raise unknown()
    return guardrail_id.lower()


def _fingerprints(hashes: list[str]) -> list[str]:
    _check_count(hashes, "key_hashes")
    for index, one in enumerate(hashes):
        if _FINGERPRINT.fullmatch(one) is None:
            raise wrong(f"key_hashes[{index}]", "must be a SHA-256 in 64 small hexadecimal digits")
    return hashes


def _people(user_ids: list[str]) -> list[str]:
    _check_count(user_ids, "member_user_ids")
    return [short(one, f"member_user_ids[{index}]") for index, one in enumerate(user_ids)]


def _check_count(names: list[str], member: str) -> None:
    if not 1 <= len(names) <= MAX_ASSIGNED:
        raise wrong(member, f"must have 1 to {MAX_ASSIGNED} entries")


def _shown_key(one: KeyAssignment) -> dict[str, Any]:
    return {
        "id": one.row.id,
        "key_hash": one.fingerprint,
        "key_name": one.name,
        "key_label": one.label,
        "guardrail_id": one.row.guardrail_id,
        "assigned_by": one.row.assigned_by,
        "created_at": words_of(one.row.created_at),
    }


def _shown_member(row: AssignmentRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "user_id": row.subject,
        "organization_id": row.account_id,
        "guardrail_id": row.guardrail_id,
        "assigned_by": row.assigned_by,
        "created_at": words_of(row.created_at),
    }
