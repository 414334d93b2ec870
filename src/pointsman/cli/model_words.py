"""``pointsman models set|unset|words``: the operator's words on models, in effect without a restart."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from pointsman.cli.models import group
from pointsman.cli.options import AsJson, ConfigFile, DataDir, opened
from pointsman.cli.output import confirm, note, print_json, print_table, printable

Model = Annotated[str, typer.Argument(metavar="MODEL", help="connection/model, author/name, or a pattern with *.")]


@group.command("set")
def set_words(
    model: Model,
    words: Annotated[
        list[str], typer.Argument(metavar="FACT=VALUE...", help="As in [[facts]]: prompt=0.4 parameters=tools,stop.")
    ],
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Say what a model costs, holds or can do; it wins over every other source. FACT= takes one back."""
    asyncio.run(_set(model, _read(words), as_json, (data_dir, config)))


@group.command("unset")
def unset_words(model: Model, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Take back all that was said of a model by command or over the API."""
    asyncio.run(_unset(model, (data_dir, config)))


@group.command("words")
def list_words(
    limit: Annotated[int, typer.Option(metavar="N", help="Show N at most.", min=1, max=10_000)] = 200,
    after: Annotated[str, typer.Option(metavar="MODEL", help="Go on behind this one.")] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show what operators have said of models: in the configuration file, by command and over the API."""
    asyncio.run(_list((limit, after), as_json, (data_dir, config)))


def _read(words: list[str]) -> dict[str, Any]:
    """``name=value`` pairs; a list's words stand between commas, and nothing takes a fact back."""
    from pointsman.errors import ConfigError
    from pointsman.upstream.model_words import LISTS

    found: dict[str, Any] = {}
    for word in words:
        name, mark, value = word.partition("=")
        if not mark:
            raise ConfigError(f"{name[:100]!r} must be FACT=VALUE, e.g. context_tokens=200000")
        found[name] = None if not value else value.split(",") if name in LISTS else value
    return found


async def _set(model: str, words: dict[str, Any], as_json: bool, place: tuple[Path | None, Path | None]) -> None:
    async with opened(*place) as installation:
        row, _ = await installation.model_words.set(model, words)
        effect = await confirm(installation)
    if as_json:
        print_json(row)
    else:
        note(f"What was said of {printable(model)} is {effect}.")


async def _unset(model: str, place: tuple[Path | None, Path | None]) -> None:
    async with opened(*place) as installation:
        await installation.model_words.unset(model)
        note(f"What was said of {printable(model)} is gone; that is {await confirm(installation)}.")


async def _list(page: tuple[int, str], as_json: bool, place: tuple[Path | None, Path | None]) -> None:
    import msgspec

    async with opened(*place) as installation:
        words = installation.model_words
        stored, declared = await words.page(*page), list(words.declared)
    rows: list[dict[str, Any]] = []
    for source, found in (("file", declared), ("stored", stored)):
        for row in found:
            facts = msgspec.to_builtins(row)
            rows.append({"model": facts.pop("model"), "source": source, "facts": facts})
    if as_json:
        print_json(rows)
        return
    cells = [[printable(row["model"]), row["source"], printable(_told(row["facts"]))] for row in rows]
    print_table(("model", "from", "facts"), cells)
    if len(stored) == page[0]:
        note(f"perhaps there are more: --after {printable(stored[-1].model)} shows them")


def _told(facts: dict[str, Any]) -> str:
    return " ".join(f"{name}={','.join(value) if isinstance(value, list) else value}" for name, value in facts.items())
