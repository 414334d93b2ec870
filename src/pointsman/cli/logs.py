"""``pointsman logs``: the newest requests, and new ones as they come. No prompt and no answer is ever stored."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli import app
from pointsman.cli.options import ConfigFile, DataDir, opened
from pointsman.cli.output import is_terminal, local_time, note, print_json, print_table, printable

if TYPE_CHECKING:
    from pointsman.canonical.record import RequestRecord
    from pointsman.installation import Installation

FOLLOW_SECONDS = 0.2
PAGE = 500
# How far back --errors looks for errors among requests that went well.
MAX_SCANNED = 50_000
WORKSPACE = "default"
COLUMNS = (
    "time", "request", "key", "model", "connection", "status", "outcome", "in>", "out>", "cost>", "duration>",
    "first byte>",
)  # fmt: skip
# On a narrow terminal, in this order.
DROPPED = ("first byte>", "connection", "request", "key", "cost>", "outcome", "duration>")
# Of one line while following: wide enough for most, never cut.
WIDTHS = (19, 32, 10, 30, 10, 6, 16, 7, 7, 12, 8, 8)


@app.command()
def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new requests until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", help="Begin with the newest N.", min=0, max=10_000)
    ] = 25,
    errors: Annotated[bool, typer.Option("--errors", help="Only requests that did not succeed.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show the newest requests, the latest last. Token numbers marked ~ are estimates."""
    asyncio.run(_logs(follow, as_json, limit, errors, (data_dir, config)))


async def _logs(follow: bool, as_json: bool, limit: int, errors: bool, place: tuple[Path | None, Path | None]) -> None:
    async with opened(*place) as installation:
        names = KeyNames(installation)
        # Before the list: what is stored while it is read shows up in the first round, and is left out by its id.
        cursor = await installation.requests.last_cursor() if follow else 0
        records = await newest(installation, limit, errors)
        await names.learn(records)
        if as_json or follow:
            for record in records:
                _print_line(record, names, as_json)
        else:
            print_table(COLUMNS, [cells(record, names) for record in records], drop=DROPPED)
        if follow:
            await _follow(installation, names, cursor, {record.request_id for record in records}, (as_json, errors))


async def _follow(
    installation: "Installation", names: "KeyNames", cursor: int, seen: set[str], choice: tuple[bool, bool]
) -> None:
    as_json, errors = choice
    if is_terminal():
        note("following; Ctrl-C ends")
    while True:
        rows = await installation.requests.list_after(None, cursor, PAGE)
        records = [row.record for row in rows if row.record.request_id not in seen]
        records = [record for record in records if not errors or failed(record)]
        await names.learn(records)
        for record in records:
            _print_line(record, names, as_json)
        if rows:
            cursor = rows[-1].sequence
        if len(rows) < PAGE:
            seen.clear()  # everything from before the first round has come by
            await asyncio.sleep(FOLLOW_SECONDS)


async def newest(installation: "Installation", limit: int, errors: bool) -> list["RequestRecord"]:
    """The newest ``limit`` records, latest last; with ``errors`` only those that did not succeed."""
    from pointsman.storage.requests import Owner, Place

    found: dict[str, RequestRecord] = {}
    before, scanned = None, 0
    while len(found) < limit:
        size = PAGE if errors else min(PAGE, limit - len(found))
        page = await installation.requests.list_newest(Owner("workspace_id", WORKSPACE), before, size)
        found.update({record.request_id: record for record in page if not errors or failed(record)})
        scanned += len(page)
        if len(page) < size:
            break
        before = Place(page[-1].created_at, page[-1].request_id)
        if errors and scanned >= MAX_SCANNED:
            note(f"looked through the newest {scanned} requests only")
            break
    return list(found.values())[:limit][::-1]


class KeyNames:
    """Names of keys by id, read again when an unknown id comes by."""

    def __init__(self, installation: "Installation") -> None:
        self._installation = installation
        self._names: dict[str, str] = {}

    async def learn(self, records: list["RequestRecord"]) -> None:
        """Make the names of these records' keys known."""
        unknown = {record.key_id for record in records if record.key_id is not None} - self._names.keys()
        if unknown:
            self._names.update({key_id: key_id for key_id in unknown})
            self._names.update(await self._installation.keys.names(sorted(unknown)))

    def of(self, record: "RequestRecord") -> str:
        """The name of the record's key, ``-`` for a request without a valid one."""
        return self._names.get(record.key_id, record.key_id) if record.key_id is not None else "-"


def failed(record: "RequestRecord") -> bool:
    """Whether the request did not end well."""
    return record.outcome.value != "success"


def cells(record: "RequestRecord", names: KeyNames) -> tuple[str, ...]:
    """The record's values in the order of COLUMNS."""
    mark = "~" if record.usage_estimated else ""
    return (
        local_time(record.created_at, "%Y-%m-%d %H:%M:%S"),
        record.request_id,
        names.of(record),
        record.request_model or "-",
        record.connection_id or "-",
        str(record.status),
        record.error_kind or record.outcome.value,
        f"{mark}{record.input_tokens}",
        f"{mark}{record.output_tokens}",
        cost(record.cost_nano_usd),
        milliseconds(record.duration_us),
        milliseconds(record.first_byte_us),
    )


def cost(nano_usd: int | None) -> str:
    """An amount of nano-USD as dollars, exactly and without trailing zeros beyond the cent; None is ``unpriced``."""
    if nano_usd is None:
        return "unpriced"
    whole, fraction = divmod(abs(nano_usd), 1_000_000_000)
    digits = f"{fraction:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano_usd < 0 else ''}${whole}.{digits}"


def milliseconds(microseconds: int | None) -> str:
    """A duration as people read it: ms below a second, else seconds; ``-`` for none."""
    if microseconds is None:
        return "-"
    if microseconds < 1_000_000:
        return f"{microseconds / 1000:.1f} ms"
    return f"{microseconds / 1_000_000:.2f} s"


def _print_line(record: "RequestRecord", names: KeyNames, as_json: bool) -> None:
    if as_json:
        import msgspec

        print_json(msgspec.structs.asdict(record))  # with every member: the struct itself leaves defaults out
        return
    parts = []
    for column, width, cell in zip(COLUMNS, WIDTHS, cells(record, names), strict=True):
        shown = printable(cell)
        parts.append(shown.rjust(width) if column.endswith(">") else shown.ljust(width))
    typer.echo(" ".join(parts).rstrip())
