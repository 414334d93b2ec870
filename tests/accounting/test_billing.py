"""What an account is charged, and what is owed upstream, of each call and of several together."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.accounting.billing import BillingRules, add_costs, bill, billing_rules, upstream_price
from pointsman.accounting.pricing import Period, Price, PriceBook, Rates
from pointsman.accounting.usage_postings import upstream_cost, usage_drafts
from pointsman.canonical.ledger import AccountKind
from pointsman.canonical.record import Exemption, Outcome, RequestRecord
from pointsman.canonical.usage import TokenUsage
from pointsman.charges import LedgerSettings

RULES = BillingRules()
UNINSURED = BillingRules(insured=False)


def record(cost: int | None, **more: object) -> RequestRecord:
    """A chat call that went well."""
    values = {"status": 200, "outcome": Outcome.SUCCESS, "output_tokens": 5, "finish_reason": "stop", **more}
    return RequestRecord(
        request_id="r1", created_at=1, operation=str(values.pop("operation", "chat")), route="", dialect="openai",
        cost_nano_usd=cost, **values,  # type: ignore[arg-type] - a test's keywords
    )  # fmt: skip


def billed(cost: int | None, rules: BillingRules = RULES, **more: object) -> tuple[int | None, int | None, str | None]:
    """The charge, what the upstream takes where that differs, and the exemption."""
    one = record(cost, **more)
    bill(one, rules)
    return one.cost_nano_usd, one.upstream_cost_nano_usd, one.exemption


def test_an_ordinary_call_costs_what_the_upstream_takes() -> None:
    assert billed(1_000) == (1_000, None, None)
    assert billed(1_000, finish_reason="length", output_tokens=0) == (1_000, None, None)
    assert billed(1_000, outcome=Outcome.CLIENT_CLOSED, finish_reason=None) == (1_000, None, None)


def test_an_empty_answer_without_a_reason_is_insured() -> None:
    assert billed(1_000, output_tokens=0, finish_reason=None) == (0, 1_000, Exemption.ZERO_COMPLETION)
    assert billed(1_000, output_tokens=0, finish_reason="") == (0, 1_000, Exemption.ZERO_COMPLETION)
    assert billed(1_000, UNINSURED, output_tokens=0, finish_reason=None) == (1_000, None, None)


def test_an_answer_that_ended_in_an_error_is_insured() -> None:
    assert billed(1_000, finish_reason="error") == (0, 1_000, Exemption.FINISHED_IN_ERROR)
    assert billed(1_000, outcome=Outcome.ERROR, finish_reason=None) == (0, 1_000, Exemption.FINISHED_IN_ERROR)


@pytest.mark.parametrize("operation", ["embeddings", "rerank", "moderation"])
def test_operations_that_write_no_text_are_charged(operation: str) -> None:
    assert billed(1_000, operation=operation, output_tokens=0, finish_reason=None) == (1_000, None, None)


def test_calls_with_the_callers_own_key_cost_a_share_of_the_list_price() -> None:
    assert billed(1_010, byok=True) == (51, 1_010, None)  # 50.5 rounded half up
    assert billed(1_000, billing_rules(LedgerSettings(byok_fee_percent=0.1)), byok=True) == (1, 1_000, None)
    assert billed(None, byok=True) == (None, None, None)


def test_an_insured_attempt_before_one_that_went_well_is_owed_but_not_charged() -> None:
    before, final = record(700, output_tokens=0, finish_reason=None), record(1_000)
    bill(before, RULES)
    add_costs(final, before, unknown=False)
    assert (final.cost_nano_usd, final.upstream_cost_nano_usd, final.exemption) == (1_000, 1_700, None)


def test_only_the_operators_part_is_owed_when_one_attempt_used_the_callers_key() -> None:
    before, final = record(1_000, byok=True), record(400)
    bill(before, RULES)
    add_costs(final, before, unknown=False)
    assert (final.cost_nano_usd, upstream_cost(final), final.byok) == (450, 400, False)


def test_an_attempt_at_an_unknown_price_makes_the_whole_unpriced() -> None:
    before, final = record(None), record(400)
    add_costs(final, before, unknown=True)
    assert (final.cost_nano_usd, final.upstream_cost_nano_usd) == (None, None)
    assert usage_drafts([final]) == []


COSTS = st.one_of(st.none(), st.integers(0, 10**12))
CALLS = st.builds(
    record,
    COSTS,
    byok=st.booleans(),
    output_tokens=st.integers(0, 2),
    finish_reason=st.sampled_from([None, "stop", "error"]),
    account_id=st.sampled_from(["a", "b"]),
    provider=st.sampled_from([None, "x", "y"]),
)


@given(st.lists(CALLS, max_size=8))
def test_drafts_sum_to_zero_and_hold_every_charge_and_every_debt(records: list[RequestRecord]) -> None:
    listed = sum(one.cost_nano_usd or 0 for one in records)
    for one in records:
        bill(one, RULES)
    drafts = usage_drafts(records)
    assert all(sum(draft.amounts.values()) == 0 for draft in drafts)
    flat = [(account.kind, amount) for draft in drafts for account, amount in draft.amounts.items()]
    charged = -sum(amount for kind, amount in flat if kind is AccountKind.CREDIT)
    owed = sum(amount for kind, amount in flat if kind is AccountKind.PROVIDER)
    assert charged == sum(one.cost_nano_usd or 0 for one in records)
    assert owed == sum(upstream_cost(one) for one in records)
    assert sum(upstream_price(one) for one in records) == listed


def test_a_call_is_priced_by_the_instant_at_which_it_came() -> None:
    cheap, dear = (Rates(output=1_000),), (Rates(output=2_000),)
    price = Price(
        tiers=dear, source="t", periods=(Period(valid_from=100, tiers=cheap), Period(valid_from=200, tiers=dear))
    )
    usage = TokenUsage(output_tokens=1_000)
    costs = [price.cost_nano_usd(usage, instant) for instant in (0, 100, 199, 200, 10**18)]
    assert costs == [1_000, 1_000, 1_000, 2_000, 2_000]
    assert price.cost_nano_usd(usage) == 2_000


def test_prices_say_where_they_come_from_and_of_which_day_they_are() -> None:
    book = PriceBook(lambda: datetime.datetime(2026, 3, 12, 23, 0, tzinfo=datetime.UTC))
    book.load()
    price = book.find("anthropic", None, "claude-opus-4-6")
    assert price is not None
    assert price.source.startswith("genai-prices ")
    assert price.as_of is not None
    assert price.as_of <= "2026-03-12"
    assert len(price.periods) == 2  # it becomes another one at midnight
    midnight = int(datetime.datetime(2026, 3, 13, tzinfo=datetime.UTC).timestamp() * 1e6)
    assert price.periods[1].valid_from == midnight
    assert price.tiers_at(midnight - 1) == price.tiers != price.tiers_at(midnight)


def test_no_count_of_tokens_costs_more_than_the_books_can_hold() -> None:
    price = Price(tiers=(Rates(output=10**8),), source="t")
    assert price.cost_nano_usd(TokenUsage(output_tokens=2**62)) == 10**15
