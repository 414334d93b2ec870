"""The process that serves. ``pointsman serve`` turns into it, so that nothing of the command line stays in memory: with
its parser and what that loads, a server would take a tenth more.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from pointsman.exits import run
from pointsman.settings import Environment, Settings, load_settings, read_environment

if TYPE_CHECKING:
    from pointsman.housekeeping import Housekeeping
    from pointsman.server.worker_link import Place

CURL: Final = (
    'curl {address}/v1/chat/completions -H "Authorization: Bearer {key}" -H "Content-Type: application/json" -d '
    """'{{"model": "local/smollm2-135m-instruct", "messages": """
    """[{{"role": "user", "content": "What is the capital of France?"}}]}}'"""
)


class Orders(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a serving process is told: what wins over the configuration file, and as a worker its ``place``."""

    host: str | None = None
    port: int | None = None
    workers: int | None = None
    data_dir: Path | None = None
    config: Path | None = None
    place: str | None = None
    migrated: bool = False  # it has started itself again for that already

    def command(self) -> list[str]:
        """The command line of a process with these orders."""
        # -P: the folder where the server was started is no place to import from
        return [sys.executable, "-P", "-m", "pointsman.serving", msgspec.json.encode(self, enc_hook=str).decode()]

    def become(self) -> NoReturn:
        """Go on as that process: the same process id, terminal and signals."""
        command = self.command()
        os.execv(command[0], command)


def settings_of(orders: Orders) -> tuple[Settings, Environment]:
    """Settings and environment of a process with these orders. Raises ConfigError."""
    settings, environment = load_settings(orders.config), read_environment(orders.data_dir)
    given = {name: getattr(orders, name) for name in ("host", "port", "workers") if getattr(orders, name) is not None}
    return msgspec.structs.replace(settings, server=msgspec.structs.replace(settings.server, **given)), environment


def serve(orders: Orders) -> None:
    """Serve until stopped. Raises ConfigError."""
    import uvloop

    from pointsman.heap import share_freed_memory
    from pointsman.installation import is_upgraded
    from pointsman.logs import configure_logging
    from pointsman.open_files import make_room, raise_limit

    share_freed_memory()
    settings, environment = settings_of(orders)
    configure_logging(settings.log.level)
    if orders.place is not None:
        make_room(settings.server)
        uvloop.run(_serve_as_worker(settings, environment, orders.place))
        return
    if uvloop.run(is_upgraded(settings, environment)) and not orders.migrated:
        msgspec.structs.replace(
            orders, migrated=True
        ).become()  # what brought the tables up to date would stay in memory for good, 10 MB
    raise_limit(settings.server)  # workers inherit it
    if settings.server.workers > 1:
        uvloop.run(_supervise(settings, environment, orders))
    else:
        make_room(settings.server)
        uvloop.run(_serve(settings, environment))


async def _serve(settings: Settings, environment: Environment) -> None:
    from pointsman.app import Server
    from pointsman.installation import open_installation
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


async def _supervise(settings: Settings, environment: Environment, orders: Orders) -> None:
    from pointsman.installation import open_installation
    from pointsman.supervision import Supervision

    def command(place: "Place") -> list[str]:
        own = msgspec.structs.replace(orders, workers=None, migrated=False, data_dir=environment.data_dir)
        return msgspec.structs.replace(own, place=msgspec.json.encode(place).decode()).command()

    async with open_installation(settings, environment) as installation:
        supervision = Supervision(installation, command)
        try:
            if await supervision.start():
                _announce(supervision.house, supervision.address, environment.data_dir)
            await supervision.run()
        finally:
            await supervision.aclose()


async def _serve_as_worker(settings: Settings, environment: Environment, place: str) -> None:
    from pointsman.app import Server
    from pointsman.installation import open_installation
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
    lines = [f"Pointsman {__version__} is listening on {address}   (data: {data_dir})"]
    if key is not None:
        lines.append(f"\nYour first API key, shown only now:\n\n  {key.reveal()}")
    if house.children and not weights_status(data_dir).installed:
        lines.append("\nThe local model is not installed; get it (93 MB) with: pointsman local install")
    shown = key.reveal() if key is not None else "$POINTSMAN_API_KEY"
    lines.append(f"\nTry it:\n\n  {CURL.format(address=address, key=shown)}\n")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def main() -> None:
    """The program: its one argument is the orders, in JSON."""
    orders = msgspec.json.decode(sys.argv[1], type=Orders, dec_hook=lambda kind, value: kind(value))
    run(lambda: serve(orders))


if __name__ == "__main__":
    main()
