"""The Responses API through a whole gateway, judged by the official SDK: kept, gone on from, in the background."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from websockets.asyncio.client import connect

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.errors import GatewayError, Kind
from pointsman.policy.stored_responses import EVENT_BATCHES, Owner
from pointsman.server.inner_exchange import MAX_WAITING_BYTES, QuietExchange
from pointsman.server.response_routes import BackgroundRun
from pointsman.testing import OpenAIResponses, RunningSimulator, running_simulator
from raw_client import request

MODELS = ("chat/m", "native/m")


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    with running_simulator(OpenAIResponses(api_key=UPSTREAM_KEY)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """Two connections to one upstream: by the chat API (translated), and by the Responses API (carried)."""
    place = {"base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
    connections = [{"id": "chat", "kind": "openai", **place}, {"id": "native", "kind": "openai-responses", **place}]
    with running_gateway(tmp_path_factory.mktemp("gateway"), {"connections": connections}) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.address}/v1", api_key=KEY, max_retries=0, timeout=20) as sdk:
        yield sdk


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_a_response_is_gone_on_from_read_listed_and_deleted(
    client: openai.OpenAI, simulator: RunningSimulator, model: str, stream: bool
) -> None:
    def ask(text: str, **options: Any) -> Any:
        if not stream:
            return client.responses.create(model=model, input=text, **options)
        *_, last = client.responses.create(model=model, input=text, stream=True, **options)
        assert last.type == "response.completed"
        return last.response

    first = ask("one")
    second = ask("two", previous_response_id=first.id, instructions="be kind")
    assert second.output_text == "echo: two"
    assert b"echo: one" in simulator.requests[-1].body
    again = client.responses.retrieve(second.id)
    assert again.output == second.output
    assert [item.content[0].text for item in client.responses.input_items.list(second.id)] == ["two"]  # type: ignore[union-attr]
    client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(second.id)


@pytest.mark.parametrize("model", MODELS)
def test_what_is_not_to_be_stored_is_not_there(client: openai.OpenAI, model: str) -> None:
    answer = client.responses.create(model=model, input="x", store=False)
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.responses.retrieve(answer.id)
    with pytest.raises(openai.BadRequestError, match="not found"):
        client.responses.create(model="chat/m", input="y", previous_response_id=answer.id)


@pytest.mark.parametrize("options", [{}, {"include": ["reasoning.encrypted_content"]}])
@pytest.mark.parametrize("model", MODELS)
def test_a_tool_turn_with_reasoning_is_gone_on_from(client: openai.OpenAI, model: str, options: Any) -> None:
    tool: Any = {"type": "function", "name": "clock", "parameters": {"type": "object", "properties": {}}}
    asked: Any = {"model": model, "tools": [tool], "reasoning": {"effort": "low", "summary": "auto"}, **options}
    first = client.responses.create(input="call the tool", **asked)
    call = first.output[-1]
    assert call.type == "function_call"
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "12:00"}]
    second = client.responses.create(input=result, previous_response_id=first.id, **asked)
    assert second.output_text == "echo: call the tool"
    assert second.previous_response_id in (first.id, None)


def test_an_operator_may_keep_nothing(simulator: RunningSimulator, tmp_path: Path) -> None:
    connection = {"id": "chat", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
    settings = {"connections": [connection], "responses": {"keep": False}}
    with (
        running_gateway(tmp_path, settings) as running,
        openai.OpenAI(base_url=f"{running.address}/v1", api_key=KEY, max_retries=0, timeout=20) as sdk,
    ):
        answer = sdk.responses.create(model="chat/m", input="x")
        with pytest.raises(openai.NotFoundError):
            sdk.responses.retrieve(answer.id)


def test_errors_are_told_and_nothing_is_kept(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model="chat/m#fault=rate_limit", input="x")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").responses.retrieve("resp_1")
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_1")


@pytest.mark.parametrize("model", MODELS)
def test_a_background_response_is_made_while_nobody_waits(client: openai.OpenAI, model: str) -> None:
    queued = client.responses.create(model=model, input="hello", background=True)
    assert queued.status == "queued"

    def done() -> Any:
        found = client.responses.retrieve(queued.id)
        return found if found.status == "completed" else None

    whole = wait_until(done, "finished response")
    assert (whole.id, whole.output_text) == (queued.id, "echo: hello")
    events = list(client.responses.retrieve(queued.id, stream=True, starting_after=1))
    assert events[0].sequence_number == 2
    assert events[-1].type == "response.completed"
    assert events[-1].response.id == queued.id


def test_a_background_response_is_streamed_and_cancelled(client: openai.OpenAI, simulator: RunningSimulator) -> None:
    *_, last = client.responses.create(model="chat/m", input="hello", background=True, stream=True)
    assert last.type == "response.completed"
    slow = client.responses.create(model="chat/m#tokens=100000,pace_ms=50", input="x", background=True)
    wait_until(lambda: client.responses.retrieve(slow.id).status == "in_progress", "begun response")
    assert client.responses.cancel(slow.id).status == "cancelled"
    simulator.wait_for_disconnect()
    assert client.responses.retrieve(slow.id).status == "cancelled"


@pytest.mark.parametrize("model", MODELS)
def test_a_websocket_answers_as_the_stream_does(gateway: RunningGateway, model: str) -> None:
    async def story() -> None:
        address = gateway.address.replace("http://", "ws://")
        headers = {"authorization": f"Bearer {KEY}"}
        async with asyncio.timeout(10), connect(f"{address}/v1/responses", additional_headers=headers) as socket:

            async def ask(**members: Any) -> Any:
                await socket.send(json.dumps({"type": "response.create", "model": model, **members}))
                while True:
                    event = json.loads(await socket.recv())
                    if event["type"] in ("response.completed", "error"):
                        return event

            warm = await ask(input="first", generate=False, store=False)
            answer = await ask(input=[], previous_response_id=warm["response"]["id"], store=False)
            assert answer["response"]["output"][-1]["content"][0]["text"] == "echo: first"
            wrong = await ask(input="x", model="nobody/knows")
            assert wrong["error"]["code"] == "model_not_found"
            assert (await ask(input="still here"))["type"] == "response.completed"

    asyncio.run(story())


def test_nothing_of_a_kept_response_is_readable_in_the_data_directory(
    gateway: RunningGateway, client: openai.OpenAI
) -> None:
    client.responses.create(model="chat/m", input="an unmistakable secret")
    for path in Path(gateway.data_dir).rglob("*"):
        if path.is_file():
            assert b"unmistakable" not in path.read_bytes()


OWNER = Owner("default")
QUEUED: dict[str, Any] = {"object": "response", "status": "queued", "output": [], "background": True}
REQUEST = b'{"model":"chat/m","input":"hello","background":true}'


def test_the_kept_events_of_a_slow_reader_are_read_at_its_pace_and_all_come(gateway: RunningGateway) -> None:
    kept, identity = gateway.installation.responses, "resp_slow_reader"
    event = b"event: odd\ndata: " + b"x" * 250_000 + b"\n\n"

    async def store() -> None:
        await kept.begin(OWNER, REQUEST, {**QUEUED, "id": identity})
        for number in range(80):
            assert await kept.progress(OWNER, identity, [event], number)
        assert await kept.finish(OWNER, {**QUEUED, "id": identity, "status": "completed"})

    gateway.call(store())
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.settimeout(10)
        reader.connect(("127.0.0.1", gateway.port))
        reader.sendall(request("GET", f"/v1/responses/{identity}?stream=true"))

        def waiting() -> list[int]:
            connections = gateway.server.edge.connections
            return [one._transport.get_write_buffer_size() for one in connections if one._paused]

        found = wait_until(lambda: gateway.read(waiting), "a reader that is waited for")
        assert all(size < (EVENT_BATCHES + 1) * len(event) for size in found)
        answer = bytearray()
        while not answer.endswith(b"\r\n0\r\n\r\n"):
            data = reader.recv(1 << 20)
            assert data
            answer += data
            assert all(size < (EVENT_BATCHES + 1) * len(event) for size in gateway.read(waiting))
        assert answer.count(b"event: odd") == 80


def test_a_fast_answer_in_the_background_waits_for_its_events_to_be_kept(gateway: RunningGateway) -> None:
    kept, identity = gateway.installation.responses, "resp_fast_answer"
    event = b"event: odd\ndata: " + b"x" * 100_000 + b"\n\n"
    run = BackgroundRun(kept, OWNER, {**QUEUED, "id": identity})
    most = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal most
        for _ in range(100):
            yield event
            most = max(most, sum(map(len, run._frames)))

    async def story() -> int:
        await kept.begin(OWNER, REQUEST, {**QUEUED, "id": identity})
        await run.follow(parts())
        count, more = 0, True
        while more:
            frames, more = await kept.events(OWNER, identity, count - 1)
            count += len(frames)
        return count

    assert gateway.call(story()) == 100
    assert most <= MAX_WAITING_BYTES + len(event)


def test_a_fast_answer_in_the_background_stops_when_it_is_deleted(gateway: RunningGateway) -> None:
    kept, identity = gateway.installation.responses, "resp_fast_and_gone"
    event = b"event: odd\ndata: " + b"x" * 100_000 + b"\n\n"
    given = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal given
        for given in range(100):
            if given == 10:
                await kept.delete(OWNER, identity)
            yield event

    async def story() -> None:
        await kept.begin(OWNER, REQUEST, {**QUEUED, "id": identity})
        await BackgroundRun(kept, OWNER, {**QUEUED, "id": identity}).follow(parts())

    gateway.call(story())
    assert 10 <= given <= 14


def test_what_is_stopped_before_its_first_step_is_never_begun() -> None:
    like: Any = SimpleNamespace(contract=None, headers={}, started=0.0, started_at=0)
    quiet = QuietExchange(like, REQUEST, "req_1", b"/v1/responses")
    begun = False

    async def flow() -> None:
        nonlocal begun
        begun = True

    async def story() -> list[bytes]:
        return [part async for part in quiet.parts(flow())]

    quiet.stop()
    with pytest.raises(GatewayError) as told:
        asyncio.run(story())
    assert (told.value.kind, begun) == (Kind.NOT_READY, False)
