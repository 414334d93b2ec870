"""Bodies made to hurt: bombs of compression and JSON, and text that would forge a stream's events.

Forms are for a few paths of media (`wire/test_multipart_forms.py`); elsewhere one is refused as JSON that it is not.
"""

import gzip
import io
import json
import random
import re
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import brotli
import pytest
from backports import zstd

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.testing import RunningSimulator
from raw_client import CHAT, Answer, Connection, ask, chat, chat_body, request
from scripted_upstream import running_upstream

MEBIBYTE = 1024 * 1024
SETTINGS = {"server": {"max_body_bytes": 24 * MEBIBYTE, "max_decompression_ratio": 100}}
QUICK_S = 2.0
BODY = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


def bomb(name: str, mebibytes: int) -> bytes:
    """So many MiB of zeros, encoded piece by piece."""
    if name in ("gzip", "deflate"):
        packer = zlib.compressobj(9, zlib.DEFLATED, 31 if name == "gzip" else 15)
        parts = [packer.compress(bytes(MEBIBYTE)) for _ in range(mebibytes)]
    elif name == "br":
        packer = brotli.Compressor(quality=5)
        return b"".join([packer.process(bytes(MEBIBYTE)) for _ in range(mebibytes)]) + packer.finish()
    else:
        packer = zstd.ZstdCompressor()
        parts = [packer.compress(bytes(MEBIBYTE)) for _ in range(mebibytes)]
    return b"".join(parts) + packer.flush()


def memory_bytes(name: str) -> int:
    """``VmRSS``, the memory of this process now, or ``VmHWM``, the most since `forget_peak`."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """Begin to watch the memory's peak anew (Linux: proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def quickly(gateway: RunningGateway, message: bytes) -> Answer:
    """The answer to a harmful request, which must neither take long nor harm the next one."""
    started = time.monotonic()
    answer = ask(gateway.port, message)
    assert time.monotonic() - started < QUICK_S + 2 * gateway.read(lambda: gateway.server.ticker.lag_seconds)
    assert ask(gateway.port, chat()).status == 200
    return answer


@pytest.mark.parametrize("name", BODY)
def test_a_decompression_bomb(gateway: RunningGateway, simulator: RunningSimulator, name: str) -> None:
    body = bomb(name, 200)
    forget_peak()
    before = memory_bytes("VmRSS")
    answer = quickly(gateway, request("POST", CHAT, body, f"content-encoding: {name}"))
    assert memory_bytes("VmHWM") - before < 80 * MEBIBYTE
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert len(simulator.requests) == 1  # the harmless one


def test_a_bomb_in_a_bomb(gateway: RunningGateway) -> None:
    inner = bomb("gzip", 200)
    for name in ("gzip", "br", "zstd", "deflate"):
        message = request("POST", CHAT, BODY[name](inner), f"content-encoding: gzip, {name}")
        forget_peak()
        before = memory_bytes("VmRSS")
        answer = quickly(gateway, message)
        assert memory_bytes("VmHWM") - before < 80 * MEBIBYTE
        assert answer.status == 413


def test_a_layer_between_of_which_nothing_comes_out_is_bounded_too(gateway: RunningGateway) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    named_head = bytes.fromhex("1f8b08080000000000ff")  # gzip's, with a file's name that goes on for ever
    parts = [packer.compress(named_head), *(packer.compress(b"a" * MEBIBYTE) for _ in range(300)), packer.flush()]
    message = request("POST", CHAT, b"".join(parts), "content-encoding: gzip, gzip")
    forget_peak()
    before = memory_bytes("VmRSS")
    answer = quickly(gateway, message)
    assert memory_bytes("VmHWM") - before < 80 * MEBIBYTE
    assert answer.status == 413


def test_a_bomb_of_many_layers(gateway: RunningGateway) -> None:
    body = chat_body()
    for _ in range(5):
        body = gzip.compress(body)
    answer = quickly(gateway, request("POST", CHAT, body, "content-encoding: gzip, gzip, gzip, gzip, gzip"))
    assert answer.status == 415


def test_a_small_bomb_within_the_size_is_held_by_the_ratio(gateway: RunningGateway) -> None:
    body = chat_body(text="x" * 10 * MEBIBYTE)
    answer = quickly(gateway, request("POST", CHAT, gzip.compress(body), "content-encoding: gzip"))
    assert answer.status == 413
    assert "100 times" in answer.error["message"]


def test_what_is_packed_within_the_ratio_is_held_by_the_size(gateway: RunningGateway) -> None:
    mixed = random.Random(14).randbytes(MEBIBYTE // 50) + bytes(MEBIBYTE)
    answer = quickly(gateway, request("POST", CHAT, gzip.compress(mixed * 25), "content-encoding: gzip"))
    assert answer.status == 413
    assert f"{24 * MEBIBYTE} bytes" in answer.error["message"]


def test_a_bomb_in_an_archive_of_token_files(gateway: RunningGateway) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.json", "w") as member:
        for _ in range(120):
            member.write(bytes(MEBIBYTE))
    forget_peak()
    before = memory_bytes("VmRSS")
    answer = ask(gateway.port, request("POST", "/api/providers/agy-auth/zip-extract", packed.getvalue()))
    assert memory_bytes("VmHWM") - before < 80 * MEBIBYTE
    assert answer.status == 400
    assert b"has more than" in answer.body


def test_a_bomb_in_a_frame_of_a_socket(gateway: RunningGateway) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join([packer.compress(bytes(MEBIBYTE)) for _ in range(120)]) + packer.flush(zlib.Z_SYNC_FLUSH)
    frame = b"\xc1\xff" + len(packed).to_bytes(8) + bytes(4) + packed  # a compressed text (RFC 7692), masked by zeros
    wish = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-extensions: permessage-deflate")  # fmt: skip
    with Connection(gateway.port) as connection:
        connection.send(request("GET", "/v1/responses", b"", *wish))
        head = connection.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"extensions" not in head
        forget_peak()
        before = memory_bytes("VmRSS")
        connection.send(frame)
        connection.peek(b"\x88")  # the socket is closed
        assert memory_bytes("VmHWM") - before < 80 * MEBIBYTE
        connection.read_until(b"\x03\xea")  # 1002, a fault of the protocol


@pytest.mark.parametrize("name", [*BODY, "gzip, gzip"])
def test_a_bomb_in_an_upstreams_answer(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    body = bomb("gzip", 50)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: {name}\r\n".encode()
    with running_upstream() as upstream:
        upstream.script = lambda number, sent: [head + b"content-length: %d\r\n\r\n" % len(body) + body]
        row = {"id": "up", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        with running_gateway(tmp_path_factory.mktemp("bomb"), {"connections": [row]}) as gateway:
            for stream in (False, True):
                forget_peak()
                before = memory_bytes("VmRSS")
                answer = ask(gateway.port, chat(model="up/m", stream=stream))
                assert memory_bytes("VmHWM") - before < 25 * MEBIBYTE
                assert answer.status == 502
                assert f"content-encoding '{name}' unasked" in answer.error["message"]


M = b'"messages":[{"role":"user","content":"hi"}]'


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"model":"sim/m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"," + M + b"}",
        b'{"model":"sim/m","x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"," + M + b"}",
        b'{"model":"sim/m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"sim/m",' + M + b',"seed":' + b"9" * 10_000_000 + b"}",
        b'{"model":"sim/m",' + M + b',"temperature":1e' + b"9" * 1_000_000 + b"}",
        b'{"model":"sim/m",' + M + b',"temperature":NaN}',
        b'{"model":"sim/m",' + M + b',"x":[NaN]}',
        b'{"model":"sim/m",' + M + b',"temperature":Infinity}',
        b'{"model":"sim/m",' + M + b',"temperature":-Infinity}',
        b'{"model":"\\ud800",' + M + b"}",
        b'{"model":"sim/m","\\udfff":1,' + M + b"}",
        b'{"model":"sim/m","messages":[{"role":"user","content":"\\ud800 lone"}]}',
        b'{"model":"sim/m","model":"sim/other",' + M + b"}",
        b'{"model":"sim/other",' + M + b',"model" : "sim/m"}',
        b'{"model":"sim/m","model":"sim/m",' + M + b"}",
        b'{"model":"sim/m","\\u006dodel":"sim/other",' + M + b"}",
        b'{"mod\\u0065l":"sim/m",' + M + b"}",
        b'{"model":"sim/m",' + M + b"}" + b'{"model":"sim/other"}',
        b"\xef\xbb\xbf" + b'{"model":"sim/m",' + M + b"}",
        b'{"model":"sim/m",' + M + b',"x":"\xff\xfe"}',
    ],
    ids=[
        "depth", "depth_in_member", "depth_of_objects", "depth_of_messages", "digits", "exponent", "nan", "nested_nan",
        "infinity", "minus_infinity", "surrogate_model", "surrogate_key", "surrogate_text", "model_twice",
        "model_spaced", "model_same", "model_escaped", "escaped_alone", "two_documents", "bom", "no_utf8",
    ],
)  # fmt: skip
def test_a_json_bomb_is_refused_with_a_reason(
    gateway: RunningGateway, simulator: RunningSimulator, body: bytes
) -> None:
    answer = quickly(gateway, request("POST", CHAT, body))
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert len(answer.error["message"]) < 300
    assert len(simulator.requests) == 1


WIDE_PATHS = [
    *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"),
    *("/v1/embeddings", "/v1/rerank", "/v1/moderations", "/v1/images/generations", "/v1/audio/speech"),
    *("/api/v1/chat/completions", "/api/v1/responses", "/openrouter/api/v1/chat/completions", "/v1/api/chat"),
    *("/v1beta/models/sim%2Fsim-model:generateContent", "/api/chat", "/api/generate", "/api/show", "/api/v1/keys"),
    *("/api/chat-sessions", "/api/translator/send", "/no/such/path"),
]


@pytest.mark.parametrize("path", WIDE_PATHS)
@pytest.mark.parametrize("named", [b"file_id", b"provider"])
def test_json_of_millions_of_objects_is_refused_before_it_costs_anything(
    gateway: RunningGateway, path: str, named: bytes
) -> None:
    wide = b",{}" * 3_000_000
    body = b'{"model":"sim/m",' + M + b',"%b":{},"z":[{"%b":"file-x"}%b]}' % (named, named, wide)
    forget_peak()
    before = memory_bytes("VmRSS")
    assert quickly(gateway, request("POST", path, body)).status == 413
    assert memory_bytes("VmHWM") - before < 10 * len(body)


def test_digits_that_nobody_reads_are_passed_and_cost_little(gateway: RunningGateway) -> None:
    body = b'{"model":"sim/m",' + M + b',"x_unknown":' + b"9" * 10_000_000 + b"}"
    assert quickly(gateway, request("POST", CHAT, body)).status in (200, 400)


def test_the_word_model_in_a_conversation_is_no_second_model(gateway: RunningGateway) -> None:
    text = 'say "model" and \\u006dodel: {"model": "x"}'
    schema = {"type": "object", "properties": {"model": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    answer = ask(gateway.port, chat(text=text, tools=tools, metadata={"model": "y"}))
    assert answer.text == f"echo: {text}"


def test_a_100_mb_string_is_refused_before_it_is_read(gateway: RunningGateway) -> None:
    for lines in (("expect: 100-continue",), ()):
        with Connection(gateway.port) as connection:
            connection.send(request("POST", CHAT, b"", "content-length: 104857600", *lines))
            assert connection.read_until(b"\r\n").startswith(b"HTTP/1.1 413 ")
    message = request("POST", CHAT, b"", "transfer-encoding: chunked")
    with Connection(gateway.port) as connection:
        connection.send(message)
        with suppress(OSError):  # it is refused before all of it is sent
            for _ in range(105):
                connection.send(b"100000\r\n" + bytes(MEBIBYTE) + b"\r\n")
            connection.send(b"0\r\n\r\n")
        assert connection.answer().status == 413


def test_a_multipart_body_is_refused_as_what_it_is_not(gateway: RunningGateway) -> None:
    part = b'--b\r\ncontent-disposition: form-data; name="file"; filename="../../x"\r\n\r\nx\r\n'
    message = request("POST", CHAT, part * 1000 + b"--b--\r\n", "content-type: multipart/form-data; boundary=b")
    assert quickly(gateway, message).status == 400


FORGERIES = [
    '\n\ndata: {"forged":1}\n\n',
    "\r\n\r\ndata: [DONE]\r\n\r\n",
    "\n\ndata:[DONE]\n\n and more",
    "\rdata: x\r",
    "\n\nevent: error\ndata: {}\n\n",
    "\u2028\u2028data: x\u2029",
    "\x00\x0b\x0c\x85",
    '"}}]}\n\n',
]


@pytest.mark.parametrize("text", FORGERIES)
def test_a_models_text_cannot_forge_events(gateway: RunningGateway, text: str) -> None:
    plain, forged = ask(gateway.port, chat(text="a", stream=True)), ask(gateway.port, chat(text=text, stream=True))
    lines = [line for line in re.split(rb"\r\n|\r|\n", forged.body) if line]
    assert not [line for line in lines if not re.fullmatch(rb'data: (\{"id":".*\}|\[DONE\])', line)]
    assert forged.text == f"echo: {text}"
    assert forged.events[-1] == "[DONE]"
    assert forged.events.count("[DONE]") == 1
    assert "forged" not in [name for event in forged.events if event != "[DONE]" for name in event]
    assert forged.headers["content-type"] == plain.headers["content-type"]
    record = gateway.journal.the(forged.request_id)  # a text that says it is the end ends nothing
    assert (record.finish_reason, record.usage_estimated) == ("stop", False)


@pytest.mark.parametrize("begun", [b"", b'data: {"choices":[{"index":0,"delta":{"content":"'], ids=["whole", "half"])
def test_an_upstreams_error_cannot_forge_events(tmp_path_factory: pytest.TempPathFactory, begun: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    event = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n' + begun
    with running_upstream() as upstream:
        upstream.script = lambda number, body: [
            head + b"%x\r\n%b\r\n" % (len(event), event),
            0.05,
            b"zz broken \n\ndata: y",
        ]
        row = {"id": "up", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        with running_gateway(tmp_path_factory.mktemp("forged"), {"connections": [row]}) as gateway:
            answer = ask(gateway.port, chat(model="up/m", stream=True))
    assert b"broken" not in answer.body
    assert [line[:9] for line in answer.body.splitlines() if line] == [b'data: {"c', b'data: {"e']
    assert [set(event) for event in answer.events] == [{"choices"}, {"error"}]


def test_an_upstreams_error_in_many_lines_is_one_event_of_a_stream_that_has_begun(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    body = b'{"error":\n\n{"message":"no",\r\n\r\n"type":"x"}\n\n}'
    told = threading.Event()

    def script(number: int, sent: bytes) -> Iterator[bytes | float]:
        while not told.is_set():
            yield 0.02
        yield b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        yield body

    with running_upstream() as upstream:
        upstream.script = script
        row = {"id": "up", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        settings = {"connections": [row], "server": {"stream_silence_seconds": 0.2}}
        with (
            running_gateway(tmp_path_factory.mktemp("lines"), settings) as gateway,
            Connection(gateway.port) as connection,
        ):
            connection.send(chat(model="up/m", stream=True))
            connection.peek(b": keep-alive\n\n")
            told.set()
            answer = connection.answer()
    lines = [line for line in answer.body.splitlines() if line and not line.startswith(b":")]
    assert [line[:15] for line in lines] == [b'data: {"error":']
    assert [event["error"]["message"] for event in answer.events] == ["no"]


def test_an_error_that_repeats_the_caller_is_still_one_event_and_one_json(gateway: RunningGateway) -> None:
    for text in FORGERIES:
        answer = ask(gateway.port, chat(model=f"none/{text}", stream=True))
        assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"
    wait_until(lambda: gateway.read(lambda: gateway.server.edge.active == 0), "end of all")
