"""``pointsman keys``: make, list and revoke API keys."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman.cli import app
from pointsman.cli.options import AsJson, ConfigFile, DataDir, command_group, opened
from pointsman.cli.output import confirm, is_terminal, local_time, note, print_json, print_table

if TYPE_CHECKING:
    from pointsman.storage.keys import KeyRow, Role

DAY_US = 86_400 * 1_000_000
MAX_DAYS = 36_500

group = command_group("keys", "Make, list and revoke API keys.")
app.add_typer(group)


@group.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for, e.g. the application's name.")] = "key",
    admin: Annotated[bool, typer.Option("--admin", help="May also manage the gateway.")] = False,
    expires_days: Annotated[
        int | None, typer.Option(metavar="N", help="Valid for this many days.", min=1, max=MAX_DAYS)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the key and nothing else.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Make a key and print it, once: only its digest is kept. In a pipe the key alone is printed."""
    plain = quiet or not is_terminal()
    asyncio.run(_create(name, "admin" if admin else "inference", expires_days, plain, (data_dir, config)))


async def _create(
    name: str, role: "Role", days: int | None, plain: bool, place: tuple[Path | None, Path | None]
) -> None:
    async with opened(*place) as installation:
        expires_at = None if days is None else installation.clock.now_us() + days * DAY_US
        row, secret = await installation.keys.create(name, role, expires_at=expires_at)
        # First of all: whatever happens next, the key is not lost.
        typer.echo(secret.reveal() if plain else f"\n  {secret.reveal()}\n")
        effect = await confirm(installation)
        if not plain:
            until = f", until {local_time(expires_at)}" if expires_at is not None else ""
            note(f"Key {row.id} ({row.name}, {row.role}{until}): {effect}. It is shown only now.")


@group.command("list")
def list_keys(
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option(metavar="N", help="Show the newest N.", min=1, max=10_000)] = 200,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show the keys, the newest last. Nobody can see a key itself again."""
    asyncio.run(_list(as_json, limit, data_dir, config))


async def _list(as_json: bool, limit: int, data_dir: Path | None, config: Path | None) -> None:
    async with opened(data_dir, config) as installation:
        rows = await installation.keys.list_all()
        now = installation.clock.now_us()
    shown = rows[-limit:]
    if as_json:
        print_json([_summary(row, now) for row in shown])
        return
    columns = ("id", "name", "role", "key", "state", "created", "expires", "last used")
    print_table(columns, [_cells(row, now) for row in shown], drop=("key", "created", "last used", "role"))
    if len(shown) < len(rows):
        note(f"{len(rows) - len(shown)} older keys not shown; --limit shows more")


@group.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="The key's id, its name, or the beginning of its id.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Revoke a key. When the command is done, every running server refuses it."""
    asyncio.run(_revoke(key, data_dir, config))


async def _revoke(key: str, data_dir: Path | None, config: Path | None) -> None:
    async with opened(data_dir, config) as installation:
        row = await installation.keys.find(key)
        await installation.keys.revoke(row.id)
        effect = await confirm(installation)
        if row.revoked_at is not None:
            typer.echo(f"{row.id} ({row.name}) was revoked already, at {local_time(row.revoked_at)}")
            return
        typer.echo(f"{row.id} ({row.name}) is revoked: {effect}")
        admins = [other for other in await installation.keys.list_all() if other.role == "admin"]
    if row.role == "admin" and all(other.revoked_at is not None for other in admins):
        note("warning: no admin key is left; pointsman keys create --admin makes one")


def state_of(row: "KeyRow", now_us: int) -> str:
    """``active``, ``expired`` or ``revoked``."""
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at is not None and row.expires_at <= now_us else "active"


def _cells(row: "KeyRow", now_us: int) -> tuple[str, ...]:
    def when(at: int | None) -> str:
        return local_time(at) if at is not None else "-"

    state = state_of(row, now_us)
    dates = (when(row.created_at), when(row.expires_at), when(row.last_used_at))
    return (row.id, row.name, row.role, row.hint, state, *dates)


def _summary(row: "KeyRow", now_us: int) -> dict[str, Any]:
    import msgspec

    fields = msgspec.structs.asdict(row)
    del fields["digest"]
    return {**fields, "state": state_of(row, now_us)}
