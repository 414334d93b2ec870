"""A whole gateway whose connection has a proxy in its configuration."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway import running_gateway
from pointsman.testing import OpenAIChat, running_simulator
from raw_client import ask, chat
from upstream_peers import ProxyPeer, listening


@contextmanager
def running_proxy(kind: str) -> Iterator[ProxyPeer]:
    """A proxy in a thread of its own."""
    proxy, ready = ProxyPeer(kind), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def live() -> None:
        async with listening(proxy):
            ready.set()
            await stop.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(live())

    thread = threading.Thread(target=run, name="proxy", daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def test_calls_go_through_it_and_its_password_stays_unseen(tmp_path: Path) -> None:
    with running_simulator(OpenAIChat(strict=False)) as simulator, running_proxy("socks5h") as proxy:
        port = simulator.base_url.split(":")[2].split("/")[0]
        connection = {"id": "far", "kind": "openai", "base_url": f"http://far.example:{port}/v1"}
        connection["proxy"] = f"socks5h://user:pass@127.0.0.1:{proxy.port}"
        wrong = {**connection, "id": "wrong", "proxy": f"socks5h://user:Wr0ng-Pa55@127.0.0.1:{proxy.port}"}
        with running_gateway(tmp_path, {"connections": [connection, wrong]}) as gateway:
            for stream in (False, True):
                answer = ask(gateway.port, chat(model="far/m", stream=stream))
                assert (answer.status, answer.complete) == (200, True)
            answer = ask(gateway.port, chat(model="wrong/m"))
            assert (answer.status, answer.error["code"]) == (502, "upstream_unavailable")
            assert answer.error["message"] == "the proxy does not accept our credentials"
            assert "user:pass" not in gateway.log_text()
            assert "Wr0ng-Pa55" not in gateway.log_text() + answer.body.decode()
        assert proxy.asked == [f"far.example:{port}"]
