"""What commands print: tables, JSON, notes, and whether running servers took a change."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pointsman.installation import Installation

MAX_WIDTH = 100_000


def note(text: str) -> None:
    """A line for the person at the terminal, on standard error: never part of the result."""
    typer.echo(text, err=True)


def print_json(value: Any) -> None:
    """One line of JSON on standard output."""
    import msgspec

    typer.echo(msgspec.json.encode(value))


def console(*, stderr: bool = False) -> "Console":
    """A rich console that marks nothing up by itself: names may hold any characters."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=False)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, drop: Sequence[str] = ()) -> None:
    """A table on standard output. Columns whose name ends with ``>`` are set to the right.

    On a terminal it fits the width: first the columns in ``drop`` are left out, one by one, then cells are folded.
    Elsewhere it is as wide as it has to be and no cell is cut or folded.
    """
    screen = console()
    left_out: list[str] = []
    while True:
        shown = [place for place, column in enumerate(columns) if column not in left_out]
        table = _table([columns[place] for place in shown], [[row[place] for place in shown] for row in rows])
        widest = screen.measure(table, options=screen.options.update(max_width=MAX_WIDTH)).maximum
        if not screen.is_terminal or widest <= screen.width or len(left_out) == len(drop):
            break
        left_out.append(drop[len(left_out)])
    if not screen.is_terminal:
        screen.width = widest
    screen.print(table)
    if left_out:
        names = ", ".join(name.removesuffix(">") for name in left_out)
        note(f"left out on this narrow terminal: {names} (--json shows everything)")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        name = column.removesuffix(">")
        table.add_column(name, justify="right" if name != column else "left", overflow="fold", header_style="bold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def printable(text: str, limit: int = 400) -> str:
    """``text`` without what a terminal would obey (clients choose names), and not longer than ``limit``."""
    shown = text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


async def confirm(installation: "Installation") -> str:
    """Wait until every running server works with the latest change; gives the words that say so.

    Leaves with exit code 1 when one of them doesn't in time.
    """
    from pointsman.installation import DEAD_AFTER_SECONDS

    revision = await installation.configuration.revision()
    applied = await installation.await_revision(revision)
    live = await installation.nodes.live(installation.clock.now_us() - int(DEAD_AFTER_SECONDS * 1e6))
    late = [node.address for node in live if node.revision < revision]
    if not applied and late:
        note(
            f"warning: stored, but not confirmed in time by the server at {', '.join(late[:5])}; it takes the change "
            f"when it next reads the database (a server that was killed is forgotten after {DEAD_AFTER_SECONDS:.0f} s)"
        )
        raise typer.Exit(1)
    if not live:
        return "no server is running; the next one starts with it"
    return "in effect now" if len(live) == 1 else f"in effect now on {len(live)} servers"


def is_terminal() -> bool:
    """Whether standard output is read by a person."""
    return sys.stdout.isatty()


def local_time(at_us: int, pattern: str = "%Y-%m-%d %H:%M") -> str:
    """An instant (microseconds since 1970 UTC) in the machine's time zone."""
    import datetime

    return datetime.datetime.fromtimestamp(at_us / 1e6, tz=datetime.UTC).astimezone().strftime(pattern)
