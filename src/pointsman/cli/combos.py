"""``pointsman combos``: names for several models, made, listed, tried and removed while servers run."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pointsman.cli import app
from pointsman.cli.audited import about
from pointsman.cli.options import AsJson, ConfigFile, DataDir, command_group, opened
from pointsman.cli.output import confirm, note, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import TypeVar

    T = TypeVar("T")

MAX_SHOWN: Final = 1000
MODELS_SHOWN: Final = 4
KEY_NAME: Final = "combos test"
KEY_MINUTES: Final = 10
group = command_group("combos", "Names for several models, of which the next answers when one fails.")
app.add_typer(group)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The combo's name.")]


@group.command("list")
def list_combos(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Show the combos, those of the configuration file too."""
    asyncio.run(_list(as_json, data_dir, config))


async def _list(as_json: bool, data_dir: Path | None, config: Path | None) -> None:
    async with opened(data_dir, config) as installation:
        found = await installation.combos.list_all()
    shown = found[:MAX_SHOWN]
    if as_json:
        print_json(shown)
    else:
        print_table(("name", "strategy", "models", "declared in"), [_cells(one) for one in shown], drop=("strategy",))
    if len(shown) < len(found):
        note(f"{len(found) - len(shown)} more combos not shown")


def _cells(combo: dict[str, Any]) -> tuple[str, ...]:
    names = [_entry_name(entry) for entry in combo["models"]]
    more = f" and {len(names) - MODELS_SHOWN} more" if len(names) > MODELS_SHOWN else ""
    return (combo["name"], combo["strategy"], ", ".join(names[:MODELS_SHOWN]) + more, combo["source"])


def _entry_name(entry: dict[str, Any]) -> str:
    name = f"combo/{entry['comboName']}" if entry["kind"] == "combo-ref" else entry["model"]
    return f"{name} @ {entry['connectionId']}" if entry.get("connectionId") else str(name)


@group.command()
def show(name: Name, as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Show one combo: its entries with their weights, and its settings."""
    asyncio.run(_show(name, as_json, data_dir, config))


async def _show(name: str, as_json: bool, data_dir: Path | None, config: Path | None) -> None:
    async with opened(data_dir, config) as installation:
        combo = await _told(installation.combos.named(name), name)
    if as_json:
        print_json(combo)
        return
    typer.echo(f"{combo['name']}: {combo['strategy']}, declared in {combo['source']}")
    if combo.get("description"):
        typer.echo(combo["description"])
    rows = [(entry["id"], _entry_name(entry), f"{entry['weight']:g}") for entry in combo["models"]]
    print_table(("step", "model", "weight>"), rows)
    settings = {**combo["config"], **{key: combo[key] for key in EXTRAS if key in combo}}
    if settings:
        print_table(("setting", "value"), [(key, str(value)) for key, value in settings.items()])


EXTRAS: Final = ("allowedProviders", "system_message", "tool_filter_regex", "context_cache_protection")


@group.command()
def add(
    name: Name,
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="connection/model, provider/model, provider/* or combo/NAME."),
    ],
    strategy: Annotated[str, typer.Option(help="How they are put in order (docs/routing.md).")] = "priority",
    weight: Annotated[
        list[float] | None, typer.Option(metavar="N", help="One for each model, in their order; repeat it.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=JSON", help="E.g. maxRetries=2; repeat it.")
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Make a combo. When the command is done, every running server knows it."""
    from pointsman.errors import ConfigError

    if weight and len(weight) != len(models):
        raise ConfigError(f"--weight: give one for each of the {len(models)} models")
    weights = weight or [0.0] * len(models)
    entries = [_entry(model, share) for model, share in zip(models, weights, strict=True)]
    body = {"name": name, "models": entries, "strategy": strategy, "config": _settings(setting or [])}
    asyncio.run(_add(body, data_dir, config))


def _entry(model: str, weight: float) -> dict[str, Any]:
    if model.startswith("combo/"):
        return {"kind": "combo-ref", "comboName": model.removeprefix("combo/"), "weight": weight}
    return {"kind": "model", "model": model, "weight": weight}


def _settings(pairs: list[str]) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            found[name] = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            found[name] = value
    return found


async def _add(body: dict[str, Any], data_dir: Path | None, config: Path | None) -> None:
    async with opened(data_dir, config) as installation:
        combo, _ = await _told(installation.combos.create(body), body["name"])
        effect = await confirm(installation)
    typer.echo(f"combo '{combo['name']}' added ({len(combo['models'])} entries): {effect}")


@group.command()
def remove(name: Name, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Remove a combo. Calls that run on it are finished."""
    asyncio.run(_remove(name, data_dir, config))


async def _remove(name: str, data_dir: Path | None, config: Path | None) -> None:
    async with opened(data_dir, config) as installation:
        combo = await _told(installation.combos.named(name), name)
        await _told(installation.combos.remove(combo["id"]), name)
        effect = await confirm(installation)
    typer.echo(f"combo '{name}' removed: {effect}")


async def _told(work: "Awaitable[T]", name: str) -> "T":
    """What ``work`` gives. Raises ConfigError for what the service refuses."""
    from pointsman.errors import ConfigError
    from pointsman.policy.combos import ComboNotFoundError, ComboRefusedError
    from pointsman.routing.combo_shapes import InvalidFieldsError

    try:
        return await work
    except ComboNotFoundError:
        raise ConfigError(f"there is no combo '{name[:100]}'; pointsman combos list shows them") from None
    except (ComboRefusedError, InvalidFieldsError) as error:
        raise ConfigError(f"combo '{name[:100]}': {error}") from None


@group.command("test")
def try_out(name: Name, as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Send a tiny prompt to every model of a combo, through the running server; 1 when none answers."""
    import msgspec

    from pointsman.cli.chat_client import ChatClient

    address, key_id, key = asyncio.run(_temporary_key(data_dir, config))
    try:
        body = ChatClient(address, key).post("/api/combos/test", msgspec.json.encode({"comboName": name}))
    finally:
        asyncio.run(_revoke(key_id, data_dir, config))
    found = msgspec.json.decode(body)
    if as_json:
        print_json(found)
    else:
        rows = [(one["model"], one["status"], str(one["latencyMs"]), one.get("error") or one.get("responseText", ""))
                for one in found["results"]]  # fmt: skip
        print_table(("model", "state", "ms>", "answer"), rows)
    if found["resolvedBy"] is None:
        raise typer.Exit(1)


async def _temporary_key(data_dir: Path | None, config: Path | None) -> tuple[str, str, str]:
    """The address of a running server, and an administrator's key that lives for some minutes."""
    from pointsman.errors import ConfigError
    from pointsman.installation import DEAD_AFTER_SECONDS

    async with opened(data_dir, config) as installation:
        now = installation.clock.now_us()
        live = await installation.nodes.live(now - int(DEAD_AFTER_SECONDS * 1e6))
        if not live:
            raise ConfigError("no server runs on this data directory; start one with: pointsman serve")
        row, secret = await installation.keys.create(KEY_NAME, "admin", expires_at=now + KEY_MINUTES * 60_000_000)
        about(row.id)
        await confirm(installation)
    return live[-1].address, row.id, secret.reveal()


async def _revoke(key_id: str, data_dir: Path | None, config: Path | None) -> None:
    async with opened(data_dir, config) as installation:
        about(key_id, "apikey.revoked")
        await installation.keys.revoke(key_id)
