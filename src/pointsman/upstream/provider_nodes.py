"""Provider nodes: an address of a compatible API with a prefix, which the connections that belong to it share."""

import re
import uuid
from typing import Any, Final, Literal, get_args

import msgspec

from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.settings import check_connection
from pointsman.storage.configuration import TooManyError
from pointsman.storage.database import AlreadyExistsError
from pointsman.storage.provider_nodes import ProviderNodeRepository, ProviderNodeRow
from pointsman.upstream.connections import ConnectionInfo, ConnectionService
from pointsman.upstream.declared import NewConnection, check_path, refuse_private_literal

OPENAI: Final = "openai-compatible"
ANTHROPIC: Final = "anthropic-compatible"
ApiType = Literal["chat", "responses", "embeddings", "audio-transcriptions", "audio-speech", "images-generations"]
API_TYPES: Final[tuple[str, ...]] = get_args(ApiType)
DEFAULT_BASES: Final = {OPENAI: "https://api.openai.com/v1", ANTHROPIC: "https://api.anthropic.com/v1"}
MESSAGES_PATHS: Final = (None, "/messages", "/v1/messages")  # where an Anthropic-compatible API has its messages
MAX_NODES: Final = 1000
_PREFIX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# What may follow an API's base URL in what people paste, the longest part first.
_PATHS: Final = {
    "anthropic": ("/messages", "/v1"),
    "gemini": ("/models", "/v1beta"),
    "cohere": ("/chat", "/v2"),
    "openai.chat": ("/chat/completions",),
    "openai.responses": ("/responses",),
}


class UnknownNodeError(ConfigError):
    """There is no provider node of that id."""


class ProviderNodeService:
    """Makes, changes and removes nodes, and their connections with them."""

    def __init__(self, repository: ProviderNodeRepository, connections: ConnectionService, clock: Clock) -> None:
        self._repository = repository
        self._connections = connections
        self._clock = clock

    async def list(self) -> tuple[ProviderNodeRow, ...]:
        """Every node, oldest first."""
        return await self._repository.list()

    async def find(self, node_id: str) -> ProviderNodeRow:
        """One node. Raises UnknownNodeError."""
        row = await self._repository.find(node_id)
        if row is None:
            raise UnknownNodeError(f"there is no provider node '{shown(node_id)}'")
        return row

    async def add(self, fields: dict[str, Any], *, allow_private: bool) -> tuple[ProviderNodeRow, int]:
        """Store a node of the members of `ProviderNodeRow`; gives it with the new revision.

        Raises ConfigError that names the field at fault.
        """
        now = self._clock.now_us()
        row = ProviderNodeRow(id=new_id(fields["type"], fields["api_type"]), created_at=now, updated_at=now, **fields)
        check_node(row, allow_private=allow_private)
        await self._refuse_taken(row)
        try:
            return row, await self._repository.add(row, MAX_NODES)
        except TooManyError:
            raise ConfigError(f"node: there are {MAX_NODES} already; remove one first") from None

    async def update(self, node_id: str, fields: dict[str, Any], *, allow_private: bool) -> tuple[ProviderNodeRow, int]:
        """Change a node and every connection of it; gives it with the new revision.

        Raises ConfigError that names the field at fault, UnknownNodeError.
        """
        old = await self.find(node_id)
        row = msgspec.structs.replace(old, **fields, updated_at=self._clock.now_us())
        check_node(row, allow_private=allow_private or row.base_url == old.base_url)
        await self._refuse_taken(row)

        def change(connection: NewConnection) -> NewConnection:
            return msgspec.structs.replace(connection, **connection_fields(row, connection.options))

        members = await self.members(node_id)
        for info in members:
            await self._connections.preview(info.id, change)
        revision = await self._repository.replace(row)
        if revision is None:
            raise UnknownNodeError(f"there is no provider node '{shown(node_id)}'")
        for info in members:
            revision = await self._connections.update(info.id, change)
        return row, revision

    async def remove(self, node_id: str) -> tuple[int, tuple[str, ...]]:
        """Remove a node with its connections; gives the new revision and their ids. Raises UnknownNodeError."""
        members = await self.members(node_id)
        revision = await self._repository.remove(node_id)
        if revision is None:
            raise UnknownNodeError(f"there is no provider node '{shown(node_id)}'")
        for info in members:
            revision = await self._connections.remove(info.id)
        return revision, tuple(info.id for info in members)

    async def members(self, node_id: str) -> tuple[ConnectionInfo, ...]:
        """The connections of a node."""
        return tuple(info for info in await self._connections.list_all() if info.node_id == node_id)

    async def _refuse_taken(self, row: ProviderNodeRow) -> None:
        if any(other.prefix == row.prefix and other.id != row.id for other in await self._repository.list()):
            raise AlreadyExistsError(f"the prefix '{row.prefix}' is another node's")


def new_id(node_type: str, api_type: str | None) -> str:
    """An id as the contract has it, which tells the type."""
    return f"{node_type}-{api_type}-{uuid.uuid4()}" if api_type is not None else f"{node_type}-{uuid.uuid4()}"


def kind_of(row: ProviderNodeRow) -> str:
    """The host of the table that connections of a node are of."""
    if row.type == ANTHROPIC:
        return "anthropic"
    return "openai-responses" if row.api_type == "responses" else OPENAI


def connection_fields(row: ProviderNodeRow, options: dict[str, str]) -> dict[str, Any]:
    """What a node says of its connections, as members of `NewConnection`; ``options`` are those it has so far."""
    paths = {"chat_path": row.chat_path if row.type == OPENAI else None, "models_path": row.models_path}
    kept = {name: value for name, value in options.items() if name not in paths}
    return {
        "kind": kind_of(row),
        "base_url": trimmed(row.base_url, "anthropic" if row.type == ANTHROPIC else "openai.chat"),
        "node_id": row.id,
        "prefix": row.prefix,
        "options": kept | {name: value for name, value in paths.items() if value is not None},
    }


def check_node(row: ProviderNodeRow, *, allow_private: bool) -> None:
    """Whether a node makes sense; raises ConfigError that names the field at fault."""
    check_connection("node", OPENAI, row.base_url, "connection")
    if not allow_private:
        refuse_private_literal(row.base_url)
    if not row.name.strip() or not row.name.isprintable() or len(row.name) > 200:
        raise ConfigError("connection.name: must be 1 to 200 printable characters")
    if not _PREFIX.fullmatch(row.prefix) or row.prefix == "local":
        raise ConfigError("connection.prefix: must be 1 to 100 letters, digits, '-', '_' or '.', and not 'local'")
    check_path(row.chat_path, "connection.chat_path")
    check_path(row.models_path, "connection.models_path")
    if row.type == ANTHROPIC and row.chat_path not in MESSAGES_PATHS:
        raise ConfigError("connection.chat_path: Anthropic's messages are at /v1/messages behind the base URL")
    if row.api_type == "responses" and row.chat_path not in (None, "/responses"):
        raise ConfigError("connection.chat_path: responses are at /responses behind the base URL")


def trimmed(url: str, wire: str) -> str:
    """A pasted address less the paths that its format adds by itself."""
    url = url.rstrip("/")
    for path in _PATHS.get(wire, ()):
        url = url.removesuffix(path)
    return url


def shown(text: str) -> str:
    """A caller's text, made safe to repeat."""
    return "".join(character if character.isprintable() else "?" for character in text[:100])
