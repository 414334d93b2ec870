"""``pointsman keys``: make, list, limit and revoke API keys."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman.cli import app
from pointsman.cli.audited import about
from pointsman.cli.options import AsJson, ConfigFile, DataDir, command_group, opened
from pointsman.cli.output import confirm, is_terminal, local_time, note, print_json, print_table

if TYPE_CHECKING:
    from pointsman.canonical.limits import Limits, Priority
    from pointsman.storage.keys import KeyRow, Role

    Allowance = tuple[tuple[int | None, int | None, int | None], "PriorityName | None"]

DAY_US = 86_400 * 1_000_000
MAX_DAYS = 36_500

MAX_LIMIT = 2**53

group = command_group("keys", "Make, list, limit and revoke API keys.")
app.add_typer(group)


class PriorityName(StrEnum):
    """Who goes first when calls have to wait."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


Rpm = Annotated[
    int | None, typer.Option("--rpm", metavar="N", help="Requests per minute; 0: the default.", min=0, max=MAX_LIMIT)
]
Rpd = Annotated[
    int | None, typer.Option("--rpd", metavar="N", help="Requests per day; 0: the default.", min=0, max=MAX_LIMIT)
]
Tpm = Annotated[
    int | None, typer.Option("--tpm", metavar="N", help="Tokens per minute; 0: the default.", min=0, max=MAX_LIMIT)
]
PriorityOption = Annotated[
    PriorityName | None, typer.Option("--priority", help="Who goes first when the gateway is busy.")
]


@group.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for, e.g. the application's name.")] = "key",
    admin: Annotated[bool, typer.Option("--admin", help="May also manage the gateway.")] = False,
    expires_days: Annotated[
        int | None, typer.Option(metavar="N", help="Valid for this many days.", min=1, max=MAX_DAYS)
    ] = None,
    rpm: Rpm = None,
    rpd: Rpd = None,
    tpm: Tpm = None,
    priority: PriorityOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the key and nothing else.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Make a key and print it, once: only its digest is kept. In a pipe the key alone is printed."""
    plain = quiet or not is_terminal()
    role: Role = "admin" if admin else "inference"
    allowance = ((rpm, rpd, tpm), priority)
    asyncio.run(_create(name, role, expires_days, allowance, plain, (data_dir, config)))


async def _create(
    name: str,
    role: "Role",
    days: int | None,
    allowance: "Allowance",
    plain: bool,
    place: tuple[Path | None, Path | None],
) -> None:
    from pointsman.canonical.limits import NO_LIMITS

    limits, priority = _changed(allowance, NO_LIMITS, "normal")
    async with opened(*place) as installation:
        expires_at = None if days is None else installation.clock.now_us() + days * DAY_US
        row, secret = await installation.keys.create(
            name, role, expires_at=expires_at, limits=limits, priority=priority
        )
        about(row.id)
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
        shown = await installation.keys.list_newest(limit)
        all_of_them = await installation.keys.count_all()
        now = installation.clock.now_us()
    if as_json:
        print_json([_summary(row, now) for row in shown])
        return
    columns = ("id", "name", "role", "key", "state", "created", "expires", "last used")
    print_table(columns, [_cells(row, now) for row in shown], drop=("key", "created", "last used", "role"))
    if len(shown) < all_of_them:
        note(f"{all_of_them - len(shown)} older keys not shown; --limit shows more")


@group.command()
def limit(
    key: Annotated[str, typer.Argument(metavar="ID", help="The key's id, its name, or the beginning of its id.")],
    rpm: Rpm = None,
    rpd: Rpd = None,
    tpm: Tpm = None,
    priority: PriorityOption = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show or change a key's limits and priority. What is not given stays as it is; docs/limits.md tells more."""
    asyncio.run(_limit(key, ((rpm, rpd, tpm), priority), (data_dir, config)))


async def _limit(key: str, allowance: "Allowance", place: tuple[Path | None, Path | None]) -> None:
    async with opened(*place) as installation:
        from pointsman.identity.keys import limits_of

        row = await installation.keys.find(key)
        limits, priority = _changed(allowance, limits_of(row), row.priority)
        effect = ""
        if (limits, priority) != (limits_of(row), row.priority):
            about(row.id)
            await installation.keys.limit(row.id, limits, priority)
            effect = f": {await confirm(installation)}"
        typer.echo(f"{row.id} ({row.name}) may use {_in_words(limits)}; priority {priority}{effect}")


def _changed(allowance: "Allowance", limits: "Limits", priority: "Priority") -> "tuple[Limits, Priority]":
    """The limits with those replaced that were given on the command line; 0 takes one away."""
    from pointsman.canonical.limits import Limits

    (rpm, rpd, tpm), name = allowance

    def value(given: int | None, before: int | None) -> int | None:
        return before if given is None else given or None

    changed = Limits(
        requests_per_minute=value(rpm, limits.requests_per_minute),
        requests_per_day=value(rpd, limits.requests_per_day),
        tokens_per_minute=value(tpm, limits.tokens_per_minute),
    )
    return changed, priority if name is None else name.value


def _in_words(limits: "Limits") -> str:
    import msgspec

    given = {name.replace("_", " "): limit for name, limit in msgspec.structs.asdict(limits).items()}
    return ", ".join(f"{limit} {name}" for name, limit in given.items() if limit is not None) or "what the defaults say"


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
        about(row.id)
        await installation.keys.revoke(row.id)
        effect = await confirm(installation)
        if row.revoked_at is not None:
            typer.echo(f"{row.id} ({row.name}) was revoked already, at {local_time(row.revoked_at)}")
            return
        typer.echo(f"{row.id} ({row.name}) is revoked: {effect}")
        manageable = await installation.keys.others_manage(row.id)
    if row.role == "admin" and not manageable:
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
