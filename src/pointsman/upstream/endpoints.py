"""Connections ready for use: address, request head and credential of each, built once per configuration."""

import copy
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from itertools import cycle
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from pointsman.accounting.pricing import FREE, Price
from pointsman.canonical.halves import Built, ProviderFormat, Upstream
from pointsman.canonical.usage import TokenUsage
from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.keyring import Secret
from pointsman.providers.departures import NO_DEPARTURES, Departures
from pointsman.upstream.origins import Origin, Proxy, TlsFiles, ascii_host, port_of, standard_port
from pointsman.upstream.request_headers import insert_lines

if TYPE_CHECKING:
    from pointsman.upstream.signing import AwsSigner


class Reading(Protocol):
    """What an answer told about itself; ``usage`` is None when the upstream gave none."""

    @property
    def model(self) -> str | None: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def usage(self) -> TokenUsage | None: ...


class StreamReader(Protocol):
    """Watches a streamed answer go by; see providers/openai.py for the exact meaning of each member."""

    done: bool
    failed: bool
    error: GatewayError | None
    events: int
    finish_reason: str | None
    model: str | None
    usage: TokenUsage | None

    def feed(self, data: bytes) -> bytes: ...
    def finish(self) -> bytes: ...
    def has_content(self, events: bytes) -> bool: ...


class RawFormat(Protocol):
    """The raw lane of OpenAI's chat API (providers/openai.py), which every request takes that need not be read."""

    def build_head(self, path_prefix: str, host: bytes, secret: str | None) -> bytes: ...
    def build_request(
        self, head: bytes, fields: dict[str, msgspec.Raw], model: msgspec.Raw, ask_usage: bool = False
    ) -> bytes: ...
    def parse_response(self, body: bytes) -> Reading: ...
    def parse_error(
        self, status: int, headers: dict[bytes, bytes], body: bytes, secret: str | None
    ) -> GatewayError: ...
    def StreamReader(self, choices: int = 1, secret: str | None = None, unasked: bool = False) -> StreamReader: ...


Operations = Mapping[str, Any]  # formats by operation (providers/operation_table.py)
KNOWN_HEADS: Final = 64  # header lines that are kept as bytes
NO_OPERATIONS: Final[Operations] = MappingProxyType({})


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach an upstream right now: address, the head of a request, and the credential to watch for."""

    origin: Origin
    head: bytes
    secret: Secret | None
    prefix: str = ""  # of every path: the base URL's own
    lines: bytes = b""  # the header lines that every request has, credential included

    def __repr__(self) -> str:
        return f"Access({self.origin})"  # the head holds the credential

    def reveal(self) -> str | None:
        """The credential's text, to look for it in what the upstream says."""
        return self.secret.reveal() if self.secret is not None else None


class Pending:
    """The type of PENDING: a price that has to be waited for."""


PENDING: Final = Pending()
_PLAIN: Final = re.compile(r"[!-~]+")  # visible ASCII: what may stand in a request line
_VALUE: Final = re.compile(r"[ -~]*")


class Endpoint(Protocol):
    """A connection that calls can be sent to. Each use of ``access`` or `acquire` is paired with one `release`.

    ``access`` is how to reach it when it is always ready, else None: then `acquire` makes it ready.
    """

    connection_id: str
    provider: str | None
    format: RawFormat
    access: Access | None
    wire: str
    hub: ProviderFormat
    departures: Departures
    operations: Operations
    busy: int  # calls under way
    look_at: int  # from then on (us) an answer's headers are worth a look: they tell what is left of the limits
    stream_usage: bool  # a stream's usage may be asked for: the upstream does not refuse the member
    byok: bool  # the upstream bills the caller's own account: the gateway's operator owes nothing
    account: Hashable | None  # equal for connections to one account: what is kept there can be reached by each

    def upstream(self, model: str) -> Upstream:
        """The connection as its provider format has to know it, for one of its models."""
        ...

    def message(self, access: Access, built: Built) -> bytes:
        """The whole HTTP request."""
        ...

    def known_price(self, model: str) -> Price | Pending | None:
        """What a model costs here; None when nobody knows, PENDING when it is being looked up from now on."""
        ...

    async def acquire(self) -> Access:
        """Make it ready. Raises GatewayError(NOT_READY) when it can't be."""
        ...

    def release(self) -> None:
        """The call is over."""
        ...

    async def price(self, model: str) -> Price | None:
        """What a model costs here; None when that is not known."""
        ...


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a connection's host is and on which ways it is reached. ``headers`` are sent with every request."""

    base_url: str
    allow_private: bool = False
    max_concurrent: int | None = None
    proxy: Proxy | None = None
    tls: TlsFiles | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"Place({self.base_url})"  # headers may hold credentials

    def origin(self, connection_id: str) -> Origin:
        """What its sockets are kept by; a limit is the connection's own."""
        parts = urlsplit(self.base_url)
        return Origin(
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=port_of(parts),
            allow_private=self.allow_private,
            limit=self.max_concurrent,
            owner=connection_id if self.max_concurrent is not None else None,
            proxy=self.proxy,
            tls=self.tls,
        )


class Speech(msgspec.Struct, frozen=True, kw_only=True):
    """How a host is spoken to: formats of chats and other operations, and what is peculiar to it."""

    raw: RawFormat
    hub: ProviderFormat
    operations: Operations = NO_OPERATIONS
    provider: str | None = None
    quirks: Mapping[str, Any] = MappingProxyType({})
    options: Mapping[str, str] = MappingProxyType({})
    departures: Departures = NO_DEPARTURES
    stream_usage: bool = True


class RemoteEndpoint:
    """A connection with a fixed base URL."""

    def __init__(
        self,
        connection_id: str,
        place: Place,
        speech: Speech,
        secrets: tuple[Secret, ...],
        prices: "Prices",
        clock: Clock | None = None,
    ) -> None:
        """Several ``secrets`` take turns. ``clock`` is for hosts whose requests are signed."""
        self.connection_id = connection_id
        self.look_at = 0
        self.busy = 0
        self.provider = speech.provider
        self.format = speech.raw
        self.hub = speech.hub
        self.operations = speech.operations
        self.wire = speech.hub.WIRE
        self.departures = speech.departures
        self.stream_usage = speech.stream_usage
        self._quirks = speech.quirks
        self._options = speech.options
        self.byok = self._options.get("byok") == "true"
        self.base_url = place.base_url
        self.own_price: Callable[[str], Price | None] | None = None  # what wins over the price data, by model
        self._prices = prices
        self._price_table = prices.table(speech.provider, place.base_url)
        self._origin = origin = place.origin(connection_id)
        self._prefix = urlsplit(place.base_url).path.rstrip("/")
        self._host = host_header(origin.scheme, origin.host, origin.port)
        self._clock = clock
        first = secrets[0] if secrets else None
        text = (first.reveal() if first is not None else "").encode()
        self.account: Hashable | None = (origin.scheme, origin.host, origin.port, sha256(text).digest())
        self._signer = self._signer_of(first)
        self._ready = self._access_with(first, place.headers)
        self.access: Access | None = self._ready
        self._turns: Iterator[Access] | None = None
        if len(secrets) > 1:
            self.access = self.account = None
            self._turns = cycle([self._ready, *(self._access_with(one, place.headers) for one in secrets[1:])])

    def _signer_of(self, secret: Secret | None) -> "AwsSigner | None":
        if self.wire != "bedrock" or self._clock is None:
            return None
        from pointsman.upstream.signing import signer_for  # Amazon's format: loaded with a connection to it

        text = secret.reveal() if secret is not None else None
        return signer_for(self.wire, text, self.base_url, self._host, self._clock)

    def _access_with(self, secret: Secret | None, headers: tuple[tuple[str, str], ...]) -> Access:
        text = secret.reveal() if secret is not None else None
        credentials = self.hub.auth_headers(text, self.upstream("")) if text is not None else ()
        head = self.format.build_head(self._prefix, self._host, text)
        return Access(
            origin=self._origin,
            head=insert_lines(head, headers) if headers else head,
            secret=secret,
            prefix=self._prefix,
            lines=header_lines(self._host, (*credentials, *headers)),
        )

    def keyed(self, secret: Secret) -> "RemoteEndpoint":
        """The same place with another account's credential, whom the upstream bills. Nothing of the connection's own
        account goes with it: no further credential, no header of its own, no limit learned from an answer.
        """
        own = copy.copy(self)
        own._ready, own._signer = self._access_with(secret, ()), self._signer_of(secret)
        own.access, own._turns, own.account = own._ready, None, None
        own.byok, own.busy, own.look_at = True, 0, 2**63
        return own

    def upstream(self, model: str) -> Upstream:
        """With the quirks of the host."""
        return Upstream(model=model, quirks=self._quirks, options=self._options)

    def message(self, access: Access, built: Built) -> bytes:
        """With the connection's own headers, and a signature where the host demands one."""
        if self._signer is not None:
            built = self._signer.sign(built, access.prefix)
        return write_message(access, built)

    async def acquire(self) -> Access:
        """Always ready; of several credentials the next."""
        return self._ready if self._turns is None else next(self._turns)

    def release(self) -> None:
        """Nothing is held."""

    def known_price(self, model: str) -> Price | Pending | None:
        """From the table of prices in memory."""
        if self.own_price is not None and (own := self.own_price(model)) is not None:
            return own
        price = self._price_table.get(model, PENDING)
        if price is PENDING:
            self._prices.ask(self.provider, self.base_url, model)
        return price

    async def price(self, model: str) -> Price | None:
        """From the price data, by provider or base URL."""
        if self.own_price is not None and (own := self.own_price(model)) is not None:
            return own
        return await self._prices.find(self.provider, self.base_url, model)


def host_header(scheme: str, host: str, port: int) -> bytes:
    """The Host header's value: IDNA-encoded, IPv6 in brackets, the port when it isn't the scheme's own."""
    name = f"[{host}]" if ":" in host else ascii_host(host)
    return (name if port == standard_port(scheme) else f"{name}:{port}").encode("ascii")


def header_lines(host: bytes, credentials: tuple[tuple[str, str], ...]) -> bytes:
    """The header lines that every request to a host has."""
    lines = [("host", host.decode("ascii")), *credentials, ("accept-encoding", "identity"), ("user-agent", "pointsman")]
    return "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1")


def write_message(access: Access, built: Built) -> bytes:
    """A built request as HTTP. Raises GatewayError(INVALID_REQUEST) when a name in it would break the head."""
    target, headers = access.prefix + built.path, built.headers
    if not _PLAIN.fullmatch(target):
        raise _unfit()
    # One header is the format's own, the same in every request; more are the client's words, or a signature.
    own = _known_lines(headers) if len(headers) < 2 else _own_lines(headers)
    return b"%b %b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
        built.method.encode("ascii"), target.encode("ascii"), access.lines, own, len(built.body), built.body
    )  # fmt: skip


def _own_lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    if not any(name == "content-type" for name, _ in headers):
        headers = (*headers, ("content-type", "application/json"))
    if not all(_VALUE.fullmatch(value) for _, value in headers):
        raise _unfit()
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")


_known_lines: Final = lru_cache(maxsize=KNOWN_HEADS)(_own_lines)


def _unfit() -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, "a name in the request can't stand in an address or a header")


class Prices(Protocol):
    """Looks prices up (accounting/prices.py)."""

    def table(self, provider: str | None, base_url: str | None) -> dict[str, Price | None]: ...
    def ask(self, provider: str | None, base_url: str | None, model: str) -> object: ...
    async def find(self, provider: str | None, base_url: str | None, model: str) -> Price | None: ...


class LocalChild(Protocol):
    """The supervised local model (upstream/local_model.py)."""

    async def acquire(self) -> "LocalAddress": ...
    def release(self) -> None: ...


class LocalChildren(msgspec.Struct, frozen=True, kw_only=True):
    """The programs that run on this machine: the chat model, and what makes embeddings and rankings."""

    chat: LocalChild
    embedder: LocalChild


class LocalAddress(Protocol):
    """Where the child listens."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def api_key(self) -> str: ...


class LocalEndpoint:
    """The embedded model: its process is started when a call needs it."""

    provider: str | None = "local"
    byok = False
    account: Hashable | None = None
    access: Access | None = None
    departures = NO_DEPARTURES
    stream_usage = True

    def __init__(
        self,
        connection_id: str,
        child: LocalChild,
        provider_format: RawFormat,
        hub: ProviderFormat,
        operations: Operations = NO_OPERATIONS,
    ) -> None:
        self.connection_id = connection_id
        self.look_at = 2**63
        self.busy = 0
        self.format = provider_format
        self.hub = hub
        self.operations = operations
        self.wire = hub.WIRE
        self._child = child
        self._known: dict[tuple[int, str], Access] = {}

    async def acquire(self) -> Access:
        """Start the child if need be; each life of it has a port and a key of its own."""
        address = await self._child.acquire()
        key = (address.port, address.api_key)
        access = self._known.get(key)
        if access is None:
            origin = Origin(scheme="http", host=address.host, port=address.port, allow_private=True)
            name = host_header("http", address.host, address.port)
            lines = header_lines(name, self.hub.auth_headers(address.api_key, self.upstream("")))
            head = self.format.build_head("/v1", name, address.api_key)
            access = Access(origin=origin, head=head, secret=Secret(address.api_key), prefix="/v1", lines=lines)
            self._known = {key: access}
        return access

    def upstream(self, model: str) -> Upstream:
        """The engine behind it takes what OpenAI's API has, as far as a small model can."""
        return Upstream(model=model)

    def message(self, access: Access, built: Built) -> bytes:
        """As for any other host."""
        return write_message(access, built)

    def release(self) -> None:
        """One call fewer keeps the child awake."""
        self._child.release()

    def known_price(self, model: str) -> Price | Pending | None:
        """Nobody sends a bill for it."""
        return FREE

    async def price(self, model: str) -> Price | None:
        """Nobody sends a bill for it."""
        return FREE


Endpoints = Mapping[str, Endpoint]
