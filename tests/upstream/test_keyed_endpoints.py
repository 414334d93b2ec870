"""Where a key that a caller brings may go, and that nothing of the stored account goes with it."""

from typing import Any

import pytest

from pointsman.errors import GatewayError, Kind
from pointsman.keyring import Secret
from pointsman.providers import openai
from pointsman.providers.formats import provider_format
from pointsman.providers.hosts import Host
from pointsman.routing.catalogue import Catalogue
from pointsman.routing.keyed import keyed_route
from pointsman.routing.targets import Connection
from pointsman.upstream.endpoints import Place, RemoteEndpoint, Speech
from pointsman.upstream.keyed_endpoints import EndpointTable

OWN = Secret("sk-own-0123456789")


class NoPrices:
    """Nobody knows what anything costs."""

    def table(self, provider: str | None, base_url: str | None) -> dict[str, Any]:
        return {}

    def ask(self, provider: str | None, base_url: str | None, model: str) -> object:
        return None

    async def find(self, provider: str | None, base_url: str | None, model: str) -> None:
        return None


def endpoint(name: str, place: str | Place, *secrets: Secret) -> RemoteEndpoint:
    speech = Speech(raw=openai, hub=provider_format("openai.chat"))
    return RemoteEndpoint(name, Place(base_url=place) if isinstance(place, str) else place, speech, secrets, NoPrices())


def of_host(host: Host, secret: Secret) -> RemoteEndpoint:
    return endpoint(host.id, host.base_url or "", secret)


def keyed(provider: str, *connections: tuple[Connection, RemoteEndpoint], model: str = "m") -> RemoteEndpoint:
    """The way of a call for ``provider`` with its own key."""
    table = EndpointTable(of_host)
    table.update({connection.id: one for connection, one in connections})
    route = keyed_route(model, provider, Catalogue([connection for connection, _ in connections], {}))
    return table.keyed(route.steps[0].target, provider, OWN)


def test_a_vendor_without_a_connection_is_called_at_its_own_address() -> None:
    made = keyed("mistral", model="mistral-small-latest")
    assert (made.base_url, made.byok) == ("https://api.mistral.ai/v1", True)
    assert made.access is not None
    assert made.access.reveal() == OWN.reveal()
    assert not made.access.origin.allow_private


def test_a_connection_s_own_account_stays_out_of_it() -> None:
    place = Place(base_url="https://api.openai.com/v1", headers=(("openai-organization", "org-ours"),))
    stored = endpoint("openai", place, Secret("sk-stored"), Secret("sk-another"))
    made = keyed("openai", (Connection(id="openai", kind="openai"), stored))
    assert made.access is not None
    sent = made.access.head + made.access.lines
    assert OWN.reveal().encode() in sent
    assert all(word not in sent for word in (b"sk-stored", b"sk-another", b"org-ours"))
    assert made.account is None
    assert stored.access is None
    assert "sk-own" not in repr(made.access)


def test_of_several_connections_the_one_of_that_id_is_asked_else_the_most_important() -> None:
    first, second = (
        (Connection(id=name, kind="openai", provider="openai", priority=rank), endpoint(name, url))
        for name, url, rank in (
            ("one", "https://api.openai.com/v1", 1),
            ("two", "https://api.openai.com/v1/", 5),
        )
    )
    assert keyed("openai", first, second).connection_id == "two"
    assert keyed("one", first, second).connection_id == "one"


@pytest.mark.parametrize(
    "base_url",
    ["http://api.openai.com/v1", "https://api.openai.com.evil.example/v1", "https://api.openai.com:8443/v1",
     "http://127.0.0.1:9/v1"],
)  # fmt: skip
def test_a_vendor_s_key_never_goes_to_another_address_under_the_vendor_s_name(base_url: str) -> None:
    connection = Connection(id="proxy", kind="openai", provider="openai")
    with pytest.raises(GatewayError) as caught:
        keyed("openai", (connection, endpoint("proxy", base_url)))
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, "provider")
    assert keyed("proxy", (connection, endpoint("proxy", base_url))).base_url == base_url


@pytest.mark.parametrize("provider", ["nobody", "ollama", "azure", "openai-compatible", "voyage", "local", ""])
def test_what_is_no_open_host_gets_no_key(provider: str) -> None:
    with pytest.raises(GatewayError) as caught:
        keyed(provider)
    assert caught.value.kind is Kind.INVALID_REQUEST


def test_a_model_that_the_operator_does_not_offer_there_is_refused() -> None:
    connection = Connection(id="openai", kind="openai", models=("gpt-4.1-mini",))
    at = (connection, endpoint("openai", "https://api.openai.com/v1"))
    assert keyed("openai", at, model="gpt-4.1-mini").connection_id == "openai"
    with pytest.raises(GatewayError) as caught:
        keyed("openai", at, model="gpt-4o")
    assert caught.value.kind is Kind.MODEL_NOT_FOUND
