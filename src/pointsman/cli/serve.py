"""``pointsman serve``: run the gateway in the foreground."""

import sys
from typing import Annotated

import typer

from pointsman.cli import app
from pointsman.cli.options import ConfigFile, DataDir


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default: 20128).", min=0, max=65535)] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the port (default: 1).", min=1)] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Run the gateway until it is stopped by Ctrl-C or SIGTERM. With several workers, SIGHUP renews them one by one."""
    from pointsman.serving import Orders

    sys.stdout.flush()
    Orders(host=host, port=port, workers=workers, data_dir=data_dir, config=config).become()
