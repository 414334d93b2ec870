"""An invoice is compared with what was recorded: every difference is found, and none where there is none."""

import asyncio
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from databases import DatabasePlace
from pointsman.accounting.invoices import read_invoice
from pointsman.accounting.reconciliation import Wish, compare, reconcile
from pointsman.canonical.record import RequestRecord
from pointsman.errors import ConfigError
from pointsman.storage.recorded_costs import DAY_US, Recorded, RecordedCosts
from pointsman.storage.requests import RequestRepository

OPENAI = """start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id
1759622400,1759708800,2025-10-05T00:00:00+00:00,2025-10-06T00:00:00+00:00,0.8958740000000000,usd,"gpt-5-mini-2025-08-07, input",p
1759622400,1759708800,2025-10-05T00:00:00+00:00,2025-10-06T00:00:00+00:00,1.1000000000000000,usd,"gpt-5-mini-2025-08-07, output",p
1759708800,1759795200,2025-10-06T00:00:00+00:00,2025-10-07T00:00:00+00:00,,,,
"""  # noqa: E501 - as the provider writes it
ANTHROPIC = """usage_date_utc,model,workspace,api_key,usage_type,token_type,cost_usd
2025-10-05,claude-sonnet-4-5-20250929,Default,main,message,input,1.25
2025-10-05,claude-sonnet-4-5-20250929,Default,main,message,output,"2,000.50"
"""
GOOGLE = """Invoice number,,12345,
Total amount due,,3.00,
Project ID,Service description,SKU description,Usage start date,Cost ($)
my-project,Gemini API,Gemini 2.5 Flash Text Input - Predictions,2025-10-05,0.50
my-project,Gemini API,Gemini 2.5 Flash Text Output - Predictions,2025-10-05,2.50
,,,Total,3.00
"""


def test_openais_export_is_read_with_days_models_and_amounts() -> None:
    invoice = read_invoice(OPENAI)
    assert (invoice.kind, invoice.has_models, invoice.has_keys) == ("openai", True, False)
    assert [(line.day, line.model, line.nano_usd) for line in invoice.lines] == [
        ("2025-10-05", "gpt-5-mini", 895_874_000),
        ("2025-10-05", "gpt-5-mini", 1_100_000_000),
    ]


def test_anthropics_report_is_read_with_keys() -> None:
    invoice = read_invoice(ANTHROPIC)
    assert (invoice.kind, invoice.has_keys) == ("anthropic", True)
    assert [(one.model, one.key, one.nano_usd) for one in invoice.lines] == [
        ("claude-sonnet-4-5", "main", 1_250_000_000),
        ("claude-sonnet-4-5", "main", 2_000_500_000_000),
    ]


def test_googles_table_is_read_below_its_own_head_and_without_its_sum() -> None:
    invoice = read_invoice(GOOGLE)
    assert (invoice.kind, invoice.unit_nano_usd) == ("google", 10_000_000)
    assert {one.model for one in invoice.lines} == {"gemini-2.5-flash"}


def test_any_other_file_is_read_as_the_operator_says() -> None:
    text = "wann;was;wieviel\n2025/10/05;mistral-large;1.5\n"
    with pytest.raises(ConfigError, match="--column day=NAME"):
        read_invoice(text)
    invoice = read_invoice(text, columns={"day": "wann", "model": "Was", "cost": "wieviel"})
    assert [(one.day, one.model, one.nano_usd) for one in invoice.lines] == [
        ("2025-10-05", "mistral-large", 15 * 10**8)
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("day,cost\n2025-10-05,abc\n", "row 2: 'abc' is no amount"),
        ("day,cost\n2025-10-05,NaN\n", "row 2: 'NaN' is no amount"),
        ("day,cost\n2025-10-05,Infinity\n", "row 2: 'Infinity' is no amount"),
        ("day,cost\nyesterday,1\n", "row 2: 'yesterday' is no day"),
        ("day,cost,currency\n2025-10-05,1,EUR\n", "row 2: the amount is in EUR"),
        ("", "no columns for day and cost"),
    ],
)
def test_what_can_not_be_read_is_told_by_its_row(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read_invoice(text)


def recorded(day: int, model: str, key: str, nano_usd: int, requests: int = 1, unpriced: int = 0) -> Recorded:
    """Sums of a day (counted from 2025-10-05)."""
    return Recorded(20_366 + day, model, "", "", key, requests, nano_usd, unpriced)


def invoice_of(rows: list[tuple[int, str, str, int]]) -> str:
    """A generic file with amounts to a nano-USD."""
    lines = [f"2025-10-{5 + day:02},{model},{key},{Decimal(nano).scaleb(-9):f}" for day, model, key, nano in rows]
    return "\n".join(["day,model,key,cost", *lines])


def test_each_kind_of_difference_has_its_name() -> None:
    ours = [
        recorded(0, "gpt-5-2025-08-07", "main", 1_000_000),
        recorded(0, "claude", "main", 500_000),
        recorded(0, "lost", "main", 70_000),
        recorded(0, "odd", "main", 0, unpriced=1),
    ]
    theirs = [
        (0, "gpt-5", "main", 1_000_001),
        (0, "claude", "main", 500_100),
        (0, "ghost", "main", 9),
        (0, "odd", "main", 3),
    ]
    found = compare(read_invoice(invoice_of(theirs)), ours, Wish())
    assert {row.model: (row.verdict, row.difference_nano_usd) for row in found.rows} == {
        "gpt-5": ("agrees", 1),
        "claude": ("differs", 100),
        "lost": ("not billed", -70_000),
        "ghost": ("not recorded", 9),
        "odd": ("unpriced", 3),
    }
    assert not found.agrees
    tolerant = compare(read_invoice(invoice_of(theirs[:2])), ours[:2], Wish(tolerance_ppm=1_000))
    assert tolerant.agrees


def test_keys_are_compared_when_each_is_known_and_left_out_when_not() -> None:
    ours = [recorded(0, "m", "main", 1_000), recorded(0, "m", "other", 500)]
    text = invoice_of([(0, "m", "sk-1", 1_000), (0, "m", "sk-2", 500)])
    named = compare(read_invoice(text), ours, Wish(keys={"sk-1": "main", "sk-2": "other"}))
    assert (named.with_keys, [row.key for row in named.by_key], named.agrees) == (True, ["main", "other"], True)
    unnamed = compare(read_invoice(text), ours, Wish())
    assert (unnamed.with_keys, unnamed.by_key, unnamed.agrees) == (False, (), True)


PLACES = st.tuples(st.integers(0, 20), st.sampled_from(["a", "b", "c"]), st.sampled_from(["main", "other"]))


@given(
    costs=st.dictionaries(PLACES, st.integers(1_000, 10**12), min_size=1, max_size=12),
    wrong=st.dictionaries(st.integers(0, 11), st.integers(10, 10**9) | st.integers(-900, -10), max_size=4),
)
def test_exactly_the_rows_that_were_falsified_are_found(
    costs: dict[tuple[int, str, str], int], wrong: dict[int, int]
) -> None:
    billed = [(*place, nano + wrong.get(number, 0)) for number, (place, nano) in enumerate(costs.items())]
    ours = [recorded(day, model, key, nano) for (day, model, key), nano in costs.items()]
    found = compare(read_invoice(invoice_of(billed)), ours, Wish(keys={"main": "main", "other": "other"}))
    falsified = {place for number, place in enumerate(costs) if number in wrong}
    told = {(row.day, row.model, row.key) for row in found.rows if row.verdict != "agrees"}
    assert told == {(f"2025-10-{5 + day:02}", model, key) for day, model, key in falsified}


def test_what_is_recorded_comes_from_the_requests_of_the_providers_days(database_place: DatabasePlace) -> None:
    def request(number: int, day: int, cost: int | None, **more: object) -> RequestRecord:
        values = {"provider": "openai", "connection_id": "main", "input_tokens": 5, "response_model": "gpt-5", **more}
        return RequestRecord(
            request_id=f"r{number}", created_at=(20_366 + day) * DAY_US + 5, operation="chat", route="",
            dialect="openai", cost_nano_usd=cost, **values,  # type: ignore[arg-type] - a test's keywords
        )  # fmt: skip

    async def run() -> None:
        database = database_place.open()
        try:
            async with database.write() as connection:
                await RequestRepository(database).insert_many(
                    connection,
                    [
                        request(1, 0, 1_000),
                        request(2, 0, 0, upstream_cost_nano_usd=200),
                        request(3, 0, 5, upstream_cost_nano_usd=100, byok=True),
                        request(4, 0, 900, provider="anthropic", connection_id="claude"),
                        request(5, 3, 7_000),
                        request(6, 1, None, response_model="new"),
                    ],
                )
            invoice = read_invoice(invoice_of([(0, "gpt-5", "x", 1_200), (1, "new", "x", 50)]))
            found = await reconcile(RecordedCosts(database), invoice, Wish(providers=("openai",)))
            assert [(row.model, row.verdict, row.requests) for row in found.rows] == [
                ("gpt-5", "agrees", 2),
                ("new", "unpriced", 1),
            ]
        finally:
            await database.aclose()

    asyncio.run(run())
