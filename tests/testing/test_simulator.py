"""The simulator as a server: HTTP/1.1 on raw sockets, pace, records, the three ways to run it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

import pytest
from raw_http import END, ERROR_END, Wire, chunks, read_to_end, read_until, split_head

from pointsman.testing import Behaviour, DirectiveError, OpenAIChat, Outcome, Simulator, running_simulator, serve


def test_a_connection_is_kept_for_the_next_request(wire: Wire) -> None:
    with wire.connect() as client:
        for streamed, mark in ((False, END), (True, b"\r\n0\r\n\r\n"), (False, END)):
            client.sendall(wire.request(stream=streamed))
            status, headers, _ = split_head(read_until(client, mark))
            assert (status, headers["connection"]) == (200, "keep-alive")


def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    received = b""
    with wire.connect() as client:
        client.sendall(b"".join(wire.request(model=f"model-{number}", text="x") for number in range(500)))
        while received.count(b"fp_simulated0") < 500:
            received += client.recv(1 << 20)
    positions = [received.index(b'"model-%d"' % number) for number in range(500)]
    assert positions == sorted(positions)


def test_a_chunked_request_body_is_recorded_byte_for_byte(wire: Wire) -> None:
    body = b'{ "model":"m",\n"messages":[{"role":"user","content":"caf\\u00e9"}]  }'
    head = wire.head(0).replace(b"content-length: 0", b"transfer-encoding: chunked")
    with wire.connect() as client:
        client.sendall(head + b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (5, body[:5], len(body) - 5, body[5:]))
        assert split_head(read_until(client, END))[0] == 200
    received = wire.simulator.wait_for(Outcome.COMPLETED)
    assert received.body == body
    assert (received.method, received.path) == ("POST", "/v1/chat/completions")
    assert received.header("transfer-encoding") == "chunked"


def test_a_client_that_waits_for_100_continue_gets_it(wire: Wire) -> None:
    request = wire.request().replace(b"host: simulator", b"host: simulator\r\nexpect: 100-continue")
    head, _, body = request.partition(b"\r\n\r\n")
    with wire.connect() as client:
        client.sendall(head + b"\r\n\r\n")
        assert read_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert split_head(read_until(client, END))[0] == 200


def test_a_stream_on_http_1_0_ends_with_the_connection(wire: Wire) -> None:
    _, headers, body = split_head(read_to_end(wire.ask(stream=True, version="1.0")))
    assert "transfer-encoding" not in headers
    assert headers["connection"] == "close"
    assert body.endswith(b"data: [DONE]\n\n")


def test_one_event_is_one_http_chunk(wire: Wire) -> None:
    with wire.ask("tokens=20", stream=True) as client:
        *events, last = chunks(split_head(read_until(client, b"\r\n0\r\n\r\n"))[2])
    assert last == b""
    assert len(events) == 23
    assert all(event.startswith(b"data: ") and event.count(b"\n\n") == 1 for event in events)


def test_what_is_not_http_gets_400_and_a_close(wire: Wire) -> None:
    client = wire.connect()
    client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    assert split_head(read_to_end(client))[0] == 400


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        (b"GET /v1/nothing HTTP/1.1", 404, None),
        (b"GET /v1/chat/completions HTTP/1.1", 405, "method_not_supported"),
        (b"POST /v1/models HTTP/1.1", 405, "method_not_supported"),
    ],
)
def test_a_wrong_path_or_method_is_openais_error(wire: Wire, line: bytes, status: int, code: str | None) -> None:
    with wire.connect() as client:
        client.sendall(wire.head(0).replace(b"POST /v1/chat/completions HTTP/1.1", line))
        got, _, body = split_head(read_until(client, ERROR_END))
    assert got == status
    assert json.loads(body)["error"]["code"] == code


def test_no_key_is_refused(wire: Wire) -> None:
    with wire.connect() as client:
        client.sendall(wire.request().replace(b"authorization", b"x-authorization"))
        assert split_head(read_until(client, ERROR_END))[0] == 401


@pytest.mark.parametrize("directive", ["fault=nonsense", "speed=9", "tokens=many", "pace_ms=-1", "pace_ms=nan", "on"])
def test_a_wrong_directive_is_refused_and_named(wire: Wire, directive: str) -> None:
    with wire.ask(directive) as client:
        status, _, body = split_head(read_until(client, ERROR_END))
    assert status == 400
    error = json.loads(body)["error"]
    assert error["code"] == "simulator_directive"
    assert directive in error["message"] or directive.partition("=")[2] in error["message"]


def test_the_header_outranks_the_model_and_the_model_the_construction(wire: Wire) -> None:
    with wire.ask("tokens=2", model="m#tokens=5,prompt_tokens=77") as client:
        body = split_head(read_until(client, END))[2]
    assert b'"completion_tokens": 2' in body
    assert b'"prompt_tokens": 77' in body
    assert b'"m#tokens=5,prompt_tokens=77"' in body


def test_pace_and_first_token_follow_the_schedule(wire: Wire) -> None:
    begun = time.monotonic()
    with wire.ask("tokens=20;pace_ms=10;first_token_ms=60", stream=True) as client:
        head = read_until(client, b"\r\n\r\n")
        assert b"data:" not in head
        read_until(client, b'"assistant"')
        assert time.monotonic() - begun >= 0.059
        read_until(client, b"[DONE]")
    took = time.monotonic() - begun
    assert 0.26 <= took < 2  # 60 ms, then 21 steps of 10 ms


def test_a_client_that_leaves_is_noticed_at_once_and_timed(wire: Wire) -> None:
    client = wire.ask("tokens=1000;pace_ms=5", stream=True)
    read_until(client, b"echo:")
    left = time.monotonic()
    client.close()
    received = wire.simulator.wait_for_disconnect()
    assert received.ended_at is not None
    assert left <= received.ended_at < left + 2
    assert 0 < received.sent_bytes < 300_000


def test_a_client_that_does_not_read_holds_the_sender_back(wire: Wire) -> None:
    with wire.connect(receive_buffer=8192) as client:
        client.sendall(wire.request("tokens=80000", stream=True))
        (received,) = wire.simulator.wait_for_requests(1)
        client.recv(100)
        sent, before = received.sent_bytes, -1
        while sent != before:  # until it stands still
            before = sent
            time.sleep(0.05)
            sent = received.sent_bytes
        assert received.outcome is None
        assert sent < 10_000_000  # of 20 million: what the kernel's buffers and one batch hold
        assert read_until(client, b"\r\n0\r\n\r\n").count(b"data: ") == 80_003
    assert wire.simulator.wait_for(Outcome.COMPLETED) is received


def test_only_the_last_requests_are_remembered() -> None:
    with running_simulator(history=2) as simulator:
        wire = Wire(simulator)
        for number in range(4):
            read_to_end(wire.ask(model=f"m{number}", version="1.0"))
        assert [received.model for received in simulator.wait_for_requests(4)] == ["m2", "m3"]


def test_waiting_in_vain_says_what_came_instead(wire: Wire) -> None:
    read_to_end(wire.ask("fault=close"))
    with pytest.raises(AssertionError, match=r"no 2 requests within 0\.01 s; received: .*fault=close"):
        wire.simulator.wait_for_requests(2, timeout_s=0.01)


def test_an_unknown_fault_is_refused_at_construction() -> None:
    with pytest.raises(DirectiveError, match="nonsense"):
        Simulator(behaviour=Behaviour(fault="nonsense"))


async def ask(port: int, request: bytes, mark: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await reader.readuntil(mark)
    finally:
        writer.close()
        await writer.wait_closed()


async def _inside_a_loop() -> None:
    async with Simulator(OpenAIChat(strict=False), Behaviour(tokens=4)) as simulator:
        wire = Wire(simulator)  # type: ignore[arg-type]
        answer = await ask(simulator.port, wire.request(made_up=1), b"fp_simulated0")
        assert b"echo: one two three" in answer
        assert (await simulator.wait_for_requests(1))[0].outcome is Outcome.COMPLETED
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(wire.request("fault=silence"))
        await simulator.wait_for_requests(2)
        writer.close()
        await writer.wait_closed()
        assert (await simulator.wait_for_disconnect()).fault == "silence"
        assert not await reader.read()
        with pytest.raises(AssertionError, match="no 9 requests"):
            await simulator.wait_for_requests(9, timeout_s=0.01)


def test_a_simulator_lives_in_the_running_loop() -> None:
    asyncio.run(_inside_a_loop())


async def _reset_in_a_loop() -> None:
    async with Simulator() as simulator:
        wire = Wire(simulator)  # type: ignore[arg-type]
        for fault in ("reset", "reset_mid_stream;after_events=2"):
            reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
            writer.write(wire.request(f"fault={fault}", stream=True))
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()


def test_a_reset_is_a_rst_on_asyncios_own_loop_too() -> None:
    asyncio.run(_reset_in_a_loop())


async def _stopped_in_mid_stream() -> None:
    async with Simulator() as simulator:
        wire = Wire(simulator)  # type: ignore[arg-type]
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(wire.request("tokens=1000;pace_ms=10", stream=True))
        await reader.readuntil(b"echo:")
    assert simulator.requests[0].outcome is Outcome.STOPPED
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.close()


def test_stopping_ends_every_stream_and_frees_the_port() -> None:
    asyncio.run(_stopped_in_mid_stream())


async def _served_until_cancelled() -> None:
    bound: asyncio.Future[Simulator] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve("127.0.0.1", 0, on_bound=bound.set_result))
    simulator = await asyncio.wait_for(bound, 5)
    assert simulator.base_url == f"http://127.0.0.1:{simulator.port}/v1"
    assert b"200 OK" in await ask(simulator.port, b"GET /v1/models HTTP/1.1\r\nhost: s\r\n\r\n", b"sim-model")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", simulator.port)


def test_serve_reports_its_address_and_runs_until_cancelled() -> None:
    asyncio.run(_served_until_cancelled())


async def _timed(count: int, work: Callable[[], Awaitable[bytes]]) -> tuple[float, list[bytes]]:
    begun = time.monotonic()
    answers = await asyncio.gather(*(work() for _ in range(count)))
    return time.monotonic() - begun, answers


def test_two_hundred_streams_at_5_ms_keep_their_pace() -> None:
    with running_simulator() as simulator:
        request = Wire(simulator).request("tokens=100;pace_ms=5", stream=True)
        took, answers = asyncio.run(_timed(200, lambda: ask(simulator.port, request, b"0\r\n\r\n")))
    assert all(answer.count(b"data: ") == 103 for answer in answers)
    assert took < 4  # 0.5 s when the machine is idle
