"""``pointsman models``: what can be asked for, and what is known of it; works without a running server."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman.cli import app
from pointsman.cli.options import AsJson, ConfigFile, DataDir, opened
from pointsman.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from pointsman.installation import Installation
    from pointsman.routing.catalogue import Catalogue
    from pointsman.routing.targets import Connection, Target

INSTALL = "not installed: pointsman local install"
INSTALL_EMBEDDER = "not installed: pip install 'pointsman[embed]'"
UNPRICED = "unpriced"

group = typer.Typer(
    help="Show models and what is known of them.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(group, name="models")
Limit = Annotated[int, typer.Option(metavar="N", help="Show N at most.", min=1, max=100_000)]
WithFacts = Annotated[bool, typer.Option("--facts", help="Show context, price and more of each.")]


@group.callback()
def models(
    context: typer.Context,
    as_json: AsJson = False,
    limit: Limit = 2000,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show every model id with its connection, and the aliases with their targets."""
    if context.invoked_subcommand is None:
        asyncio.run(_list(as_json, limit, False, (data_dir, config)))


@group.command("list")
def list_models(
    facts: WithFacts = False,
    as_json: AsJson = False,
    limit: Limit = 2000,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show every model id with its connection, and the aliases with their targets."""
    asyncio.run(_list(as_json, limit, facts, (data_dir, config)))


@group.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Any name that can be asked for.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show what a name means, what is known of each model behind it, and where that comes from."""
    asyncio.run(_show(name, as_json, (data_dir, config)))


Places = tuple[Path | None, Path | None]


async def _list(as_json: bool, limit: int, facts: bool, places: Places) -> None:
    async with opened(*places) as installation:
        catalogue = await catalogue_of(installation, priced=facts)
    found = listed_models(catalogue, facts)
    shown = found[:limit]
    if as_json:
        print_json(shown)
    else:
        columns = ("model", "connection", "owner", *(("context", "price", "slug") if facts else ()), "note")
        names = ("id", "connection", "owner", *(("context_tokens", "price", "slug") if facts else ()), "note")
        print_table(columns, [[str(row.get(name) or "-") for name in names] for row in shown])
    if len(shown) < len(found):
        note(f"{len(found) - len(shown)} more not shown; --limit shows more")


async def catalogue_of(installation: "Installation", *, priced: bool) -> "Catalogue":
    """The names; ``priced`` looks every price up, which takes half a second."""
    from pointsman.accounting.prices import PriceService, look_up
    from pointsman.upstream.local_weights import weights_status

    installed, local = weights_status(installation.data_dir).installed, installation.settings.local.enabled
    prices = PriceService()
    catalogue = await installation.connections.catalogue(
        local=local, local_installed=installed, prices=prices, combos=await installation.combos.book()
    )
    questions = await installation.connections.price_questions(catalogue) if priced else []
    if not questions:
        return catalogue
    for question, price in zip(questions, await look_up(questions), strict=True):
        prices.table(question.provider, question.base_url)[question.model] = price
    return await installation.connections.catalogue(
        local=local, local_installed=installed, prices=prices, combos=await installation.combos.book()
    )


async def _show(name: str, as_json: bool, places: Places) -> None:
    async with opened(*places) as installation:
        catalogue = await catalogue_of(installation, priced=True)
        lists = {row.connection_id: row for row in await installation.model_lists.list()}
    route = catalogue.route(name)
    found = [_facts(catalogue, step.target) for step in route.steps]
    asked = {one.target.connection.id: lists.get(one.target.connection.id) for one in route.steps}
    for row in found:
        kept = asked[row["connection"]]
        row["list_fetched_at"] = kept.fetched_at if kept is not None else None
        row["list_problem"] = kept.problem if kept is not None else None
    if as_json:
        print_json({"name": name, "kind": route.kind, "strategy": route.strategy, "targets": found})
        return
    for row in found:
        print_table(("fact", "value", "from"), _rows(row))


def _rows(row: dict[str, Any]) -> list[list[str]]:
    """One line per fact that is known."""
    found = [["model", str(row["id"]), ""]]
    for name, value in row["facts"].items():
        if name == "price":
            found += [[f"price.{part}", shown, row["from"][name]] for part, shown in value.items()]
        else:
            text = ", ".join(value) if isinstance(value, list) else str(value)
            found.append([name, text, row["from"][name]])
    if "price" not in row["facts"]:
        found.append(["price", UNPRICED, "nobody knows it"])
    if row["list_problem"]:
        found.append(["list", str(row["list_problem"]), "upstream"])
    return found


def _facts(catalogue: "Catalogue", target: "Target") -> dict[str, Any]:
    """A target's facts as plain values, prices in USD, and the source of each."""
    import msgspec

    from pointsman.routing.facts import merged, origins

    layers = catalogue.facts.layers(target.connection, target.model)
    facts = merged(layers)
    values = {name: value for name in facts.__struct_fields__ if (value := getattr(facts, name)) is not None}
    plain: dict[str, Any] = {}
    for name, value in values.items():
        plain[name] = sorted(value) if isinstance(value, frozenset) else value
    for name in ("created_at", "deprecated_at"):
        if name in values:
            plain[name] = _day(values[name])
    if facts.price is not None:
        plain["price"] = _price(msgspec.structs.asdict(facts.price))
    return {"id": target.id, "connection": target.connection.id, "facts": plain, "from": origins(layers)}


def _price(price: dict[str, Any]) -> dict[str, str]:
    """USD per million tokens, or per request or picture."""
    found = {}
    for name, rate in price.items():
        if name == "long":
            for tier in rate:
                found[f"above {tier.above} tokens"] = f"{tier.prompt / 1e6:g} in, {tier.completion / 1e6:g} out per M"
        elif name in ("request", "image"):
            if rate:
                found[name] = f"{rate / 1e12:g}"
        elif rate is not None and (rate or name in ("prompt", "completion")):
            found[name] = f"{rate / 1e6:g} per M"
    return found


def _day(instant: int) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(instant / 1e6, datetime.UTC).date().isoformat()


def listed_models(catalogue: "Catalogue", facts: bool = False) -> list[dict[str, Any]]:
    """One row per model, per connection that is open to any model, and per alias, in this order.

    Members: ``id``, ``connection``, ``owner``, ``target`` (of an alias, else None) and ``note``; with ``facts`` also
    ``context_tokens``, ``price``, ``slug``, ``facts`` and ``from``.
    """
    rows = [
        _row(target.id, target.connection, None if target.listed else _how_to_install(target.model))
        | (_told(catalogue, target) if facts else {})
        for target in catalogue.targets
    ]
    for connection in catalogue.connections.values():
        if not connection.models:
            rows.append(_row(f"{connection.id}/*", connection, "any model name of the upstream"))
    rows.extend(_alias(catalogue, name, target) for name, target in catalogue.aliases.items())
    for name, target in catalogue.patterns.meanings.items():
        rows.append({"id": name, "connection": None, "owner": None, "target": target, "note": f"alias of {target}"})
    return rows


def _told(catalogue: "Catalogue", target: "Target") -> dict[str, Any]:
    found = _facts(catalogue, target)
    price = found["facts"].get("price")
    return {
        "context_tokens": target.facts.context_tokens,
        "price": UNPRICED if price is None else f"{price['prompt']} in, {price['completion']} out",
        "slug": target.facts.slug,
        "facts": found["facts"],
        "from": found["from"],
    }


def _how_to_install(model: str) -> str:
    from pointsman.upstream.minilm import MODEL_NAME

    return INSTALL_EMBEDDER if model == MODEL_NAME else INSTALL


def _alias(catalogue: "Catalogue", name: str, target: str) -> dict[str, Any]:
    from pointsman.errors import GatewayError

    try:
        connection = catalogue.resolve(name).connection
    except GatewayError as error:
        return {"id": name, "connection": None, "owner": None, "target": target, "note": error.message}
    return {**_row(name, connection, f"alias of {target}"), "target": target}


def _row(name: str, connection: "Connection", remark: str | None) -> dict[str, Any]:
    owner = connection.provider or connection.id
    return {"id": name, "connection": connection.id, "owner": owner, "target": None, "note": remark}
