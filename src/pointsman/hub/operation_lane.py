"""The lane of operations beside chat: embeddings, rankings, pictures, sound, moderations.

A client whose API the upstream speaks gets the upstream's own answer; else the request is written for the upstream, in
several calls where one doesn't take as many inputs, and the answer is written for the client.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final, Protocol

import msgspec

from pointsman.accounting.estimation import estimate_tokens
from pointsman.canonical.embeddings import EmbeddingRequest, Embeddings
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.identity import Identity
from pointsman.canonical.passed import PassedRequest
from pointsman.canonical.record import Outcome
from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError, Kind
from pointsman.hub.emulation import added
from pointsman.hub.lane import STRICT_HEADER, Entry, Exchange, Services
from pointsman.hub.passage import FIDELITY_HEADER
from pointsman.hub.relay import RelayedAnswer
from pointsman.providers.azure_openai import chat_path
from pointsman.providers.openai import CHAT_PATH
from pointsman.providers.openai_operations import EventWatcher
from pointsman.runner import in_task
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.endpoints import Access, Endpoint

OPERATIONS: Final = frozenset(
    (
        "embeddings", "rerank", "images.generations", "images.edits", "audio.speech", "audio.transcriptions",
        "audio.translations", "moderations",
    )
)  # fmt: skip
# The prices that are known are of text: a picture's or a sound's tokens have others, which are not known yet.
PAID_BY_TEXT: Final = frozenset(("embeddings", "rerank", "moderations", "audio.speech"))
MAX_TEXT: Final = 256


class OperationDialect(Protocol):
    """What a client speaks, for one operation (`pointsman.dialects`)."""

    WIRE: str
    OPERATION: str

    def write_response(self, response: Any, request: Any, identity: Identity, fidelity: Fidelity) -> bytes:
        """The body of a whole answer; what of it the API can't say is noted in ``fidelity``."""
        ...

    def render_stream_error(self, error: GatewayError, request_id: str) -> bytes:
        """The frames of an error that ends a stream which has begun."""
        ...


class OperationLane:
    """One call of an operation, from its resolved model to its settlement and answer."""

    __slots__ = ("_access", "_endpoint", "_entry", "_exchange", "_fidelity", "_format", "_services")

    def __init__(
        self, services: Services, entry: Entry, exchange: Exchange, endpoint: Endpoint, access: Access
    ) -> None:
        self._services = services
        self._entry = entry
        self._exchange = exchange
        self._endpoint = endpoint
        self._access = access
        self._fidelity = Fidelity()
        self._format: Any = None

    async def run(self, dialect: OperationDialect, request: Any, model: str) -> None:
        """Send the request for the upstream's ``model`` and answer the client. Raises GatewayError."""
        self._format = self._endpoint.operations.get(dialect.OPERATION)
        if self._format is None:
            raise GatewayError(
                Kind.UNSUPPORTED,
                f"the connection '{self._endpoint.connection_id}' has no {dialect.OPERATION.replace('.', ' ')}",
                param="model",
            )
        upstream = self._endpoint.upstream(model)
        try:
            if self._format.WIRE == dialect.WIRE:
                await self._pass(dialect, request, upstream)
            else:
                await self._translate(dialect, request, upstream)
        finally:
            self._entry.record.fidelity = self._fidelity.log()

    # the raw way

    async def _pass(self, dialect: OperationDialect, request: Any, upstream: Upstream) -> None:
        entry, exchange = self._entry, self._exchange
        passed = request if isinstance(request, PassedRequest) else None
        events = EventWatcher(passed.results if passed is not None else 1, self._access.reveal())

        def settle(error: GatewayError | None, last: int) -> None:
            self._read(events.model, events.usage)  # sound tells neither
            entry.record.bytes_out = last
            entry.settle_stream(error)

        def render(error: GatewayError) -> bytes:
            return dialect.render_stream_error(error, exchange.request_id)

        answer = RelayedAnswer(exchange, events, settle, render, sound=dialect.OPERATION == "audio.speech")
        message = self._message(self._format.patch_request(exchange.body, request, upstream), upstream)
        await self._send(message, answer)
        if answer.streaming:
            return
        if answer.headers.get(b"content-type", b"").lower().startswith(b"text/html"):
            raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream answered with a web page")
        found = self._format.read_answer(answer.body, request)
        self._read(found.model, found.usage)
        self._respond(answer.body, answer.headers.get(b"content-type", b"application/json"))

    # the translated way

    async def _translate(self, dialect: OperationDialect, request: Any, upstream: Upstream) -> None:
        identity = Identity(request_id=self._exchange.request_id, created=self._exchange.started_at // 1_000_000)
        parts = list(_parts(request, self._format.most_inputs))
        built = [self._format.build_request(part, upstream, self._fidelity if part is parts[0] else Fidelity())
                 for part in parts]  # fmt: skip
        if self._exchange.headers.get(STRICT_HEADER, b"0").lower() not in (b"0", b"false"):
            self._fidelity.refuse_drops()
        await self._entry.count_calls(len(parts) - 1)
        response, usage, unmade = None, None, len(parts)
        try:
            for part, one in zip(parts, built, strict=True):
                answer = CollectedAnswer()
                unmade -= 1
                await self._send(self._message(one, upstream), answer)
                found = self._format.parse_response(answer.body, part)
                usage = _sum(usage, found.usage)
                response = _joined(response, found)
                if len(parts) > 1:
                    await in_task()
        except GatewayError:
            if usage is not None:
                self._read(None, usage)  # of the calls that are over
            raise
        finally:
            self._entry.uncount_calls(unmade)
        assert response is not None
        response.usage = usage
        body = dialect.write_response(response, request, identity, self._fidelity)
        self._read(response.model, usage)
        self._respond(body, b"application/json")

    # both ways

    def _message(self, built: Built, upstream: Upstream) -> bytes:
        template = upstream.quirks.get("chat_path")
        if template is not None and CHAT_PATH in template:  # a deployment in the path, as Azure has it
            path = chat_path(template, upstream.model).replace(CHAT_PATH, built.path)
            built = msgspec.structs.replace(built, path=path)
        message = self._endpoint.message(self._access, built)
        self._entry.sent(self._endpoint, upstream.model)
        return message

    async def _send(self, message: bytes, answer: CollectedAnswer) -> None:
        self._entry.listen(answer)
        try:
            entry, client = self._entry, self._services.client
            await client.send(
                self._access.origin, message, answer, entry.record.key_id or "", entry.deadline, entry.limits
            )
        except asyncio.CancelledError:
            if self._entry.went_out:
                self._read(None, None)  # the upstream worked on it: the input, at least, is used
            raise
        if answer.status != 200:
            error: GatewayError = self._format.parse_error(
                answer.status, answer.headers, answer.body, self._access.reveal()
            )
            raise error.of(answer.status, answer.headers, answer.body)

    def _read(self, model: str | None, usage: TokenUsage | None) -> None:
        """What the answer told. Tokens that it did not tell are guessed. What is paid by the second, the letter or the
        picture stays unpriced.
        """
        record = self._entry.record
        if usage is not None or record.operation == "embeddings":
            self._entry.read(model, None, usage, 0)
        else:
            record.response_model = model[:MAX_TEXT] if model is not None else None
            record.input_tokens = estimate_tokens(self._exchange.body, 0)
            record.usage_estimated = True
        if record.operation not in PAID_BY_TEXT:
            record.cost_nano_usd = None

    def _respond(self, body: bytes, content_type: bytes) -> None:
        entry = self._entry
        entry.record.fidelity = self._fidelity.log()
        entry.record.bytes_out = len(body)
        entry.settle(200, Outcome.SUCCESS)
        extra = b"%b: %b\r\n" % (FIDELITY_HEADER, self._fidelity.header()) if self._fidelity else b""
        self._exchange.respond(200, body, content_type, extra)


def _parts(request: Any, most: int | None) -> Iterator[Any]:
    """The request in pieces of as many inputs as one call takes."""
    if not isinstance(request, EmbeddingRequest) or most is None or len(request.inputs) <= most:
        yield request
        return
    for start in range(0, len(request.inputs), most):
        yield msgspec.structs.replace(request, inputs=request.inputs[start : start + most])


def _joined(before: Any, found: Any) -> Any:
    if before is None:
        return found
    if isinstance(before, Embeddings):
        before.vectors = [*before.vectors, *found.vectors]
    return before


def _sum(before: TokenUsage | None, found: TokenUsage | None) -> TokenUsage | None:
    return found if before is None or found is None else added(before, found)
