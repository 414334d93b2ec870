"""A server that can't start says why, and leaves nothing open behind it."""

import asyncio
import socket
from pathlib import Path

import pytest

from pointsman.app import Server
from pointsman.errors import ConfigError
from pointsman.installation import open_installation
from pointsman.keyring import Secret
from pointsman.server.worker_link import Place, WorkerLink
from pointsman.settings import Environment, parse_settings
from pointsman.storage.database import StorageError

SETTINGS = {"local": {"enabled": False}, "routing": {"model_lists": False}, "server": {"port": 0}}


def start_and_close(environment: Environment, link: WorkerLink | None = None) -> None:
    """What a serving process does, up to where it would serve; a worker finds a table gone."""

    async def work() -> None:
        async with open_installation(parse_settings(SETTINGS, "test"), environment) as installation:
            if link is not None:
                async with installation.database.write() as connection:
                    await connection.exec_driver_sql("DROP TABLE presets")
            server = Server(installation, None, link)
            try:
                await server.start()
            finally:
                await server.aclose()

    asyncio.run(work())


def test_a_first_key_that_is_too_short_is_what_the_operator_reads(tmp_path: Path) -> None:
    environment = Environment(data_dir=tmp_path, bootstrap_key=Secret("short"))
    for _ in range(2):  # the second time: the data directory's lock was given back
        with pytest.raises(ConfigError, match="POINTSMAN_BOOTSTRAP_KEY must have"):
            start_and_close(environment)


def test_a_worker_that_ends_before_it_talks_to_its_supervisor_says_why(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    link = WorkerLink(Place(control=ours.detach(), share=0, listeners=[[listener.detach()]]))
    with theirs:
        with pytest.raises(StorageError, match="presets"):
            start_and_close(Environment(data_dir=tmp_path), link)
        assert theirs.recv(1) == b""  # which tells the supervisor that it is gone
