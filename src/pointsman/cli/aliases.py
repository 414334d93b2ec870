"""``pointsman aliases``: other names for models, with ``*`` for any text."""

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer

from pointsman.cli import app
from pointsman.cli.options import AsJson, ConfigFile, DataDir, command_group, opened
from pointsman.cli.output import confirm, note, print_json, print_table

MAX_SHOWN: Final = 2000
group = command_group("aliases", "Other names for models.")
app.add_typer(group)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The alias; a * in it stands for any text.")]


@group.command("list")
def list_aliases(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Show the aliases, those of the configuration file too."""
    asyncio.run(_list(as_json, data_dir, config))


async def _list(as_json: bool, data_dir: Path | None, config: Path | None) -> None:
    async with opened(data_dir, config) as installation:
        found = await installation.aliases.list_all()
    shown = found[:MAX_SHOWN]
    if as_json:
        print_json([{"name": one.name, "target": one.target, "source": one.source} for one in shown])
    else:
        print_table(("name", "stands for", "declared in"), [(one.name, one.target, one.source) for one in shown])
    if len(shown) < len(found):
        note(f"{len(found) - len(shown)} more aliases not shown")


@group.command("set")
def set_alias(
    name: Name,
    target: Annotated[str, typer.Argument(metavar="MODEL", help="What it stands for: any name of a model.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Have a name stand for a model. When the command is done, every running server knows it."""
    asyncio.run(_set(name, target, data_dir, config))


async def _set(name: str, target: str, data_dir: Path | None, config: Path | None) -> None:
    from pointsman.errors import ConfigError
    from pointsman.policy.aliases import AliasRefusedError

    async with opened(data_dir, config) as installation:
        try:
            await installation.aliases.put(name, target)
        except AliasRefusedError as error:
            raise ConfigError(f"alias {error.field}: {error}") from None
        effect = await confirm(installation)
    typer.echo(f"'{name}' stands for '{target}': {effect}")


@group.command()
def remove(name: Name, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Remove an alias."""
    asyncio.run(_remove(name, data_dir, config))


async def _remove(name: str, data_dir: Path | None, config: Path | None) -> None:
    from pointsman.errors import ConfigError
    from pointsman.policy.aliases import AliasNotFoundError, AliasRefusedError

    async with opened(data_dir, config) as installation:
        try:
            await installation.aliases.remove(name)
        except AliasNotFoundError:
            raise ConfigError(f"there is no alias '{name[:100]}'; pointsman aliases list shows them") from None
        except AliasRefusedError as error:
            raise ConfigError(f"alias '{name[:100]}': {error}") from None
        effect = await confirm(installation)
    typer.echo(f"alias '{name}' removed: {effect}")
