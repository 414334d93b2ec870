"""Budgets: which ones bind a call, and money reserved for the most that it can cost before it goes out.

All budgets of a call are reserved or none. A reservation is corrected to the real cost when the call is recorded,
and given back however it ends. Nothing here asks the database: the desk (accounting/budget_desk.py) has leased it.
"""

import datetime
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from pointsman.accounting.billing import cost_with_byok
from pointsman.accounting.budget_desk import BudgetDesk, EscrowError, Hold
from pointsman.accounting.budget_pots import Shortage
from pointsman.accounting.pricing import Price
from pointsman.canonical.record import RequestRecord
from pointsman.canonical.windows import Window
from pointsman.clock import Clock
from pointsman.errors import BudgetExceeded, GatewayError, Kind
from pointsman.identity.keys import PREPAID, Key
from pointsman.policy.guardrails import GuardrailTable
from pointsman.runner import in_task
from pointsman.storage.budget_leases import CREDIT, LeaseGrant
from pointsman.storage.budgets import BudgetRow, Scope

Unpriced = Literal["allow", "refuse"]
TAG_HEADER: Final = b"x-pointsman-tags"
MAX_TAGS: Final = 8
MOST_KEYS: Final = 50_000  # whose budgets are remembered until they are put together anew
NANO: Final = 1_000_000_000
RETRY_SECONDS: Final = 1.0
_SHARED: Final = frozenset(("guardrail", "workspace", "member"))  # budgets that OpenRouter's API answers 403 for
_FOREVER: Final = Window()


class Bound(msgspec.Struct, frozen=True):
    """The budgets of a call: all of them, and those that can refuse it, with their windows.

    In those of ``byok`` counts, too, what providers bill the callers themselves.
    """

    rows: tuple[BudgetRow, ...]
    hard: tuple[tuple[str, Window], ...]
    key_kind: str
    byok: frozenset[str] = frozenset()


class BudgetTable:
    """Which budgets bind whom, in one configuration; those of a key itself come with the key. While it is not
    ``general`` no others bind anybody, but for a prepaid key its account's credit.

    ``credits``: each account's credit is one more; that of an agent's account always is. ``guardrails`` have budgets of
    their own; operators may set further ones, whose subject is the guardrail's id, a slash and the key's.
    """

    def __init__(
        self,
        rows: Iterable[BudgetRow],
        *,
        credits: bool = False,
        guardrails: GuardrailTable | None = None,
    ) -> None:
        self._guardrails = guardrails
        self._by_subject: dict[tuple[str, str], list[BudgetRow]] = {}
        for row in rows:
            self._by_subject.setdefault((row.scope, row.subject), []).append(row)
        self._credits = credits
        self.general = bool(self._by_subject) or credits or (guardrails is not None and guardrails.budgeted)
        self._tagged = any(scope == "tag" for scope, _ in self._by_subject)
        self._of_keys: dict[str, Bound | None] = {}

    def bound(self, key: Key, headers: Mapping[bytes, bytes]) -> Bound | None:
        """The budgets of a call by this key; None: there are none."""
        if self._tagged and TAG_HEADER in headers:
            return self._bind(key, tags_of(headers[TAG_HEADER]))
        if key.id not in self._of_keys:
            if len(self._of_keys) >= MOST_KEYS:
                self._of_keys.clear()
            self._of_keys[key.id] = self._bind(key, ())
        return self._of_keys[key.id]

    def _bind(self, key: Key, tags: tuple[str, ...]) -> Bound | None:
        subjects: list[tuple[Scope, str | None]] = [
            ("account", key.account_id),
            ("workspace", key.workspace_id),
            ("member", key.owner),
            *(("tag", name) for name in tags),
        ]
        bounds = self._guardrails.of(key) if self._guardrails is not None else None
        if bounds is not None:
            subjects += [("guardrail", f"{name}/{key.id}") for name in bounds.ids]
        shared = (row for scope, subject in subjects for row in self._by_subject.get((scope, subject or ""), ()))
        rows = [*key.budgets, *shared]
        if bounds is not None:
            rows += bounds.budgets
        if self._credits or key.kind == PREPAID:
            rows.append(credit_of(key.account_id))
        if not rows:
            return None
        hard = tuple((row.id, row.window) for row in rows if row.hard)
        return Bound(tuple(rows), hard, key.kind, frozenset(row.id for row in rows if row.include_byok))


def tags_of(header: bytes) -> tuple[str, ...]:
    """The tags that a call names itself, separated by commas; those beyond the first eight are left out."""
    names = (name.strip() for name in header.decode("latin-1").split(","))
    return tuple(dict.fromkeys(name for name in names if name))[:MAX_TAGS]


def credit_of(account_id: str) -> BudgetRow:
    """An account's credit as a budget; its limit is the account's balance, which only the escrow knows."""
    return BudgetRow(
        id=CREDIT + account_id, scope="account", subject=account_id, limit_nano_usd=0, window=_FOREVER, source="credit"
    )


class Budgets:
    """Reserves for calls and settles what they have cost. ``unpriced``: what happens to calls that nobody can price;
    ``assumed_output_tokens`` are reserved when neither the client nor the model has a limit.
    """

    def __init__(
        self, desk: BudgetDesk, clock: Clock, *, unpriced: Unpriced = "allow", assumed_output_tokens: int = 4096
    ) -> None:
        self.desk = desk
        self._clock = clock
        self._unpriced = unpriced
        self._assumed = assumed_output_tokens
        self.refused: dict[str, int] = {}
        self.unpriced_calls = 0

    def most_tokens(self, asked: int, most: int | None, choices: int) -> int:
        """The most output tokens of a call: ``asked`` for (0: not said), no more than ``most`` for each choice."""
        if most is None:
            return asked or self._assumed * choices
        return min(asked, most * choices) if asked else most * choices

    def worst_case(self, price: Price | None, tokens: tuple[int, int], at: int, *, prepaid: bool = False) -> int:
        """The most that a call of the instant ``at`` (us) with so many ``tokens`` in and out can cost, in nano-USD.
        Without a price it is one: nobody knows what it will be, but a budget of which nothing is left must not pay for
        it. ``prepaid``: the caller spends what was paid in and no more, so there must be a price.

        Raises BudgetExceeded for a model without a price when such calls are refused.
        """
        if price is not None:
            return price.most_nano_usd(*tokens, at)
        if prepaid or self._unpriced == "refuse":
            self._count("unpriced")
            who = "this account spends only what was paid in" if prepaid else "calls on a budget must have a price"
            raise BudgetExceeded(Kind.PAYMENT_REQUIRED, f"nobody knows what this model costs, and {who}")
        self.unpriced_calls += 1
        return 1

    async def reserve(self, bound: Bound, hold: Hold | None, amount: int, at: int) -> Hold:
        """Hold ``amount`` nano-USD in all for a call that began at ``at`` (us): more or less than ``hold`` does.

        Raises BudgetExceeded naming the budget, GatewayError(OVERLOADED) when leases are spent and the escrow is away.
        """
        own = hold or self.desk.hold(bound.hard, at)
        done = False
        try:
            if not own.try_resize(amount):
                await in_task()
                await own.resize(amount)
            done = True
        except Shortage as shortage:
            raise self._refuse(bound, shortage) from None
        except EscrowError as error:
            raise GatewayError(Kind.OVERLOADED, str(error), retry_after_seconds=RETRY_SECONDS) from error
        finally:
            if hold is None and not done:
                own.settle(0)
        return own

    def _refuse(self, bound: Bound, shortage: Shortage) -> GatewayError:
        row = next(row for row in bound.rows if row.id == shortage.budget_id)
        now = self._clock.now_us()
        self._count(row.source if row.source == "credit" else row.scope)
        resets_at = reset_of(row.window, shortage.period, shortage.grant.oldest)
        error = BudgetExceeded(_kind(row, bound.key_kind), _message(row, shortage, resets_at))
        if resets_at is not None and error.kind is Kind.RATE_LIMITED:
            error.retry_after_seconds = max(1, -(-(resets_at - now) // 1_000_000))
        error.metadata = {"budget": _told(row, shortage.grant, resets_at)}
        return error

    def _count(self, scope: str) -> None:
        self.refused[scope] = self.refused.get(scope, 0) + 1


def charge(bound: Bound, record: RequestRecord) -> None:
    """Write down the budgets in which a record's cost counts. One that used nothing counts nowhere."""
    if not (record.cost_nano_usd or record.input_tokens or record.output_tokens):
        return
    at = record.created_at
    marks: list[tuple[Any, ...]] = [(row.id, row.window.period(at), row.hard) for row in bound.rows]
    if record.byok and bound.byok:
        whole = cost_with_byok(record)
        marks = [(*mark, whole) if mark[0] in bound.byok else mark for mark in marks]
    record.charges = msgspec.json.encode(marks).decode()


def reset_of(window: Window, period: int, oldest: int | None) -> int | None:
    """When something comes back (us): a window's end, or when the oldest spending of a rolling one counts no more."""
    return window.end(period if window.kind != "rolling" or oldest is None else oldest)


def dollars(nano: int) -> str:
    """An amount for people, exact to its last digit."""
    whole, rest = divmod(abs(nano), NANO)
    digits = f"{rest:09d}".rstrip("0")
    return f"{'-' if nano < 0 else ''}${whole}.{digits.ljust(2, '0')}"


def moment(at: int) -> str:
    """An instant in words of ISO 8601."""
    return datetime.datetime.fromtimestamp(at // 1_000_000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def name_of(row: BudgetRow) -> str:
    """What a budget is called."""
    if row.source == "credit":
        return "the account's credit"
    kind = row.window.kind
    window = {"none": "", "rolling": f" of {row.window.seconds} s"}.get(kind, f" of the {kind}")
    return f"the {row.scope}'s budget{window}"


def _kind(row: BudgetRow, key_kind: str) -> Kind:
    """402; 429 for the limits of OmniRoute's keys; 403 for those that OpenRouter's API counts as rules."""
    if row.source == "omniroute":
        return Kind.RATE_LIMITED
    if key_kind == "openrouter" and row.scope in _SHARED:
        return Kind.PERMISSION_DENIED
    return Kind.PAYMENT_REQUIRED


def _message(row: BudgetRow, shortage: Shortage, resets_at: int | None) -> str:
    grant = shortage.grant
    limit = grant.limit if grant.limit is not None else row.limit_nano_usd
    left = max(0, limit - grant.spent)
    held = f", {dollars(min(grant.held, left))} of it reserved by calls under way" if grant.held else ""
    reset = f"; it resets at {moment(resets_at)}" if resets_at is not None else ""
    return (
        f"{name_of(row)} ({row.id}) can't pay for this call: it may cost up to {dollars(shortage.amount)}, and"
        f" {dollars(left)} of {dollars(limit)} is left{held}{reset}"
    )


def _told(row: BudgetRow, grant: LeaseGrant, resets_at: int | None) -> dict[str, Any]:
    limit = grant.limit if grant.limit is not None else row.limit_nano_usd
    return {
        "id": row.id,
        "scope": row.scope,
        "limit_usd": limit / NANO,
        "remaining_usd": max(0, limit - grant.spent) / NANO,
        "resets_at": None if resets_at is None else moment(resets_at),
    }
