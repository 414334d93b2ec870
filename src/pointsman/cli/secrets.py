"""``pointsman secrets``: the master key, how far everything is sealed with it, and a new one."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli import app
from pointsman.cli.audited import about
from pointsman.cli.options import AsJson, ConfigFile, DataDir, command_group, opened
from pointsman.cli.output import local_time, note, print_json, print_table

if TYPE_CHECKING:
    from pointsman.installation import Installation
    from pointsman.resealing import SealedCount
    from pointsman.rotation import Rotated
    from pointsman.storage.master_keys import MasterKeyRow

    Standing = tuple[tuple[MasterKeyRow, ...], tuple[SealedCount, ...]]

group = command_group("secrets", "The master key that everything stored is sealed with: show how it stands, change it.")
app.add_typer(group)


@group.command()
def status(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Show the generations of the master key, and what is sealed with which. No key is shown, only ids."""

    async def work() -> "tuple[Standing, bool]":
        async with opened(data_dir, config) as installation:
            rows, _ = await installation.secrets.repository.load()
            return (rows, await installation.resealer().counts()), installation.secrets.from_file

    (rows, counts), from_file = asyncio.run(work())
    if as_json:
        names = ("id", "number", "state", "created_at", "finished_at")
        current = next(row.id for row in rows if row.state == "current")
        generations = [{name: getattr(row, name) for name in names} for row in rows]
        source = "file" if from_file else "environment"
        print_json({"key_id": current, "from": source, "generations": generations, "sealed": counts})
        return
    cells = [(str(row.number), row.id, row.state, local_time(row.created_at)) for row in rows]
    print_table(("number>", "id", "state", "since"), cells)
    print_table(
        ("what is sealed", "with the current key>", "with another>"),
        [(one.name, str(one.current), str(one.other)) for one in counts],
    )
    note(f"The key comes from {'secret.key in the data directory' if from_file else 'POINTSMAN_SECRET_KEY'}.")


@group.command()
def rotate(
    new_key: Annotated[
        str | None,
        typer.Option("--new-key", metavar="PLACE", help="env:NAME or file:PATH, where POINTSMAN_SECRET_KEY is used."),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Change the master key while servers run, and seal everything anew. Stopped halfway, the same command goes on."""

    async def work() -> "Rotated":
        async with opened(data_dir, config) as installation:
            key = _new_key(new_key, installation)
            done = await installation.rotation().run(key, lambda *_: None)
            about(done.key_id, "secrets.rotated" if done.finished else "secrets.resealed")
            return done

    done = asyncio.run(work())
    if as_json:
        print_json(done)
        return
    typer.echo(f"{done.resealed.values} values are sealed anew with the master key {done.key_id}")
    for name in done.resealed.unreadable:
        note(f"left as it is, no key opens it: {name}")
    if not done.finished:
        note(
            "The old key still opens the installation. Set POINTSMAN_SECRET_KEY to the new one on every node, restart "
            "them one after another, and run this command again with it: then the old key is worth nothing."
        )


def _new_key(place: str | None, installation: "Installation") -> bytes | None:
    from pointsman.errors import ConfigError
    from pointsman.keyring import Secret, configured_key

    if place is None:
        return None
    if installation.secrets.from_file:
        raise ConfigError("--new-key: this installation's key is in secret.key, and a new one is drawn for it")
    if not place.startswith(("env:", "file:")):
        raise ConfigError("--new-key: say env:NAME or file:PATH; a key on the command line is seen by others")
    return configured_key(installation.environment.resolve(Secret(place), "--new-key"), "--new-key")
