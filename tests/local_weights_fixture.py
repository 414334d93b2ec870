"""Fixtures of the embedded model: its real weights, downloaded once and kept between sessions."""

import os
from pathlib import Path

import pytest

from pointsman.upstream.local_weights import install_weights, weights_status

# The first session on a machine downloads 93 MB before its first test that uses them.
DOWNLOAD_TIMEOUT_SECONDS = 600


def weights_cache() -> Path:
    """Where the weights outlive the session: $POINTSMAN_TEST_CACHE or ~/.cache/pointsman-test."""
    return Path(os.environ.get("POINTSMAN_TEST_CACHE") or Path.home() / ".cache" / "pointsman-test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests that may have to download the weights time for it."""
    for item in items:
        if "local_weights" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(DOWNLOAD_TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def local_weights() -> Path:
    """The path of the genuine weights, read-only by agreement: copy them to damage them."""
    cache = weights_cache()
    status = weights_status(cache, verify=True)
    if status.sha256_ok is False:
        status.path.unlink()
    return install_weights(cache, lambda done, total: None)
