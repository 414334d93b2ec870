"""Asking an upstream for its list of models: is it there, does it take the key, how fast is it, what has it."""

import asyncio
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from pointsman.canonical.halves import Upstream
from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.keyring import Secret
from pointsman.providers import azure_openai
from pointsman.providers.formats import listing_of, parse_model_list, provider_format
from pointsman.providers.hosts import Host
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.endpoints import header_lines, host_header
from pointsman.upstream.origins import Origin, Proxy, TlsFiles, port_of

API_KEY: Final = "api-key"  # the header that Azure takes a key in
PROBE_SECONDS: Final = 20.0  # how long a test may take in all
MAX_MODELS: Final = 10_000  # of a list; OpenRouter, which has the longest known, had 500 in 2026-11

# What a test found: everything in order, who is to blame otherwise, or that there is nothing to ask.
Verdict = Literal[
    "ok", "auth", "network_error", "upstream_rate_limited", "upstream_unavailable", "upstream_error", "unsupported"
]
NETWORK: Final = frozenset({Kind.UPSTREAM_UNAVAILABLE, Kind.UPSTREAM_TIMEOUT, Kind.OVERLOADED})


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how to ask an upstream for its model list, and how to read it."""

    origin: Origin
    message: bytes
    secret: Secret | None
    wire: str = "openai.chat"

    def __repr__(self) -> str:
        return f"Probe({self.origin})"  # the message holds the credential


class Ways(msgspec.Struct, frozen=True, kw_only=True):
    """How requests of one connection go out: through a proxy, with certificates, with headers of its own."""

    proxy: Proxy | None = None
    tls: TlsFiles | None = None
    headers: tuple[tuple[str, str], ...] = ()
    models_path: str | None = None

    def __repr__(self) -> str:
        return f"Ways({self.proxy}, {self.tls})"  # a header may be a credential


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a test. ``message`` is for people and holds no secret; ``status`` is the upstream's."""

    verdict: Verdict
    latency_ms: int
    tested_at: int
    message: str | None = None
    status: int | None = None
    models: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether calls may be expected to work."""
        return self.verdict == "ok"


def probe(base_url: str, secret: Secret | None, host: Host, *, allow_private: bool, ways: Ways = Ways()) -> Probe:  # noqa: B008 - immutable
    """Where and how to ask the upstream at ``base_url`` for its model list."""
    parts = urlsplit(base_url)
    name = parts.hostname or ""
    port = port_of(parts)
    origin = Origin(
        scheme=parts.scheme, host=name, port=port, allow_private=allow_private, proxy=ways.proxy, tls=ways.tls
    )
    text = secret.reveal() if secret is not None else None
    prefix, header = parts.path.rstrip("/"), host_header(parts.scheme, name, port)
    if host.auth == API_KEY:
        message = azure_openai.build_models_request(prefix, header, text, host.chat_path)
        return Probe(origin=origin, message=message, secret=secret)
    listing = listing_of(host.format)
    path = ways.models_path or (listing.path if listing is not None else "/")
    credentials: tuple[tuple[str, str], ...] = ()
    if text is not None:
        credentials = provider_format(host.format).auth_headers(text, Upstream(model="", quirks=host.quirk_map()))
    lines = header_lines(header, (*credentials, *ways.headers))
    message = b"GET %b HTTP/1.1\r\n%b\r\n" % ((prefix + path).encode("ascii"), lines)
    return Probe(origin=origin, message=message, secret=secret, wire=host.format)


async def fetch_models(client: UpstreamClient, probe: Probe) -> tuple[str, ...]:
    """Ask an upstream which models it has. Raises GatewayError as a call would; a redirect is not followed."""
    listing = listing_of(probe.wire)
    if listing is None:
        raise GatewayError(Kind.UNSUPPORTED, "upstreams of this kind have no list of models")
    answer = CollectedAnswer()
    await client.send(probe.origin, probe.message, answer)
    if answer.status != 200:
        text = probe.secret.reveal() if probe.secret is not None else None
        error = provider_format(probe.wire).parse_error(answer.status, answer.headers, answer.body, text)
        raise error.of(answer.status, answer.headers, answer.body)
    return parse_model_list(answer.body, listing)[:MAX_MODELS]


async def try_out(client: UpstreamClient, probe: Probe, clock: Clock, seconds: float = PROBE_SECONDS) -> Finding:
    """Ask for the models and judge what came; raises nothing that an upstream could cause."""
    started, at = clock.monotonic(), clock.now_us()
    models: tuple[str, ...] = ()
    failure: GatewayError | None = None
    try:
        async with asyncio.timeout(seconds):
            models = await fetch_models(client, probe)
    except TimeoutError:
        failure = GatewayError(Kind.UPSTREAM_TIMEOUT, f"the upstream did not answer within {seconds:.0f} s")
    except GatewayError as error:
        failure = error
    latency = round((clock.monotonic() - started) * 1000)
    if failure is None:
        return Finding(verdict="ok", latency_ms=latency, tested_at=at, status=200, models=models)
    status = failure.refusal.status if failure.refusal is not None else None
    verdict = judge(failure, status)
    return Finding(verdict=verdict, latency_ms=latency, tested_at=at, message=_told(failure, status), status=status)


def judge(error: GatewayError, status: int | None) -> Verdict:
    """Who is to blame for a failed test."""
    if error.kind is Kind.UNSUPPORTED and status is None:
        return "unsupported"
    if status is None:
        return "network_error" if error.kind in NETWORK else "upstream_error"
    if status in (401, 403):
        return "auth"
    if status == 429:
        return "upstream_rate_limited"
    return "upstream_unavailable" if status >= 500 else "upstream_error"


def _told(error: GatewayError, status: int | None) -> str:
    """What is told: where the upstream answered, its status and no word of its own, which could repeat the key."""
    if status is None:
        return error.message
    if 300 <= status < 400:
        return f"the upstream answered with a redirect ({status}), which is not followed; correct the address"
    if status in (401, 403):
        return f"the upstream did not accept the credential: it answered {status}"
    return f"the upstream answered {status} when it was asked for its models"
