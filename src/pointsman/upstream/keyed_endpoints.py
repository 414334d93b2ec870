"""Endpoints for one call with a key that the caller brings: where that key may go, and where it may not."""

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from pointsman.errors import GatewayError, Kind
from pointsman.keyring import Secret
from pointsman.providers.hosts import Host, hosts
from pointsman.routing.keyed import no_credential, open_host, shown
from pointsman.routing.targets import Target
from pointsman.upstream.endpoints import Endpoint, RemoteEndpoint

OfHost = Callable[[Host, Secret], RemoteEndpoint]
PARAM: Final = "provider"


class EndpointTable(dict[str, Endpoint]):
    """The endpoints of one configuration, by `Target.endpoint`."""

    def __init__(self, of_host: OfHost) -> None:
        """``of_host`` makes the endpoint of a host that no connection leads to."""
        super().__init__()
        self._of_host = of_host

    def keyed(self, target: Target, provider: str, secret: Secret) -> RemoteEndpoint:
        """The way to ``target`` for one call with ``secret``, the key for the ``provider`` that the caller has named.

        A vendor's key goes to the vendor's own address alone; elsewhere only under the connection's own id. Raises
        GatewayError(INVALID_REQUEST).
        """
        endpoint, host = self.get(target.endpoint), open_host(provider)
        if endpoint is None:
            if host is None or target.connection.id != host.id:
                raise no_credential(provider)
            made = self._of_host(host, secret)
            made.byok = True
            return made
        if not isinstance(endpoint, RemoteEndpoint):
            raise _refused(f"the provider '{shown(provider)}' takes no key")
        known = hosts().get(provider)
        if target.connection.id != provider and known is not None and _is_elsewhere(endpoint, known):
            raise _refused(
                f"'{shown(provider)}' is reached at another address than its own here; to send it a key, name the"
                f" connection: '{target.connection.id}'"
            )
        return endpoint.keyed(secret)


def _is_elsewhere(endpoint: RemoteEndpoint, host: Host) -> bool:
    return host.base_url is not None and _place(host.base_url) != _place(endpoint.base_url)


def _place(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _refused(message: str) -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, message, param=PARAM)
