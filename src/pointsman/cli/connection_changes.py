"""``pointsman connections update``, ``enable`` and ``disable``: changes in place, in effect on every running server."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman.cli.connections import ConnectionId, absolute, group, read_api_key, read_options
from pointsman.cli.options import ConfigFile, DataDir, opened
from pointsman.cli.output import confirm

if TYPE_CHECKING:
    from pointsman.upstream.declared import NewConnection


@group.command()
def update(
    connection_id: ConnectionId,
    base_url: Annotated[str | None, typer.Option(metavar="URL", help="Another address.")] = None,
    api_key: Annotated[
        str | None, typer.Option(help="env:NAME, file:PATH, - (standard input) or prompt. Left out: stays as it is.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="A model to offer in place of those so far; repeat it.")
    ] = None,
    any_model: Annotated[bool, typer.Option("--any-model", help="Offer any model name from now on.")] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="A model never to be called, with * for any text; repeat it. '' for none."),
    ] = None,
    default_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="What the connection's own name means. '' for none.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag; repeat it. '' for none.")] = None,
    name: Annotated[str | None, typer.Option(help="What it is called in lists.")] = None,
    priority: Annotated[int | None, typer.Option(metavar="N", min=-1_000_000, max=1_000_000)] = None,
    provider: Annotated[str | None, typer.Option(help="Whose prices hold, e.g. openai.")] = None,
    max_concurrent: Annotated[
        int | None,
        typer.Option(metavar="N", help="Calls at the same time, of each worker; 0 for no limit.", min=0, max=1_000_000),
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(metavar="N", help="Calls a minute, 0 for no limit.", min=0, max=1_000_000_000)
    ] = None,
    requests_per_day: Annotated[
        int | None, typer.Option(metavar="N", help="Calls a day, 0 for no limit.", min=0, max=1_000_000_000)
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens a minute, 0 for no limit.", min=0, max=1_000_000_000)
    ] = None,
    allow_private: Annotated[
        bool | None, typer.Option("--allow-private/--no-allow-private", help="Loopback and private addresses.")
    ] = None,
    proxy: Annotated[
        str | None, typer.Option(metavar="URL", help="A proxy, or env:, file: of one. '' for none.")
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A header of every request, in place of those so far; repeat it."),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificates (PEM) to trust instead of the system's.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What the kind needs beyond an address, in place of those so far."),
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Change a connection in place: what isn't named stays as it is."""
    from pointsman.errors import ConfigError
    from pointsman.keyring import Secret
    from pointsman.settings import read_environment

    environment = read_environment(data_dir)
    fields: dict[str, Any] = {
        "base_url": base_url,
        "models": () if any_model else _names(model),
        "excluded_models": _names(exclude),
        "tags": _names(tag),
        "name": name,
        "priority": priority,
        "provider": provider,
        "allow_private": allow_private,
        "options": read_options(option) if option is not None else None,
        "headers": _headers(header),
    }
    fields = {field: value for field, value in fields.items() if value is not None}
    if default_model is not None:
        fields["default_model"] = default_model or None
    limits = {
        "max_concurrent": max_concurrent,
        "requests_per_minute": requests_per_minute,
        "requests_per_day": requests_per_day,
        "tokens_per_minute": tokens_per_minute,
    }
    fields |= {field: value or None for field, value in limits.items() if value is not None}
    if proxy is not None:
        fields["proxy"] = environment.resolve(Secret(proxy), "--proxy") if proxy else None
    if api_key is not None:
        fields["secret"] = read_api_key(api_key, environment)
    if not fields and ca_file is None:
        raise ConfigError("nothing to change: name at least one option")
    asyncio.run(_change(connection_id, fields, absolute(ca_file), "changed", data_dir, config))


@group.command()
def enable(connection_id: ConnectionId, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Turn a connection on: its models are offered again."""
    asyncio.run(_change(connection_id, {"enabled": True}, None, "turned on", data_dir, config))


@group.command()
def disable(connection_id: ConnectionId, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Turn a connection off: it is kept, and no call is sent to it."""
    asyncio.run(_change(connection_id, {"enabled": False}, None, "turned off", data_dir, config))


async def _change(
    connection_id: str, fields: dict[str, Any], ca_file: str | None, done: str, data_dir: Path | None,
    config: Path | None,
) -> None:  # fmt: skip
    import msgspec

    def change(old: "NewConnection") -> "NewConnection":
        new = msgspec.structs.replace(old, **fields)
        if ca_file is None:
            return new
        return msgspec.structs.replace(new, tls=msgspec.structs.replace(old.tls, ca_file=ca_file))

    async with opened(data_dir, config) as installation:
        await installation.connections.update(connection_id, change)
        effect = await confirm(installation)
    typer.echo(f"connection '{connection_id}' {done}: {effect}")


def _names(sent: list[str] | None) -> tuple[str, ...] | None:
    """Names without repetition, () for a blank one; None when none was given."""
    return tuple(dict.fromkeys(name for name in sent if name)) if sent is not None else None


def _headers(pairs: list[str] | None) -> dict[str, Any] | None:
    from pointsman.errors import ConfigError
    from pointsman.keyring import Secret

    if pairs is None:
        return None
    found: dict[str, Any] = {}
    for pair in filter(None, pairs):
        name, sign, value = pair.partition("=")
        if not sign:
            raise ConfigError("--header: write NAME=VALUE")
        found[name.strip()] = Secret(value.strip())
    return found
