"""What the views of connections and nodes share: the services, errors as the contract has them, and who did what."""

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog

from pointsman.api.exchange import HttpRequest
from pointsman.api.omniroute.management import ManagementError, admit, invalid
from pointsman.errors import ConfigError
from pointsman.gateway import Gateway
from pointsman.identity.keys import Key
from pointsman.storage.database import AlreadyExistsError
from pointsman.upstream.connections import ConnectionService, DeclaredInFileError, UnknownConnectionError
from pointsman.upstream.provider_nodes import ProviderNodeService, UnknownNodeError

NOT_CONFIRMED: Final = "stored, but not every server has confirmed it yet; each takes it when it next reads"
_PLACE: Final = re.compile(r"(?:connection|node)\.(?P<field>[a-z_]+)(?P<rest>[^:]*): (?P<message>.*)", re.DOTALL)
# Our fields by the contract's names, where those are more than another way of writing.
_NAMES: Final = {
    "base_url": "url",
    "kind": "provider",
    "extra_keys": "extraApiKeys",
    "ca_file": "caCertificates",
    "proxy": "proxy",
}
audit: Final = structlog.get_logger("pointsman.audit")


class Configured:
    """The services behind the views."""

    def __init__(
        self,
        gateway: Gateway,
        connections: ConnectionService,
        nodes: ProviderNodeService,
        await_revision: Callable[[int], Awaitable[bool]],
    ) -> None:
        self.gateway = gateway
        self.connections = connections
        self.nodes = nodes
        self._await_revision = await_revision

    def admit(self, request: HttpRequest) -> Key:
        """The administrator's key. Raises ManagementError, 401 or 403."""
        return admit(request)

    async def applied(self, revision: int) -> list[str]:
        """Wait until every live server works with ``revision``; gives a warning when one has not said so in time."""
        return [] if await self._await_revision(revision) else [NOT_CONFIRMED]


def note(action: str, key: Key, target: str, **facts: Any) -> None:
    """Write to the log who changed what; ``facts`` are names and counts, never values that could be secret."""
    audit.info("configuration changed", action=action, actor=key.id, target=target, **facts)


@contextmanager
def told() -> Iterator[None]:
    """Turns what services raise into the contract's errors: 404, 409, or 400 that names the field."""
    try:
        yield
    except (UnknownConnectionError, UnknownNodeError) as error:
        raise refused(404, str(error)) from None
    except DeclaredInFileError as error:
        raise refused(409, str(error)) from None
    except AlreadyExistsError as error:
        raise refused(409, f"it exists already: {error}") from None
    except ConfigError as error:
        raise invalid([fault_of(error)]) from None


def refused(status: int, message: str) -> ManagementError:
    """An error that is no field's fault."""
    return ManagementError(status, {"message": message, "type": "invalid_request"}, with_id=True)


def fault_of(error: ConfigError) -> tuple[str, str]:
    """The contract's name of the field at fault, and what is wrong with it."""
    found = _PLACE.match(str(error))
    if found is None:
        return "body", str(error)
    name = _NAMES.get(found["field"], camel(found["field"]))
    message = found["message"].replace("add --allow-private if", 'send "allowPrivate": true if')
    return name + found["rest"], message


def camel(name: str) -> str:
    """``base_url`` as ``baseUrl``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
