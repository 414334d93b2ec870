"""Budgets as operators and APIs see them: set, list, remove, and how each one stands."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, get_args

import msgspec

from pointsman.canonical.windows import KINDS, LONGEST_SECONDS, SHORTEST_SECONDS, Window
from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.policy.budgets import NANO, BudgetTable, moment, reset_of
from pointsman.policy.guardrails import GuardrailTable
from pointsman.storage.budgets import BudgetRepository, BudgetRow, Scope, Spending

SCOPES: Final[tuple[str, ...]] = get_args(Scope)
MAX_SUBJECT: Final = 200
MAX_ALERTS: Final = 10
MAX_PERCENT: Final = 1000
MAX_NANO: Final = 2**60  # more than a thousand million dollars
OPERATOR: Final = "operator"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a budget stands now, in nano-USD: ``spent`` is recorded, ``held`` is leased for calls, ``remaining`` is the
    limit without what is spent. ``resets_at`` in us; None: never.
    """

    spent: int
    held: int
    remaining: int
    calls: int
    unpriced_calls: int
    resets_at: int | None


class BudgetService:
    """Keeps budgets. What it changes is in effect once every server has the new configuration."""

    def __init__(self, rows: BudgetRepository, clock: Clock) -> None:
        self._rows = rows
        self._clock = clock
        self._shared: tuple[BudgetRow, ...] = ()  # as they were at this revision
        self._revision: int | None = None

    async def set(
        self,
        scope: str,
        subject: str,
        limit_nano_usd: int,
        window: Window = Window(),  # noqa: B008 - immutable
        *,
        alerts: Sequence[int] = (),
        hard: bool = True,
        source: str = OPERATOR,
        include_byok: bool = False,
    ) -> tuple[BudgetRow, int]:
        """Set a budget; the one of the same owner, window and source is changed. Raises ConfigError naming the field.

        Gives it with the revision of the configuration in which it binds.

        What the owner has spent in the present window counts in a new one, if it is a key, workspace or account.
        """
        _check(scope, subject, limit_nano_usd, window, alerts)
        now = self._clock.now_us()
        row = BudgetRow(
            id=self._clock.new_id("bud"),
            scope=scope,  # type: ignore[arg-type]
            subject=subject,
            limit_nano_usd=limit_nano_usd,
            window=window,
            alerts=tuple(sorted(set(alerts))),
            hard=hard,
            source=source,
            include_byok=include_byok,
            created_at=now,
            updated_at=now,
        )
        return await self._rows.put(row)

    async def get(self, budget_id: str) -> BudgetRow | None:
        """The budget with this id."""
        return await self._rows.get(budget_id)

    async def remove(self, budget_id: str) -> int | None:
        """Forget a budget and what was spent of it; gives the revision without it. None: there is none."""
        return await self._rows.remove(budget_id)

    async def list_page(
        self, limit: int, after: str | None = None, *, scope: str | None = None, subject: str | None = None
    ) -> tuple[BudgetRow, ...]:
        """Up to ``limit`` budgets behind the id ``after``; of this scope and subject if given."""
        return await self._rows.list_page(limit, after, scope=scope, subject=subject)

    async def of_subjects(self, scope: Scope, subjects: Sequence[str], source: str) -> tuple[BudgetRow, ...]:
        """The budgets of these subjects that ``source`` keeps."""
        return await self._rows.of_subjects(scope, subjects, source)

    async def spent_by(self, scope: Scope, subjects: Sequence[str], source: str) -> dict[str, tuple[BudgetRow, int]]:
        """The budgets without a window that ``source`` keeps for these subjects, and what is spent of each."""
        return await self._rows.spent_by(scope, subjects, source)

    async def standing(self, row: BudgetRow) -> Standing:
        """What was spent of a budget in the present window, and when it resets."""
        return (await self.standings((row,)))[0]

    async def standings(self, rows: Sequence[BudgetRow]) -> tuple[Standing, ...]:
        """How some hundred budgets stand, asked together."""
        now = self._clock.now_us()
        spendings = await self._rows.spendings(rows, now)
        return tuple(_standing(row, spendings[row.id], now) for row in rows)

    async def recount(self, row: BudgetRow) -> tuple[int, int]:
        """What is stored as spent in the present window, and what the requests add up to: they must be equal."""
        return await self._rows.recount(row.id, row.window, self._clock.now_us())

    async def table(
        self, *, credits: bool, prepaid: bool = False, guardrails: GuardrailTable | None = None
    ) -> BudgetTable | None:
        """A snapshot for the request path; None when nothing binds anybody. ``prepaid``: some key is an agent's."""
        revision = await self._rows.revision()
        if revision != self._revision:
            self._shared, self._revision = await self._rows.load_shared(), revision
        binds = self._shared or credits or prepaid or (guardrails is not None and guardrails.budgeted)
        if not binds and not await self._rows.any_of_keys():
            return None
        return BudgetTable(self._shared, credits=credits, guardrails=guardrails)


def _standing(row: BudgetRow, spending: Spending, now: int) -> Standing:
    return Standing(
        spent=spending.spent,
        held=spending.held,
        remaining=max(0, row.limit_nano_usd - spending.spent),
        calls=spending.calls,
        unpriced_calls=spending.unpriced_calls,
        resets_at=reset_of(row.window, row.window.period(now), spending.oldest),
    )


def described(row: BudgetRow, standing: Standing) -> dict[str, Any]:
    """A budget as the API and the command line show it: amounts in dollars, instants in ISO 8601."""
    shown: dict[str, Any] = {
        "id": row.id,
        "scope": row.scope,
        "subject": row.subject,
        "limit_usd": row.limit_nano_usd / NANO,
        "window": row.window.kind,
        "alerts": list(row.alerts),
        "hard": row.hard,
        "source": row.source,
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
        "spent_usd": standing.spent / NANO,
        "held_usd": standing.held / NANO,
        "remaining_usd": standing.remaining / NANO,
        "calls": standing.calls,
        "unpriced_calls": standing.unpriced_calls,
        "resets_at": None if standing.resets_at is None else moment(standing.resets_at),
    }
    if row.window.kind == "rolling":
        shown["window_seconds"] = row.window.seconds
    return shown


def nano_of(amount: object, field: str = "limit_usd") -> int:
    """Dollars, a number or its decimal text, in nano-USD. Raises ConfigError that names ``field``
    for anything else and for finer parts."""
    if isinstance(amount, bool) or not isinstance(amount, (int, float, str)):
        raise ConfigError(f"{field}: must be an amount in dollars")
    try:
        nano = Decimal(str(amount)).scaleb(9)
        if nano.is_finite() and nano == nano.to_integral_value():
            return int(nano)
    except InvalidOperation:
        pass
    raise ConfigError(f"{field}: must be an amount in dollars with at most nine decimals")


def window_of(kind: str, seconds: int | None) -> Window:
    """A window by its name. Raises ConfigError naming the field."""
    if kind not in KINDS:
        raise ConfigError(f"window: must be one of {', '.join(KINDS)}")
    if (kind == "rolling") != (seconds is not None):
        raise ConfigError("window_seconds: belongs to a rolling window, which needs it")
    return Window(kind, seconds or 0)


def _check(scope: str, subject: str, limit: int, window: Window, alerts: Sequence[int]) -> None:
    if scope not in SCOPES:
        raise ConfigError(f"scope: must be one of {', '.join(SCOPES)}")
    if not 1 <= len(subject) <= MAX_SUBJECT or not subject.isprintable():
        raise ConfigError(f"subject: must be 1 to {MAX_SUBJECT} printable characters")
    if not 0 <= limit <= MAX_NANO:
        raise ConfigError(f"limit_usd: must be 0 to {MAX_NANO // NANO}")
    if window.kind == "rolling" and not SHORTEST_SECONDS <= window.seconds <= LONGEST_SECONDS:
        raise ConfigError(f"window_seconds: must be {SHORTEST_SECONDS} to {LONGEST_SECONDS}")
    if len(alerts) > MAX_ALERTS or not all(1 <= one <= MAX_PERCENT for one in alerts):
        raise ConfigError(f"alerts: must be up to {MAX_ALERTS} percentages from 1 to {MAX_PERCENT}")
