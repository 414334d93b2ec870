"""Reads what a provider bills from its CSV: an amount of nano-USD for each day, model and key. Pure.

The columns are those of OpenAI's cost export, of Anthropic's cost report and of Google Cloud's cost table, found by
their names; any other file is read by the plain names (`day`, `model`, `key`, `cost`) or as the operator says.
"""

import csv
import datetime
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

from pointsman.canonical.ledger import NANO_PER_USD
from pointsman.errors import ConfigError

MOST_ROWS: Final = 1_000_000
MOST_HEAD: Final = 30  # rows before the names of the columns, as Google writes them
FIELDS: Final = ("day", "model", "key", "cost", "currency")
_NEEDED: Final = ("day", "cost")
# What each kind of file calls its columns, the better name first. The first kind whose needed columns are there counts.
_KINDS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "openai": {
        "day": ("start_time_iso", "start_time"), "model": ("line_item", "model"), "key": ("api_key_id",),
        "cost": ("amount_value",), "currency": ("amount_currency",),
    },
    "anthropic": {
        "day": ("usage_date_utc",), "model": ("model", "model_version"), "key": ("api_key",),
        "cost": ("cost_usd",), "currency": (),
    },
    "google": {
        "day": ("usage start date", "start time", "start date"), "model": ("sku description", "description"),
        "key": ("project id", "project name"),
        "cost": ("cost ($)", "unrounded cost ($)", "cost", "unrounded cost"), "currency": ("currency",),
    },
    "generic": {
        "day": ("day", "date", "timestamp", "created_at", "start_time"), "model": ("model", "model_id", "line_item"),
        "key": ("key", "api_key", "api_key_id", "connection"),
        "cost": ("cost", "cost_usd", "amount", "amount_usd", "total"), "currency": ("currency",),
    },
}  # fmt: skip
KINDS: Final = tuple(_KINDS)
_SNAPSHOT: Final = re.compile(r"[-@](?:20\d\d-?\d\d-?\d\d|\d{4}|latest)$")
# What a line is about beside the model: kinds of tokens in Google's and OpenAI's descriptions.
_AFTER_MODEL: Final = re.compile(
    r"[\s_,-]+(?:input|output|text|image|audio|video|cached|caching|cache|thinking|generate|token|count|long|batch|prompt"
    r"|online|predictions?)\b.*$"
)


class InvoiceLine(msgspec.Struct, frozen=True, kw_only=True):
    """What is billed for a model and a key on a day (YYYY-MM-DD, UTC)."""

    day: str
    model: str
    key: str
    nano_usd: int


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file: what kind it is, whether it tells keys and models, and its lines.

    ``unit_nano_usd`` is what amounts were rounded to: the last place of the one with the most.
    """

    kind: str
    has_models: bool
    has_keys: bool
    unit_nano_usd: int
    lines: tuple[InvoiceLine, ...]


def plain_model(name: str) -> str:
    """A model's name as invoice and record both have it: small letters, without vendor, day and kind of token."""
    name = name.strip().lower().rpartition("/")[2]
    name = _AFTER_MODEL.sub("", name).replace(" ", "-")
    return _SNAPSHOT.sub("", name)


def read_invoice(text: str, kind: str | None = None, columns: Mapping[str, str] | None = None) -> Invoice:
    """Read a CSV (commas, semicolons or tabs). ``columns`` says which column holds a field, ahead of what is known.

    Raises ConfigError that names the row or the column.
    """
    rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff")), delimiter=_delimiter(text)))
    if len(rows) > MOST_ROWS:
        raise ConfigError(f"the invoice has more than {MOST_ROWS} rows")
    start, kind, places = _head(rows, kind, columns or {})
    found = [
        line
        for number, row in enumerate(rows[start + 1 :], start + 2)
        if any(cell.strip() for cell in row) and (line := _line(row, number, places)) is not None
    ]
    return Invoice(
        kind=kind,
        has_models="model" in places,
        has_keys="key" in places,
        unit_nano_usd=min((unit for _, unit in found), default=1),
        lines=tuple(line for line, _ in found),
    )


def _delimiter(text: str) -> str:
    head = text[:10_000]
    return max((",", ";", "\t"), key=head.count)


def _head(
    rows: Sequence[Sequence[str]], kind: str | None, columns: Mapping[str, str]
) -> tuple[int, str, dict[str, int]]:
    """The row with the names of the columns, the kind of the file, and where each field is."""
    for field in columns:
        if field not in FIELDS:
            raise ConfigError(f"there is no field '{field}': the fields are {', '.join(FIELDS)}")
    if kind is not None and kind not in _KINDS:
        raise ConfigError(f"there is no kind '{kind}': the kinds are {', '.join(KINDS)}")
    for number, row in enumerate(rows[:MOST_HEAD]):
        names = [cell.strip().lower() for cell in row]
        for one in (kind,) if kind is not None else KINDS:
            places = _places(names, _KINDS[one], columns)
            if all(field in places for field in _NEEDED):
                return number, one, places
    raise ConfigError("no columns for day and cost were found; name them: --column day=NAME --column cost=NAME")


def _places(names: Sequence[str], known: Mapping[str, Iterable[str]], columns: Mapping[str, str]) -> dict[str, int]:
    places: dict[str, int] = {}
    for field in FIELDS:
        wanted = (columns[field].strip().lower(),) if field in columns else known[field]
        found = next((names.index(name) for name in wanted if name in names), None)
        if found is not None:
            places[field] = found
    return places


def _line(row: Sequence[str], number: int, places: Mapping[str, int]) -> tuple[InvoiceLine, int] | None:
    """A line and the unit of its last place; None for a row of sums: it has no day, or no amount."""
    cells = {field: row[place].strip() if place < len(row) else "" for field, place in places.items()}
    if not cells["day"] or not cells["cost"] or cells["day"].lower().startswith(("total", "subtotal")):
        return None
    currency = cells.get("currency", "").lower()
    if currency not in ("", "usd", "$"):
        raise ConfigError(f"row {number}: the amount is in {currency.upper()}; only USD can be compared")
    try:
        amount = Decimal(cells["cost"].replace("$", "").replace(",", ""))
        nano = int((amount * NANO_PER_USD).to_integral_value())
    except (InvalidOperation, ValueError, OverflowError):
        raise ConfigError(f"row {number}: '{cells['cost'][:50]}' is no amount") from None
    exponent = amount.as_tuple().exponent
    unit = 10 ** max(0, 9 + exponent) if isinstance(exponent, int) else 1
    model = plain_model(cells.get("model", ""))
    return InvoiceLine(day=_day(cells["day"], number), model=model, key=cells.get("key", ""), nano_usd=nano), unit


def _day(text: str, number: int) -> str:
    """The UTC day of a date, an instant in ISO 8601 or seconds since 1970."""
    try:
        if text.isdigit() and len(text) >= 9:
            instant = datetime.datetime.fromtimestamp(int(text), datetime.UTC)
        else:
            instant = datetime.datetime.fromisoformat(text.replace("/", "-").removesuffix(" UTC"))
            if instant.tzinfo is not None:
                instant = instant.astimezone(datetime.UTC)
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"row {number}: '{text[:50]}' is no day") from None
    return instant.date().isoformat()
