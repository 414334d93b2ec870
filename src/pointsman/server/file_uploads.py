"""Uploads as Google's clients make them: in one request, or in several to an address that the first is told.

That address is this gateway's, with a token that says, sealed, whose upload it is and where the upstream takes it. Any
worker or node can go on with it, and whoever has it may: Google's clients send no key along, to Google neither.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from pointsman.clock import Clock
from pointsman.entry import Entry
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.flow import enter, serve
from pointsman.gateway import Gateway
from pointsman.hub.file_lane import FileLane
from pointsman.identity.keys import Key
from pointsman.keyring import MasterKey, Secret
from pointsman.policy.authentication import authenticate, is_credential_sent
from pointsman.policy.key_conditions import check_conditions
from pointsman.providers.files import GeminiFiles
from pointsman.runner import in_task
from pointsman.server.exchange import Exchange
from pointsman.server.file_routes import JSON, FileCall, FileDialect, FileRoutes, chosen_connection, query_pairs, told
from pointsman.server.inference import dialect_module, take_query_key
from pointsman.server.routes import Router
from pointsman.upstream.endpoints import Endpoint

PATHS: Final = (
    "/upload/v1beta/files",
    "/upload/v1/files",
    "/api/upload/v1beta/files",
    "/api/upload/v1/files",
)
PURPOSE: Final = "file-upload"
TOKEN: Final = "upload_id"
LIFETIME_SECONDS: Final = 86_400
MAX_TOKEN: Final = 8192
# What the upload protocol tells of where it stands.
PASSED: Final = (b"x-goog-upload-status", b"x-goog-upload-chunk-granularity", b"x-goog-upload-size-received")
_US: Final = 1_000_000


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """An upload that goes on: whose, where, and the upstream's address of it (path and query). Instants in us."""

    workspace_id: str
    key_id: str
    connection_id: str
    place: str
    expires_at: int


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Upload).decode


class FileUploads:
    """The handlers of ``/upload/v1beta/files``."""

    def __init__(self, gateway: Gateway, files: FileRoutes, key: MasterKey, clock: Clock) -> None:
        self._gateway = gateway
        self._files = files
        self._key = key
        self._clock = clock

    def add_to(self, router: Router) -> None:
        """Serve the paths."""
        for path in PATHS:
            router.add("POST", path, self.handle)
            router.add("PUT", path, self.handle)
            router.body_limits[path.encode()] = self._body_limit

    async def handle(self, exchange: Exchange) -> None:
        """One request of an upload; it is one call in the books."""
        speaking: Any = FileDialect(dialect_module("files.gemini"), "upload")
        await serve(self._gateway, speaking, exchange, self._serve)

    async def _serve(self, gateway: Gateway, dialect: Any, exchange: Any, entry: Entry) -> None:
        query = dict(query_pairs(exchange))
        take_query_key(exchange, query)
        token = query.get(TOKEN)
        upload = self._opened(token) if token is not None else None
        key = await self._uploader(exchange, upload)
        if key.restricted:
            check_conditions(key, "files", None, exchange.started_at)
        await in_task()
        await enter(gateway, entry, key)
        self._files.check_size(exchange)
        call = FileCall(gateway, dialect, exchange, entry, key)
        await told(self._begin(call) if upload is None else self._go_on(call, upload))

    async def _begin(self, call: FileCall) -> None:
        """The first request, or the only one."""

        async def work(lane: FileLane, endpoint: Endpoint, files: Any) -> None:
            sent = call.exchange.headers
            answer = await lane.ask(files.upload(call.exchange.body, sent, endpoint.upstream("")))
            address = answer.headers.get(b"x-goog-upload-url")
            if address is None:
                await self._files.keep(call, lane, endpoint, files.parse(answer.body))
                call.respond(answer.body, answer.headers.get(b"content-type", JSON), _standing(answer.headers))
                return
            upload = Upload(
                workspace_id=call.key.workspace_id,
                key_id=call.key.id,
                connection_id=endpoint.connection_id,
                place=_place(address, lane),
                expires_at=self._clock.now_us() + LIFETIME_SECONDS * _US,
            )
            ours = b"x-goog-upload-url: %b\r\n" % self._address(call.exchange, upload)
            call.respond(answer.body, answer.headers.get(b"content-type", JSON), _standing(answer.headers) + ours)

        await call.at(chosen_connection(call), work)

    async def _go_on(self, call: FileCall, upload: Upload) -> None:
        """A further request; the last is answered with the file."""

        async def work(lane: FileLane, endpoint: Endpoint, files: Any) -> None:
            assert isinstance(files, GeminiFiles)
            answer = await lane.ask(files.part(upload.place, call.exchange.body, call.exchange.headers))
            if answer.headers.get(b"x-goog-upload-status") == b"final":
                await self._files.keep(call, lane, endpoint, files.parse(answer.body))
            call.respond(answer.body, answer.headers.get(b"content-type", JSON), _standing(answer.headers))

        await call.at(upload.connection_id, work)

    def _body_limit(self, headers: dict[bytes, bytes], query: bytes) -> int | None:
        for member in query.split(b"&"):
            name, _, value = member.partition(b"=")
            if name == TOKEN.encode():
                try:
                    self._opened(value.decode("latin-1"))
                except GatewayError:
                    return None
                return self._files.upload_bytes
        return self._files.body_limit(headers, query)

    def _address(self, exchange: Exchange, upload: Upload) -> bytes:
        """Where the client sends the rest."""
        sealed = self._key.seal(PURPOSE, PURPOSE, Secret(_encode(upload).decode()))
        token = urlsafe_b64encode(sealed).rstrip(b"=")
        host = exchange.headers.get(b"host", b"")
        return b"%b://%b%b?%b=%b&upload_protocol=resumable" % (
            exchange.scheme.encode(), host, exchange.path, TOKEN.encode(), token
        )  # fmt: skip

    def _opened(self, token: str) -> Upload:
        """Raises GatewayError(NOT_FOUND) for a token that isn't ours, or is too old."""
        try:
            if len(token) > MAX_TOKEN:
                raise ValueError
            sealed = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
            upload = _decode(self._key.open(PURPOSE, PURPOSE, sealed).reveal())
        except (ConfigError, ValueError):
            raise _unknown_upload() from None
        if upload.expires_at <= self._clock.now_us():
            raise _unknown_upload()
        return upload

    async def _uploader(self, exchange: Exchange, upload: Upload | None) -> Key:
        """The key that asks, or the one that began the upload, if it is still valid. Raises GatewayError."""
        keys = self._gateway.snapshot.keys
        if upload is None or is_credential_sent(exchange.headers):
            key = authenticate(exchange.headers, keys, exchange.started_at, exchange.path)
            if upload is not None and key.workspace_id != upload.workspace_id:
                raise _unknown_upload()
            return key
        late = self._gateway.late_keys
        began = keys.by_id(upload.key_id) if late is None else await late.by_id(upload.key_id)
        if (
            began is None
            or began.disabled
            or (began.expires_at is not None and began.expires_at <= exchange.started_at)
        ):
            raise GatewayError(Kind.UNAUTHENTICATED, "the API key is not valid")
        return began


def _standing(headers: dict[bytes, bytes]) -> bytes:
    return b"".join(b"%b: %b\r\n" % (name, headers[name][:100]) for name in PASSED if name in headers)


def _place(address: bytes, lane: FileLane) -> str:
    """An upstream's upload address as a path below its base URL: nothing is ever sent to another host."""
    try:
        parts = urlsplit(address.decode("ascii"))
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if host != lane.host or not parts.path.startswith(f"{lane.prefix}/"):
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream told an upload address that is not its own")
    path = parts.path.removeprefix(lane.prefix)
    return f"{path}?{parts.query}" if parts.query else path


def _unknown_upload() -> GatewayError:
    return GatewayError(Kind.NOT_FOUND, "there is no such upload, or it took too long", param=TOKEN)
