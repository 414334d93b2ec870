"""What goes through the gateway goes through byte for byte, and nothing else does."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import RunningSimulator, running_simulator
from pointsman.testing.behaviour import Behaviour
from pointsman.testing.reply import Event, EventKind, Reply, Request
from raw_client import CHAT, Connection, ask, chat, request
from scripted_upstream import running_upstream

Members = dict[str, msgspec.Raw]
ODD_BODY = (
    b'\n{ "zeta" : [1.0, 1e2, 1E+2, -0, 0.10, 12345678901234567890123, 1e400],\r\n\t"model":"sim\\/odd-model" ,'
    b'"stream":null, "messages":[ {"role":"user", "content":"caf\\u00e9 \\ud83d\\ude00 \xc3\xa9 \\/ \\" "} ],'
    b'"alpha":{"b":  1 ,"a" :{ } , "b2":[ ] }, "seed" : 7,"x_unknown":"\\u0000","temperature":1.0 }\n'
)


def members(body: bytes) -> list[tuple[str, bytes]]:
    """The members of an object in their order, each value byte for byte."""
    return [(name, bytes(value)) for name, value in msgspec.json.decode(body, type=Members).items()]


def test_every_member_but_the_model_reaches_the_upstream_byte_for_byte(
    gateway: RunningGateway, simulator: RunningSimulator
) -> None:
    ask(gateway.port, request("POST", CHAT, ODD_BODY))
    [received] = simulator.requests
    expected = [(name, b'"odd-model"' if name == "model" else value) for name, value in members(ODD_BODY)]
    assert members(received.body) == expected


_spaces = st.sampled_from(["", " ", "\t", "\n  ", "\r\n"])
_numbers = st.sampled_from(["0", "-0", "1.0", "1e2", "1E-2", "0.10", "99999999999999999999", "-1.50e+003"])
_texts = st.one_of(
    st.sampled_from([r'"\u00e9"', '"é"', r'"\/"', r'"\ud83d\ude00"', '"😀"', r'"\u007f\t"', '""', r'"\\\""']),
    st.text(max_size=8).map(json.dumps),
)
_values = st.recursive(
    st.one_of(_numbers, _texts, st.sampled_from(["true", "false", "null"])),
    lambda inner: st.one_of(
        st.tuples(_spaces, st.lists(inner, max_size=3)).map(lambda pair: f"[{pair[0]}{f',{pair[0]}'.join(pair[1])}]"),
        st.tuples(_spaces, st.lists(st.tuples(_texts, inner), max_size=3)).map(
            lambda pair: "{" + ",".join(f"{pair[0]}{name}{pair[0]}:{pair[0]}{value}" for name, value in pair[1]) + "}"
        ),
    ),
    max_leaves=6,
)
_names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=6).map(
    lambda n: f"x_{n}"
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(_names, _values, max_size=5), _spaces, st.randoms(use_true_random=False))
def test_any_spelling_of_any_member_survives(
    gateway: RunningGateway, simulator: RunningSimulator, extra: dict[str, str], space: str, shuffle: object
) -> None:
    known = {"model": '"sim/any"', "messages": '[{"role":"user","content":"hi"}]'}
    texts = [f"{space}{json.dumps(name)}{space}:{space}{value}" for name, value in {**known, **extra}.items()]
    shuffle.shuffle(texts)  # type: ignore[attr-defined]
    body = f"{space}{{{','.join(texts)}{space}}}{space}".encode()
    assert ask(gateway.port, request("POST", CHAT, body)).status == 200
    expected = [(name, b'"any"' if name == "model" else value) for name, value in members(body)]
    assert members(simulator.requests[-1].body) == expected


def test_no_header_of_the_client_reaches_the_upstream(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    own = (
        "x-api-key: sk-client-0123456789abcdef", "cookie: session=1", "x-forwarded-for: 10.1.2.3", "referer: http://a/",
        "openai-organization: org-client", "user-agent: client/1", "accept-encoding: gzip", "traceparent: 00-1-1-00",
        "x-simulate: fault=http_500", "origin: http://b", "te: trailers", "accept: */*", "via: 1.1 x",
        "forwarded: for=1",
    )  # fmt: skip
    assert ask(gateway.port, chat("", *own)).status == 200
    [received] = simulator.requests
    assert sorted(name for name, _ in received.headers) == [
        "accept-encoding", "authorization", "content-length", "content-type", "host", "user-agent",
    ]  # fmt: skip
    assert received.header("authorization") == f"Bearer {UPSTREAM_KEY}"
    assert received.header("host") == f"127.0.0.1:{simulator.port}"
    assert received.header("accept-encoding") == "identity"
    text = " ".join(value for _, value in received.headers)
    assert not any(word in text for word in (KEY, "client", "10.1.2.3", "session", "gzip"))


def test_a_query_of_the_client_stays_outside(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    assert ask(gateway.port, chat().replace(b"completions HTTP", b"completions?api_key=1 HTTP")).status == 200
    assert simulator.requests[-1].path == CHAT


BODY = b' {"choices" : [{"finish_reason":"stop","message":{"content":"\\u00e9 1e2"}}],\n"x":1.0 }\r\n'
EVENTS = (
    b": a comment\n\n",
    b'data: {"choices":[{"index":0,"delta":{"content":"\\u00e9"},"finish_reason":null}]}\n\n',
    b'event: x\nid: 7\ndata:{"choices":[{"delta":{"content":"b"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\r\n\r\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n',
    b"data: [DONE]\n\n",
)


class FixedApi:
    """An upstream that always says the same bytes."""

    def model_of(self, request: Request) -> str:
        """The directives, if there are any."""
        return str(msgspec.json.decode(request.body)["model"])

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        """The same every time, as a stream when one is asked for."""
        if b'"stream":true' in request.body.replace(b" ", b""):
            events = [Event(EventKind.DELTA, event) for event in EVENTS]
            return Reply(status=200, content_type="text/event-stream", headers=(), events=events)
        return Reply(status=200, content_type="application/json", headers=(("x-secret-of-upstream", "1"),), body=BODY)

    def refuse(self, fault: str, request: Request, behaviour: Behaviour) -> Reply:
        """An error without words, whatever the fault."""
        return Reply(status=500, content_type="application/json", headers=(), body=b"{}")

    def reject_directive(self, message: str) -> Reply:
        """An error without words."""
        return Reply(status=400, content_type="application/json", headers=(), body=b"{}")


@pytest.fixture(scope="module")
def fixed_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway in front of an upstream whose bytes are known."""
    with running_simulator(FixedApi()) as simulator:
        connection = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
        with running_gateway(tmp_path_factory.mktemp("fixed"), {"connections": [connection]}) as running:
            yield running


def test_a_buffered_answer_keeps_every_byte_and_brings_no_header_of_the_upstream(fixed_gateway: RunningGateway) -> None:
    answer = ask(fixed_gateway.port, chat())
    assert answer.body == BODY
    assert set(answer.headers) == {"content-type", "content-length", "date", "x-request-id"}


def test_a_stream_keeps_every_byte(fixed_gateway: RunningGateway) -> None:
    answer = ask(fixed_gateway.port, chat(stream=True, stream_options={"include_usage": True}))
    assert answer.body == b"".join(EVENTS)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert set(answer.headers) == {"content-type", "transfer-encoding", "date", "x-request-id", "cache-control"}
    record = fixed_gateway.journal.the(answer.request_id)
    assert (record.input_tokens, record.output_tokens, record.finish_reason) == (3, 4, "stop")


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def test_events_leave_as_they_come(tmp_path: Path) -> None:
    """From the first content on the upstream says each event only when the client has read the one before it."""
    comment, usage = EVENTS[0], EVENTS[-2]  # this waits for the content, and that nobody asked for
    told = [event for event in EVENTS if event not in (comment, usage)]
    seen = 0

    def answer(number: int, body: bytes) -> Iterator[bytes | float]:
        yield STREAM_HEAD
        for event in EVENTS:
            yield b"%x\r\n%b\r\n" % (len(event), event)
            while event in told and seen <= told.index(event):
                yield 0.005
        yield b"0\r\n\r\n"

    with running_upstream() as upstream:
        upstream.script = answer
        connection = {"id": "sim", "kind": "openai", "base_url": upstream.base_url}
        with (
            running_gateway(tmp_path, {"connections": [connection]}) as gateway,
            Connection(gateway.port) as client,
        ):
            client.send(chat(stream=True))
            client.peek(comment)
            for event in told:
                client.read_until(event)
                seen += 1
            assert client.read_until(b"0\r\n\r\n") == b"\r\n0\r\n\r\n"


def test_a_large_body_passes_both_ways(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    text = "word " * 400_000
    with Connection(gateway.port) as connection:
        answer = connection.ask(chat(text=text))
        assert answer.text == f"echo: {text}"
        assert connection.ask(chat()).text == "echo: one two three"


def test_the_record_counts_the_bytes_of_both_bodies(fixed_gateway: RunningGateway) -> None:
    message = chat(stream=True)
    answer = ask(fixed_gateway.port, message)
    record = fixed_gateway.journal.the(answer.request_id)
    assert record.bytes_in == len(message.partition(b"\r\n\r\n")[2])
    assert record.bytes_out == len(answer.body)
    assert 0 < record.duration_us < 5_000_000
