"""The Responses API over a WebSocket, as the Codex client speaks it: requests as text frames, events as text frames.

Source: the types of OpenAI's Python SDK 3.54 (responses_client_event, responses_server_event) and what Codex 0.169
sends, as of 2026-11. ``generate: false`` prepares a conversation without an answer; the next request goes on from it.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol

import msgspec

from pointsman.canonical.events import ChoiceEnded, Ended, Started, UsageReported
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.identity import Identity
from pointsman.canonical.response import FinishReason
from pointsman.canonical.usage import NO_USAGE
from pointsman.clock import Clock
from pointsman.dialects import openai_responses
from pointsman.dialects.openai_responses.stored import Turn, expand, input_items
from pointsman.errors import GatewayError, Kind
from pointsman.framing.sse import SseSplitter
from pointsman.server.exchange import DONE, Exchange
from pointsman.server.routes import Handler
from pointsman.server.websockets import SocketClosedError, WebSocket
from pointsman.wire.json_width import refuse_wide

MAX_REMEMBERED_BYTES: Final = 16 * 1024 * 1024
_ENDS: Final = frozenset(("response.completed", "response.incomplete"))
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


class ResponseFlow(Protocol):
    """What answers the requests of one socket; it knows whose they are."""

    def stream(self, body: bytes) -> AsyncIterator[bytes]:
        """The server-sent events of ``POST /v1/responses`` with ``stream: true``, in any pieces.

        Raises GatewayError as long as nothing was given out. Closing the iterator cancels the call.
        """
        ...


def response_socket(open_flow: Callable[[Exchange], ResponseFlow], clock: Clock) -> Handler:
    """The handler of ``GET /v1/responses`` with an upgrade. ``open_flow`` checks who asks; it raises GatewayError."""

    async def serve(exchange: Exchange) -> None:
        flow = open_flow(exchange)
        socket = exchange.websocket
        if socket is None:
            raise GatewayError(Kind.UNSUPPORTED, "this is for WebSockets: send Upgrade: websocket", status=426)
        socket.accept()
        await ResponseSocket(socket, flow, clock).run()
        exchange.state = DONE

    return serve


class ResponseSocket:
    """One client's conversation. It remembers the last response, so that the next request can go on from it although
    nothing was stored.
    """

    def __init__(self, socket: WebSocket, flow: ResponseFlow, clock: Clock) -> None:
        self._socket = socket
        self._flow = flow
        self._clock = clock
        self._turns: list[Turn] = []

    async def run(self) -> None:
        """Serve requests one after the other until the client closes."""
        while (message := await self._socket.receive()) is not None:
            self._socket.busy = True
            stream_id: Any = None
            try:
                event = _event(message)
                stream_id = event.pop("stream_id", None)
                await self._serve(event, stream_id)
            except GatewayError as error:
                await self._refuse(error, stream_id)
            except SocketClosedError:
                return
            self._socket.busy = False

    async def _serve(self, event: dict[str, Any], stream_id: Any) -> None:
        kind = event.pop("type", None)
        if kind != "response.create":
            message = f"there is no event {str(kind)[:80]!r} here: send response.create"
            raise GatewayError(Kind.INVALID_REQUEST, message, param="type")
        options = event.get("prompt_cache_options")
        prewarm = options.pop("prewarm", None) if isinstance(options, dict) else None
        generate = event.pop("generate", None) is not False and prewarm is not True
        body = _encode({**event, "stream": True})
        before = self._before(event.get("previous_response_id"))
        whole = expand(body, before) if before else body
        if generate:
            last = await self._generate(whole, stream_id)
        else:
            last = await self._prewarm(whole, stream_id)
        self._remember(event, before, last)

    def _before(self, previous: Any) -> list[Turn]:
        """The turns that a request goes on from, if they are this socket's; else the flow knows, or refuses."""
        return self._turns if self._turns and previous == self._turns[-1].id else []

    async def _generate(self, body: bytes, stream_id: Any) -> dict[str, Any] | None:
        """Pass on every event; gives the response that the last one holds."""
        splitter, last = SseSplitter(), None
        events = self._flow.stream(body)
        try:
            async for data in events:
                for event in splitter.feed(data):
                    last = _response_of(event.data) or last
                    await self._send(event.data, stream_id)
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()
        return last

    async def _prewarm(self, body: bytes, stream_id: Any) -> dict[str, Any] | None:
        """A response without an answer; no upstream is asked."""
        request = openai_responses.read_request(body, ClientCall())
        now = self._clock.now_us()
        identity = Identity(request_id=self._clock.new_id("req", now), created=now // 1_000_000)
        renderer = openai_responses.StreamRenderer(request, identity, Fidelity())
        last = None
        for event in (Started(), ChoiceEnded(0, FinishReason.STOP), UsageReported(NO_USAGE), Ended()):
            for frame in SseSplitter().feed(renderer.feed(event)):
                last = _response_of(frame.data) or last
                await self._send(frame.data, stream_id)
        return last

    def _remember(self, event: dict[str, Any], before: list[Turn], last: dict[str, Any] | None) -> None:
        """Keep a conversation that ended well for the next request, while it has a measure."""
        self._turns = []
        if last is None or not isinstance(last.get("id"), str) or (event.get("previous_response_id") and not before):
            return
        output = [item for item in last.get("output") or () if isinstance(item, dict)]
        turn = Turn(id=last["id"], status=str(last.get("status")), input=input_items(event), output=output)
        turns = [*before, turn]
        if len(_encode(turns)) <= MAX_REMEMBERED_BYTES:
            self._turns = turns

    async def _refuse(self, error: GatewayError, stream_id: Any) -> None:
        inner = _decode(openai_responses.render_error(error, "")).get("error")
        try:
            await self._send(_encode({"type": "error", "status": error.status, "error": inner}), stream_id)
        except SocketClosedError:
            return

    async def _send(self, data: bytes, stream_id: Any) -> None:
        if stream_id is not None:
            data = b"%b,%b}" % (data.rstrip()[:-1], _encode({"stream_id": stream_id})[1:-1])
        await self._socket.send(data.decode("utf-8", "replace"))


def _event(message: bytes) -> dict[str, Any]:
    refuse_wide(message)
    try:
        event = _decode(message)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        event = None
    if not isinstance(event, dict):
        raise GatewayError(Kind.INVALID_REQUEST, "a message must be a JSON object with a type")
    return event


def _response_of(data: bytes) -> dict[str, Any] | None:
    """The response in an event that ends one."""
    if b'"response.completed"' not in data and b'"response.incomplete"' not in data:
        return None
    try:
        event = _decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if not isinstance(event, dict) or event.get("type") not in _ENDS:
        return None
    response = event.get("response")
    return response if isinstance(response, dict) else None
