"""The command line. Each command imports what it needs when it runs: `pointsman --help` must be quick.

Results go to standard output, progress and warnings to standard error. Exit codes: see exits.py.
"""

from typing import Annotated

import typer

from pointsman.cli.audited import Commands
from pointsman.exits import run

app = Commands(
    name="pointsman",
    help="One fast, exact gateway in front of every language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from pointsman import __version__

        typer.echo(f"pointsman {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """One fast, exact gateway in front of every language model."""


def main() -> None:
    """The entry point."""
    run(app)


from pointsman.cli import (  # noqa: E402 - commands register on `app`
    aliases,
    audit,
    budgets,
    chat,
    combos,
    connection_changes,
    connections,
    guards,
    health,
    keys,
    ledger,
    local,
    logs,
    model_words,
    models,
    route,
    secrets,
    serve,
    simulate,
    translate,
    users,
)

__all__ = [
    "aliases",
    "app",
    "audit",
    "budgets",
    "chat",
    "combos",
    "connection_changes",
    "connections",
    "guards",
    "health",
    "keys",
    "ledger",
    "local",
    "logs",
    "main",
    "model_words",
    "models",
    "route",
    "secrets",
    "serve",
    "simulate",
    "translate",
    "users",
]
