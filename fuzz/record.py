"""Writes the seed corpora: exchanges with the simulated upstream as they were on the wire. ``python -m fuzz.record``"""

import json
import socket
from pathlib import Path

from pointsman.testing import OpenAIChat, running_simulator

CORPUS = Path(__file__).resolve().parent / "corpus"
TIMEOUT_SECONDS = 5.0
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
# Name -> (members of the request, directives for the simulator).
EXCHANGES: dict[str, tuple[dict[str, object], str]] = {
    "buffered": ({}, "tokens=3"),
    "streamed": ({"stream": True}, "tokens=3"),
    "streamed-usage": ({"stream": True, "stream_options": {"include_usage": True}}, "tokens=2"),
    "two-choices": ({"stream": True, "n": 2}, "tokens=2"),
    "tools": ({"tools": [TOOL], "tool_choice": "required"}, "tokens=2"),
    "http-500": ({}, "fault=http_500"),
    "error-event": ({"stream": True}, "tokens=3;fault=error_event;after_events=2"),
    "malformed-json": ({"stream": True}, "tokens=3;fault=malformed_json;after_events=1"),
    "no-done": ({"stream": True}, "tokens=2;fault=missing_done"),
    "no-end": ({"stream": True}, "tokens=2;fault=missing_terminator"),
    "malformed-chunk": ({"stream": True}, "tokens=3;fault=malformed_chunk;after_events=1"),
    "html": ({}, "fault=html"),
    "usage-wrong": ({"stream": True, "stream_options": {"include_usage": True}}, "tokens=1;fault=wrong_usage"),
    "cut": ({"stream": True}, "tokens=3;fault=cut_at_byte;at_byte=700"),
}
# What no client of ours sends, but others do.
REQUESTS = {
    "pipelined": b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
    "chunked": b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\na\r\n0\r\nT: x\r\n\r\n",
    "continue": b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    "absolute": b"GET http://a/v1/models?x=1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "old": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "upgrade": b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "wish": b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}GET /",
    "both-lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "two-lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "folded": b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
    "options": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
}
ANSWERS = {
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\ndata: [DONE]\n\n",
    "empty": b"HTTP/1.1 204 No Content\r\n\r\n",
    "twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nabc",
    "repeated": b"HTTP/1.1 200 OK\r\nX: 1\r\nX: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nT: 1\r\n\r\n",
}
STREAMS = {
    "crlf": b'data: {"model":"m","choices":[{"index":0,"finish_reason":"stop"}]}\r\n\r\ndata: [DONE]\r\n\r\n',
    "comments": b': hello\n\nevent: x\ndata: {"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\ndata:[DONE]\n\n',
}


def exchange(address: tuple[str, int], body: bytes, directives: str) -> tuple[bytes, bytes]:
    """Request and answer as bytes."""
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk-x\r\n"
        b"Content-Type: application/json\r\nx-simulate: %b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
    ) % (directives.encode(), len(body), body)
    with socket.create_connection(address, TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
    return request, answer


def save(target: str, name: str, data: bytes, options: bytes = b"\x00\x03") -> None:
    """A seed: the options, how it is cut, and the bytes."""
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(options + data)


def main() -> None:
    """Write all seeds anew."""
    with running_simulator(OpenAIChat(strict=False)) as simulator:
        port = int(simulator.base_url.rsplit(":", 1)[1].partition("/")[0])
        for name, (members, directives) in EXCHANGES.items():
            call = {"model": "m", "messages": [{"role": "user", "content": "Hi \u00e9"}], **members}
            body = json.dumps(call, separators=(",", ":")).encode()
            request, answer = exchange(("127.0.0.1", port), body, directives)
            streamed = b"text/event-stream" in answer
            save("edge", name, request)
            save("chat_request", name, body, b"")
            save("upstream", name, answer, bytes([streamed, 3]))
            if streamed:
                save("event_stream", name, b"".join(line + b"\n\n" for line in _data_lines(answer)))
    for target, seeds in (("edge", REQUESTS), ("upstream", ANSWERS), ("event_stream", STREAMS)):
        for name, data in seeds.items():
            save(target, name, data)


def _data_lines(answer: bytes) -> list[bytes]:
    return [line for line in answer.splitlines() if line.startswith(b"data:")]


if __name__ == "__main__":
    main()
