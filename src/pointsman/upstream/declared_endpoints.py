"""Endpoints of declared connections: upstreams, this machine's own models, hosts that a caller has a key for."""

from pointsman.clock import Clock
from pointsman.keyring import Secret
from pointsman.providers import azure_openai, openai
from pointsman.providers.departures import departures_of, quirks_of
from pointsman.providers.formats import NO_CHAT, provider_format
from pointsman.providers.hosts import Host, effective_host
from pointsman.providers.openai_paths import OpenAIAt
from pointsman.providers.operation_table import LOCAL as LOCAL_OPERATIONS
from pointsman.providers.operation_table import operations_of
from pointsman.storage.connections import ConnectionRow
from pointsman.upstream.declared import Declared
from pointsman.upstream.endpoints import (
    Endpoint,
    LocalChildren,
    LocalEndpoint,
    Place,
    Prices,
    RawFormat,
    RemoteEndpoint,
    Speech,
)
from pointsman.upstream.minilm import MODEL_NAME as MINILM
from pointsman.upstream.probes import API_KEY


def local_endpoints(connection_id: str, children: LocalChildren) -> dict[str, Endpoint]:
    """What runs on this machine: the chat model under the connection's id, the embedder below it."""
    chat = LocalEndpoint(connection_id, children.chat, openai, provider_format("openai.chat"))
    embedder = LocalEndpoint(connection_id, children.embedder, openai, provider_format(NO_CHAT), LOCAL_OPERATIONS)
    return {connection_id: chat, f"{connection_id}/{MINILM}": embedder}


def remote_endpoint(declared: Declared, base_url: str, prices: Prices, clock: Clock) -> RemoteEndpoint:
    """What calls to the upstream of a connection at ``base_url`` are sent to, with all of its credentials."""
    row = declared.row
    host = effective_host(row.kind, base_url)
    quirks = quirks_of(host, row.options)
    place = Place(
        base_url=base_url,
        allow_private=row.allow_private,
        max_concurrent=row.max_concurrent,
        proxy=declared.proxy,
        tls=declared.tls,
        headers=declared.header_lines(),
    )
    speech = Speech(
        raw=_raw_format(host, row),
        hub=provider_format(host.format),
        operations=operations_of(host),
        provider=row.provider,
        quirks=quirks,
        options=row.options,
        departures=departures_of(host, quirks),
        stream_usage=host.quirks.stream_usage,
    )
    first = () if declared.secret is None else (declared.secret,)
    return RemoteEndpoint(row.id, place, speech, (*first, *declared.extra), prices, clock)


def endpoint_of_host(host: Host, secret: Secret, prices: Prices, clock: Clock) -> RemoteEndpoint:
    """A host of the table at its own address, for whoever has a key for it."""
    row = ConnectionRow(
        id=host.id, kind=host.id, base_url=host.base_url, provider=host.pricing, created_at=0, updated_at=0
    )
    return remote_endpoint(Declared(row=row, secret=secret, source="request"), host.base_url or "", prices, clock)


def _raw_format(host: Host, row: ConnectionRow) -> RawFormat:
    if host.auth == API_KEY:
        return azure_openai.AzureOpenAI(host)
    path = row.options.get("chat_path")
    return OpenAIAt(path) if path is not None else openai
