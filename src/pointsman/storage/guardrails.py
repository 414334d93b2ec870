"""Guardrails, and whom they bind. Every change gives the new configuration revision."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import ColumnElement, Row, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.canonical.windows import WindowKind
from pointsman.storage import configuration, tables
from pointsman.storage.budget_leases import GUARDRAIL, lock_budgets
from pointsman.storage.budget_tables import budget_leases, budget_periods
from pointsman.storage.configuration import TooManyError
from pointsman.storage.database import Database
from pointsman.storage.guardrail_tables import guardrail_assignments, guardrails
from pointsman.storage.identity_tables import members, workspaces

Scope = Literal["key", "member", "workspace", "account"]
Region = Literal["global", "europe", "us"]
Action = Literal["flag", "redact", "block"]
Builtin = Literal[
    "email", "phone", "ssn", "credit-card", "ip-address", "secrets", "person-name", "address", "regex-prompt-injection"
]
_AT_ONCE: Final = 500  # names in one query


class ContentFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pattern that is looked for in requests, and what becomes of what it finds."""

    pattern: str
    action: Action
    label: str | None = None


class BuiltinFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that is looked for in requests by its name. ``scan_scope`` is of the signs of injection."""

    slug: Builtin
    action: Action
    scan_scope: Literal["all_messages", "user_only"] | None = None


class GuardrailRules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a guardrail allows, by OpenRouter's names; None: it says nothing of it."""

    allowed_providers: tuple[str, ...] | None = None
    ignored_providers: tuple[str, ...] | None = None
    allowed_models: tuple[str, ...] | None = None
    ignored_models: tuple[str, ...] | None = None
    enforce_zdr: bool | None = None
    enforce_zdr_anthropic: bool | None = None
    enforce_zdr_openai: bool | None = None
    enforce_zdr_google: bool | None = None
    enforce_zdr_xai: bool | None = None
    enforce_zdr_other: bool | None = None
    allow_safety_retention_google: bool | None = None
    allow_safety_retention_other: bool | None = None
    include_byok_in_budgets: bool = False
    enable_free_model_training: bool | None = None
    enable_paid_model_training: bool | None = None
    enable_free_model_publication: bool | None = None
    allowed_data_regions: tuple[Region, ...] | None = None
    content_filters: tuple[ContentFilter, ...] | None = None
    content_filter_builtins: tuple[BuiltinFilter, ...] | None = None
    pattern_size: int = 0  # of all ``content_filters`` (guards/patterns.py); ours, no member of the API


class GuardrailRow(msgspec.Struct, frozen=True, kw_only=True):
    """One guardrail. Its limit is in nano-USD and of each whom it binds alone; instants in us."""

    id: str
    account_id: str
    workspace_id: str | None
    name: str
    created_at: int
    description: str | None = None
    limit_nano_usd: int | None = None
    window_kind: WindowKind = "none"
    rules: GuardrailRules = GuardrailRules()
    updated_at: int | None = None


class AssignmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """That a guardrail binds somebody. ``subject`` is the id of the key, person, workspace or account."""

    id: str
    account_id: str
    scope: Scope
    subject: str
    guardrail_id: str
    created_at: int
    assigned_by: str | None = None


class KeyAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """An assignment to a key, with what people know the key by."""

    row: AssignmentRow
    fingerprint: str
    name: str
    label: str


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What an account may have: guardrails, and patterns in all of them, by number and by size (guards/patterns.py)."""

    guardrails: int
    patterns: int
    size: int


class TooManyPatternsError(TooManyError):
    """The patterns of an account's guardrails would be too many, or too large."""


Change = Callable[[GuardrailRow], GuardrailRow]
_WITH_PATTERNS: Final = guardrails.c.rules.contains('"content_filters":', autoescape=True)


class GuardrailRepository:
    """Asks and changes the tables. All raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: GuardrailRow, quota: Quota | None = None) -> int:
        """Store a new one. Raises TooManyError, TooManyPatternsError beyond the account's ``quota``."""
        count = select(func.count()).select_from(guardrails).where(guardrails.c.account_id == row.account_id)
        async with self._database.write() as connection:
            await connection.execute(insert(guardrails), _values(row))
            revision = await configuration.bump(connection)
            if quota is not None:
                await configuration.keep_within(connection, count, quota.guardrails)
                await _check_patterns(connection, row, GuardrailRules(), quota)
            return revision

    async def find(self, account_id: str, guardrail_id: str) -> GuardrailRow | None:
        """The account's guardrail with this id; another account's is not found."""
        async with self._database.read() as connection:
            return await _find(connection, account_id, guardrail_id)

    async def list_page(
        self, account_id: str, workspace_id: str | None, limit: int, offset: int
    ) -> tuple[tuple[GuardrailRow, ...], int]:
        """Up to ``limit`` of the account, newest first, and how many there are; of a workspace if one is named."""
        which = [guardrails.c.account_id == account_id]
        if workspace_id is not None:
            which.append(guardrails.c.workspace_id == workspace_id)
        query = select(guardrails).where(*which).order_by(guardrails.c.created_at.desc(), guardrails.c.id)
        total = select(func.count()).select_from(guardrails).where(*which)
        async with self._database.read() as connection:
            rows = await connection.execute(query.limit(limit).offset(offset))
            return tuple(map(_row, rows)), int((await connection.execute(total)).scalar_one())

    async def change(
        self, account_id: str, guardrail_id: str, changed: Change, quota: Quota | None = None
    ) -> tuple[GuardrailRow, int] | None:
        """Put what ``changed`` makes of a guardrail in its place, no change in between. None: there is none.

        Raises TooManyPatternsError beyond the account's ``quota``.
        """
        if await self.find(account_id, guardrail_id) is None:
            return None  # without a new revision, for which all would make their snapshots anew
        async with self._database.write() as connection:
            revision = await configuration.bump(connection)  # its lock keeps others out until the commit
            row = await _find(connection, account_id, guardrail_id)
            if row is None:
                return None
            before, row = row.rules, changed(row)
            await connection.execute(update(guardrails).where(guardrails.c.id == row.id).values(_values(row)))
            if quota is not None:
                await _check_patterns(connection, row, before, quota)
            return row, revision

    async def remove(self, account_id: str, guardrail_id: str) -> int | None:
        """Forget a guardrail, whom it binds, and what they have spent of it. None: there is none."""
        begins = f"{GUARDRAIL}{guardrail_id}:"
        if await self.find(account_id, guardrail_id) is None:
            return None
        async with self._database.write() as connection:
            revision = await configuration.bump(connection)
            which = (guardrails.c.account_id == account_id, guardrails.c.id == guardrail_id)
            if not (await connection.execute(delete(guardrails).where(*which))).rowcount:
                return None
            spent = select(budget_periods.c.budget_id).distinct().where(budget_periods.c.budget_id.startswith(begins))
            budgets = sorted((await connection.execute(spent)).scalars())
            await lock_budgets(connection, self._database.kind, budgets)
            for table in (budget_periods, budget_leases):
                for budget in budgets:
                    await connection.execute(delete(table).where(table.c.budget_id == budget))
            return revision

    async def load(self) -> tuple[dict[str, GuardrailRow], tuple[AssignmentRow, ...]]:
        """All that bind somebody, by id, and whom they bind: for the snapshot in memory."""
        table = guardrail_assignments
        bound = select(guardrails).where(guardrails.c.id.in_(select(table.c.guardrail_id)))
        async with self._database.read() as connection:
            rows = [_row(row) for row in await connection.execute(bound)]
            assigned = await connection.execute(select(table).order_by(table.c.id))
            return {row.id: row for row in rows}, tuple(AssignmentRow(**row._mapping) for row in assigned)

    async def reach(self, assignments: Sequence[AssignmentRow]) -> dict[str, set[tuple[str, str]]]:
        """By guardrail, whose calls these assignments come to: ``("key", id)``, ``("member", id)``,
        ``("workspace", id)``. An account's are all its workspaces; the first one has the account's id.
        """
        found = {one.guardrail_id: set[tuple[str, str]]() for one in assignments}
        for one in assignments:
            found[one.guardrail_id].add(("workspace" if one.scope == "account" else one.scope, one.subject))
        of_accounts = {one.subject: one.guardrail_id for one in assignments if one.scope == "account"}
        async with self._database.read() as connection:
            for some in _parts(list(of_accounts)):
                own = select(workspaces.c.id, workspaces.c.account_id).where(workspaces.c.account_id.in_(some))
                for row in await connection.execute(own):
                    found[of_accounts[row.account_id]].add(("workspace", row.id))
        return found

    async def assign(self, rows: Sequence[AssignmentRow]) -> tuple[int, int] | None:
        """Bind others to a guardrail, in place of what bound them; all rows are of one account, scope and guardrail.

        Gives how many were not bound to it before, and the revision. None: there is no such guardrail.
        """
        table, first = guardrail_assignments, rows[0]
        async with self._database.write() as connection:
            revision = await configuration.bump(connection)
            if await _find(connection, first.account_id, first.guardrail_id) is None:
                return None
            wanted = {row.subject: row for row in rows}
            for some in _parts(list(wanted)):
                same = (*_of(first.account_id, first.scope, some), table.c.guardrail_id == first.guardrail_id)
                for subject in (await connection.execute(select(table.c.subject).where(*same))).scalars():
                    del wanted[subject]
            for some in _parts(list(wanted)):
                await connection.execute(delete(table).where(*_of(first.account_id, first.scope, some)))
                new = [msgspec.structs.asdict(wanted[subject]) for subject in some]
                await connection.execute(insert(table), new)
            return len(wanted), revision

    async def unassign(
        self, account_id: str, scope: Scope, subjects: Sequence[str], guardrail_id: str | None = None
    ) -> tuple[int, int]:
        """Free these of a guardrail, or of any; gives how many were bound to it, and the revision."""
        table, gone = guardrail_assignments, 0
        async with self._database.write() as connection:
            revision = await configuration.bump(connection)
            for some in _parts(subjects):
                which = _of(account_id, scope, some)
                if guardrail_id is not None:
                    which = (*which, table.c.guardrail_id == guardrail_id)
                gone += (await connection.execute(delete(table).where(*which))).rowcount
            return gone, revision

    async def key_assignments(
        self, account_id: str, guardrail_id: str | None, limit: int, offset: int
    ) -> tuple[tuple[KeyAssignment, ...], int]:
        """Up to ``limit`` assignments of keys that are not revoked, oldest first, and how many there are."""
        table, keys = guardrail_assignments, tables.keys
        query = (
            select(table, keys.c.fingerprint, keys.c.name.label("key_name"), keys.c.hint)
            .join(keys, keys.c.id == table.c.subject)
            .where(*_listed(account_id, "key", guardrail_id), keys.c.revoked_at.is_(None))
        )
        page = query.order_by(table.c.created_at, table.c.id).limit(limit).offset(offset)
        async with self._database.read() as connection:
            rows = [dict(row._mapping) for row in await connection.execute(page)]
            total = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
        found = [
            KeyAssignment(
                fingerprint=row.pop("fingerprint") or "",
                name=row.pop("key_name"),
                label=row.pop("hint"),
                row=AssignmentRow(**row),
            )
            for row in rows
        ]
        return tuple(found), int(total)

    async def member_assignments(
        self, account_id: str, guardrail_id: str | None, limit: int, offset: int
    ) -> tuple[tuple[AssignmentRow, ...], int]:
        """Up to ``limit`` assignments of people who are members, oldest first, and how many there are."""
        table = guardrail_assignments
        joined = (members.c.user_id == table.c.subject) & (members.c.account_id == table.c.account_id)
        query = select(table).join(members, joined).where(*_listed(account_id, "member", guardrail_id))
        page = query.order_by(table.c.created_at, table.c.id).limit(limit).offset(offset)
        async with self._database.read() as connection:
            found = tuple(AssignmentRow(**row._mapping) for row in await connection.execute(page))
            total = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
        return found, int(total)

    async def is_assigned(self, account_id: str, subjects: Sequence[tuple[str, str]]) -> bool:
        """Whether any of these, each a scope and an id, is bound."""
        columns = guardrail_assignments.c
        one_of = or_(*((columns.scope == scope) & (columns.subject == subject) for scope, subject in subjects))
        query = select(columns.id).where(columns.account_id == account_id, one_of).limit(1)
        async with self._database.read() as connection:
            return (await connection.execute(query)).first() is not None

    async def defaults(self, account_id: str) -> tuple[AssignmentRow, ...]:
        """What binds all calls of the account, and of its workspaces."""
        table = guardrail_assignments
        which = (table.c.account_id == account_id, table.c.scope.in_(("account", "workspace")))
        async with self._database.read() as connection:
            rows = await connection.execute(select(table).where(*which).order_by(table.c.scope, table.c.subject))
            return tuple(AssignmentRow(**row._mapping) for row in rows)

    async def keys_by_fingerprint(self, account_id: str, fingerprints: Sequence[str]) -> dict[str, str]:
        """The ids of the account's keys that call models, by the SHA-256 of each in hex; others are left out."""
        keys, found = tables.keys, {}
        async with self._database.read() as connection:
            for some in _parts(fingerprints):
                query = select(keys.c.fingerprint, keys.c.id).where(
                    keys.c.account_id == account_id,
                    keys.c.fingerprint.in_(some),
                    keys.c.role == "inference",
                    keys.c.revoked_at.is_(None),
                )
                found.update({row.fingerprint: row.id for row in await connection.execute(query)})
        return found

    async def members_among(self, account_id: str, user_ids: Sequence[str]) -> list[str]:
        """Those of these people who are members of the organization."""
        found: list[str] = []
        async with self._database.read() as connection:
            for some in _parts(user_ids):
                query = select(members.c.user_id).where(members.c.account_id == account_id, members.c.user_id.in_(some))
                found += (await connection.execute(query)).scalars()
        return found


async def _find(connection: AsyncConnection, account_id: str, guardrail_id: str) -> GuardrailRow | None:
    query = select(guardrails).where(guardrails.c.id == guardrail_id, guardrails.c.account_id == account_id)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _row(row)


async def _check_patterns(connection: AsyncConnection, row: GuardrailRow, before: GuardrailRules, quota: Quota) -> None:
    """Raises TooManyPatternsError when an account whose patterns became more or larger has too many. Call it behind the
    change: then nobody else's comes in between (`configuration.keep_within`).
    """
    if row.rules.pattern_size <= before.pattern_size and _patterns(row.rules) <= _patterns(before):
        return
    query = select(guardrails.c.rules).where(guardrails.c.account_id == row.account_id, _WITH_PATTERNS)
    found = [msgspec.json.decode(text, type=GuardrailRules) for text in (await connection.execute(query)).scalars()]
    if sum(map(_patterns, found)) > quota.patterns or sum(rules.pattern_size for rules in found) > quota.size:
        raise TooManyPatternsError


def _patterns(rules: GuardrailRules) -> int:
    return len(rules.content_filters or ())


def _of(account_id: str, scope: Scope, subjects: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
    columns = guardrail_assignments.c
    return columns.account_id == account_id, columns.scope == scope, columns.subject.in_(subjects)


def _listed(account_id: str, scope: Scope, guardrail_id: str | None) -> list[ColumnElement[bool]]:
    columns = guardrail_assignments.c
    which = [columns.account_id == account_id, columns.scope == scope]
    return which if guardrail_id is None else [*which, columns.guardrail_id == guardrail_id]


def _parts(names: Sequence[str]) -> list[list[str]]:
    unique = list(dict.fromkeys(names))
    return [unique[start : start + _AT_ONCE] for start in range(0, len(unique), _AT_ONCE)]


def _values(row: GuardrailRow) -> Mapping[str, Any]:
    return {**msgspec.structs.asdict(row), "rules": msgspec.json.encode(row.rules).decode()}


def _row(row: Row[Any]) -> GuardrailRow:
    values = dict(row._mapping)
    values["rules"] = msgspec.json.decode(values["rules"], type=GuardrailRules)
    return GuardrailRow(**values)
