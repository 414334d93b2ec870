"""Python-only cost of a proxied request and of a streamed event: the real objects, with transports that do nothing.

`python -m benchmarks.micro [--lane NAME] [--profile]` prints microseconds of CPU time on each lane; with --profile,
where the time of its requests goes. --count sends that many requests once, for tools that count instructions.
"""

import argparse
import asyncio
import cProfile
import json
import pstats
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks.load import chat_body, messages_body
from pointsman.app import Server
from pointsman.installation import open_installation
from pointsman.keyring import Secret
from pointsman.settings import Environment, parse_settings
from pointsman.upstream.http1 import UpstreamConnection

KEY = "sk-test-0123456789abcdef0123456789abcdef"
TEXT = "The capital of France is Paris. " * 8
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"up-model","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"' + TEXT.encode() + b'","refusal":null},"logprobs":null,'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":211,"completion_tokens":42,"total_tokens":253}}'
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nX-Request-Id: req_1\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
FIRST = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"up-model","choices":'
    b'[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
)
EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"up-model","choices":'
    b'[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}\n\n'
)
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
MESSAGE = (
    b'{"id":"msg_01","type":"message","role":"assistant","model":"up-model","content":[{"type":"text","text":"'
    + TEXT.encode() + b'"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":211,'
    b'"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,'
    b'"ephemeral_1h_input_tokens":0},"output_tokens":42,"service_tier":"standard"}}'
)  # fmt: skip
MESSAGE_FIRST = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant",'
    b'"model":"up-model","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":211,'
    b'"output_tokens":1}}}\n\nevent: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
)
MESSAGE_EVENT = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
    b'"text":" token"}}\n\n'
)
MESSAGE_LAST = (
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\nevent: message_delta\ndata: '
    b'{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":42}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def tool_chat(model: str) -> bytes:
    """The chat with a tool of the load programs, as clients of OpenAI's API send it."""
    body = json.loads(chat_body(model, stream=False))
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    function = {"name": "forecast", "description": "The weather in a city.", "parameters": schema}
    body["tools"] = [{"type": "function", "function": function}]
    return json.dumps(body, separators=(",", ":")).encode()


def streamed(body: bytes) -> bytes:
    """The same request for a stream."""
    return json.dumps({**json.loads(body), "stream": True}, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Lane:
    """What goes in at one side and comes back at the other: a client's request, and the upstream's answer to it."""

    connection: str
    path: bytes
    body: bytes
    answer: bytes
    events: tuple[bytes, bytes, bytes]  # the first of a stream, each further one, the last


LANES = {
    "raw": Lane("openai", b"/v1/chat/completions", chat_body("my-openai", stream=False), ANSWER, (FIRST, EVENT, LAST)),
    "anthropic-to-openai": Lane("openai", b"/v1/messages", messages_body("my-openai"), ANSWER, (FIRST, EVENT, LAST)),
    "openai-to-anthropic": Lane(
        "anthropic",
        b"/v1/chat/completions",
        tool_chat("my-anthropic"),
        MESSAGE,
        (MESSAGE_FIRST, MESSAGE_EVENT, MESSAGE_LAST),
    ),
}


class NoTransport(asyncio.Transport):
    """Takes everything, sends nothing. ``last`` is what was written last."""

    last: bytes | bytearray | memoryview = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Nothing."""
        self.last = data

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


def request(path: bytes, body: bytes) -> bytes:
    """The client's request."""
    return (
        b"POST " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"
        b"Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: OpenAI/Python 2.8.1\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


class Bench:
    """One lane of a running server: what its client sends and what its upstream answers, as plain calls."""

    def __init__(self, server: Server, lane: Lane, upstream: UpstreamConnection) -> None:
        self._client = server.edge.protocol()
        self._transport = NoTransport()
        self._client.connection_made(self._transport)
        self._upstream = upstream
        self._plain = request(lane.path, lane.body)
        self._streamed = request(lane.path, streamed(lane.body))
        self._answer = HEAD % len(lane.answer) + lane.answer
        self._first, self._event, self._last = (chunk(piece) for piece in lane.events)

    def requests(self, count: int) -> None:
        """That many requests with buffered answers."""
        for _ in range(count):
            self._client.data_received(self._plain)
            self._upstream.data_received(self._answer)
        assert bytes(self._transport.last).startswith(b"HTTP/1.1 200"), self._transport.last

    def events(self, count: int) -> None:
        """A stream of that many events."""
        self._client.data_received(self._streamed)
        self._upstream.data_received(STREAM_HEAD)
        self._upstream.data_received(self._first)
        for _ in range(count):
            self._upstream.data_received(self._event)
        self._upstream.data_received(self._last + b"0\r\n\r\n")


async def measure(options: argparse.Namespace) -> None:
    """Build a server, feed it bytes, print the figures."""
    common = {"models": ["up-model"], "api_key": "upstream-key-fedcba9876543210"}
    addresses = {"openai": "http://127.0.0.1:1/v1", "anthropic": "http://127.0.0.1:2"}
    settings = parse_settings(
        {
            "server": {"port": 0},
            "journal": {"interval_seconds": 3600.0},
            "connections": [{"id": kind, "kind": kind, "base_url": url, **common} for kind, url in addresses.items()],
            "models": [{"name": f"my-{kind}", "target": f"{kind}/up-model"} for kind in addresses],
        },
        "bench",
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = Environment(data_dir=Path(folder), bootstrap_key=Secret(KEY))
        async with open_installation(settings, environment) as installation:
            server = Server(installation, None)
            await server.start()
            await asyncio.sleep(1.0)  # prices and management load in threads
            upstreams = {kind: await connect(server, kind) for kind in addresses}
            for name in [options.lane] if options.lane else LANES:
                run(name, Bench(server, LANES[name], upstreams[LANES[name].connection]), options)
            await server.aclose()


async def connect(server: Server, name: str) -> UpstreamConnection:
    """An idle connection in the pool of an upstream that does not exist."""
    access = await server.gateway.snapshot.endpoints[name].acquire()
    pool = server.client.pool(access.origin)
    upstream = UpstreamConnection(pool)
    upstream.connection_made(NoTransport())
    upstream.counted = True
    pool.open += 1
    pool.put(upstream)
    return upstream


def run(name: str, bench: Bench, options: argparse.Namespace) -> None:
    """Time requests, then streamed events."""
    if options.count:
        bench.requests(options.count)
        return
    bench.requests(1000)
    for kind, work in (("request", bench.requests), ("event", bench.events)):
        best = 1e9
        for _ in range(8):
            begin = time.process_time()
            work(2500)
            best = min(best, (time.process_time() - begin) / 2500)
        print(f"{name:20s} {kind:8s} {best * 1e6:7.2f} us", flush=True)
    if options.profile:
        profiler = cProfile.Profile()
        profiler.enable()
        bench.requests(10000)
        profiler.disable()
        pstats.Stats(profiler).sort_stats(options.sort).print_stats(90)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lane", choices=LANES)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--sort", default="tottime")
    parser.add_argument("--count", type=int, default=0)
    uvloop.run(measure(parser.parse_args()))
