"""The certificates that clients trust, read once for all of a run's clients.

The official SDKs read some 140 of them for each client, 30 ms, also for one that speaks plain HTTP to this machine.
"""

import ssl
from collections.abc import Iterator
from functools import cache
from typing import Any

import certifi
import httpcore2
import pytest


@pytest.fixture(scope="session", autouse=True)
def shared_client_certificates() -> Iterator[None]:
    """Who asks for nothing but the public certificates gets the same context as everybody before."""
    genuine = ssl.create_default_context
    public = cache(lambda: genuine(cafile=certifi.where()))

    def default_context(*asked: Any, **named: Any) -> ssl.SSLContext:
        wanted = {name: value for name, value in named.items() if value is not None}
        return public() if not asked and wanted == {"cafile": certifi.where()} else genuine(*asked, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", default_context)
        patch.setattr(httpcore2, "default_ssl_context", cache(httpcore2.default_ssl_context))
        yield
