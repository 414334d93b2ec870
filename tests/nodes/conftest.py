"""The upstream of all tests here, and servers of several workers."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_tools import configuration

from databases import postgres_database
from gateway import UPSTREAM_KEY
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from pointsman.upstream.local_weights import install_weights
from serve_process import ServeProcess, serving


@pytest.fixture(scope="session")
def upstream() -> Iterator[RunningSimulator]:
    """The upstream."""
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as running:
        yield running


@pytest.fixture
def database_url(postgres_server: str, migrated_postgres: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    with postgres_database(postgres_server, migrated_postgres) as url:
        yield url


@pytest.fixture
def pair(upstream: RunningSimulator, tmp_path: Path) -> Iterator[ServeProcess]:
    """Two workers."""
    with serving(tmp_path, configuration(upstream, server={"workers": 2})) as running:
        yield running


@pytest.fixture(scope="session")
def local_weights() -> Path:
    """The path of the genuine weights, which the local model's own tests keep between sessions."""
    return install_weights(
        Path(os.environ.get("POINTSMAN_TEST_CACHE") or Path.home() / ".cache" / "pointsman-test"), lambda *_: None
    )
