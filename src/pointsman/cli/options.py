"""Options that several commands share, and the way from them to settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pointsman.settings import Environment, Settings

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where data lives (default: POINTSMAN_DATA_DIR or ~/.local/share/pointsman)."),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Configuration file (default: ./pointsman.toml).")]


def load(data_dir: Path | None, config: Path | None) -> "tuple[Settings, Environment]":
    """Settings and environment as the options say. Raises ConfigError."""
    from pointsman.settings import load_settings, read_environment

    return load_settings(config), read_environment(data_dir)
