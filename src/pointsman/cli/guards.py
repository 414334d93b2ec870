"""``pointsman guards``: show guards on content, try them on a text, remove one."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from pointsman.cli import app
from pointsman.cli.options import AsJson, ConfigFile, DataDir, command_group, opened
from pointsman.cli.output import confirm, note, print_json, print_table, printable

group = command_group("guards", "Show guards on content, try them on a text, remove one.")
app.add_typer(group)


@group.command("list")
def list_guards(
    limit: Annotated[int, typer.Option(metavar="N", help="Show N at most.", min=1, max=10_000)] = 200,
    after: Annotated[str, typer.Option(metavar="NAME", help="Go on behind this guard.")] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show the guards, those of the configuration file too."""
    asyncio.run(_list((limit, after), as_json, (data_dir, config)))


async def _list(page: tuple[int, str], as_json: bool, place: tuple[Path | None, Path | None]) -> None:
    from pointsman.policy.guards import described

    limit, after = page
    async with opened(*place) as installation:
        found = [described(one) for one in await installation.guards.list() if one.settings.name > after]
    shown = found[:limit]
    if as_json:
        print_json(shown)
        return
    print_table(("name", "source", "looks at", "rules"), [_cells(one) for one in shown])
    if len(found) > limit:
        note(f"there are more: --after {shown[-1]['name']} shows them")


@group.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The guard's name.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Remove a guard that was made over the API. Keys that name it are refused from then on."""
    asyncio.run(_remove(name, (data_dir, config)))


async def _remove(name: str, place: tuple[Path | None, Path | None]) -> None:
    async with opened(*place) as installation:
        await installation.guards.remove(name)
        note(f"Removed: {await confirm(installation)}.")


def _cells(one: dict[str, Any]) -> list[str]:
    bound = ["everybody"] if one["everybody"] else []
    bound += [f"{len(one[kind])} {kind}" for kind in ("workspaces", "keys", "members") if one[kind]]
    rules = ", ".join(f"{rule['name']}:{rule['action']}" for rule in one["rules"])
    source = one["source"] if one["in_effect"] else f"{one['source']}, not in effect"
    return [one["name"], source, ", ".join(bound) or "keys that name it", rules]


@group.command("test")
def try_guards(
    text: Annotated[str, typer.Argument(help="The text; - reads standard input.")],
    guard: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this guard; may be repeated.")] = None,
    answer: Annotated[bool, typer.Option("--answer", help="As if a model had said it.")] = False,
    role: Annotated[str, typer.Option(metavar="ROLE", help="Who says it in a request.")] = "user",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show what guards would find in a text, and what would be left of it. Webhooks are not asked; nothing is kept."""
    said = typer.get_text_stream("stdin").read() if text == "-" else text
    asyncio.run(_try(said, guard, None if answer else role, as_json, (data_dir, config)))


async def _try(
    text: str, names: list[str] | None, role: str | None, as_json: bool, place: tuple[Path | None, Path | None]
) -> None:
    from pointsman.policy.guards import try_on, webhooks_of

    async with opened(*place) as installation:
        guards = await installation.guards.named(names)
        trial = try_on(guards, text, role)
    asked = webhooks_of(guards, role)
    if as_json:
        spots = [spot._asdict() for spot in trial.spots]
        print_json({"blocked": trial.blocked, "findings": spots, "text": trial.text, "not_asked": asked})
        return
    rows = [[spot.rule, spot.action, spot.label, str(spot.start), str(spot.end)] for spot in trial.spots]
    print_table(("rule", "action", "label", "from>", "to>"), rows)
    typer.echo("blocked" if trial.blocked else printable(trial.text))
    if asked:
        note(f"not asked: {', '.join(asked)}")
