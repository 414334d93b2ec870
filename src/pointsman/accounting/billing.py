"""What an account is charged for a call, given what the upstream takes for it. Pure; integers only.

OpenRouter's rules: an answer without any text that has no reason for its end, or ended in an error, is not charged
(zero-completion insurance); a call with the caller's own provider key is charged a share of the list price.
"""

from typing import Final

import msgspec

from pointsman.canonical.record import Exemption, Outcome, RequestRecord
from pointsman.charges import LedgerSettings

PPM: Final = 1_000_000
_WRITES_TEXT: Final = frozenset({"chat", "text_completion"})  # the insured operations


class BillingRules(msgspec.Struct, frozen=True, kw_only=True):
    """``insured``: empty answers are not charged. ``byok_fee_ppm``: the share of the list price, in millionths."""

    insured: bool = True
    byok_fee_ppm: int = 50_000


def billing_rules(settings: LedgerSettings) -> BillingRules:
    """The operator's choice, in integers."""
    return BillingRules(
        insured=settings.zero_completion_insurance, byok_fee_ppm=round(settings.byok_fee_percent * PPM / 100)
    )


def bill(record: RequestRecord, rules: BillingRules) -> None:
    """Turn the upstream's price, which stands in ``cost_nano_usd``, into what is charged. Once for each call.

    What the upstream takes goes to ``upstream_cost_nano_usd`` where the two differ. An unpriced call stays unpriced.
    """
    cost = record.cost_nano_usd
    if not cost:
        return
    exemption = exemption_of(record) if rules.insured else None
    if exemption is not None:
        record.exemption, charged = exemption, 0
    elif record.byok:
        charged = fee_of(cost, rules)
    else:
        return
    record.upstream_cost_nano_usd, record.cost_nano_usd = cost, charged


def fee_of(cost: int, rules: BillingRules) -> int:
    """What is charged for a call that its upstream bills to the caller itself at this price; nano-USD."""
    return (cost * rules.byok_fee_ppm + PPM // 2) // PPM


def exemption_of(record: RequestRecord) -> Exemption | None:
    """Why the insurance pays for a call, if it does. What a caller broke off is charged as far as it was written."""
    if record.operation not in _WRITES_TEXT:
        return None
    if record.finish_reason == "error" or (record.outcome is Outcome.ERROR and record.status == 200):
        return Exemption.FINISHED_IN_ERROR
    if not record.output_tokens and not record.finish_reason:
        return Exemption.ZERO_COMPLETION
    return None


def add_costs(record: RequestRecord, other: RequestRecord, *, unknown: bool) -> None:
    """Count what another attempt for the same request has cost; ``unknown`` when one of them has no known price.

    When only one of them was with the caller's own provider key, the sum is not, and what is owed is the other's alone.
    """
    costs = [cost for cost in (record.cost_nano_usd, other.cost_nano_usd) if cost is not None]
    ours, theirs = upstream_price(record), upstream_price(other)
    if ours and theirs and record.byok is not other.byok:
        upstream = theirs if record.byok else ours
        record.byok = False
    else:
        upstream = ours + theirs
        record.byok = record.byok if ours or not theirs else other.byok
    charged = record.cost_nano_usd = sum(costs) if costs and not unknown else None
    record.upstream_cost_nano_usd = None if charged is None or charged == upstream else upstream
    if charged:
        record.exemption = None
    elif record.exemption is None:
        record.exemption = other.exemption


def cost_with_byok(record: RequestRecord) -> int:
    """What a call has cost in nano-USD: the charge, and with the caller's own provider key what that was billed."""
    return (record.cost_nano_usd or 0) + (record.upstream_cost_nano_usd or 0 if record.byok else 0)


def upstream_price(record: RequestRecord) -> int:
    """What the upstream takes for a call, from whomever, in nano-USD; 0 when nobody knows."""
    cost = record.cost_nano_usd if record.upstream_cost_nano_usd is None else record.upstream_cost_nano_usd
    return cost or 0
