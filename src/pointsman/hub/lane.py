"""The hub lane of a request: from a call that was admitted and resolved to its settlement and answer.

The raw lane of APIs other than OpenAI's chat takes the same way, with bytes carried instead of written anew.
"""

import asyncio
import copy
from collections.abc import Callable
from typing import Any, Final, Protocol

from pointsman.accounting.estimation import estimate_usage, tokens_of
from pointsman.canonical.collect import Collector, replay
from pointsman.canonical.halves import Dialect, Upstream
from pointsman.canonical.identity import Costs, Identity
from pointsman.canonical.parts import ReasoningPart
from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.canonical.request import Request
from pointsman.canonical.response import Response
from pointsman.canonical.usage import TokenUsage
from pointsman.clock import Clock
from pointsman.dialects.seams import Stream
from pointsman.errors import GatewayError, Kind
from pointsman.hub.answer import PassageAnswer
from pointsman.hub.continuation import Continuation, ContinuedAnswer, ContinuedReader, is_joinable
from pointsman.hub.emulation import added, calls_needed, emulate, missing
from pointsman.hub.fetching import addressed, fetch_parts
from pointsman.hub.passage import Passage
from pointsman.hub.reader import PassageReader
from pointsman.policy.opaque_state import Vault
from pointsman.policy.opaque_turns import Answerer, make_answerer
from pointsman.providers.prefilling import goes_on
from pointsman.runner import in_task
from pointsman.settings import UpstreamSettings
from pointsman.upstream.answers import CollectedAnswer, Receiver
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.endpoints import Access, Endpoint

STRICT_HEADER: Final = b"x-pointsman-strict"  # the caller's wish: rather an error than a dropped field


class Exchange(Receiver, Protocol):
    """A request and the way to answer it (server/exchange.py)."""

    headers: dict[bytes, bytes]
    body: bytes
    request_id: str
    started_at: int

    def respond(self, status: int, body: bytes, content_type: bytes = ..., extra: bytes = ...) -> None: ...
    def keep_alive(self, content_type: bytes, comment: bytes, head: Callable[[], bytes] | None = ...) -> None: ...


class Entry(Protocol):
    """A request's record while it runs, and its one settlement (flow.py)."""

    record: RequestRecord
    deadline: float  # of the call, on the ticker's clock
    limits: UpstreamSettings | None  # of its phases, when they are not those of all calls
    reader: Any  # of the stream that it gets
    continuation: Continuation | None  # when another upstream may go on with a stream that breaks
    unlogged: bool  # nothing of the answer is kept

    @property
    def went_out(self) -> bool: ...
    def aside(self) -> dict[str, Any]: ...
    def costs(self, usage: TokenUsage) -> Costs | None: ...
    def sent(self, endpoint: Endpoint, model: str | None) -> None: ...
    async def count_calls(self, further: int) -> None: ...
    def uncount_calls(self, unmade: int) -> None: ...
    def listen(self, answer: CollectedAnswer) -> None: ...
    def give_up(self) -> None: ...
    def read(self, model: str | None, finish_reason: str | None, usage: TokenUsage | None, produced: int) -> None: ...
    def settle(self, status: int, outcome: Outcome, kind: Kind | None = None) -> None: ...
    def settle_stream(self, error: GatewayError | None) -> None: ...


class Services(Protocol):
    """What a lane needs of the process."""

    clock: Clock
    client: UpstreamClient
    vault: Vault


def hides_thoughts(request: Request, response: Response) -> bool:
    """True when the client asked for thoughts, the upstream counted some, and none are in the answer."""
    asked, usage = request.reasoning, response.usage
    if asked is None or asked.enabled is False or asked.effort == "none" or usage is None or not usage.reasoning_tokens:
        return False
    return not any(isinstance(part, ReasoningPart) for choice in response.choices for part in choice.parts)


class HubLane:
    """One call on the hub lane."""

    __slots__ = (
        "_access", "_counted", "_endpoint", "_entry", "_exchange", "_model", "_noted", "_passage", "_produced",
        "_request", "_sent", "_services", "_usage",
    )  # fmt: skip

    def __init__(
        self, services: Services, entry: Entry, exchange: Exchange, endpoint: Endpoint, access: Access
    ) -> None:
        self._services = services
        self._entry = entry
        self._exchange = exchange
        self._endpoint = endpoint
        self._access = access
        self._model = ""
        self._sent = self._noted = False
        self._usage: TokenUsage | None = None  # of the calls that are over, when there are several
        self._produced = 0
        self._counted: int  # calls that the connection's limits have let in and that were not made yet
        self._passage: Passage
        self._request: Request

    async def run(self, dialect: Dialect, request: Request, model: str) -> None:
        """Send the request for the upstream's ``model`` and answer the client. Raises GatewayError."""
        exchange = self._exchange
        request = copy.copy(request)  # another target may get the same one: what is put back for this one is not for it
        request.messages = list(request.messages)
        upstream, identity = self._endpoint.upstream(model), self._identity()
        rewritten = self._entry.continuation is not None or getattr(dialect, "REWRITES", False)
        request = self._go_on(request, upstream)
        self._model, self._request = model, request
        continuation = self._entry.continuation
        fidelity = continuation.fidelity if continuation is not None and continuation.begun else None
        self._passage = passage = Passage(dialect, self._endpoint.hub, request, upstream, identity, fidelity)
        if continuation is not None:
            stream = Stream(
                dialect=dialect.NAME, content_type=dialect.STREAM_TYPE, model=request.model, created=identity.created
            )
            continuation.enter(passage, stream, self._endpoint.wire)
        if self._endpoint.departures and self._endpoint.wire == dialect.WIRE:
            passage.translated = True  # the same API, but this upstream takes some of its words otherwise
        if rewritten:
            passage.translated = True  # what the client wrote is not what is sent
        if request.stream:
            exchange.keep_alive(dialect.STREAM_TYPE, dialect.KEEP_ALIVE, passage.head)
        alone = getattr(dialect, "answer_without_upstream", None)
        if passage.translated and alone is not None and (ready := alone(request, identity)) is not None:
            self._entry.record.bytes_out = len(ready)
            self._entry.settle(200, Outcome.SUCCESS)
            exchange.respond(200, ready)
            return
        try:
            lacks = self._endpoint.hub.lacks(upstream) if passage.translated else frozenset()
            wanted = missing(request, lacks)
            if continuation is not None and (wanted or getattr(dialect, "HOLDS", False)):
                self._give_whole()
            if passage.translated:
                await self._complete_request(lacks)
            if wanted:
                await self._emulate(wanted, lacks)
            elif getattr(dialect, "HOLDS", False):
                await self._hold()
            elif request.stream:
                await self._relay()
            else:
                await self._collect()
        except GatewayError as error:
            raise passage.own(error) from None
        finally:
            self._entry.record.fidelity = passage.fidelity.log()

    def _give_whole(self) -> None:
        """This answer is given only when all of it is there. Raises GatewayError(UNSUPPORTED) when some was given."""
        if self._entry.continuation is not None and self._entry.continuation.begun:
            raise GatewayError(Kind.UNSUPPORTED, "it can't go on with an answer that was begun")
        self._entry.continuation = None

    def _go_on(self, request: Request, upstream: Upstream) -> Request:
        """The request as it is for who goes on with an answer. Raises GatewayError(UNSUPPORTED) where nobody does."""
        continuation = self._entry.continuation
        if continuation is not None and not is_joinable(request):
            self._entry.continuation = None
        if continuation is None or not continuation.begun:
            return request
        if not goes_on(self._endpoint.wire, upstream):
            raise GatewayError(Kind.UNSUPPORTED, "it can't go on with an answer that was begun")
        return continuation.begin_again(request, self._entry.record.target or self._endpoint.connection_id)

    def replay(self, dialect: Dialect, request: Request, model: str, body: bytes) -> None:
        """Answer with ``body``, an upstream's whole answer, as the stream that was asked for. Raises GatewayError."""
        upstream = self._endpoint.upstream(model)
        self._model, self._request = model, request
        self._passage = Passage(dialect, self._endpoint.hub, request, upstream, self._identity())
        self._stream_whole(body)

    def _identity(self) -> Identity:
        exchange = self._exchange
        return Identity(
            request_id=exchange.request_id,
            created=exchange.started_at // 1_000_000,
            aside=self._entry.aside,
            costs=self._entry.costs,
        )

    async def _complete_request(self, lacks: frozenset[str]) -> None:
        """Put back reasoning state that the client has stripped, and fetch what the upstream can't fetch itself."""
        services, fidelity, workspace = self._services, self._passage.fidelity, self._entry.record.workspace_id
        now, answerer = services.clock.monotonic(), self._answerer()
        stripped = services.vault.restore(workspace, self._request, answerer, now, fidelity)
        if stripped:
            await in_task()
            await services.vault.recall(workspace, stripped, answerer, now, fidelity)
        parts = addressed(self._request, lacks)
        if parts:
            await in_task()
            await fetch_parts(services.client, parts, fidelity, self._entry.deadline, allow_private=False)

    def _answerer(self) -> Answerer:
        origin = self._access.origin
        return make_answerer(self._endpoint.wire, origin.host, origin.port, self._endpoint.connection_id)

    def _message(self, passage: Passage) -> bytes:
        strict = self._exchange.headers.get(STRICT_HEADER, b"0").lower() not in (b"0", b"false")
        message = self._endpoint.message(self._access, passage.build(self._exchange.body, strict=strict))
        self._entry.sent(self._endpoint, self._model)
        return message

    async def _send(self, message: bytes, answer: CollectedAnswer) -> None:
        entry, client = self._entry, self._services.client
        entry.listen(answer)
        try:
            await client.send(
                self._access.origin, message, answer, entry.record.key_id or "", entry.deadline, entry.limits
            )
        finally:
            self._sent = self._sent or answer.connection is not None
        if answer.status != 200:
            secret = self._access.reveal()
            error = self._endpoint.hub.parse_error(answer.status, answer.headers, answer.body, secret)
            raise error.of(answer.status, answer.headers, answer.body)

    async def _collect(self) -> None:
        entry, answer = self._entry, CollectedAnswer()
        message = self._message(self._passage)
        try:
            await self._send(message, answer)
        except asyncio.CancelledError:
            entry.give_up()
            raise
        response = self._passage.parse(answer.body)
        # Before it is written for the client, which may fail: the upstream's bill does not ask for that.
        entry.read(response.model, response.finish_reason, response.usage, tokens_of(len(answer.body)))
        await self._passage.judge(response)
        self._keep(response)
        self._respond(self._passage.write(response) if self._passage.translated else answer.body)

    def _respond(self, body: bytes) -> None:
        entry = self._entry
        entry.record.fidelity = self._passage.fidelity.log()
        entry.record.bytes_out = len(body)
        entry.settle(200, Outcome.SUCCESS)
        self._exchange.respond(200, body, extra=self._passage.head())

    def _keep(self, response: Response) -> None:
        """Remember the state in an answer that its reader may not hand back; say so when its thoughts are hidden."""
        if self._passage.translated and hides_thoughts(self._request, response):
            self._passage.fidelity.dropped("response.reasoning", "the upstream has thought, and shows nothing of it")
        if self._passage.translated and response.choices and not self._entry.unlogged:
            services, workspace = self._services, self._entry.record.workspace_id
            parts, now = response.choices[0].parts, services.clock.monotonic()
            services.vault.keep(workspace, self._request, self._answerer(), parts, now)

    def _reader(self) -> tuple[PassageReader, Collector]:
        """What the stream passes through, and what puts it together beside."""
        passage, continuation = self._passage, self._entry.continuation
        if continuation is not None:
            return ContinuedReader(passage.parser(), continuation), continuation.collector
        reader, collector = passage.reader(self._access.reveal()), Collector(self._endpoint.wire)
        if passage.translated:
            reader.observe = collector.feed
        return reader, collector

    async def _relay(self) -> None:
        entry, passage, continuation = self._entry, self._passage, self._entry.continuation
        reader, collector = self._reader()
        entry.reader = reader

        def read() -> None:
            entry.read(reader.model, reader.finish_reason, reader.usage, reader.events - 1)

        def settle(error: GatewayError | None, last: int) -> None:
            read()
            entry.record.bytes_out = last
            if error is None:
                self._keep(collector.response)
            entry.record.fidelity = passage.fidelity.log()
            entry.settle_stream(error)

        message = self._message(passage)
        kind = PassageAnswer if continuation is None else ContinuedAnswer
        answer = kind(self._exchange, reader, settle, passage.stream_head())
        try:
            await self._send(message, answer)
        except asyncio.CancelledError:
            entry.give_up()
            raise
        except GatewayError as error:
            if continuation is not None and error.begun:
                used = reader.usage or estimate_usage(entry.record.bytes_in, reader.events - 1)
                continuation.broke(error, used)
            if reader.usage is not None or error.begun:
                read()  # it broke before anything went to the client, and after it had told its cost
            raise
        if not answer.streaming:
            self._stream_whole(answer.body)

    def _stream_whole(self, body: bytes) -> None:
        """Some hosts answer whole although a stream was asked for."""
        if not body.lstrip().startswith(b"{"):
            raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream answered a streaming request without an event stream")
        response = self._passage.parse(body)
        self._passage.fidelity.synthesised("stream", "the upstream answered whole")
        self._entry.read(response.model, response.finish_reason, response.usage, tokens_of(len(body)))
        self._keep(response)
        self._stream(response)

    def _stream(self, response: Response) -> None:
        """A whole answer as a stream."""
        entry, continuation = self._entry, self._entry.continuation
        if continuation is None:
            body = self._passage.stream_of(response)
        else:
            events = [continuation.write(event) for event in replay(response)]
            body = continuation.seam() + b"".join(events)
        entry.record.fidelity = self._passage.fidelity.log()
        entry.record.bytes_out = len(body)
        entry.settle(200, Outcome.SUCCESS)
        head = self._passage.stream_head()
        self._exchange.start(200, head.client_type, head.extra + b"cache-control: no-cache\r\n")
        self._exchange.write(body)
        self._exchange.finish()

    async def _hold(self) -> None:
        """A stream that is looked at before the client sees any of it: asked for whole, and given when it is good."""
        whole = copy.copy(self._request)
        whole.stream = False
        passage, answer = self._passage.asking(whole, self._passage.fidelity), CollectedAnswer()
        try:
            await self._send(self._message(passage), answer)
        except asyncio.CancelledError:
            self._entry.give_up()
            raise
        response = passage.parse(answer.body)
        self._entry.read(response.model, response.finish_reason, response.usage, tokens_of(len(answer.body)))
        await passage.judge(response)
        self._stream(response)
        self._keep(response)

    async def _emulate(self, wanted: frozenset[str], lacks: frozenset[str]) -> None:
        """An answer made by several calls; a stream of it comes when all of it is there."""
        await in_task()
        self._counted = calls_needed(self._request, wanted)
        await self._entry.count_calls(self._counted - 1)
        try:
            response = await emulate(
                self._request, wanted, self._ask, self._passage.fidelity, object_mode="json_object" not in lacks
            )
        except BaseException:
            if self._sent:
                self._entry.read(None, None, self._usage, self._produced)
            raise
        self._entry.read(response.model, response.finish_reason, response.usage, self._produced)
        await self._passage.judge(response)
        self._keep(response)
        if self._request.stream:
            self._stream(response)
        else:
            self._respond(self._passage.write(response))

    async def _ask(self, request: Request) -> Response:
        """One of several calls, its usage kept in case that a later one fails."""
        if self._counted:
            self._counted -= 1
        else:  # an answer has to be corrected
            await self._entry.count_calls(1)
        # The notes of all calls are alike: those of the first stand in the ledger.
        passage = self._passage.asking(request, None if self._noted else self._passage.fidelity)
        self._noted = True
        answer = CollectedAnswer()
        await self._send(self._message(passage), answer)
        self._produced += tokens_of(len(answer.body))
        response = passage.parse(answer.body)
        if response.usage is not None:
            self._usage = added(self._usage or TokenUsage(), response.usage)
        return response
