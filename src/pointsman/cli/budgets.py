"""``pointsman budgets``: set, list, show and remove budgets."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman.cli import app
from pointsman.cli.options import AsJson, ConfigFile, DataDir, command_group, opened
from pointsman.cli.output import confirm, note, print_json, print_table

if TYPE_CHECKING:
    from pointsman.installation import Installation
    from pointsman.storage.budgets import BudgetRow

group = command_group("budgets", "Set, list, show and remove budgets.")
app.add_typer(group)

Place = tuple[Path | None, Path | None]


class WindowName(StrEnum):
    """When what was spent counts no more."""

    NONE = "none"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    ROLLING = "rolling"


class ScopeName(StrEnum):
    """Whose spending counts."""

    KEY = "key"
    ACCOUNT = "account"
    WORKSPACE = "workspace"
    MEMBER = "member"
    GUARDRAIL = "guardrail"
    TAG = "tag"


@group.command("set")
def set_budget(
    scope: Annotated[ScopeName, typer.Argument(help="Whose spending counts.")],
    subject: Annotated[str, typer.Argument(help="Which one: its id; of a key also its name; of a tag the tag.")],
    limit: Annotated[str, typer.Argument(metavar="USD", help="Dollars, e.g. 12.50.")],
    window: Annotated[WindowName, typer.Option(help="Windows begin at 00:00 UTC, weeks on Monday.")] = WindowName.NONE,
    seconds: Annotated[int | None, typer.Option(metavar="N", help="How long a rolling window is.")] = None,
    alert: Annotated[
        list[int] | None, typer.Option(metavar="PERCENT", help="Tell the webhook at this part of it; may be repeated.")
    ] = None,
    soft: Annotated[bool, typer.Option("--soft", help="Refuse nothing: only count and tell.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Set a budget, or change the one that this owner has with the same window. It binds the next call."""
    asyncio.run(_set((scope, subject), limit, (window, seconds), (alert or [], not soft), (as_json, data_dir, config)))


async def _set(
    owner: tuple[ScopeName, str],
    limit: str,
    window: tuple[WindowName, int | None],
    manner: tuple[list[int], bool],
    options: tuple[bool, Path | None, Path | None],
) -> None:
    from pointsman.policy.budget_service import nano_of, window_of

    (scope, subject), (alerts, hard) = owner, manner
    as_json, *place = options
    async with opened(*place) as installation:
        if scope is ScopeName.KEY:
            subject = (await installation.keys.find(subject)).id
        row, _ = await installation.budgets.set(
            scope.value, subject, nano_of(limit), window_of(window[0].value, window[1]), alerts=alerts, hard=hard
        )
        effect = await confirm(installation)
        if as_json:
            print_json(await _described(installation, row))
        else:
            typer.echo(row.id)
            note(f"Budget {row.id} is {effect}.")


@group.command("list")
def list_budgets(
    scope: Annotated[ScopeName | None, typer.Option(help="Only of this kind of owner.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only of this owner.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="Show N at most.", min=1, max=10_000)] = 200,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Go on behind this budget.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show budgets and what was spent of each in its present window."""
    asyncio.run(_list((scope, subject), (limit, after), as_json, (data_dir, config)))


async def _list(
    owner: tuple[ScopeName | None, str | None], page: tuple[int, str | None], as_json: bool, place: Place
) -> None:
    async with opened(*place) as installation:
        scope, subject = owner
        rows = await installation.budgets.list_page(
            page[0], page[1], scope=None if scope is None else scope.value, subject=subject
        )
        shown = [await _described(installation, row) for row in rows]
    if as_json:
        print_json(shown)
        return
    columns = ("id", "scope", "subject", "limit>", "spent>", "left>", "window", "resets")
    print_table(columns, [_cells(one) for one in shown], drop=("resets", "left>"))
    if len(rows) == page[0]:
        note(f"perhaps there are more: --after {rows[-1].id} shows them")


@group.command()
def show(
    budget: Annotated[str, typer.Argument(metavar="ID", help="The budget's id.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show one budget, and count what was spent of it again from the requests themselves."""
    asyncio.run(_show(budget, as_json, (data_dir, config)))


async def _show(budget: str, as_json: bool, place: Place) -> None:
    from pointsman.errors import ConfigError

    async with opened(*place) as installation:
        row = await installation.budgets.get(budget)
        if row is None:
            raise ConfigError("there is no such budget; pointsman budgets list shows them")
        shown = await _described(installation, row)
        stored, counted = await installation.budgets.recount(row)
    shown["recounted"] = "equal" if stored == counted else f"{counted} nano-USD by the requests, {stored} stored"
    if as_json:
        print_json(shown)
    else:
        print_table(("", ""), [(name.replace("_", " "), _text(value)) for name, value in shown.items()])
    if stored != counted:
        raise typer.Exit(1)


@group.command()
def remove(
    budget: Annotated[str, typer.Argument(metavar="ID", help="The budget's id.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Remove a budget and forget what was spent of it."""
    asyncio.run(_remove(budget, (data_dir, config)))


async def _remove(budget: str, place: Place) -> None:
    from pointsman.errors import ConfigError

    async with opened(*place) as installation:
        if await installation.budgets.remove(budget) is None:
            raise ConfigError("there is no such budget; pointsman budgets list shows them")
        note(f"Removed: {await confirm(installation)}.")


async def _described(installation: "Installation", row: "BudgetRow") -> dict[str, Any]:
    from pointsman.policy.budget_service import described

    return described(row, await installation.budgets.standing(row))


def _cells(one: dict[str, Any]) -> list[str]:
    window = f"{one['window_seconds']} s" if one["window"] == "rolling" else one["window"]
    amounts = [f"{one[name]:.6f}".rstrip("0").rstrip(".") for name in ("limit_usd", "spent_usd", "remaining_usd")]
    return [one["id"], one["scope"], one["subject"], *amounts, window, one["resets_at"] or "never"]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "never" if value is None else str(value)
