"""Which guardrails bind a key, and what they amount to together: money, targets, ingress, content.

They come from up to four places: the account's default, the workspace's, the one of the key's owner, and its own.
Allow lists intersect, ignore lists unite, retention is as strict as the strictest, and each budget is checked on its
own: of an owner or a key, never of all whom a guardrail binds.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from pointsman.canonical.windows import Window
from pointsman.errors import GatewayError, Kind
from pointsman.identity.keys import Key
from pointsman.routing.bounds import FREE, PAID, is_permitted
from pointsman.routing.targets import Target
from pointsman.routing.wants import Bounds
from pointsman.storage.budget_leases import GUARDRAIL
from pointsman.storage.budgets import BudgetRow
from pointsman.storage.guardrails import AssignmentRow, GuardrailRow, Region, Scope

ZDR_GROUPS: Final = ("anthropic", "openai", "google", "xai", "other")
# The ``source`` of a guardrail's budget: OpenRouter's words for whose it is and by which way.
MEMBER: Final = "member"
KEY: Final = "api_key"
DEFAULT: Final = "workspace_default"
MOST_KEYS: Final = 100_000  # whose guardrails are remembered
# A name in front of the host says through which region a request comes (OpenRouter's own hosts).
_REGIONS: Final[Mapping[bytes, Region]] = {b"eu": "europe", b"us": "us"}


class KeyGuardrails(msgspec.Struct, frozen=True, kw_only=True):
    """The guardrails of one key. ``bounds`` is None when they leave every target, ``regions`` when they leave all."""

    ids: tuple[str, ...]
    budgets: tuple[BudgetRow, ...]
    bounds: Bounds | None
    regions: frozenset[Region] | None
    rows: tuple[GuardrailRow, ...]

    def permits(self, target: Target) -> bool:
        """Whether a request may go to this target, as far as its model, its provider and its data go."""
        return self.bounds is None or is_permitted(self.bounds, target)

    def check_region(self, host: bytes) -> None:
        """Raises GatewayError(PERMISSION_DENIED) for a call that came through a region that they don't allow."""
        if self.regions is None:
            return
        region = region_of(host)
        if region not in self.regions:
            allowed = ", ".join(sorted(self.regions)) or "none"
            message = f"A guardrail does not allow requests through the region {region}; allowed: {allowed}"
            raise GatewayError(Kind.PERMISSION_DENIED, message)


class GuardrailTable:
    """The guardrails that bind somebody, in one configuration."""

    def __init__(self, rows: Mapping[str, GuardrailRow], assignments: Iterable[AssignmentRow]) -> None:
        self._bound = {
            (one.account_id, one.scope, one.subject): rows[one.guardrail_id]
            for one in assignments
            if one.guardrail_id in rows
        }
        self._of_keys: dict[str, KeyGuardrails | None] = {}
        self.budgeted = any(row.limit_nano_usd is not None for row in self._bound.values())

    def of(self, key: Key) -> KeyGuardrails | None:
        """What binds the calls of a key; None: nothing."""
        if key.id not in self._of_keys:
            if len(self._of_keys) >= MOST_KEYS:
                self._of_keys.clear()
            self._of_keys[key.id] = self._bind(key)
        return self._of_keys[key.id]

    def _bind(self, key: Key) -> KeyGuardrails | None:
        places: tuple[tuple[Scope, str | None], ...] = (
            ("account", key.account_id), ("workspace", key.workspace_id), ("member", key.owner), ("key", key.id),
        )  # fmt: skip
        layers = [
            (scope, row)
            for scope, subject in places
            if (row := self._bound.get((key.account_id, scope, subject or ""))) is not None
        ]
        if not layers:
            return None
        rows = tuple({row.id: row for _, row in layers}.values())
        budgets = {budget.id: budget for scope, row in layers for budget in _budgets(scope, row, key)}
        return KeyGuardrails(
            ids=tuple(row.id for row in rows),
            budgets=tuple(budgets.values()),
            bounds=bounds_of(rows),
            regions=_regions(rows),
            rows=rows,
        )


def bounds_of(rows: Iterable[GuardrailRow]) -> Bounds | None:
    """What several guardrails leave of the targets; None: all."""
    rules = [row.rules for row in rows]
    zdr = {group for one in rules for group in ZDR_GROUPS if getattr(one, f"enforce_zdr_{group}")}
    untrained = {PAID for one in rules if one.enable_paid_model_training is False}
    # Nobody tells which endpoints publish what they are sent: those that are known to learn nothing do not.
    if any(False in (one.enable_free_model_training, one.enable_free_model_publication) for one in rules):
        untrained.add(FREE)
    bounds = Bounds(
        allowed_models=_lists(one.allowed_models for one in rules),
        ignored_models=_united(one.ignored_models for one in rules),
        allowed_providers=_lists(one.allowed_providers for one in rules),
        ignored_providers=_united(one.ignored_providers for one in rules),
        zdr=frozenset(zdr),
        untrained=frozenset(untrained),
    )
    return None if bounds == Bounds() else bounds


def region_of(host: bytes) -> Region:
    """The region that a request came through, by the host that it named."""
    name, _, rest = host.lower().partition(b".")
    return _REGIONS.get(name, "global") if rest else "global"


def budget_id(row: GuardrailRow, subject: str) -> str:
    """The name of the budget that a guardrail gives one whom it binds. Each kind of window has sums of its own."""
    return f"{GUARDRAIL}{row.id}:{row.window_kind}:{subject}"


def _budgets(scope: Scope, row: GuardrailRow, key: Key) -> list[BudgetRow]:
    """A default one is a budget of the owner, and one of the key beside it."""
    if row.limit_nano_usd is None:
        return []
    if scope == "key":
        return [_budget(row, key.id, KEY)]
    if scope == "member":
        return [_budget(row, key.owner or "", MEMBER)]
    of_key = _budget(row, key.id, f"{DEFAULT}_key")
    return [of_key] if key.owner is None else [_budget(row, key.owner, f"{DEFAULT}_member"), of_key]


def _budget(row: GuardrailRow, subject: str, source: str) -> BudgetRow:
    return BudgetRow(
        id=budget_id(row, subject),
        scope="guardrail",
        subject=f"{row.id}/{subject}",
        limit_nano_usd=row.limit_nano_usd or 0,
        window=Window(row.window_kind),
        source=source,
        include_byok=row.rules.include_byok_in_budgets,
        created_at=row.created_at,
        updated_at=row.updated_at or row.created_at,
    )


def _regions(rows: Iterable[GuardrailRow]) -> frozenset[Region] | None:
    named = [frozenset(found) for row in rows if (found := row.rules.allowed_data_regions) is not None]
    return frozenset.intersection(*named) if named else None


def _lists(named: Iterable[tuple[str, ...] | None]) -> tuple[tuple[str, ...], ...]:
    return tuple(dict.fromkeys(tuple(name.lower() for name in one) for one in named if one is not None))


def _united(named: Iterable[tuple[str, ...] | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.lower() for one in named for name in one or ()))
