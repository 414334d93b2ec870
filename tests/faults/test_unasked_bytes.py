"""Bytes behind a whole answer, in the same read: never part of it, and the connection is not used again."""

from pathlib import Path

import pytest

from gateway import running_gateway
from raw_client import ask, chat
from scripted_upstream import running_upstream

BODY = b'{"object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop"}]}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


@pytest.mark.parametrize("behind", [ANSWER.replace(b"stop", b"evil"), b"X", b"HTTP/1.1 500 Oops\r\n"])
def test_what_comes_behind_an_answer_is_thrown_away(tmp_path: Path, behind: bytes) -> None:
    with running_upstream() as upstream:
        upstream.keep = True
        upstream.script = lambda number, body: [ANSWER + behind]
        connection = {"id": "sim", "kind": "openai", "base_url": upstream.base_url}
        with running_gateway(tmp_path, {"connections": [connection]}) as gateway:
            for _ in range(2):
                answer = ask(gateway.port, chat())
                assert (answer.status, answer.body) == (200, BODY)
            assert upstream.connections == 2
