"""Guardrails of accounts: made, changed, assigned to keys and members, set as defaults. All raise StorageError."""

import uuid
from collections.abc import Sequence
from typing import Final, Literal

from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.guard_settings import GuardSettings
from pointsman.identity.keys import Key
from pointsman.policy.guardrail_contents import guards_of
from pointsman.policy.guardrails import GuardrailTable
from pointsman.storage.accounts import AccountRepository
from pointsman.storage.configuration import TooManyError
from pointsman.storage.guardrails import (
    AssignmentRow,
    Change,
    GuardrailRepository,
    GuardrailRow,
    KeyAssignment,
    Quota,
    Scope,
    TooManyPatternsError,
)

# Of an account. Patterns of this size take about a second to compile and some 20 MB in each worker.
QUOTA: Final = Quota(guardrails=1000, patterns=1000, size=500_000)
Assignee = Literal["key", "member"]


class GuardrailService:
    """Keeps guardrails. What it changes is in effect once every server has the new configuration."""

    def __init__(self, rows: GuardrailRepository, accounts: AccountRepository, clock: Clock) -> None:
        self._rows = rows
        self._accounts = accounts
        self._clock = clock

    async def create(self, caller: Key, row: GuardrailRow) -> tuple[GuardrailRow, int]:
        """Store a new guardrail (`draw`); gives it and the configuration revision.

        Raises GatewayError(INVALID_REQUEST) when the account has too many, or too many patterns, or no such workspace.
        """
        if row.workspace_id is not None and row.workspace_id != caller.workspace_id:
            await self._check_workspace(row.account_id, row.workspace_id)
        try:
            return row, await self._rows.add(row, QUOTA)
        except TooManyPatternsError:
            raise _too_many_patterns() from None
        except TooManyError:
            raise _wrong("name", f"can't be given: there are {QUOTA.guardrails} guardrails already") from None

    def draw(self, caller: Key, name: str, workspace_id: str | None = None) -> GuardrailRow:
        """A guardrail of the caller's account that says nothing yet, and is not stored."""
        return GuardrailRow(
            id=str(uuid.uuid4()),
            account_id=caller.account_id,
            workspace_id=workspace_id or caller.workspace_id,
            name=name,
            created_at=self._clock.now_us(),
        )

    async def find(self, caller: Key, guardrail_id: str) -> GuardrailRow:
        """A guardrail of the caller's account. Raises GatewayError(NOT_FOUND)."""
        row = await self._rows.find(caller.account_id, guardrail_id)
        if row is None:
            raise unknown()
        return row

    async def list_page(
        self, caller: Key, workspace_id: str | None, limit: int, offset: int
    ) -> tuple[tuple[GuardrailRow, ...], int]:
        """Up to ``limit`` guardrails of the caller's account, newest first, and how many there are."""
        return await self._rows.list_page(caller.account_id, workspace_id, limit, offset)

    async def change(self, caller: Key, guardrail_id: str, changed: Change) -> tuple[GuardrailRow, int]:
        """Change a guardrail; gives it and the configuration revision.

        Raises GatewayError: NOT_FOUND, INVALID_REQUEST for too many patterns of the account, and what ``changed`` does.
        """
        try:
            found = await self._rows.change(caller.account_id, guardrail_id, changed, QUOTA)
        except TooManyPatternsError:
            raise _too_many_patterns() from None
        if found is None:
            raise unknown()
        return found

    async def remove(self, caller: Key, guardrail_id: str) -> int:
        """Forget a guardrail; gives the configuration revision. Raises GatewayError(NOT_FOUND)."""
        revision = await self._rows.remove(caller.account_id, guardrail_id)
        if revision is None:
            raise unknown()
        return revision

    async def assign(self, caller: Key, guardrail_id: str, scope: Assignee, names: Sequence[str]) -> tuple[int, int]:
        """Bind keys, by the SHA-256 of each in hex, or members, by id, to a guardrail in place of what bound them.

        Gives how many were not bound to it before, and the configuration revision. Unknown ones are left out. Raises
        GatewayError(NOT_FOUND).
        """
        await self.find(caller, guardrail_id)
        now = self._clock.now_us()
        rows = [
            AssignmentRow(
                id=str(uuid.uuid4()),
                account_id=caller.account_id,
                scope=scope,
                subject=subject,
                guardrail_id=guardrail_id,
                created_at=now,
                assigned_by=caller.user_id,
            )
            for subject in await self._subjects(caller, scope, names)
        ]
        if not rows:
            return 0, 0
        found = await self._rows.assign(rows)
        if found is None:
            raise unknown()
        return found

    async def unassign(self, caller: Key, guardrail_id: str, scope: Assignee, names: Sequence[str]) -> tuple[int, int]:
        """Free keys or members of a guardrail; gives how many were bound to it, and the configuration revision.

        Raises GatewayError(NOT_FOUND).
        """
        await self.find(caller, guardrail_id)
        subjects = await self._subjects(caller, scope, names) if scope == "key" else list(names)
        if not subjects:
            return 0, 0
        return await self._rows.unassign(caller.account_id, scope, subjects, guardrail_id)

    async def _subjects(self, caller: Key, scope: Assignee, names: Sequence[str]) -> list[str]:
        if scope == "key":
            return list((await self._rows.keys_by_fingerprint(caller.account_id, names)).values())
        return await self._rows.members_among(caller.account_id, names)

    async def key_assignments(
        self, caller: Key, guardrail_id: str | None, limit: int, offset: int
    ) -> tuple[tuple[KeyAssignment, ...], int]:
        """Assignments of keys, of one guardrail or of all, and how many there are. Raises GatewayError(NOT_FOUND)."""
        if guardrail_id is not None:
            await self.find(caller, guardrail_id)
        return await self._rows.key_assignments(caller.account_id, guardrail_id, limit, offset)

    async def member_assignments(
        self, caller: Key, guardrail_id: str | None, limit: int, offset: int
    ) -> tuple[tuple[AssignmentRow, ...], int]:
        """Assignments of members, as `key_assignments`. Raises GatewayError(NOT_FOUND)."""
        if guardrail_id is not None:
            await self.find(caller, guardrail_id)
        return await self._rows.member_assignments(caller.account_id, guardrail_id, limit, offset)

    async def defaults(self, caller: Key) -> tuple[AssignmentRow, ...]:
        """What binds all calls of the caller's account and of its workspaces."""
        return await self._rows.defaults(caller.account_id)

    async def set_default(self, caller: Key, workspace_id: str | None, guardrail_id: str | None) -> int:
        """Bind all calls of a workspace, or (None) of the account, to a guardrail or (None) to none.

        Gives the configuration revision. Raises GatewayError: NOT_FOUND, INVALID_REQUEST for no workspace of its own.
        """
        scope: Scope = "account" if workspace_id is None else "workspace"
        if workspace_id is not None and workspace_id != caller.workspace_id:
            await self._check_workspace(caller.account_id, workspace_id)
        subject = workspace_id or caller.account_id
        if guardrail_id is None:
            _, revision = await self._rows.unassign(caller.account_id, scope, (subject,))
            return revision
        row = AssignmentRow(
            id=str(uuid.uuid4()),
            account_id=caller.account_id,
            scope=scope,
            subject=subject,
            guardrail_id=guardrail_id,
            created_at=self._clock.now_us(),
            assigned_by=caller.user_id,
        )
        found = await self._rows.assign((row,))
        if found is None:
            raise unknown()
        return found[1]

    async def binds(self, caller: Key) -> bool:
        """Whether a guardrail is assigned to the caller's key, or to its owner: one that another key could escape."""
        rows = [("key", caller.id), ("member", caller.owner)]
        return await self._rows.is_assigned(caller.account_id, [(scope, one) for scope, one in rows if one is not None])

    async def table(self) -> GuardrailTable | None:
        """A snapshot for the request path; None when no guardrail binds anybody."""
        rows, assignments = await self._rows.load()
        return GuardrailTable(rows, assignments) if assignments else None

    async def guards(self) -> Sequence[GuardSettings]:
        """The content filters of guardrails that bind somebody, as guards."""
        rows, assignments = await self._rows.load()
        filtered = {
            row.id: row for row in rows.values() if row.rules.content_filters or row.rules.content_filter_builtins
        }
        wanted = [one for one in assignments if one.guardrail_id in filtered]
        return guards_of(filtered.values(), await self._rows.reach(wanted)) if wanted else ()

    async def _check_workspace(self, account_id: str, workspace_id: str) -> None:
        if await self._accounts.find_workspace(account_id, workspace_id) is None:
            raise _wrong("workspace_id", "is no workspace of this account")


def unknown() -> GatewayError:
    """404 for a guardrail that the caller's account has not."""
    return GatewayError(Kind.NOT_FOUND, "Guardrail not found")


def _too_many_patterns() -> GatewayError:
    most = f"at most {QUOTA.patterns} patterns, of {QUOTA.size} RE2 instructions together"
    return _wrong("content_filters", f"can't be stored: the guardrails of an account have {most}")


def _wrong(name: str, what: str) -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, f"'{name}' {what}", param=name)
