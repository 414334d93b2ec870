"""Compares what a provider bills with what was recorded: for each model, key and day, and in sum for each of them."""

import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

import msgspec

from pointsman.accounting.invoices import Invoice, plain_model
from pointsman.errors import ConfigError
from pointsman.storage.recorded_costs import DAY_US, Recorded, RecordedCosts, Span

STRETCH: Final = 50_000
Verdict = Literal["agrees", "differs", "not recorded", "not billed", "unpriced"]
Place = tuple[str, str, str]  # day, model, key
_EPOCH: Final = datetime.date(1970, 1, 1)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be compared. ``keys`` are connections by what the invoice calls their keys.

    ``tolerance_ppm`` is what may differ beside rounding, in millionths of what was recorded.
    """

    providers: tuple[str, ...] = ()
    connections: tuple[str, ...] = ()
    keys: Mapping[str, str] = {}
    tolerance_ppm: int = 0


class Variance(msgspec.Struct, kw_only=True):
    """What is billed and what was recorded, in nano-USD. ``unpriced`` requests were recorded without a cost."""

    day: str
    model: str
    key: str
    billed_nano_usd: int = 0
    recorded_nano_usd: int = 0
    difference_nano_usd: int = 0
    requests: int = 0
    unpriced: int = 0
    verdict: Verdict = "agrees"


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """The whole comparison; ``rows`` by day, model and key, then sums over each. ``with_keys``: keys were compared."""

    kind: str
    since: str
    until: str
    with_keys: bool
    billed_nano_usd: int
    recorded_nano_usd: int
    rows: tuple[Variance, ...]
    by_model: tuple[Variance, ...]
    by_key: tuple[Variance, ...]
    by_day: tuple[Variance, ...]

    @property
    def agrees(self) -> bool:
        """Whether every row does."""
        return all(row.verdict == "agrees" for row in self.rows)


async def reconcile(
    costs: RecordedCosts, invoice: Invoice, wish: Wish, progress: Callable[[int, int], None] = lambda *_: None
) -> Reconciliation:
    """Compare an invoice with the requests of its days. Raises ConfigError for an empty one, StorageError."""
    if not invoice.lines:
        raise ConfigError("the invoice has no rows with a day and an amount")
    days = sorted({line.day for line in invoice.lines})
    span = Span(_instant(days[0]), _instant(days[-1]) + DAY_US, wish.providers or ("",), wish.connections or ("",))
    recorded: list[Recorded] = []
    last = await costs.last()
    for after in range(0, last, STRETCH):
        progress(after, last)
        recorded += await costs.sums(span, after, min(after + STRETCH, last))
    progress(last, last)
    return compare(invoice, recorded, wish)


def compare(invoice: Invoice, recorded: Iterable[Recorded], wish: Wish) -> Reconciliation:
    """The comparison itself: pure. Keys count when the invoice has them and each is known as a connection's."""
    recorded = list(recorded)
    known = {one.connection_id for one in recorded} | set(wish.connections)
    named = {line.key for line in invoice.lines}
    with_keys = invoice.has_keys and all(key in wish.keys or key in known for key in named)
    rows: dict[Place, Variance] = {}
    slack: dict[Place, int] = {}

    def at(day: str, model: str, key: str) -> tuple[Place, Variance]:
        place = (day, model if invoice.has_models else "", key if with_keys else "")
        if place not in rows:
            rows[place] = Variance(day=place[0], model=place[1], key=place[2])
            slack[place] = 0
        return place, rows[place]

    for line in invoice.lines:
        place, row = at(line.day, line.model, wish.keys.get(line.key, line.key))
        row.billed_nano_usd += line.nano_usd
        slack[place] += invoice.unit_nano_usd  # it was rounded, at most by one
    for one in recorded:
        place, row = at(_day(one.day), _model(one), one.connection_id)
        row.recorded_nano_usd += one.nano_usd
        row.requests += one.requests
        row.unpriced += one.unpriced
        slack[place] += one.requests  # each is a whole number of nano-USD
    ordered = [rows[place] for place in sorted(rows)]
    for place, row in rows.items():
        _judge(row, slack[place] + row.recorded_nano_usd * wish.tolerance_ppm // 1_000_000)
    return Reconciliation(
        kind=invoice.kind,
        since=ordered[0].day,
        until=ordered[-1].day,
        with_keys=with_keys,
        billed_nano_usd=sum(row.billed_nano_usd for row in ordered),
        recorded_nano_usd=sum(row.recorded_nano_usd for row in ordered),
        rows=tuple(ordered),
        by_model=_summed(ordered, "model") if invoice.has_models else (),
        by_key=_summed(ordered, "key") if with_keys else (),
        by_day=_summed(ordered, "day"),
    )


def _judge(row: Variance, slack: int) -> None:
    row.difference_nano_usd = row.billed_nano_usd - row.recorded_nano_usd
    if row.unpriced:
        row.verdict = "unpriced"
    elif abs(row.difference_nano_usd) <= slack:
        row.verdict = "agrees"
    elif not row.requests:
        row.verdict = "not recorded"
    elif not row.billed_nano_usd:
        row.verdict = "not billed"
    else:
        row.verdict = "differs"


def _summed(rows: Iterable[Variance], field: str) -> tuple[Variance, ...]:
    """Sums over one field; a sum agrees when each of its rows does."""
    sums: dict[str, Variance] = {}
    for row in rows:
        name = getattr(row, field)
        if name not in sums:
            sums[name] = msgspec.structs.replace(Variance(day="", model="", key=""), **{field: name})
        one = sums[name]
        for figure in ("billed_nano_usd", "recorded_nano_usd", "difference_nano_usd", "requests", "unpriced"):
            setattr(one, figure, getattr(one, figure) + getattr(row, figure))
        if row.verdict != "agrees":
            one.verdict = row.verdict if one.verdict in ("agrees", row.verdict) else "differs"
    return tuple(sums[name] for name in sorted(sums))


def _model(one: Recorded) -> str:
    return plain_model(one.answered or one.target or one.asked)


def _instant(day: str) -> int:
    return (datetime.date.fromisoformat(day) - _EPOCH).days * DAY_US


def _day(number: int) -> str:
    return (_EPOCH + datetime.timedelta(days=number)).isoformat()
