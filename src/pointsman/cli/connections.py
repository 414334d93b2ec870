"""``pointsman connections``: accounts at upstreams, added, listed, tested and removed while servers run."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli import app
from pointsman.cli.options import AsJson, ConfigFile, DataDir, command_group, opened
from pointsman.cli.output import confirm, note, print_json, print_table, printable

if TYPE_CHECKING:
    from pointsman.installation import Installation
    from pointsman.keyring import Secret
    from pointsman.settings import Environment
    from pointsman.upstream.client import UpstreamClient
    from pointsman.upstream.connections import ConnectionInfo
    from pointsman.upstream.declared import NewConnection
    from pointsman.upstream.origins import Origin

PROBE_CONNECT_SECONDS = 5.0
PROBE_SECONDS = 20.0
TESTS_AT_ONCE = 5
MAX_SHOWN = 1000
MODELS_SHOWN = 3
MAX_KEY_CHARACTERS = 16_384
REFERENCES = ("env:", "file:")

group = command_group("connections", "Add, list, test and remove accounts at upstreams.")
app.add_typer(group)

ConnectionId = Annotated[str, typer.Argument(metavar="ID", help="The connection's id.")]


@group.command()
def add(
    connection_id: Annotated[str, typer.Argument(metavar="ID", help="A short name: models are then ID/MODEL.")],
    base_url: Annotated[str | None, typer.Option(metavar="URL", help="E.g. https://api.openai.com/v1")] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="A host of the table (pointsman connections hosts), e.g. groq. [default: the ID, or openai]"),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(help="env:NAME, file:PATH, - (standard input) or prompt. On a terminal asked for when left out."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="A model to offer; repeat it. Without: the upstream's own list."),
    ] = None,
    priority: Annotated[int, typer.Option(metavar="N", help="Higher goes first.", min=-1_000_000, max=1_000_000)] = 0,
    provider: Annotated[str | None, typer.Option(help="Whose prices hold, e.g. openai.")] = None,
    max_concurrent: Annotated[
        int | None, typer.Option(metavar="N", help="Calls at the same time, of each worker.", min=1, max=1_000_000)
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(metavar="N", help="Calls a minute.", min=1, max=1_000_000_000)
    ] = None,
    requests_per_day: Annotated[
        int | None, typer.Option(metavar="N", help="Calls a day.", min=1, max=1_000_000_000)
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens a minute.", min=1, max=1_000_000_000)
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Allow loopback and private addresses.")
    ] = False,
    proxy: Annotated[
        str | None,
        typer.Option(metavar="URL", help="http://, socks5:// or socks5h://USER:PASSWORD@HOST:PORT, or env:, file:."),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificates (PEM) to trust instead of the system's.")
    ] = None,
    client_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A certificate (PEM) to show to the upstream.")
    ] = None,
    client_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its key, when it is in a file of its own.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What the kind needs beyond an address, e.g. project=mine; repeat it."),
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Add a connection. When the command is done, every running server can use it."""
    import msgspec

    from pointsman.keyring import Secret
    from pointsman.settings import read_environment
    from pointsman.upstream.declared import NewConnection, completed
    from pointsman.upstream.origins import TlsFiles

    environment = read_environment(data_dir)
    new = NewConnection(
        id=connection_id,
        kind=kind or _kind_of(connection_id, base_url),
        base_url=base_url,
        models=tuple(dict.fromkeys(model or ())),
        priority=priority,
        max_concurrent=max_concurrent,
        requests_per_minute=requests_per_minute,
        requests_per_day=requests_per_day,
        tokens_per_minute=tokens_per_minute,
        allow_private=allow_private,
        provider=provider,
        proxy=environment.resolve(Secret(proxy), "--proxy") if proxy is not None else None,
        options=read_options(option or []),
        tls=TlsFiles(ca_file=absolute(ca_file), certificate=absolute(client_certificate), key=absolute(client_key)),
    )
    new = completed(new)
    asyncio.run(_check(new, data_dir, config))  # before anybody types a key
    if new.base_url is not None:
        # Outside of the event loop, in which Ctrl-C would not end the wait for a key.
        new = msgspec.structs.replace(new, secret=read_api_key(api_key, environment))
    asyncio.run(_add(new, data_dir, config))


def _kind_of(connection_id: str, base_url: str | None) -> str:
    """The kind when none was given: with an address any compatible API, without one the host of that name."""
    from pointsman.providers.hosts import GENERIC, hosts

    if base_url is not None:
        return "openai"
    return connection_id if connection_id in hosts() else GENERIC


def read_options(pairs: list[str]) -> dict[str, str]:
    """NAME=VALUE pairs. Raises ConfigError when one is not."""
    from pointsman.errors import ConfigError

    found = {name.strip(): value.strip() for name, _, value in (pair.partition("=") for pair in pairs)}
    if not all(found) or not all(found.values()):
        raise ConfigError("--option: write NAME=VALUE, e.g. --option project=mine")
    return found


def absolute(path: Path | None) -> str | None:
    """As a server finds it that runs elsewhere."""
    return str(path.expanduser().absolute()) if path is not None else None


async def _check(new: "NewConnection", data_dir: Path | None, config: Path | None) -> None:
    async with opened(data_dir, config) as installation:
        await installation.connections.check(new)


async def _add(new: "NewConnection", data_dir: Path | None, config: Path | None) -> None:
    import msgspec

    async with opened(data_dir, config) as installation:
        await installation.connections.check(new)
        if new.base_url is not None and not new.models:
            new = msgspec.structs.replace(new, models=await _ask_models(installation, new))
        await installation.connections.add(new)
        effect = await confirm(installation)
    offer = f"{len(new.models)} models" if new.models else "open to any model" if new.base_url else "the local model"
    typer.echo(f"connection '{new.id}' added ({offer}): {effect}")
    if new.base_url is not None:
        example = printable(new.models[0]) if new.models else "MODEL"
        note(f"Ask for its models as {new.id}/{example}")


def read_api_key(reference: str | None, environment: "Environment") -> "Secret | None":
    """The credential that ``--api-key`` stands for, None for none. Raises ConfigError when it can't be had."""
    from pointsman.errors import ConfigError
    from pointsman.keyring import Secret

    if reference == "prompt" or (reference is None and sys.stdin.isatty()):
        text = _ask_hidden("API key (hidden; empty for none)")
        return Secret(text) if text else None
    if not reference:
        return None
    if reference == "-":
        text = sys.stdin.read(MAX_KEY_CHARACTERS).strip()
        if not text:
            raise ConfigError("--api-key -: there is no key on standard input")
        return Secret(text)
    if not reference.startswith(REFERENCES):
        note(
            "warning: a key on the command line stays in the shell's history and is seen in the list of processes; "
            "use --api-key env:NAME, file:PATH or - instead, and consider replacing this key"
        )
    return environment.resolve(Secret(reference), "--api-key")


def _ask_hidden(question: str) -> str:
    from pointsman.exits import INTERRUPTED

    try:
        return str(typer.prompt(question, hide_input=True, default="", show_default=False, err=True)).strip()
    except typer.Abort:
        note("")
        raise typer.Exit(INTERRUPTED) from None


async def _ask_models(installation: "Installation", new: "NewConnection") -> tuple[str, ...]:
    """The upstream's own list of models; empty, with the reason told, when it can't be had."""
    from pointsman.errors import GatewayError
    from pointsman.upstream.connections import probe_new
    from pointsman.upstream.probes import fetch_models

    note("asking the upstream for its models ...")
    try:
        async with upstream_client(installation) as client:
            models = await fetch_models(client, probe_new(new))
    except GatewayError as error:
        note(f"warning: {error.message}; the connection is stored all the same, open to any model name")
        return ()
    if not models:
        note("warning: the upstream's list is empty; the connection is open to any model name")
    return tuple(dict.fromkeys(models))


@asynccontextmanager
async def upstream_client(installation: "Installation") -> "AsyncIterator[UpstreamClient]":
    """A client for a few calls by a command, with the server's own guard and short times of waiting."""
    import msgspec

    from pointsman.ticker import Ticker
    from pointsman.upstream.client import UpstreamClient

    settings = msgspec.structs.replace(
        installation.settings.upstream,
        connect_timeout_seconds=PROBE_CONNECT_SECONDS,
        headers_timeout_seconds=PROBE_SECONDS,
        total_timeout_seconds=PROBE_SECONDS,
    )
    loop = asyncio.get_running_loop()
    ticker = Ticker(loop, installation.clock)
    client = UpstreamClient(loop, settings, ticker)
    ticker.start()
    try:
        yield client
    finally:
        ticker.stop()
        client.close()


@group.command("list")
def list_connections(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Show the connections, those of the configuration file too. Never their credentials."""
    asyncio.run(_list(as_json, data_dir, config))


async def _list(as_json: bool, data_dir: Path | None, config: Path | None) -> None:
    async with opened(data_dir, config) as installation:
        found = await installation.connections.list_all()
    shown = found[:MAX_SHOWN]
    if as_json:
        print_json(shown)
    else:
        columns = ("id", "kind", "base url", "models", "priority>", "key", "private", "state", "declared in")
        print_table(columns, [_cells(info) for info in shown], drop=("private", "kind", "priority>"))
    if len(shown) < len(found):
        note(f"{len(found) - len(shown)} more connections not shown")


@group.command("hosts")
def list_hosts(as_json: AsJson = False) -> None:
    """Show the hosts whose addresses are known: what --kind can be."""
    from pointsman.providers.hosts import hosts

    rows = [(host.id, host.name, host.format, host.base_url or "-") for host in hosts().values()]
    if as_json:
        print_json([dict(zip(("id", "name", "format", "base_url"), row, strict=True)) for row in rows])
    else:
        print_table(("kind", "name", "format", "base url"), rows, drop=("name", "format"))


def _cells(info: "ConnectionInfo") -> tuple[str, ...]:
    models = ", ".join(info.models[:MODELS_SHOWN]) or "any"
    if len(info.models) > MODELS_SHOWN:
        models += f" and {len(info.models) - MODELS_SHOWN} more"
    key = "yes" if info.has_secret else "none"
    private = "allowed" if info.allow_private else "refused"
    state = "off" if not info.enabled else "on" if info.problem is None else "broken"
    return (info.id, info.kind, info.base_url or "-", models, str(info.priority), key, private, state, info.source)


@group.command("test")
def try_out(
    connection_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="The connection's id.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every connection that is turned on.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Ask a connection's upstream for its models: can it be reached, does it take the key, how fast is it."""
    from pointsman.errors import ConfigError

    if (connection_id is None) is not everything:
        raise ConfigError("give either an ID or --all")
    asyncio.run(_test(connection_id, data_dir, config))


async def _test(connection_id: str | None, data_dir: Path | None, config: Path | None) -> None:
    from pointsman.errors import ConfigError

    async with opened(data_dir, config) as installation, upstream_client(installation) as client:
        service = installation.connections
        if connection_id is None:
            found = [info for info in await service.list_all() if info.enabled and info.base_url is not None]
        else:
            found = [await service.find(connection_id)]
            if found[0].base_url is None:
                raise ConfigError(f"'{connection_id}' is the local model: pointsman local status tells about it")
        turn = asyncio.Semaphore(TESTS_AT_ONCE)

        async def one(info: "ConnectionInfo") -> bool:
            async with turn:
                return await _test_one(installation, client, info)

        results = await asyncio.gather(*map(one, found))
    if not all(results):
        raise typer.Exit(1)


async def _test_one(installation: "Installation", client: "UpstreamClient", info: "ConnectionInfo") -> bool:
    """Test one, keep what was found for whoever lists the connections, and tell it."""
    from pointsman.upstream.probes import try_out as ask

    if info.problem is not None:
        typer.echo(f"{info.id}: can't be used: {info.problem}", err=True)
        return False
    probe = await installation.connections.find_origin(info.id)
    finding = await ask(client, probe, installation.clock)
    await installation.connections.note_test(info.id, finding)
    if not finding.valid:
        verdict = "reachable, but its list of models can't be had"
        if finding.verdict == "network_error":
            verdict = "not reachable"
        typer.echo(f"{info.id}: {verdict} ({_place(probe.origin)}): {finding.message}", err=True)
        return False
    typer.echo(f"{info.id}: ok, {info.base_url} answered in {finding.latency_ms} ms with {len(finding.models)} models")
    missing = [model for model in info.models if model not in finding.models]
    if missing:
        note(f"warning: not in the upstream's list: {', '.join(map(printable, missing[:MODELS_SHOWN]))}")
    return True


def _place(origin: "Origin") -> str:
    return f"{origin.scheme}://{origin.host}:{origin.port}"


@group.command()
def remove(connection_id: ConnectionId, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Remove a connection and its stored credential. Calls that run on it are finished."""
    asyncio.run(_remove(connection_id, data_dir, config))


async def _remove(connection_id: str, data_dir: Path | None, config: Path | None) -> None:
    async with opened(data_dir, config) as installation:
        await installation.connections.remove(connection_id)
        effect = await confirm(installation)
    typer.echo(f"connection '{connection_id}' removed: {effect}")
