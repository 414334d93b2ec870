"""Connections ready for use: address, request head and credential of each, built once per configuration."""

from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec

from pointsman.accounting.pricing import FREE, Price
from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError
from pointsman.keyring import Secret
from pointsman.upstream.origins import Origin, Proxy, TlsFiles


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
    events: int
    finish_reason: str | None
    model: str | None
    usage: TokenUsage | None

    def feed(self, data: bytes) -> bytes: ...
    def finish(self) -> bytes: ...


class ProviderFormat(Protocol):
    """What upstreams of one kind speak (a module of `pointsman.providers`)."""

    def build_head(self, path_prefix: str, host: bytes, secret: str | None) -> bytes: ...
    def build_request(self, head: bytes, fields: dict[str, msgspec.Raw], model: msgspec.Raw) -> bytes: ...
    def parse_response(self, body: bytes) -> Reading: ...
    def parse_error(
        self, status: int, headers: dict[bytes, bytes], body: bytes, secret: str | None
    ) -> GatewayError: ...
    def StreamReader(self, choices: int = 1, secret: str | None = None) -> StreamReader: ...


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach an upstream right now: address, the head of a request, and the credential to watch for."""

    origin: Origin
    head: bytes
    secret: Secret | None

    def __repr__(self) -> str:
        return f"Access({self.origin})"  # the head holds the credential

    def reveal(self) -> str | None:
        """The credential's text, to look for it in what the upstream says."""
        return self.secret.reveal() if self.secret is not None else None


class Pending:
    """The type of PENDING: a price that has to be waited for."""


PENDING: Final = Pending()


class Endpoint(Protocol):
    """A connection that calls can be sent to. Each use of ``access`` or `acquire` is paired with one `release`.

    ``access`` is how to reach it when it is always ready, else None: then `acquire` makes it ready.
    """

    connection_id: str
    provider: str | None
    format: ProviderFormat
    access: Access | None

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


class RemoteEndpoint:
    """A connection with a fixed base URL."""

    def __init__(
        self,
        connection_id: str,
        base_url: str,
        secret: Secret | None,
        provider_format: ProviderFormat,
        prices: "Prices",
        *,
        provider: str | None = None,
        allow_private: bool = False,
        max_concurrent: int | None = None,
        proxy: Proxy | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        self.connection_id = connection_id
        self.provider = provider
        self.format = provider_format
        self.base_url = base_url
        self._prices = prices
        self._price_table = prices.table(provider, base_url)
        parts = urlsplit(base_url)
        scheme, host = parts.scheme, parts.hostname or ""
        port = parts.port or (443 if scheme == "https" else 80)
        origin = Origin(
            scheme=scheme,
            host=host,
            port=port,
            allow_private=allow_private,
            limit=max_concurrent,
            owner=connection_id if max_concurrent is not None else None,
            proxy=proxy,
            tls=tls,
        )
        text = secret.reveal() if secret is not None else None
        head = provider_format.build_head(parts.path.rstrip("/"), host_header(scheme, host, port), text)
        self._ready = Access(origin=origin, head=head, secret=secret)
        self.access: Access | None = self._ready

    async def acquire(self) -> Access:
        """Always ready."""
        return self._ready

    def release(self) -> None:
        """Nothing is held."""

    def known_price(self, model: str) -> Price | Pending | None:
        """From the table of prices in memory."""
        price = self._price_table.get(model, PENDING)
        if price is PENDING:
            self._prices.ask(self.provider, self.base_url, model)
        return price

    async def price(self, model: str) -> Price | None:
        """From the price data, by provider or base URL."""
        return await self._prices.find(self.provider, self.base_url, model)


def host_header(scheme: str, host: str, port: int) -> bytes:
    """The Host header's value: IDNA-encoded, IPv6 in brackets, the port when it isn't the scheme's own."""
    name = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
    standard = 443 if scheme == "https" else 80
    return (name if port == standard else f"{name}:{port}").encode("ascii")


class Prices(Protocol):
    """Looks prices up (accounting/prices.py)."""

    def table(self, provider: str | None, base_url: str | None) -> dict[str, Price | None]: ...
    def ask(self, provider: str | None, base_url: str | None, model: str) -> object: ...
    async def find(self, provider: str | None, base_url: str | None, model: str) -> Price | None: ...


class LocalChild(Protocol):
    """The supervised local model (upstream/local_model.py)."""

    async def acquire(self) -> "LocalAddress": ...
    def release(self) -> None: ...


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
    access: Access | None = None

    def __init__(self, connection_id: str, child: LocalChild, provider_format: ProviderFormat) -> None:
        self.connection_id = connection_id
        self.format = provider_format
        self._child = child
        self._known: dict[tuple[int, str], Access] = {}

    async def acquire(self) -> Access:
        """Start the child if need be; each life of it has a port and a key of its own."""
        address = await self._child.acquire()
        key = (address.port, address.api_key)
        access = self._known.get(key)
        if access is None:
            origin = Origin(scheme="http", host=address.host, port=address.port, allow_private=True)
            head = self.format.build_head("/v1", host_header("http", address.host, address.port), address.api_key)
            access = Access(origin=origin, head=head, secret=Secret(address.api_key))
            self._known = {key: access}
        return access

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
