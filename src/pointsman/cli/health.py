"""``pointsman health``: what is left alone after failures, why and until when; and how to have it forgotten."""

import asyncio
import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli import app
from pointsman.cli.options import AsJson, ConfigFile, DataDir, opened
from pointsman.cli.output import note, print_json, print_table, printable

if TYPE_CHECKING:
    from pointsman.installation import Installation
    from pointsman.routing.health import HealthBook
    from pointsman.routing.health_states import View

MAX_SHOWN = 1000


@app.command("health")
def health(
    connection_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="One connection. [default: all]")] = None,
    forget: Annotated[bool, typer.Option("--reset", help="Forget what it failed at; servers hear of it.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show what is left alone after failures, why and until when: connections, providers, models."""
    if forget:
        asyncio.run(_reset(connection_id, data_dir, config))
    else:
        asyncio.run(_show(connection_id, as_json, data_dir, config))


async def _show(connection_id: str | None, as_json: bool, data_dir: Path | None, config: Path | None) -> None:
    async with opened(data_dir, config) as installation:
        book = await _book(installation)
        if connection_id is None:
            known = [info.id for info in await installation.connections.list_all()]
        else:
            known = [(await installation.connections.find(connection_id)).id]
        now = installation.clock.now_us()
    views = [view for view in book.views(now) if connection_id in (None, view.name.partition("/")[0])]
    rows = [_cells(view, now) for view in views[:MAX_SHOWN]]
    amiss = {view.name for view in views if view.scope in ("connection", "quota")}
    rows += [("connection", name, "active", "", "") for name in known if name not in amiss][: MAX_SHOWN - len(rows)]
    columns = ("what", "name", "state", "reason", "until")
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)
    if len(views) > MAX_SHOWN:
        note(f"{len(views) - MAX_SHOWN} more not shown")


def _cells(view: "View", now: int) -> tuple[str, ...]:
    moment = datetime.datetime.fromtimestamp(view.until / 1e6, tz=datetime.UTC) if view.until > now else None
    until = moment.isoformat(timespec="seconds").replace("+00:00", "Z") if moment is not None else ""
    return (view.scope, printable(view.name), view.state, view.reason, until)


async def _reset(connection_id: str | None, data_dir: Path | None, config: Path | None) -> None:
    from pointsman.policy.health_sharing import HealthSharing

    async with opened(data_dir, config) as installation:
        if connection_id is not None:
            await installation.connections.find(connection_id)
        book, clock = await _book(installation), installation.clock
        count = book.reset(clock.now_us(), connection_id)
        await HealthSharing(installation.health_rows, book, clock, clock.new_id("command")).step()
    typer.echo(f"{count} reset" if count else "nothing was amiss")


async def _book(installation: "Installation") -> "HealthBook":
    """The health book as running servers have last written it."""
    from pointsman.policy.health_sharing import HealthSharing
    from pointsman.routing.health import HealthBook

    resilience = await installation.resilience.current()
    book = HealthBook(resilience.settings)
    await HealthSharing(installation.health_rows, book, installation.clock, "").load()
    book.take_changes()  # tidying up is the servers' business
    return book
