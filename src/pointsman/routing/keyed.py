"""Where a request goes that brings its provider's key: to one target of that provider, and to nobody else."""

from typing import Final

from pointsman.errors import GatewayError, Kind
from pointsman.providers.hosts import GENERIC, Host, hosts
from pointsman.routing.catalogue import Catalogue, route_to
from pointsman.routing.plan import Route
from pointsman.routing.targets import Connection, target_of

MAX_SHOWN: Final = 100  # characters of a name


def keyed_route(model: str, provider: str, catalogue: Catalogue) -> Route:
    """The route to ``model`` at the provider that was named: at the connection of this id, else at the vendor's most
    important connection, else at the vendor's own address.

    Raises GatewayError: INVALID_REQUEST for a provider that nobody knows, MODEL_NOT_FOUND for a model that the operator
    does not let it offer.
    """
    known = [one for one in catalogue.connections.values() if provider in (one.id, one.vendor)]
    if not known:
        if open_host(provider) is None:
            raise GatewayError(Kind.INVALID_REQUEST, f"the provider '{shown(provider)}' is not known", param="provider")
        host = hosts()[provider]
        return route_to(model, target_of(Connection(id=provider, kind=provider, provider=host.pricing), model))
    bare = model.removeprefix(f"{provider}/") if provider in catalogue.connections else model
    found = catalogue.offered(provider, bare)
    if not found:
        message = f"the provider '{shown(provider)}' does not offer the model '{shown(bare)}' here"
        raise GatewayError(Kind.MODEL_NOT_FOUND, message, param="model")
    return route_to(model, max(found, key=lambda one: (one.connection.id == provider, one.connection.priority)))


def open_host(name: str) -> Host | None:
    """The host of this name that whoever has a key for it can call at an address that is known as a whole."""
    host = hosts().get(name)
    if host is None or host.id == GENERIC or not host.complete:
        return None
    return None if host.auth == "none" or host.format == "none" else host


def check_pin(provider: str, catalogue: Catalogue) -> None:
    """Raises GatewayError(INVALID_REQUEST) for a host that is known, and that no connection leads to."""
    name = provider.lower()
    if open_host(name) is not None and not any(
        name in (one.id.lower(), one.vendor.lower()) for one in catalogue.connections.values()
    ):
        raise no_credential(provider)


def no_credential(provider: str) -> GatewayError:
    """The error for a provider that is known, and whose credential nobody has stored."""
    message = f"no credential is stored for the provider '{shown(provider)}', and the request brings no 'provider_key'"
    return GatewayError(Kind.INVALID_REQUEST, message, param="provider")


def shown(text: str) -> str:
    """A caller's text, made safe to repeat: short and without control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MAX_SHOWN])
