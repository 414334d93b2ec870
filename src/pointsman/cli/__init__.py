"""The command line. Each command imports what it needs when it runs: `pointsman --help` must be quick.

Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 130 stopped by Ctrl-C. Results go to standard output,
progress and warnings to standard error.
"""

import sys
from typing import Annotated

import typer

from pointsman.errors import ConfigError, GatewayError

INTERRUPTED = 130  # 128 + SIGINT, as shells count

app = typer.Typer(
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
    """The entry point: an operator's mistake is one line and exit code 2, a failed call one line and exit code 1."""
    try:
        app()
    except ConfigError as error:
        typer.echo(f"pointsman: {error}", err=True)
        sys.exit(2)
    except GatewayError as error:
        typer.echo(f"pointsman: {error.message}", err=True)
        sys.exit(1)
    except OSError as error:
        typer.echo(f"pointsman: {error.strerror or error}: {error.filename}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


from pointsman.cli import (  # noqa: E402 - commands register on `app`
    chat,
    connections,
    health,
    keys,
    local,
    logs,
    models,
    route,
    serve,
    simulate,
    translate,
)

__all__ = [
    "app",
    "chat",
    "connections",
    "health",
    "keys",
    "local",
    "logs",
    "main",
    "models",
    "route",
    "serve",
    "simulate",
    "translate",
]
