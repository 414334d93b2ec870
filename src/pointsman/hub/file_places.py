"""Where a call goes that names uploaded files: to where they are, if they are the caller's."""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from pointsman.canonical.request import Request
from pointsman.errors import GatewayError, Kind
from pointsman.policy.stored_files import FileOwner, StoredFiles
from pointsman.routing.catalogue import Catalogue
from pointsman.routing.plan import Route
from pointsman.routing.targets import Target
from pointsman.runner import in_task
from pointsman.storage.database import StorageError
from pointsman.upstream.endpoints import Endpoints
from pointsman.wire.file_references import addresses_in, gemini_file, named_files

GEMINI: Final = "gemini"
_OWN_FILES: Final = frozenset(("anthropic", GEMINI))  # the wires with a files API of their own; the others: OpenAI's


class Configuration(Protocol):
    """What a request sees of the configuration (flow.py)."""

    @property
    def catalogue(self) -> Catalogue: ...
    @property
    def endpoints(self) -> Endpoints: ...


class FilePlaces:
    """The files that one call names, with the configuration that it sees."""

    def __init__(self, files: StoredFiles, configuration: Configuration, workspace_id: str) -> None:
        self._files = files
        self._configuration = configuration
        self._workspace_id = workspace_id

    async def route(self, body: bytes, wire: str, model: str) -> Route:
        """Where a call for ``model`` may go whose body, of the API ``wire``, may name files: of all that the model's
        name means, what can reach them.

        Raises GatewayError: NOT_FOUND for a file that is not the caller's, INVALID_REQUEST when nothing of it can.
        """
        catalogue = self._configuration.catalogue
        names = named_files(body, wire)
        if not names:
            return catalogue.route(model)
        places = await self._locate(wire if wire in _OWN_FILES else "openai", names)
        route = catalogue.route_at(model, places.values())
        steps = tuple(step for step in route.steps if self._unreached(places, step.target) is None)
        if not steps:
            raise self._elsewhere(places, route.steps[0].target)
        return route if len(steps) == len(route.steps) else msgspec.structs.replace(route, steps=steps)

    async def check_addresses(self, request: Request, target: Target) -> None:
        """An address in another API's words may become the name of a Gemini file: it must be the caller's.

        Raises as `route`.
        """
        found = [gemini_file(address) for address in addresses_in(request)]
        names = [name for name in dict.fromkeys(found) if name is not None]
        if names:
            places = await self._locate(GEMINI, names)
            if self._unreached(places, target) is not None:
                raise self._elsewhere(places, target)

    async def _locate(self, wire: str, names: Sequence[str]) -> dict[str, str]:
        await in_task()
        try:
            return await self._files.locate(FileOwner(workspace_id=self._workspace_id, wire=wire), names)
        except StorageError:
            message = "uploaded files can't be looked up at the moment"
            raise GatewayError(Kind.NOT_READY, message, retry_after_seconds=5) from None

    def _unreached(self, places: Mapping[str, str], target: Target) -> str | None:
        """The first file that can't be reached from a target: it is at another connection, of another account."""
        endpoints = self._configuration.endpoints
        account = endpoints[target.endpoint].account
        for name, place in places.items():
            there = endpoints.get(place)
            if place != target.connection.id and (there is None or account is None or there.account != account):
                return name
        return None

    def _elsewhere(self, places: Mapping[str, str], target: Target) -> GatewayError:
        name = self._unreached(places, target)
        at = places[name] if name is not None else ""
        message = f"the file '{name}' is at the connection '{at}', and the model '{target.id}' is not"
        return GatewayError(Kind.INVALID_REQUEST, message, param="file_id")


def may_become_files(client: str, upstream: str) -> bool:
    """Whether addresses in a client's API can come to an upstream as names of its files."""
    return upstream == GEMINI != client
