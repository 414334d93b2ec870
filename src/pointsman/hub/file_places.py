"""Where a call goes that names uploaded files: to where they are, if they are the caller's."""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from pointsman.canonical.request import Request
from pointsman.errors import GatewayError, Kind
from pointsman.identity.keys import Key
from pointsman.policy.stored_files import FileOwner, StoredFiles
from pointsman.routing.catalogue import Catalogue, Target
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

    def __init__(self, files: StoredFiles, configuration: Configuration, key: Key) -> None:
        self._files = files
        self._configuration = configuration
        self._key = key

    async def target(self, body: bytes, wire: str, model: str) -> Target:
        """Where a call for ``model`` goes whose body, of the API ``wire``, may name files.

        Raises GatewayError: NOT_FOUND for a file that is not the caller's, INVALID_REQUEST when it is not at the
        connection that was asked for.
        """
        names = named_files(body, wire)
        if not names:
            return self._configuration.catalogue.resolve(model)
        places = await self._locate(wire if wire in _OWN_FILES else "openai", names)
        target = self._configuration.catalogue.resolve_at(model, places.values())
        self._check(places, target)
        return target

    async def check_addresses(self, request: Request, target: Target) -> None:
        """An address in another API's words may become the name of a Gemini file: it must be the caller's.

        Raises as `target`.
        """
        found = [gemini_file(address) for address in addresses_in(request)]
        names = [name for name in dict.fromkeys(found) if name is not None]
        if names:
            self._check(await self._locate(GEMINI, names), target)

    async def _locate(self, wire: str, names: Sequence[str]) -> dict[str, str]:
        await in_task()
        owner = FileOwner(workspace_id=self._key.workspace_id, wire=wire, key_id=self._key.id)
        try:
            return await self._files.locate(owner, names)
        except StorageError:
            message = "uploaded files can't be looked up at the moment"
            raise GatewayError(Kind.NOT_READY, message, retry_after_seconds=5) from None

    def _check(self, places: Mapping[str, str], target: Target) -> None:
        wanted, endpoints = target.connection.id, self._configuration.endpoints
        account = endpoints[target.endpoint].account
        for name, place in places.items():
            there = endpoints.get(place)
            if place != wanted and (there is None or account is None or there.account != account):
                message = f"the file '{name}' is at the connection '{place}', and the model '{target.id}' at '{wanted}'"
                raise GatewayError(Kind.INVALID_REQUEST, message, param="file_id")


def may_become_files(client: str, upstream: str) -> bool:
    """Whether addresses in a client's API can come to an upstream as names of its files."""
    return upstream == GEMINI != client
