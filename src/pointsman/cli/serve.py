"""``pointsman serve``: run the gateway in the foreground."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pointsman.cli import app
from pointsman.cli.options import ConfigFile, DataDir, load

if TYPE_CHECKING:
    from pointsman.installation import Housekeeping
    from pointsman.server.worker_link import Place
    from pointsman.settings import Environment, Settings

CURL = (
    'curl {address}/v1/chat/completions -H "Authorization: Bearer {key}" -H "Content-Type: application/json" -d '
    """'{{"model": "local/smollm2-135m-instruct", "messages": """
    """[{{"role": "user", "content": "What is the capital of France?"}}]}}'"""
)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default: 20128).", min=0, max=65535)] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the port (default: 1).", min=1)] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    place: Annotated[str | None, typer.Option(hidden=True, help="Where a worker stands: set by its parent.")] = None,
) -> None:
    """Run the gateway until it is stopped by Ctrl-C or SIGTERM. With several workers, SIGHUP renews them one by one."""
    import uvloop

    from pointsman.logs import configure_logging

    settings, environment = load(data_dir, config)
    server = settings.server
    server = msgspec.structs.replace(
        server,
        host=host or server.host,
        port=server.port if port is None else port,
        workers=server.workers if workers is None else workers,
    )
    settings = msgspec.structs.replace(settings, server=server)
    configure_logging(settings.log.level)
    if place is not None:
        uvloop.run(_serve_as_worker(settings, environment, place))
    elif server.workers > 1:
        uvloop.run(_supervise(settings, environment, config))
    else:
        uvloop.run(_serve(settings, environment))


async def _serve(settings: "Settings", environment: "Environment") -> None:
    from pointsman.app import Server, open_installation
    from pointsman.logs import RequestLog

    async with open_installation(settings, environment) as installation:
        server = Server(installation, RequestLog() if settings.log.requests else None)
        try:
            host = await server.start()
            assert server.house is not None
            _announce(server.house, server.address, environment.data_dir)
            await host.serve()
        finally:
            await server.aclose()


async def _supervise(settings: "Settings", environment: "Environment", config: Path | None) -> None:
    from pointsman.app import Supervision, open_installation

    def command(place: "Place") -> list[str]:
        server = settings.server
        options = ["--host", server.host, "--port", str(server.port), "--data-dir", str(environment.data_dir)]
        if config is not None:
            options += ["--config", str(config)]
        options += ["--place", msgspec.json.encode(place).decode()]
        # -P: the folder where the server was started is no place to import from
        return [sys.executable, "-P", "-m", "pointsman.cli", "serve", *options]

    async with open_installation(settings, environment) as installation:
        supervision = Supervision(installation, command)
        try:
            await supervision.start()
            _announce(supervision.house, supervision.address, environment.data_dir)
            await supervision.run()
        finally:
            await supervision.aclose()


async def _serve_as_worker(settings: "Settings", environment: "Environment", place: str) -> None:
    from pointsman.app import Server, open_installation
    from pointsman.logs import RequestLog
    from pointsman.server.worker_link import Place, WorkerLink

    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # from a terminal they come to the supervisor too, who decides
    link = WorkerLink(msgspec.json.decode(place, type=Place))
    async with open_installation(settings, environment) as installation:
        server = Server(installation, RequestLog(shared=True) if settings.log.requests else None, link)
        try:
            host = await server.start()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, link.ask_to_leave)
            await host.serve_until_stopped()
        finally:
            await server.aclose()


def _announce(house: "Housekeeping", address: str, data_dir: Path) -> None:
    """What a person needs next, on standard output: the address, the first key (once), and a line to paste."""
    from pointsman import __version__
    from pointsman.upstream.local_weights import weights_status

    key = house.first_key
    typer.echo(f"Pointsman {__version__} is listening on {address}   (data: {data_dir})")
    if key is not None:
        typer.echo(f"\nYour first API key, shown only now:\n\n  {key.reveal()}")
    if house.children and not weights_status(data_dir).installed:
        typer.echo("\nThe local model is not installed; get it (93 MB) with: pointsman local install")
    shown = key.reveal() if key is not None else "$POINTSMAN_API_KEY"
    typer.echo(f"\nTry it:\n\n  {CURL.format(address=address, key=shown)}\n")
