"""The command line. Each command imports what it needs when it runs: `pointsman --help` must be quick."""

import sys

import typer

from pointsman.errors import ConfigError, GatewayError

app = typer.Typer(
    name="pointsman",
    help="One fast, exact gateway in front of every language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root() -> None:
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


from pointsman.cli import serve  # noqa: E402 - commands register on `app`

__all__ = ["app", "main", "serve"]
