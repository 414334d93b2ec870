"""``pointsman serve``: run the gateway in the foreground."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pointsman.cli import app
from pointsman.cli.options import ConfigFile, DataDir, load

if TYPE_CHECKING:
    from pointsman.app import Server
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
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Run the gateway until it is stopped by Ctrl-C or SIGTERM."""
    import uvloop

    from pointsman.logs import configure_logging

    settings, environment = load(data_dir, config)
    server = settings.server
    server = msgspec.structs.replace(server, host=host or server.host, port=server.port if port is None else port)
    settings = msgspec.structs.replace(settings, server=server)
    configure_logging(settings.log.level)
    uvloop.run(_serve(settings, environment))


async def _serve(settings: "Settings", environment: "Environment") -> None:
    from pointsman.app import Server, open_installation
    from pointsman.logs import RequestLog

    async with open_installation(settings, environment) as installation:
        server = Server(installation, RequestLog() if settings.log.requests else None)
        try:
            host = await server.start()
            _announce(server, environment.data_dir)
            await host.serve()
        finally:
            await server.aclose()


def _announce(server: "Server", data_dir: Path) -> None:
    """What a person needs next, on standard output: the address, the first key (once), and a line to paste."""
    from pointsman import __version__
    from pointsman.upstream.local_weights import weights_status

    key = server.first_key
    typer.echo(f"Pointsman {__version__} is listening on {server.address}   (data: {data_dir})")
    if key is not None:
        typer.echo(f"\nYour first API key, shown only now:\n\n  {key.reveal()}")
    if server.local_model is not None and not weights_status(data_dir).installed:
        typer.echo("\nThe local model is not installed; get it (93 MB) with: pointsman local install")
    shown = key.reveal() if key is not None else "$POINTSMAN_API_KEY"
    typer.echo(f"\nTry it:\n\n  {CURL.format(address=server.address, key=shown)}\n")
