"""``pointsman ledger``: what accounts have and spent, whether the books are right, and what providers bill."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pointsman.cli import app
from pointsman.cli.logs import cost
from pointsman.cli.options import AsJson, ConfigFile, DataDir, command_group, opened
from pointsman.cli.output import console, local_time, note, print_json, print_table

if TYPE_CHECKING:
    from pointsman.accounting.ledger_check import CheckReport
    from pointsman.accounting.reconciliation import Reconciliation, Variance

MOST_SHOWN: Final = 500
MOST_BYTES: Final = 256 * 1024 * 1024  # of an invoice
group = command_group("ledger", "What accounts have, whether the books are right, and what providers bill.")
app.add_typer(group)

Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's id; `default` when you made none.")]
Limit = Annotated[int, typer.Option("--limit", "-n", metavar="N", help="At most N.", min=1, max=MOST_SHOWN)]


@group.command()
def balance(
    after: Annotated[str, typer.Option("--after", metavar="NAME", help="Go on behind this one.")] = "",
    limit: Limit = 100,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show the balance of each account of the ledger. Above zero: owed to its owner, or earned."""

    async def work() -> None:
        async with opened(data_dir, config) as installation:
            found = await installation.ledger.balances(after, limit)
        if as_json:
            print_json(found)
            return
        columns = ("ledger account", "balance>", "entries>")
        print_table(columns, [(one.ledger_account, cost(one.balance_nano_usd), str(one.postings)) for one in found])
        if len(found) == limit:
            note(f"perhaps there are more: --after {found[-1].ledger_account}")

    asyncio.run(work())


@group.command()
def entries(
    account: Account,
    before: Annotated[int | None, typer.Option("--before", metavar="NUMBER", help="Older than this one.")] = None,
    limit: Limit = 25,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show what was credited and charged to an account, newest first."""
    from pointsman.canonical.ledger import credit_of

    async def work() -> None:
        async with opened(data_dir, config) as installation:
            found = await installation.ledger.entries(credit_of(account), before, limit)
        if as_json:
            print_json(found)
            return
        rows = [
            (
                str(one.sequence),
                local_time(one.created_at),
                one.kind.value,
                cost(one.amount_nano_usd),
                str(one.requests or ""),
                one.source,
                one.note,
            )
            for one in found
        ]
        columns = ("number", "time", "kind", "amount>", "requests>", "source", "note")
        print_table(columns, rows, drop=("note", "source"))

    asyncio.run(work())


@group.command("top-up")
def top_up(
    account: Account,
    amount: Annotated[str, typer.Argument(metavar="USD", help="How much, e.g. 25 or 0.50.")],
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="TEXT", help="Of the payment: the same one is credited once, however often."),
    ] = None,
    gift: Annotated[bool, typer.Option("--gift", help="Nothing was paid: it is given.")] = False,
    text: Annotated[str, typer.Option("--note", metavar="TEXT", help="What the entry says.")] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Credit an account."""
    import secrets

    from pointsman.accounting.ledger_service import Movement
    from pointsman.policy.budget_service import nano_of

    movement = Movement(
        account_id=account,
        nano_usd=nano_of(amount, "amount"),
        key=key or f"cli-{secrets.token_hex(12)}",
        source="operator",
        note=text,
    )

    async def work() -> None:
        async with opened(data_dir, config) as installation:
            service = installation.ledger
            posted = await (service.grant(movement) if gift else service.top_up(movement))
            credit = await service.credit(account)
        if as_json:
            print_json({"sequence": posted.sequence, "replayed": posted.replayed, "credit_nano_usd": credit})
        else:
            done = "was credited before, nothing changed" if posted.replayed else "credited"
            typer.echo(f"{account}: {cost(movement.nano_usd)} {done}; it has {cost(credit)} now")

    asyncio.run(work())


@group.command()
def verify(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Prove that journal, requests, entries and balances agree. What does not is shown, with exit code 1."""
    from pointsman.accounting.ledger_check import verify as check

    async def work() -> "CheckReport":
        async with opened(data_dir, config) as installation:
            with _progress() as progress:
                return await check(installation.database, installation.data_dir / "journal", progress)

    report = asyncio.run(work())
    if as_json:
        print_json(report)
    else:
        _show_report(report)
    if not report.is_right:
        raise typer.Exit(1)


def _show_report(report: "CheckReport") -> None:
    figures = ("transactions", "postings", "requests", "journal_records", "waiting", "unpriced")
    print_table(("what", "number>"), [(name.replace("_", " "), str(getattr(report, name))) for name in figures])
    if report.is_right:
        typer.echo("the books are right")
        return
    rows = [
        (one.check, one.subject, *("-" if amount is None else cost(amount) for amount in (one.expected, one.found)))
        for one in report.findings
    ]
    print_table(("what should hold", "where it does not", "expected>", "found>"), rows)
    note(f"{len(rows)} findings: the books are not right")


@group.command()
def rebuild(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Make the stored balances anew from the entries, while servers run."""
    from pointsman.accounting.ledger_check import rebuild as make_anew

    async def work() -> int:
        async with opened(data_dir, config) as installation:
            with _progress() as progress:
                return await make_anew(installation.database, progress)

    wrong = asyncio.run(work())
    typer.echo("every balance was right" if not wrong else f"balances corrected: {wrong}")


@group.command()
def unpriced(limit: Limit = 25, as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Show which models were used that nobody has a price of: their cost is in no balance."""

    async def work() -> None:
        async with opened(data_dir, config) as installation:
            found = await installation.requests.unpriced(limit)
        if as_json:
            print_json(found)
            return
        rows = [(one.model, str(one.requests), str(one.tokens), local_time(one.newest_at)) for one in found]
        print_table(("model", "requests>", "tokens>", "newest"), rows)
        if found:
            note("a price is set in the configuration file: [[facts]] with model, prompt and completion")

    asyncio.run(work())


@contextmanager
def _progress() -> "Iterator[Callable[[str, int, int], None]]":
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

    bars: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as shown:

        def progress(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = shown.add_task(what, total=total)
            shown.update(bars[what], completed=done, total=total)

        yield progress


@group.command()
def reconcile(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The provider's CSV of costs.", dir_okay=False)],
    provider: Annotated[
        list[str] | None, typer.Option("--provider", metavar="NAME", help="Whose calls it bills, e.g. openai.")
    ] = None,
    connection: Annotated[
        list[str] | None, typer.Option("--connection", metavar="ID", help="Or through which connections.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="openai, anthropic, google or generic.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="FIELD=NAME", help="Where day, model, key, cost or currency is."),
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="NAME=ID", help="Whose connection a key of the file is.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", metavar="PERCENT", help="What may differ beside rounding.", min=0, max=100)
    ] = 0.0,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Compare what a provider bills with what was recorded, by model, key and day. Exit code 1 when they differ."""
    from pointsman.accounting.invoices import read_invoice
    from pointsman.accounting.reconciliation import Wish
    from pointsman.accounting.reconciliation import reconcile as compare_all
    from pointsman.storage.recorded_costs import RecordedCosts

    invoice = read_invoice(_text(file), kind, _pairs(column, "--column"))
    whose = tuple(provider or ()) or (() if connection or invoice.kind == "generic" else (invoice.kind,))
    wish = Wish(
        providers=whose,
        connections=tuple(connection or ()),
        keys=_pairs(key, "--key"),
        tolerance_ppm=round(tolerance * 10_000),
    )
    if not whose and not connection:
        raise typer.BadParameter("say whose bill it is: --provider NAME or --connection ID")

    async def work() -> "Reconciliation":
        async with opened(data_dir, config) as installation:
            with _progress() as progress:
                costs = RecordedCosts(installation.database)
                return await compare_all(costs, invoice, wish, lambda done, total: progress("requests", done, total))

    found = asyncio.run(work())
    if as_json:
        print_json(found)
    else:
        _show_reconciliation(found)
    if not found.agrees:
        raise typer.Exit(1)


def _text(file: Path) -> str:
    from pointsman.errors import ConfigError

    if file.stat().st_size > MOST_BYTES:
        raise ConfigError(f"{file}: more than {MOST_BYTES >> 20} MiB")
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not a text in UTF-8") from error


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    from pointsman.errors import ConfigError

    pairs = [text.rpartition("=") for text in texts or []]
    if not all(name and value for name, _, value in pairs):
        raise ConfigError(f"{option}: write NAME=VALUE")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _show_reconciliation(found: "Reconciliation") -> None:
    odd = [row for row in found.rows if row.verdict != "agrees"]
    shown = odd[:MOST_SHOWN]
    if shown:
        names = ("day", "model", *(("key",) if found.with_keys else ()))
        _show_variances(names, shown)
    for name, rows in (("model", found.by_model), ("key", found.by_key), ("day", found.by_day)):
        if rows:
            _show_variances((name,), rows[:MOST_SHOWN])
    if len(odd) > len(shown):
        note(f"{len(odd) - len(shown)} more rows not shown (--json shows everything)")
    total = f"billed {cost(found.billed_nano_usd)}, recorded {cost(found.recorded_nano_usd)}"
    span = found.since if found.since == found.until else f"{found.since} to {found.until}"
    typer.echo(f"{span}: {total}: {'they agree' if found.agrees else f'{len(odd)} rows differ'}")


def _show_variances(names: tuple[str, ...], rows: "Any") -> None:
    columns = (*names, "billed>", "recorded>", "difference>", "requests>", "unpriced>", "verdict")
    print_table(columns, [_cells(names, row) for row in rows], drop=("unpriced>", "requests>"))


def _cells(names: tuple[str, ...], row: "Variance") -> tuple[str, ...]:
    amounts = (row.billed_nano_usd, row.recorded_nano_usd, row.difference_nano_usd)
    counts = (str(row.requests), str(row.unpriced or ""))
    return (*(getattr(row, name) or "-" for name in names), *map(cost, amounts), *counts, row.verdict)
