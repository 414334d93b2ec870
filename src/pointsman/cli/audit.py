"""``pointsman audit``: who changed what, whether the log is whole, and a copy of it."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pointsman.cli import app
from pointsman.cli.options import AsJson, ConfigFile, DataDir, command_group, opened
from pointsman.cli.output import local_time, note, print_json, print_table

if TYPE_CHECKING:
    from pointsman.canonical.audit import Row
    from pointsman.identity.audit_check import AuditReport

BROKEN: Final = 3  # exit code of `verify` when the log is not as it was written
MOST_SHOWN: Final = 1000
group = command_group("audit", "Who changed what: show the audit log, prove that it is whole, copy it.")
app.add_typer(group)


@group.command("list")
def list_rows(
    action: Annotated[str | None, typer.Option(help="Of this name; with * at its end: that begin so.")] = None,
    actor: Annotated[str | None, typer.Option(metavar="ID", help="By this user, credential or account.")] = None,
    target: Annotated[str | None, typer.Option("--object", metavar="ID", help="That changed this.")] = None,
    outcome: Annotated[str | None, typer.Option(help="success, refused or failed.")] = None,
    since: Annotated[str | None, typer.Option(metavar="INSTANT", help="From then on, e.g. 2026-01-31.")] = None,
    until: Annotated[str | None, typer.Option(metavar="INSTANT", help="Before then.")] = None,
    before: Annotated[int | None, typer.Option(metavar="NUMBER", help="Older than this row.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", help="At most N.", min=1, max=MOST_SHOWN)] = 50,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show the audit log, newest first."""
    from pointsman.storage.audit import AuditFilter

    wanted = AuditFilter(
        action=action, actor=actor, outcome=outcome, since=_instant(since, "--since"), until=_instant(until, "--until")
    )

    async def work() -> "tuple[Row, ...]":
        import msgspec

        async with opened(data_dir, config) as installation:
            trail = installation.audit
            objects = trail.object_names(target) if target is not None else ()
            return await trail.repository.page(msgspec.structs.replace(wanted, objects=objects), limit, before)

    rows = asyncio.run(work())
    if as_json:
        from pointsman.canonical.audit import shown

        print_json([shown(row) for row in rows])
        return
    columns = ("number", "time", "action", "outcome", "object", "by", "from")
    print_table(columns, [_cells(row) for row in rows], drop=("from",))
    if len(rows) == limit:
        note(f"perhaps there are more: --before {rows[-1].link.sequence}")


@group.command()
def verify(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Prove that no row was changed, removed or moved, also at the end. What is wrong is shown, with exit code 3."""
    from pointsman.identity.audit_check import check_log

    async def work() -> "AuditReport":
        async with opened(data_dir, config) as installation:
            return await check_log(installation.audit)

    report = asyncio.run(work())
    if as_json:
        print_json(report)
    elif report.is_right:
        typer.echo(f"the audit log is whole: {report.rows} rows")
    else:
        rows = [(one.kind, str(one.sequence), one.message) for one in report.findings]
        print_table(("what", "number>", "how"), rows)
        note(f"{len(rows)} findings: the audit log is not as it was written")
    if report.unsealed:
        note(f"{report.unsealed} rows have the seal of a master key that is not known any more; their hashes are right")
    if not report.is_right:
        raise typer.Exit(BROKEN)


@group.command()
def export(
    after: Annotated[int, typer.Option(metavar="NUMBER", help="Only rows behind this one.", min=0)] = 0,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Write the whole log to standard output, oldest first, one line of JSON for each row."""
    import sys

    import msgspec

    from pointsman.canonical.audit import shown

    async def work() -> None:
        async with opened(data_dir, config) as installation:
            async for rows in installation.audit.repository.walk(after):
                sys.stdout.buffer.write(b"".join(msgspec.json.encode(shown(row)) + b"\n" for row in rows))
            sys.stdout.buffer.flush()

    asyncio.run(work())


def _instant(text: str | None, option: str) -> int | None:
    from pointsman.clock import instant_us
    from pointsman.errors import ConfigError

    if text is None:
        return None
    try:
        return instant_us(text)
    except ValueError:
        raise ConfigError(f"{option}: must be an instant like 2026-01-31 or 2026-01-31T12:00:00Z") from None


def _cells(row: "Row") -> tuple[str, ...]:
    entry = row.entry
    target = " ".join(part for part in (entry.object_kind, entry.object_id) if part) or "-"
    actor = entry.user_id or entry.credential_id or "-"
    times = f" (x{entry.count})" if entry.count != 1 else ""
    when = local_time(entry.at, "%Y-%m-%d %H:%M:%S")
    return (str(row.link.sequence), when, entry.action + times, entry.outcome, target, actor, entry.address or "-")
