"""Options that several commands share, and the way from them to settings and to an open installation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli.audited import Commands, recorded

if TYPE_CHECKING:
    from pointsman.installation import Installation
    from pointsman.settings import Environment, Settings

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where data lives (default: POINTSMAN_DATA_DIR or ~/.local/share/pointsman)."),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Configuration file (default: ./pointsman.toml).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def command_group(name: str, summary: str) -> Commands:
    """A group of commands, to be added to the application under ``name``."""
    return Commands(name=name, help=summary, no_args_is_help=True, rich_markup_mode=None)


def load(data_dir: Path | None, config: Path | None) -> "tuple[Settings, Environment]":
    """Settings and environment as the options say. Raises ConfigError."""
    from pointsman.settings import load_settings, read_environment

    return load_settings(config), read_environment(data_dir)


@asynccontextmanager
async def opened(data_dir: Path | None, config: Path | None) -> "AsyncIterator[Installation]":
    """The installation that the options name; only warnings are logged.

    Raises ConfigError, and GatewayError(NOT_READY) when the database stops working inside the block.
    """
    import sys

    from pointsman.errors import ConfigError, GatewayError, Kind
    from pointsman.installation import open_installation
    from pointsman.logs import configure_logging
    from pointsman.storage.database import AlreadyExistsError, OutdatedKeyError, StorageError

    configure_logging("warning", sys.stderr)
    try:
        async with open_installation(*load(data_dir, config)) as installation, recorded(installation.audit):
            yield installation
    except OutdatedKeyError as error:
        raise ConfigError(str(error)) from error
    except StorageError as error:
        raise GatewayError(Kind.NOT_READY, f"can't use the database: {error}") from error
    except AlreadyExistsError as error:  # somebody else was faster by a moment
        raise ConfigError(f"it exists already: {error}") from error
