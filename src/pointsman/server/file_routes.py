"""``/v1/files`` of OpenAI's and Anthropic's clients and ``/v1beta/files`` of Google's: files that pass to an upstream.

A file stays with the upstream that took it. The gateway notes whose it is and where: every question is answered for the
caller's own workspace alone, and lists are written from that note.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import structlog

from pointsman.calling import reserve_request
from pointsman.canonical.files import StoredFile
from pointsman.canonical.halves import Built
from pointsman.entry import Entry
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.flow import enter, serve
from pointsman.gateway import Gateway
from pointsman.hub.file_lane import FileLane, settle_file
from pointsman.identity.keys import Key
from pointsman.policy.authentication import authenticate
from pointsman.policy.key_conditions import check_conditions, check_connection
from pointsman.policy.limits import Reservation, Rules
from pointsman.policy.stored_files import FileOwner, StoredFiles
from pointsman.providers.files import FileFormat
from pointsman.runner import in_task
from pointsman.server.arrivals import is_looked_up
from pointsman.server.exchange import Exchange, own_status
from pointsman.server.inference import BASES, GEMINI_BASES, MAX_QUERY_MEMBERS, dialect_module, take_query_key
from pointsman.server.routes import Handler, Router
from pointsman.storage.database import StorageError
from pointsman.upstream.endpoints import Endpoint

FORM_OVERHEAD_BYTES: Final = 64 * 1024  # of an upload beside the file: the form's other fields
MAX_ID: Final = 256
SWEEP_SECONDS: Final = 600.0
PROVIDER_HEADER: Final = b"x-pointsman-provider"  # the connection that an upload goes to
JSON: Final = b"application/json"
log = structlog.get_logger("pointsman.files")


class FileDialect:
    """A files API with the operation that one request is."""

    def __init__(self, module: Any, operation: str) -> None:
        self.NAME = module.NAME
        self.WIRE = module.WIRE
        self.OPERATION = f"files.{operation}"
        self.module = module
        self.status_of = getattr(module, "status_of", own_status)
        self.render_error = module.render_error
        self.render_limits = module.render_limits


class FileCall:
    """One request: who asks, and what runs for it."""

    def __init__(self, gateway: Gateway, dialect: FileDialect, exchange: Exchange, entry: Entry, key: Key) -> None:
        self.gateway = gateway
        self.dialect = dialect
        self.exchange = exchange
        self.entry = entry
        self.key = key
        self.owner = FileOwner(workspace_id=key.workspace_id, wire=dialect.WIRE, key_id=key.id)

    async def at(self, connection_id: str, work: "Callable[[FileLane, Endpoint, FileFormat], Awaitable[None]]") -> None:
        """Run ``work`` with the way to a connection. Raises GatewayError, UNSUPPORTED when it has no such files."""
        snapshot = self.gateway.snapshot
        endpoint = snapshot.endpoints.get(connection_id)
        if endpoint is None:
            raise GatewayError(Kind.NOT_FOUND, f"the connection '{connection_id}' of this file is no more")
        files = endpoint.operations.get("files")
        if files is None or files.WIRE != self.dialect.WIRE:
            message = f"the connection '{connection_id}' has no files that clients of this API could use"
            raise GatewayError(Kind.UNSUPPORTED, message, param="provider")
        if snapshot.limits is not None:
            self.entry.reservation = await self._reserve(snapshot.limits.caller_rules(self.key))
            self.entry.upstream_reservation = await self._reserve(snapshot.limits.connection_rules(connection_id))
        access = endpoint.access or await endpoint.acquire()
        try:
            await work(FileLane(self.gateway, self.entry, self.exchange, endpoint, access), endpoint, files)
        finally:
            endpoint.release()

    async def _reserve(self, rules: Rules) -> Reservation | None:
        dialect: Any = self.dialect
        return await reserve_request(self.gateway, dialect, self.exchange, rules)

    def respond(self, body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> None:
        """Settle, and give the answer."""
        self.entry.record.bytes_out = len(body)
        settle_file(self.entry)
        self.exchange.respond(200, body, content_type, extra)


Operation = Callable[[FileCall], Awaitable[None]]


class FileRoutes:
    """The handlers. ``max_bytes``: of one upload, which is held in memory while it passes."""

    def __init__(self, gateway: Gateway, stored: StoredFiles, *, max_bytes: int) -> None:
        self._gateway = gateway
        self._stored = stored
        self._max_bytes = max_bytes

    @property
    def upload_bytes(self) -> int:
        """Bytes that the body of an upload may have."""
        return self._max_bytes + FORM_OVERHEAD_BYTES

    def add_to(self, router: Router) -> None:
        """Serve the paths."""
        for base in BASES:
            path = f"{base}/files"
            router.add("POST", path, self._handler(None, "upload", self._upload))
            router.add("GET", path, self._handler(None, "list", self._list))
            router.add("GET", f"{path}/*", self._handler(None, "get", self._read))
            router.add("DELETE", f"{path}/*", self._handler(None, "delete", self._delete))
            router.body_limits[path.encode()] = self.body_limit
        for base in GEMINI_BASES:
            path = f"{base}/files"
            router.add("GET", path, self._handler("gemini", "list", self._list))
            router.add("GET", f"{path}/*", self._handler("gemini", "get", self._read))
            router.add("DELETE", f"{path}/*", self._handler("gemini", "delete", self._delete))

    async def upkeep(self) -> None:
        """Forget files that are no more, now and then, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self._stored.sweep()
            except StorageError as error:
                log.warning("files not swept", reason=str(error))

    def body_limit(self, headers: dict[bytes, bytes], query: bytes) -> int | None:
        """Bytes that an upload may have; None for a stranger's, who gets no more than on any path.

        A key that is not known here yet counts as good until it was looked up, which the next piece of the body finds.
        """
        now = self._gateway.clock.now_us()
        try:
            authenticate(headers, self._gateway.snapshot.keys, now)
        except GatewayError:
            return self.upload_bytes if is_looked_up(self._gateway.late_keys, headers, now) else None
        return self.upload_bytes

    def check_size(self, exchange: Exchange) -> None:
        """Raises GatewayError(TOO_LARGE) for an upload that is larger than the setting."""
        if len(exchange.body) > self.upload_bytes:
            message = f"the upload is larger than the limit of {self._max_bytes} bytes (files.max_bytes)"
            raise GatewayError(Kind.TOO_LARGE, message)

    def _handler(self, vendor: str | None, operation: str, work: Operation) -> Handler:
        async def run(gateway: Gateway, dialect: Any, exchange: Any, entry: Entry) -> None:
            if dialect.WIRE == "gemini":
                take_query_key(exchange, dict(query_pairs(exchange)))
            key = authenticate(exchange.headers, gateway.snapshot.keys, exchange.started_at, exchange.path)
            if key.restricted:
                check_conditions(key, "files", None, exchange.started_at)
            await in_task()
            await enter(gateway, entry, key)
            await told(work(FileCall(gateway, dialect, exchange, entry, key)))

        async def handle(exchange: Exchange) -> None:
            speaking: Any = FileDialect(dialect_module(f"files.{vendor or vendor_of(exchange)}"), operation)
            if operation == "get" and is_content(exchange):
                speaking.OPERATION = "files.content"
            await serve(self._gateway, speaking, exchange, run)

        return handle

    # the operations

    async def _upload(self, call: FileCall) -> None:
        self.check_size(call.exchange)
        connection_id = chosen_connection(call)

        async def work(lane: FileLane, endpoint: Endpoint, files: FileFormat) -> None:
            upstream = endpoint.upstream("")
            answer = await lane.ask(files.upload(call.exchange.body, call.exchange.headers, upstream))
            await self.keep(call, lane, endpoint, files.parse(answer.body))
            call.respond(answer.body, answer.headers.get(b"content-type", JSON))

        await call.at(connection_id, work)

    async def keep(self, call: FileCall, lane: FileLane, endpoint: Endpoint, file: StoredFile) -> None:
        """Note a file that the upstream has taken, whether its client still waits or not. One that can't be noted is
        deleted again: nobody could reach it.
        """

        async def note() -> None:
            try:
                await self._stored.add(call.owner, endpoint.connection_id, file)
            except (StorageError, ConfigError):
                files: FileFormat = endpoint.operations["files"]
                await lane.ask(files.read(file.id, call.exchange.headers, endpoint.upstream(""), "DELETE"))
                raise

        await _whatever_comes(note())

    async def _list(self, call: FileCall) -> None:
        wanted = call.dialect.module.read_query(query_pairs(call.exchange))
        page = await self._stored.page(call.owner, wanted)
        call.respond(call.dialect.module.write_page(page))

    async def _read(self, call: FileCall) -> None:
        file_id, content = named_file(call.exchange, call.dialect.WIRE)
        connection_id = await self._stored.connection_of(call.owner, file_id)

        async def work(lane: FileLane, endpoint: Endpoint, files: FileFormat) -> None:
            sent, upstream = call.exchange.headers, endpoint.upstream("")
            if content:
                await self._unless_gone(call, file_id, lane.relay(files.content(file_id, sent, upstream)))
                return
            answer = await self._unless_gone(call, file_id, lane.ask(files.read(file_id, sent, upstream)))
            file = files.parse(answer.body)
            if file.id == file_id:
                await self._stored.renew(call.owner, endpoint.connection_id, file)
            call.respond(answer.body, answer.headers.get(b"content-type", JSON))

        await call.at(connection_id, work)

    async def _delete(self, call: FileCall) -> None:
        file_id, content = named_file(call.exchange, call.dialect.WIRE)
        if content:
            raise GatewayError(Kind.METHOD_NOT_ALLOWED, "only a file itself can be deleted", allow="GET")
        connection_id = await self._stored.connection_of(call.owner, file_id)

        async def work(lane: FileLane, endpoint: Endpoint, files: FileFormat) -> None:
            built: Built = files.read(file_id, call.exchange.headers, endpoint.upstream(""), "DELETE")
            answer = await self._unless_gone(call, file_id, lane.ask(built))
            await _whatever_comes(self._stored.forget(call.owner, file_id))
            call.respond(answer.body or b"{}", answer.headers.get(b"content-type", JSON))

        await call.at(connection_id, work)

    async def _unless_gone(self, call: FileCall, file_id: str, asking: Awaitable[Any]) -> Any:
        """What the upstream says; a file that it doesn't know any more is forgotten here, too."""
        try:
            return await asking
        except GatewayError as error:
            if error.kind is Kind.NOT_FOUND:
                await self._stored.forget(call.owner, file_id)
            raise


async def _whatever_comes(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end, even when the client leaves meanwhile."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())
    await asyncio.shield(task)


async def told(work: Awaitable[None]) -> None:
    """``work``, with the failures of the database as errors that can be told."""
    try:
        await work
    except (StorageError, ConfigError) as error:
        log.warning("the book of files can't be used", reason=str(error))
        message = "the files' owners can't be looked up at the moment"
        raise GatewayError(Kind.NOT_READY, message, retry_after_seconds=5) from None


def vendor_of(exchange: Exchange) -> str:
    """Whose client asks: Anthropic's tell their version, Google's have a header of their own for the key."""
    headers = exchange.headers
    if b"anthropic-version" in headers or b"anthropic-beta" in headers:
        return "anthropic"
    return "gemini" if b"x-goog-api-key" in headers else "openai"


def query_pairs(exchange: Exchange) -> list[tuple[str, str]]:
    """The query's members in order. Raises GatewayError(INVALID_REQUEST) when there are far too many."""
    try:
        text = exchange.query.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, max_num_fields=2 * MAX_QUERY_MEMBERS)
    except ValueError:
        raise GatewayError(Kind.INVALID_REQUEST, "the query of the address can't be read") from None


def is_content(exchange: Exchange) -> bool:
    """Whether the path asks for a file's bytes."""
    return exchange.path.endswith((b"/content", b":download"))


def named_file(exchange: Exchange, wire: str) -> tuple[str, bool]:
    """The file that the path names, and whether its bytes are meant. Raises GatewayError(NOT_FOUND)."""
    name, _, rest = exchange.path.partition(b"/files/")[2].decode("latin-1").partition("/")
    content = rest == "content" and wire != "gemini"
    if wire == "gemini" and name.endswith(":download"):
        name, content = name.removesuffix(":download"), True
    name = unquote(name)
    if not name or len(name) > MAX_ID or "/" in name or (rest and not content):
        raise GatewayError(Kind.NOT_FOUND, "there is no such path here")
    return name, content


def chosen_connection(call: FileCall) -> str:
    """Where an upload goes: to the connection that the caller names, by ``provider`` or by one of its models, in the
    query or in the header; else to the first that has files of this API, and that the key may use. Raises GatewayError.
    """
    name = _chosen(call)
    check_connection(call.key, call.gateway.snapshot.catalogue.connections[name])
    return name


def _chosen(call: FileCall) -> str:
    catalogue, endpoints = call.gateway.snapshot.catalogue, call.gateway.snapshot.endpoints
    query = dict(query_pairs(call.exchange))
    named = query.get("provider") or call.exchange.headers.get(PROVIDER_HEADER, b"").decode("latin-1")
    if named:
        if named not in catalogue.connections:
            raise GatewayError(Kind.INVALID_REQUEST, "'provider' names no known provider", param="provider")
        return named
    if query.get("model"):
        return catalogue.resolve(query["model"]).connection.id
    allowed = call.key.allowed_connections
    for name in catalogue.connections:
        if allowed and name not in allowed:
            continue
        endpoint = endpoints.get(name)
        files = endpoint.operations.get("files") if endpoint is not None else None
        if files is not None and files.WIRE == call.dialect.WIRE:
            return name
    raise GatewayError(Kind.UNSUPPORTED, "no connection has files that clients of this API could use", param="provider")
