"""``/v1/responses`` and everything below it: responses that are kept, gone on from, made in the background, listed.

Making one is the flow's business (flow.py). This stands around it: the conversation is written out before, the answer
is kept before its client knows its id, and a background response is a flow that nobody listens to.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import unquote

import msgspec
import structlog

from pointsman.canonical.halves import ClientCall
from pointsman.canonical.identity import Identity
from pointsman.clock import Clock
from pointsman.dialects import openai_responses
from pointsman.dialects.openai_responses.responses import begin_response, fail_response
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.flow import serve
from pointsman.framing.sse import SseSplitter, encode_event
from pointsman.gateway import Gateway
from pointsman.policy.authentication import authenticate
from pointsman.policy.key_habits import NO_LOG
from pointsman.policy.stored_responses import Owner, StoredResponses
from pointsman.routing.wishes import refuse_secret
from pointsman.runner import in_task
from pointsman.server.arrivals import stay_known
from pointsman.server.exchange import Exchange, refuse
from pointsman.server.inference import BASES, Speaking, client_call, dialect_module, query_of
from pointsman.server.inner_exchange import MAX_WAITING_BYTES, HeldExchange, QuietExchange, ended_response
from pointsman.server.routes import Handler, Router
from pointsman.server.views import is_openrouter, name_generation
from pointsman.storage.database import StorageError

MAX_BACKGROUND: Final = 200  # in one process
PROGRESS_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.25
SWEEP_SECONDS: Final = 60.0
EVENT_STREAM: Final = b"text/event-stream; charset=utf-8"
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
_FIRST_ID: Final = re.compile(rb'"(resp_[A-Za-z0-9_-]{8,200})"')
log = structlog.get_logger("pointsman.responses")


class Wishes(msgspec.Struct, frozen=True):
    """What a request says of keeping. Whatever is wrong with it, the flow will say."""

    model: str = ""
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    background: bool | None = None


_wishes: Final = msgspec.json.Decoder(Wishes)


class ResponseRoutes:
    """The handlers. ``keep``: responses are kept unless a request says ``store: false``."""

    def __init__(self, gateway: Gateway, stored: StoredResponses, clock: Clock, *, keep: bool = True) -> None:
        self._gateway = gateway
        self._stored = stored
        self._clock = clock
        self._keep = keep
        self._running: dict[str, asyncio.Task[None]] = {}

    def add_to(self, router: Router) -> None:
        """Serve the paths."""
        for base in BASES:
            path = f"{base}/responses"
            router.add("POST", path, self._told(self._create))
            router.add("GET", f"{path}/*", self._told(self._read))
            router.add("DELETE", f"{path}/*", self._told(self._delete))
            router.add("POST", f"{path}/*", self._told(self._cancel))
            router.websockets[path.encode()] = self._serve_socket

    async def upkeep(self) -> None:
        """Forget what is too old, now and then, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self._stored.sweep()
            except (StorageError, ConfigError) as error:
                log.warning("kept responses not swept", reason=str(error))

    def _told(self, handler: Handler) -> Handler:
        """Errors are told as this API has them."""

        async def handle(exchange: Exchange) -> None:
            try:
                await handler(exchange)
            except GatewayError as error:
                if exchange.responded:
                    raise  # the only thing left is to break the connection
                refuse(exchange, _errors(exchange), error)
            except StorageError as error:
                log.warning("kept responses can't be reached", reason=str(error))
                refuse(exchange, _errors(exchange), _not_ready())

        return handle

    def _owner(self, exchange: Exchange) -> Owner:
        key = authenticate(exchange.headers, self._gateway.snapshot.keys, exchange.started_at, exchange.path)
        return Owner(key.workspace_id, key.id)

    def _is_unlogged(self, exchange: Exchange) -> bool:
        """Whether nothing may be kept for this key. Raises GatewayError(UNAUTHENTICATED)."""
        key = authenticate(exchange.headers, self._gateway.snapshot.keys, exchange.started_at, exchange.path)
        return key.settings.get(NO_LOG) is True

    async def _create(self, exchange: Exchange) -> None:
        name_generation(exchange)
        wishes = self._wishes_of(exchange.body)
        keeps = self._keep and wishes is not None and wishes.store is not False and not self._is_unlogged(exchange)
        if wishes is None or not (keeps or wishes.previous_response_id or wishes.background):
            await serve(self._gateway, self._speaking(exchange, None), exchange)
            return
        owner = self._owner(exchange)
        await in_task()
        original = exchange.body
        previous = wishes.previous_response_id
        exchange.body = await self._expanded(owner, original, wishes)
        if wishes.background:
            await self._begin(exchange, owner, original, wishes)
            return
        if not keeps:
            await serve(self._gateway, self._speaking(exchange, previous), exchange)
            return
        held = HeldExchange(exchange, exchange.body)
        await serve(self._gateway, self._speaking(exchange, previous), held)
        response = held.response()
        if response is not None and isinstance(response.get("id"), str):
            await self._kept(owner, original, response)
        held.release()

    def _wishes_of(self, body: bytes) -> Wishes | None:
        try:
            return _wishes.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None

    async def _kept(self, owner: Owner, body: bytes, response: dict[str, Any]) -> None:
        try:
            await self._stored.keep(owner, body, response)
        except (StorageError, ConfigError) as error:
            log.warning("a response could not be kept", reason=str(error))

    async def _expanded(self, owner: Owner, body: bytes, wishes: Wishes) -> bytes:
        """The body with its conversation; an id that is not known here may be the upstream's own."""
        if not wishes.previous_response_id:
            return body
        try:
            return await self._stored.expand(owner, body, wishes.previous_response_id)
        except GatewayError:
            snapshot = self._gateway.snapshot
            endpoint = snapshot.endpoints[snapshot.catalogue.resolve(wishes.model).endpoint]
            if endpoint.wire == openai_responses.WIRE:
                return body
            raise
        except StorageError:
            raise _not_ready() from None

    def _speaking(self, exchange: Exchange, previous: str | None) -> Speaking:
        speaking = Speaking(openai_responses, client_call(exchange), errors=_errors(exchange))
        if previous is not None:
            read = speaking.read_request

            def read_expanded(body: bytes, call: ClientCall) -> Any:
                request = read(body, call)
                request.paths["previous_response_id"] = previous  # the client sees again what it went on from
                return request

            speaking.read_request = read_expanded
        return speaking

    # in the background

    async def _begin(self, exchange: Exchange, owner: Owner, original: bytes, wishes: Wishes) -> None:
        """Answer with a queued response, and make it."""
        if len(self._running) >= MAX_BACKGROUND:
            message = "too many background responses are being made"
            raise GatewayError(Kind.OVERLOADED, message, retry_after_seconds=10)
        if wishes.store is False or self._is_unlogged(exchange):
            message = "'background' needs a response that is kept: leave 'store' out"
            raise GatewayError(Kind.INVALID_REQUEST, message, param="store")
        refuse_secret(original)  # before it is kept
        request = openai_responses.read_request(original, client_call(exchange))
        number = self._clock.new_id("req")
        identity = Identity(request_id=number, created=exchange.started_at // 1_000_000)
        response = begin_response(request)
        response |= {"id": identity.derive("resp_"), "created_at": identity.created, "status": "queued"}
        await self._stored.begin(owner, original, response)
        fields = _decode(exchange.body)
        fields.pop("background", None)
        quiet = QuietExchange(exchange, _encode({**fields, "stream": True}), number, exchange.path)
        flow = serve(self._gateway, self._speaking(exchange, wishes.previous_response_id), quiet)
        task = self._gateway.lone.begin(self._run(owner, response, quiet.parts(flow)), quiet.stop)
        self._running[response["id"]] = task
        task.add_done_callback(lambda _: self._running.pop(response["id"], None))
        if wishes.stream:
            await self._stream_kept(exchange, owner, response["id"], -1)
        else:
            exchange.respond(200, _encode(response))

    async def _run(self, owner: Owner, response: dict[str, Any], parts: AsyncIterator[bytes]) -> None:
        """Take the events in as they come, note them, and the response that they end with."""
        run = BackgroundRun(self._stored, owner, response)
        try:
            await run.follow(parts)
        except (StorageError, ConfigError) as error:
            log.warning("a background response could not be kept", reason=str(error))

    # kept ones

    async def _read(self, exchange: Exchange) -> None:
        owner = self._owner(exchange)
        await in_task()
        identity, rest = self._named(exchange)
        query = query_of(exchange)
        if rest == "input_items":
            found = await self._stored.input_items(
                owner,
                identity,
                after=query.get("after"),
                limit=_number(query.get("limit"), "limit", 20),
                newest_first=query.get("order", "desc") != "asc",
            )
            exchange.respond(200, _encode(found))
        elif rest:
            raise GatewayError(Kind.NOT_FOUND, "there is no such path here")
        elif query.get("stream") == "true":
            await self._stream_kept(
                exchange, owner, identity, _number(query.get("starting_after"), "starting_after", -1)
            )
        else:
            exchange.respond(200, _encode((await self._stored.get(owner, identity)).response))

    async def _delete(self, exchange: Exchange) -> None:
        owner = self._owner(exchange)
        await in_task()
        identity, rest = self._named(exchange)
        if rest:
            raise GatewayError(Kind.METHOD_NOT_ALLOWED, "only a response itself can be deleted", allow="GET")
        receipt = await self._stored.delete(owner, identity)
        self._stop(identity)
        exchange.respond(200, _encode(receipt))

    async def _cancel(self, exchange: Exchange) -> None:
        owner = self._owner(exchange)
        await in_task()
        identity, rest = self._named(exchange)
        if rest != "cancel":
            raise GatewayError(Kind.NOT_FOUND, "there is no such path here")
        response = await self._stored.cancel(owner, identity)
        self._stop(identity)
        exchange.respond(200, _encode(response))

    def _stop(self, identity: str) -> None:
        task = self._running.get(identity)
        if task is not None:
            task.cancel()

    async def _stream_kept(self, exchange: Exchange, owner: Owner, identity: str, after: int) -> None:
        """The events of a background response behind number ``after``, and those that still come, as fast as they are
        read.
        """
        frames, more = await self._stored.events(owner, identity, after)
        reads = asyncio.Event()
        reads.set()
        exchange.throttle = lambda wait: reads.clear() if wait else reads.set()
        exchange.start(200, EVENT_STREAM, b"cache-control: no-cache\r\n")
        while True:
            for frame in frames:
                exchange.write(frame)
            after += len(frames)
            if not more:
                break
            await reads.wait()
            if not frames:
                await asyncio.sleep(POLL_SECONDS)
            frames, more = await self._stored.events(owner, identity, after)
        exchange.throttle = None
        exchange.finish()

    def _named(self, exchange: Exchange) -> tuple[str, str]:
        identity, _, rest = exchange.path.partition(b"/responses/")[2].decode("latin-1").partition("/")
        return unquote(identity), rest

    # over a WebSocket

    async def _serve_socket(self, exchange: Exchange) -> None:
        from pointsman.server.response_socket import response_socket  # wsproto: imported by the first of them

        await response_socket(self._open_flow, self._clock)(exchange)

    def _open_flow(self, exchange: Exchange) -> "SocketFlow":
        return SocketFlow(self, exchange, self._owner(exchange))


class SocketFlow:
    """What answers the requests of one WebSocket: each is a request of its own to the flow."""

    def __init__(self, routes: ResponseRoutes, exchange: Exchange, owner: Owner) -> None:
        self._routes = routes
        self._exchange = exchange
        self._owner = owner

    async def stream(self, body: bytes) -> AsyncIterator[bytes]:
        """The events of one response; it is kept like any other."""
        routes = self._routes
        await stay_known(routes._gateway.late_keys, self._exchange, routes._clock.now_us())
        headers, keys = self._exchange.headers, routes._gateway.snapshot.keys
        key = authenticate(headers, keys, routes._clock.now_us(), self._exchange.path)  # is it still valid?
        wishes = routes._wishes_of(body) or Wishes()
        whole = await routes._expanded(self._owner, body, wishes)
        number = routes._clock.new_id("req")
        quiet = QuietExchange(self._exchange, whole, number, self._exchange.path)
        quiet.started, quiet.started_at = routes._clock.monotonic(), routes._clock.now_us()
        flow = serve(routes._gateway, routes._speaking(self._exchange, wishes.previous_response_id), quiet)
        splitter = SseSplitter()
        async for data in quiet.parts(flow):
            if routes._keep and wishes.store is not False and key.settings.get(NO_LOG) is not True:
                for event in splitter.feed(data):
                    response = ended_response(event.data)
                    if response is not None:
                        await routes._kept(self._owner, body, response)
            yield data


class BackgroundRun:
    """One background response on its way into the store."""

    def __init__(self, stored: StoredResponses, owner: Owner, response: dict[str, Any]) -> None:
        self._stored = stored
        self._owner = owner
        self._response = response
        self._splitter = SseSplitter()
        self._frames: list[bytes] = []  # that are not kept yet
        self._size = 0
        self._noting = asyncio.Lock()  # they are kept in their order
        self._number = 0
        self._whole: dict[str, Any] | None = None
        self._over = asyncio.Event()
        self._theirs = b""  # the id that the upstream gave the response, where it is not ours

    async def follow(self, parts: AsyncIterator[bytes]) -> None:
        """Until the answer ends or is cancelled."""
        this = asyncio.current_task()
        beat = asyncio.ensure_future(self._beat())

        def stop(beat: asyncio.Task[bool]) -> None:
            if not beat.cancelled() and (error := beat.exception()) is not None:
                log.warning("a background response could not be kept", reason=str(error))
            if this is not None and not self._over.is_set():
                this.cancel()

        beat.add_done_callback(stop)
        try:
            async for data in parts:
                self._take(data)
                if self._size > MAX_WAITING_BYTES and not await self._note():
                    break
        except GatewayError as error:
            fail_response(self._response, error)
        finally:
            self._over.set()
            await _close(parts)
        if await beat and await self._note():
            await self._finish()

    def _take(self, data: bytes) -> None:
        for event in self._splitter.feed(data):
            told = self._with_our_id(event.data)
            frame = encode_event(told, event.name)
            self._frames.append(frame)
            self._size += len(frame)
            self._whole = ended_response(told) or self._whole

    def _with_our_id(self, data: bytes) -> bytes:
        if not self._theirs:
            found = _FIRST_ID.search(data)
            if found is None:
                return data
            self._theirs = found[1]
        return data.replace(self._theirs, self._response["id"].encode())

    async def _beat(self) -> bool:
        """Note what came, and that it goes on; False when the response was cancelled or deleted."""
        while await self._note():
            try:
                async with asyncio.timeout(PROGRESS_SECONDS):
                    await self._over.wait()
                return True
            except TimeoutError:
                continue
        return False

    async def _note(self) -> bool:
        async with self._noting:
            frames, self._frames, self._size = self._frames, [], 0
            first, self._number = self._number, self._number + len(frames)
            return await self._stored.progress(self._owner, self._response["id"], frames, first)

    async def _finish(self) -> None:
        whole = self._whole
        if whole is None:
            whole = self._response
            if whole["status"] != "failed":
                fail_response(whole, GatewayError(Kind.UPSTREAM_ERROR, "the answer broke off"))
        await self._stored.finish(self._owner, {**whole, "background": True})


def _not_ready() -> GatewayError:
    return GatewayError(Kind.NOT_READY, "kept responses can't be reached at the moment", retry_after_seconds=5)


async def _close(parts: AsyncIterator[bytes]) -> None:
    close = getattr(parts, "aclose", None)
    if close is not None:
        await close()


def _number(text: str | None, name: str, default: int) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise GatewayError(Kind.INVALID_REQUEST, f"'{name}' must be a whole number", param=name)
    return int(text)


def _errors(exchange: Exchange) -> Any:
    """Whose errors the client reads."""
    return dialect_module("openrouter") if is_openrouter(exchange) else openai_responses
