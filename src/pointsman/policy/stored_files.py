"""Who may use which uploaded file. The files are at their upstreams; here is whose they are, and where.

A file belongs to the workspace of the key that uploaded it; to any other it does not exist. What an upstream told of it
(its name among that) is kept encrypted.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from pointsman.canonical.files import FilePage, FileQuery, StoredFile
from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.keyring import MasterKey, Secret
from pointsman.storage.files import FileRepository, FileRow

PURPOSE: Final = "stored-file"
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict).decode


class FileOwner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose file it is: the workspace decides, the key is noted. ``wire``: the files API that it is asked by."""

    workspace_id: str
    wire: str
    key_id: str | None = None


class StoredFiles:
    """The book of files. ``allow_unknown``: calls may name files that were not uploaded through this gateway."""

    def __init__(
        self, repository: FileRepository, key: MasterKey, clock: Clock, *, allow_unknown: bool = False
    ) -> None:
        self._repository = repository
        self._key = key
        self._clock = clock
        self._allow_unknown = allow_unknown

    async def add(self, owner: FileOwner, connection_id: str, file: StoredFile) -> None:
        """Note a file that was just uploaded. Raises StorageError."""
        await self._repository.add(self._row(owner, connection_id, file, self._clock.now_us()))

    async def connection_of(self, owner: FileOwner, file_id: str) -> str:
        """Where a file is. Raises GatewayError(NOT_FOUND) when there is none, or it is another's."""
        row = await self._repository.get(owner.workspace_id, owner.wire, file_id, self._clock.now_us())
        if row is None:
            raise not_found(file_id)
        return row.connection_id

    async def page(self, owner: FileOwner, wanted: FileQuery) -> FilePage:
        """A page of the workspace's files. Raises GatewayError(INVALID_REQUEST) for a cursor that is none of them."""
        rows = await self._repository.page(owner.workspace_id, owner.wire, wanted, self._clock.now_us())
        if rows is None:
            raise GatewayError(Kind.INVALID_REQUEST, "the file to go on from does not exist", param="after")
        files = [self._open(row) for row in rows[: wanted.limit]]
        if wanted.before is not None and wanted.after is None:
            files.reverse()
        return FilePage(files=tuple(files), more=len(rows) > wanted.limit)

    async def renew(self, owner: FileOwner, connection_id: str, file: StoredFile) -> None:
        """Keep what an upstream tells of a file now. Raises StorageError."""
        await self._repository.change(self._row(owner, connection_id, file, 0))

    async def forget(self, owner: FileOwner, file_id: str) -> None:
        """The file is no more. Raises StorageError."""
        await self._repository.delete(owner.workspace_id, owner.wire, file_id)

    async def locate(self, owner: FileOwner, ids: Sequence[str]) -> dict[str, str]:
        """The connection of each file that a call names, by the file's id.

        Raises GatewayError(NOT_FOUND) for the first that is not the workspace's. With ``allow_unknown`` those that
        nobody has uploaded here are left out instead.
        """
        rows = await self._repository.find(owner.workspace_id, owner.wire, ids, self._clock.now_us())
        found = {row.id: row.connection_id for row in rows}
        missing = [name for name in ids if name not in found]
        if missing and self._allow_unknown:
            known = await self._repository.known(owner.wire, missing)
            missing = [name for name in missing if name in known]
        if missing:
            raise not_found(missing[0])
        return found

    async def sweep(self) -> None:
        """Forget files whose time is over: their upstreams have deleted them. Raises StorageError."""
        await self._repository.forget_expired(self._clock.now_us())

    def _row(self, owner: FileOwner, connection_id: str, file: StoredFile, now: int) -> FileRow:
        sealed = self._key.seal(PURPOSE, _place(owner, file.id), Secret(_encode(file.told).decode()))
        return FileRow(
            workspace_id=owner.workspace_id,
            wire=owner.wire,
            id=file.id,
            connection_id=connection_id,
            created_at=now,
            sealed=sealed,
            key_id=owner.key_id,
            size_bytes=file.size_bytes,
            purpose=file.purpose,
            expires_at=file.expires_at,
        )

    def _open(self, row: FileRow) -> StoredFile:
        owner = FileOwner(workspace_id=row.workspace_id, wire=row.wire)
        told = _decode(self._key.open(PURPOSE, _place(owner, row.id), row.sealed).reveal())
        return StoredFile(
            id=row.id, told=told, size_bytes=row.size_bytes, purpose=row.purpose, expires_at=row.expires_at
        )


def not_found(file_id: str) -> GatewayError:
    """The same for a file that isn't there and for another's."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in file_id[:100])
    return GatewayError(Kind.NOT_FOUND, f"there is no file '{shown}'", param="file_id")


def _place(owner: FileOwner, file_id: str) -> str:
    return f"{owner.workspace_id}/{owner.wire}/{file_id}"
