"""An upstream that dies at any byte: the client gets the complete answer or an explicit error, never less."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from gateway import RunningGateway, running_gateway
from raw_client import Answer, ask, ask_all, chat
from scripted_upstream import ScriptedUpstream, running_upstream

EVENTS = (
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"one "},"finish_reason":null}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"two"},"finish_reason":null}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n',
    b"data: [DONE]\n\n",
)
STREAM = b"".join(EVENTS)
BODY = (
    b'{"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"one two"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":4}}\n'
)
OK = b"HTTP/1.1 200 OK\r\n"
SSE, JSON = b"content-type: text/event-stream\r\n", b"content-type: application/json\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
LENGTH = b"content-length: %d\r\n\r\n"
CHUNKS = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in EVENTS) + b"0\r\n\r\n"
# What the upstream says, all of it, by the way it frames that.
ANSWERS = {
    "stream-chunked": OK + SSE + CHUNKED + CHUNKS,
    "stream-until-close": OK + SSE + b"connection: close\r\n\r\n" + STREAM,
    "stream-with-length": OK + SSE + LENGTH % len(STREAM) + STREAM,
    "stream-http-1.0": b"HTTP/1.0 200 OK\r\n" + SSE + b"\r\n" + STREAM,
    "stream-after-interim": b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + OK + SSE + CHUNKED + CHUNKS,
    "buffered-chunked": OK + JSON + CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    "buffered-with-length": OK + JSON + LENGTH % len(BODY) + BODY,
    "buffered-until-close": OK + JSON + b"connection: close\r\n\r\n" + BODY,
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream whose answer is set by each test."""
    with running_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway in front of it."""
    connection = {"id": "sim", "kind": "openai", "base_url": upstream.base_url, "models": ["m"]}
    with running_gateway(tmp_path_factory.mktemp("cuts"), {"connections": [connection]}) as running:
        yield running


def is_complete(answer: Answer, stream: bool) -> bool:
    """True for a whole answer, False for an explicit error; AssertionError for anything between."""
    assert answer.complete
    if answer.status != 200:
        assert answer.status == 502
        assert answer.error["code"] == "upstream_error"
        return False
    if not stream:
        assert answer.body.strip() == BODY.strip()
        return True
    if b"[DONE]" in answer.body:
        assert answer.text == "one two"
        assert b'"finish_reason":"stop"' in answer.body
        assert answer.events[-1] == "[DONE]"
        return True
    *before, last = answer.events
    assert set(last) == {"error"}
    assert [b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n" for event in before] == list(
        EVENTS[: len(before)]
    )
    return False


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("framing", ANSWERS)
def test_a_cut_at_any_byte_is_never_taken_for_the_end(
    gateway: RunningGateway, upstream: ScriptedUpstream, framing: str, reset: bool
) -> None:
    whole = ANSWERS[framing]
    stream = framing.startswith("stream")
    offsets = range(0, len(whole), 3 if reset else 1)
    upstream.reset = reset
    upstream.script = lambda number, body: [whole[: offsets[json.loads(body)["seed"]]]]
    before = len(gateway.journal.records())
    messages = [
        chat("", "connection: close", model="sim/m", stream=stream, seed=position) for position in range(len(offsets))
    ]
    answers = asyncio.run(ask_all(gateway.port, messages, 16))
    complete = [is_complete(answer, stream) for answer in answers]
    assert complete[0] is False
    if "close" in framing or "1.0" in framing:
        assert reset or complete[-1]  # only the end itself says where the end is
    else:
        assert complete == sorted(complete), "an answer that was cut later said less"
    assert len(gateway.journal.records()) == before + len(offsets)
    for answer, whole_answer in zip(answers, complete, strict=True):
        record = gateway.journal.the(answer.request_id)
        assert (record.status, record.outcome.value) == (answer.status, "success" if whole_answer else "error")
        if whole_answer and not stream:
            assert (record.input_tokens, record.output_tokens) == (3, 4)


@pytest.mark.parametrize("framing", ANSWERS)
def test_an_answer_in_pieces_of_one_byte_is_whole(
    gateway: RunningGateway, upstream: ScriptedUpstream, framing: str
) -> None:
    whole = ANSWERS[framing]
    upstream.reset = False
    # Now and then it waits, so that what came before is read alone however busy the machine is.
    pieces = [part for at in range(len(whole)) for part in (whole[at : at + 1], 0.005 if at % 40 == 0 else 0.0)]
    upstream.script = lambda number, body: pieces
    streamed = {"stream": True, "stream_options": {"include_usage": True}} if framing.startswith("stream") else {}
    answer = ask(gateway.port, chat(model="sim/m", **streamed))
    assert answer.body == (STREAM if framing.startswith("stream") else BODY)
    record = gateway.journal.the(answer.request_id)
    assert (record.input_tokens, record.output_tokens, record.usage_estimated) == (3, 4, False)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}", 502),
        (b"garbage\r\n\r\n", 502),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 502),
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 502),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\n" + JSON + b"content-length: 2\r\n\r\n{}", 502),
        (b"HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\n<p/>", 404),
        (b"HTTP/1.1 599 Odd\r\ncontent-length: 0\r\n\r\n", 502),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_odd_answer_is_an_error_in_our_own_words(
    gateway: RunningGateway, upstream: ScriptedUpstream, head: bytes, status: int, stream: bool
) -> None:
    upstream.reset = False
    upstream.script = lambda number, body: [head]
    answer = ask(gateway.port, chat(model="sim/m", stream=stream))
    assert answer.status == status
    assert answer.error["message"]
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_in_an_upstreams_words_never_reaches_the_client(
    upstream: ScriptedUpstream, keyed_gateway: RunningGateway, stream: bool
) -> None:
    error = b'{"error":{"message":"the key %b has no credit","type":"x","param":null,"code":null}}' % SECRET.encode()
    upstream.reset = False
    for status in (400, 404, 422, 429, 500):
        head = b"HTTP/1.1 %d Sorry\r\n%bcontent-length: %d\r\n\r\n" % (status, JSON, len(error))
        upstream.script = lambda number, body, head=head: [head + error]  # type: ignore[misc]
        answer = ask(keyed_gateway.port, chat(model="sim/m", stream=stream))
        assert answer.error["message"]
        assert SECRET.encode() not in answer.raw
    event = b"data: %b\n\n" % error
    for parts in (
        [event],
        [EVENTS[0] + event],
        [EVENTS[0], 0.02, event],
        [EVENTS[0], 0.02, event[:40], 0.02, event[40:]],
    ):
        upstream.script = lambda number, body, parts=parts: [OK + SSE + b"connection: close\r\n\r\n", *parts]  # type: ignore[misc]
        answer = ask(keyed_gateway.port, chat(model="sim/m", stream=stream))
        assert SECRET.encode() not in answer.raw
        assert b'"error"' in answer.body
        assert b"[DONE]" not in answer.body
    assert SECRET not in keyed_gateway.log_text()


SECRET = "sk-upstream-in-full-0123456789-QwErTy"


@pytest.fixture(scope="module")
def keyed_gateway(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that has a credential for the upstream."""
    connection = {
        "id": "sim", "kind": "openai", "base_url": upstream.base_url, "models": ["m"], "api_key": SECRET,
    }  # fmt: skip
    with running_gateway(tmp_path_factory.mktemp("keyed"), {"connections": [connection]}) as running:
        yield running
