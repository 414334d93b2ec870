"""Python-only cost of one proxied request and one streamed event: the real objects, with transports that do nothing.

`python -m benchmarks.micro [--profile]` prints microseconds of CPU time; with --profile, where they go.
"""

import argparse
import asyncio
import cProfile
import pstats
import tempfile
import time
from pathlib import Path

import uvloop

from benchmarks.load import chat_body
from pointsman.app import Server, open_installation
from pointsman.keyring import Secret
from pointsman.settings import Environment, parse_settings
from pointsman.upstream.http1 import UpstreamConnection

KEY = "sk-test-0123456789abcdef0123456789abcdef"
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"up-model","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"' + b"The capital of France is Paris. " * 8 + b'","refusal":null},"logprobs":null,'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":211,"completion_tokens":42,"total_tokens":253}}'
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nX-Request-Id: req_1\r\n\r\n" % len(
    ANSWER
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"up-model","choices":'
    b'[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}\n\n'
)
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


class NoTransport(asyncio.Transport):
    """Takes everything, sends nothing."""

    def write(self, data: bytes) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    abort = pause_reading = resume_reading = close

    def is_closing(self) -> bool:
        """Never."""
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        """A loopback client."""
        return ("127.0.0.1", 1) if name == "peername" else default


def chunk(data: bytes) -> bytes:
    """An HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def request(body: bytes) -> bytes:
    """The client's request."""
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"
        b"Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: OpenAI/Python 2.8.1\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


async def measure(profile: bool) -> None:
    """Build a server, feed it bytes, print the figures."""
    connection = {"id": "bench", "kind": "openai", "base_url": "http://127.0.0.1:1/v1", "models": ["up-model"]}
    settings = parse_settings(
        {
            "server": {"port": 0},
            "journal": {"interval_seconds": 3600.0},
            "connections": [{**connection, "api_key": "upstream-key-fedcba9876543210"}],
            "models": [{"name": "my-model", "target": "bench/up-model"}],
        },
        "bench",
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = Environment(data_dir=Path(folder), bootstrap_key=Secret(KEY))
        async with open_installation(settings, environment) as installation:
            server = Server(installation, None)
            await server.start()
            await asyncio.sleep(1.0)  # prices and management load in threads
            await run(server, profile)
            await server.aclose()


async def run(server: Server, profile: bool) -> None:
    """Time requests, then streamed events."""
    endpoint = server.gateway.snapshot.endpoints["bench"]
    access = await endpoint.acquire()
    pool = server.client.pool(access.origin)
    upstream = UpstreamConnection(pool)
    upstream.connection_made(NoTransport())
    upstream.counted = True
    pool.open = 1
    pool.put(upstream)
    client = server.edge.protocol()
    client.connection_made(NoTransport())
    plain, answer = request(chat_body("my-model", stream=False)), HEAD + ANSWER
    streamed = request(chat_body("my-model", stream=True))

    async def requests(count: int) -> None:
        for _ in range(count):
            client.data_received(plain)
            upstream.data_received(answer)

    async def events(count: int) -> None:
        client.data_received(streamed)
        upstream.data_received(STREAM_HEAD)
        piece = chunk(EVENT)
        for _ in range(count):
            upstream.data_received(piece)
        upstream.data_received(chunk(LAST) + b"0\r\n\r\n")

    await requests(2000)
    for name, work in (("request", requests), ("event", events)):
        best = 1e9
        for _ in range(5):
            begin = time.process_time()
            await work(10000)
            best = min(best, (time.process_time() - begin) / 10000)
        print(f"{name:8s} {best * 1e6:6.2f} us")
    if profile:
        profiler = cProfile.Profile()
        profiler.enable()
        await requests(20000)
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true")
    uvloop.run(measure(parser.parse_args().profile))
