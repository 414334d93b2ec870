"""What a server knows in the moment from which it takes requests."""

import asyncio
import http.client
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pointsman.app import Server
from pointsman.gateway import Snapshot
from pointsman.installation import Installation, open_installation
from pointsman.server.host import Host
from pointsman.server.worker_link import Place, WorkerLink
from pointsman.settings import Environment, parse_settings

SETTINGS = {
    "local": {"enabled": False},
    "routing": {"model_lists": False},
    "server": {"port": 0, "shutdown_grace_seconds": 0.01},
}


@asynccontextmanager
async def opened(data_dir: Path, link: WorkerLink | None = None) -> AsyncIterator[tuple[Installation, Server]]:
    """A server that is yet to start, and looks at no change of the configuration after that; closed at the end."""
    async with open_installation(parse_settings(SETTINGS, "test"), Environment(data_dir=data_dir)) as installation:
        server = Server(installation, None, link)
        server._begin_work = lambda: None  # type: ignore[method-assign]
        try:
            yield installation, server
        finally:
            await server.aclose()


async def revoke_behind_the_snapshot(installation: Installation, server: Server) -> str:
    """A key that is revoked when the server has read the configuration, which is confirmed at once: nobody serves."""
    row, secret = await installation.keys.create("old")
    make = server._snapshots.make

    async def make_and_revoke() -> Snapshot:
        snapshot = await make()
        server._snapshots.make = make  # type: ignore[method-assign]
        await installation.keys.revoke(row.id)
        assert await installation.await_revision(await installation.configuration.revision(), 0.0)
        return snapshot

    server._snapshots.make = make_and_revoke  # type: ignore[method-assign]
    return secret.reveal()


async def serve_one(server: Server, port: Callable[[], int], key: str) -> int:
    """The status of the first request."""

    def ask() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port(), timeout=20)
        connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {key}"})
        status = connection.getresponse().status
        connection.close()
        return status

    host = await server.start()
    status = await asyncio.to_thread(ask)
    host.stop()
    await host.serve_until_stopped()
    return status


def test_a_key_whose_revocation_was_confirmed_opens_no_server_that_had_read_the_keys_before(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as (installation, server):
            key = await revoke_behind_the_snapshot(installation, server)
            assert await serve_one(server, lambda: int(server.address.rpartition(":")[2]), key) == 401

    asyncio.run(work())


def test_a_key_whose_revocation_was_confirmed_opens_no_worker_that_had_read_the_keys_before(tmp_path: Path) -> None:
    async def work() -> None:
        ours, theirs = socket.socketpair()
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        link = WorkerLink(Place(control=ours.detach(), share=0, listeners=[[listener.detach()]]))
        with theirs:
            async with opened(tmp_path, link) as (installation, server):
                key = await revoke_behind_the_snapshot(installation, server)
                assert await serve_one(server, lambda: port, key) == 401

    asyncio.run(work())


def test_a_change_is_not_confirmed_before_a_server_that_begins_to_listen_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with opened(tmp_path) as (installation, server):
            listen, confirmed = Host.listen, []

            async def change_and_listen(host: Host) -> int:
                row, _ = await installation.keys.create("old")
                await installation.keys.revoke(row.id)
                revision = await installation.configuration.revision()
                confirmed.append(await installation.await_revision(revision, 0.0))
                return await listen(host)

            monkeypatch.setattr(Host, "listen", change_and_listen)
            host = await server.start()
            host.stop()
            await host.serve_until_stopped()
            assert confirmed == [False]
            [node] = await installation.nodes.live(0)
            assert node.address == server.address != "http://127.0.0.1:0"

    asyncio.run(work())
