"""``pointsman users``: people who sign in, their passwords and tokens."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman.cli import app
from pointsman.cli.audited import about
from pointsman.cli.options import AsJson, ConfigFile, DataDir, command_group, opened
from pointsman.cli.output import confirm, local_time, note, print_json, print_table

if TYPE_CHECKING:
    from pointsman.installation import Installation
    from pointsman.keyring import Secret
    from pointsman.storage.users import UserRow

MAX_SECONDS = 365 * 86_400

group = command_group("users", "People who sign in: add, list, change their passwords and rights.")
app.add_typer(group)

Person = Annotated[str, typer.Argument(metavar="USER", help="The address, the id, or 'admin'.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


class RoleName(StrEnum):
    """What a person may do."""

    USER = "user"
    ADMIN = "admin"


@group.command()
def create(
    email: Annotated[str, typer.Argument(help="The address that the person signs in with.")],
    admin: Annotated[bool, typer.Option("--admin", help="May manage the gateway.")] = False,
    first_name: Annotated[str | None, typer.Option(help="Shown to others of an organization.")] = None,
    last_name: Annotated[str | None, typer.Option(help="Shown to others of an organization.")] = None,
    no_password: Annotated[bool, typer.Option("--no-password", help="Signs in at an OpenID provider only.")] = False,
    password_stdin: FromStdin = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Add a person. The password is asked for, or read from standard input."""
    from pointsman.identity.users import NewUser

    role = RoleName.ADMIN if admin else RoleName.USER
    new = NewUser(email=email, role=role.value, first_name=first_name, last_name=last_name)
    password = None if no_password else _password(password_stdin)

    async def work(installation: "Installation") -> str:
        user = await installation.users.create(new, password)
        about(user.id)
        return f"{user.id} ({user.email}, {user.role}) is added"

    asyncio.run(_do(work, (data_dir, config)))


@group.command("list")
def list_users(
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option(metavar="N", help="Show the first N.", min=1, max=10_000)] = 200,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show the people, the oldest first."""
    asyncio.run(_list(as_json, limit, (data_dir, config)))


async def _list(as_json: bool, limit: int, place: tuple[Path | None, Path | None]) -> None:
    async with opened(*place) as installation:
        rows = await installation.users.list_page(limit + 1)
    if as_json:
        print_json([_summary(row) for row in rows[:limit]])
        return
    columns = ("id", "address", "role", "signs in by", "state", "created", "last sign-in")
    print_table(columns, [_cells(row) for row in rows[:limit]], drop=("created", "last sign-in"))
    if len(rows) > limit:
        note("there are more; --limit shows them")


@group.command()
def password(
    user: Person,
    remove: Annotated[bool, typer.Option("--remove", help="Nobody signs in by password any more.")] = False,
    password_stdin: FromStdin = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Give a person a new password. Whoever is signed in as this person is not any more."""
    new = None if remove else _password(password_stdin)

    async def work(installation: "Installation") -> str:
        row = await _find(installation, user)
        await installation.users.set_password(row.id, new)
        return f"{row.id} has {'no password' if new is None else 'a new password'}"

    asyncio.run(_do(work, (data_dir, config)))


@group.command()
def role(
    user: Person,
    role: Annotated[RoleName, typer.Argument(help="What the person may do.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Give a person the rights of an administrator, or take them. Sessions and tokens end."""

    async def work(installation: "Installation") -> str:
        row = await _find(installation, user)
        await installation.users.set_role(row.id, role.value)
        return f"{row.id} has the role {role.value}"

    asyncio.run(_do(work, (data_dir, config)))


@group.command()
def disable(user: Person, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Keep a person out, with all its sessions, tokens and keys."""
    asyncio.run(_do(lambda installation: _set_disabled(installation, user, True), (data_dir, config)))


@group.command()
def enable(user: Person, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Let a person in again. Its keys work again, sessions and tokens do not."""
    asyncio.run(_do(lambda installation: _set_disabled(installation, user, False), (data_dir, config)))


async def _set_disabled(installation: "Installation", user: str, disabled: bool) -> str:
    row = await _find(installation, user)
    await installation.users.set_disabled(row.id, disabled)
    return f"{row.id} is {'disabled' if disabled else 'enabled'}"


@group.command()
def token(
    user: Person,
    seconds: Annotated[int, typer.Option(metavar="N", help="How long it holds.", min=1, max=MAX_SECONDS)] = 3600,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Print a signed token (JWT) that speaks for a person. It can't be revoked but by a new password."""
    asyncio.run(_token(user, seconds, (data_dir, config)))


async def _token(user: str, seconds: int, place: tuple[Path | None, Path | None]) -> None:
    async with opened(*place) as installation:
        row = await _find(installation, user)
        secret, expires_at = installation.tokens.issue(row, installation.clock.now_us(), seconds)
    typer.echo(secret.reveal())
    note(f"It speaks for {row.email or row.id} until {local_time(expires_at)}.")


async def _do(work: "Callable[[Installation], Awaitable[str]]", place: tuple[Path | None, Path | None]) -> None:
    async with opened(*place) as installation:
        done = await work(installation)
        typer.echo(f"{done}: {await confirm(installation)}")


async def _find(installation: "Installation", reference: str) -> "UserRow":
    from pointsman.identity.users import ADMINISTRATOR

    if reference == "admin":
        await installation.users.ensure_administrator(None)
        reference = ADMINISTRATOR
    row = await installation.users.find(reference)
    about(row.id)
    return row


def _password(from_stdin: bool) -> "Secret":
    """From the terminal, twice; never an argument, which other users of the machine could read. Raises ConfigError."""
    from pointsman.errors import ConfigError
    from pointsman.keyring import Secret

    if from_stdin:
        return Secret(sys.stdin.readline(1000).rstrip("\r\n"))
    if not sys.stdin.isatty():
        raise ConfigError("no terminal to ask for the password; --password-stdin reads it from standard input")
    return Secret(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _state(row: "UserRow") -> str:
    return "disabled" if row.disabled else "active"


def _cells(row: "UserRow") -> tuple[str, ...]:
    way = "password" if row.password is not None else "OpenID or token"
    last = local_time(row.last_login_at) if row.last_login_at is not None else "-"
    return (row.id, row.email or "-", row.role, way, _state(row), local_time(row.created_at), last)


def _summary(row: "UserRow") -> dict[str, Any]:
    import msgspec

    fields = msgspec.structs.asdict(row)
    return {**fields, "password": row.password is not None, "state": _state(row)}
