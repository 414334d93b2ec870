"""``pointsman models``: what can be asked for, from the configuration; works without a running server."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman.cli import app
from pointsman.cli.options import AsJson, ConfigFile, DataDir, opened
from pointsman.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from pointsman.routing.catalogue import Catalogue
from pointsman.routing.targets import Connection

INSTALL = "not installed: pointsman local install"
INSTALL_EMBEDDER = "not installed: pip install 'pointsman[embed]'"


@app.command()
def models(
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option(metavar="N", help="Show N at most.", min=1, max=100_000)] = 2000,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show every model id with its connection, and the aliases with their targets."""
    asyncio.run(_models(as_json, limit, data_dir, config))


async def _models(as_json: bool, limit: int, data_dir: Path | None, config: Path | None) -> None:
    from pointsman.upstream.local_weights import weights_status

    async with opened(data_dir, config) as installation:
        installed = weights_status(installation.data_dir).installed
        local = installation.settings.local.enabled
        catalogue = await installation.connections.catalogue(local=local, local_installed=installed)
    found = listed_models(catalogue)
    shown = found[:limit]
    if as_json:
        print_json(shown)
    else:
        columns = ("model", "connection", "owner", "note")
        names = ("id", "connection", "owner", "note")
        print_table(columns, [[str(row[name] or "-") for name in names] for row in shown])
    if len(shown) < len(found):
        note(f"{len(found) - len(shown)} more not shown; --limit shows more")


def listed_models(catalogue: "Catalogue") -> list[dict[str, Any]]:
    """One row per model, per connection that is open to any model, and per alias, in this order.

    Members: ``id``, ``connection``, ``owner``, ``target`` (of an alias, else None) and ``note``.
    """
    rows = [
        _row(target.id, target.connection, None if target.listed else _how_to_install(target.model))
        for target in catalogue.targets
    ]
    for connection in catalogue.connections.values():
        if not connection.models:
            rows.append(_row(f"{connection.id}/*", connection, "any model name of the upstream"))
    rows.extend(_alias(catalogue, name, target) for name, target in catalogue.aliases.items())
    return rows


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
