"""Responses that the gateway keeps for its clients, whatever upstream made them: to read, go on from, wait for.

A response belongs to the workspace of the key that asked for it; to any other it does not exist. What it holds is
encrypted, bounded in size and age, and never logged.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from pointsman.clock import Clock
from pointsman.dialects.openai_responses.stored import Turn, expand, input_items, named_items, not_found, page
from pointsman.errors import GatewayError, Kind
from pointsman.keyring import MasterKey, Secret
from pointsman.storage.database import AlreadyExistsError
from pointsman.storage.responses import ACTIVE, EventBatch, ResponseRepository, ResponseRow

PURPOSE: Final = "stored-response"
EVENT_BATCHES: Final = 8  # that are read at once; one has a quarter of a MiB and an event
_US: Final = 1_000_000
LOST: Final = "the gateway was stopped while the response was being made"
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class ResponseBounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept: seconds that a response lives (OpenAI keeps them 30 days), bytes of one with its input, bytes
    of a conversation when it is gone on from, turns of it, responses of a workspace; seconds after which a background
    response that shows no sign of life is taken for lost.
    """

    lifetime_seconds: int = 30 * 86_400
    max_bytes: int = 4 * 1024 * 1024
    max_chain_bytes: int = 16 * 1024 * 1024
    max_turns: int = 500
    max_per_workspace: int = 10_000
    lost_after_seconds: int = 600


class Owner(msgspec.Struct, frozen=True):
    """Whose response it is: the workspace decides, the key is noted."""

    workspace_id: str
    key_id: str | None = None


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True):
    """One kept response: the object as its client got it, and the items of its input."""

    response: dict[str, Any]
    input: list[dict[str, Any]]


class ResponseKeeper(Protocol):
    """What the life of a request needs of kept responses."""

    async def expand(self, owner: Owner, body: bytes, previous_id: str) -> bytes:
        """The body with the conversation before it written out. Raises INVALID_REQUEST when there is none."""
        ...

    async def keep(self, owner: Owner, body: bytes, response: Mapping[str, Any]) -> None:
        """Keep a finished response beside the request's own body (before `expand`)."""
        ...

    async def begin(self, owner: Owner, body: bytes, response: Mapping[str, Any]) -> None:
        """Keep a background response that is queued."""
        ...

    async def progress(self, owner: Owner, response_id: str, events: Sequence[bytes], first_number: int) -> bool:
        """Note a sign of life and the events since the last; False: it was cancelled or deleted, stop."""
        ...

    async def finish(self, owner: Owner, response: Mapping[str, Any]) -> bool:
        """A background response ended; False: it was cancelled or deleted before."""
        ...


class StoredResponses:
    """`ResponseKeeper` over the database, and the operations of ``/v1/responses/{id}``."""

    def __init__(
        self,
        repository: ResponseRepository,
        key: MasterKey,
        clock: Clock,
        bounds: ResponseBounds | None = None,
    ) -> None:
        self._repository = repository
        self._key = key
        self._clock = clock
        self._bounds = ResponseBounds() if bounds is None else bounds

    async def expand(self, owner: Owner, body: bytes, previous_id: str) -> bytes:
        """See `ResponseKeeper`. Refuses conversations larger than the bounds, and ones whose beginning is gone."""
        now, bounds = self._clock.now_us(), self._bounds
        rows = await self._repository.chain(owner.workspace_id, previous_id, now, bounds.max_turns)
        if not rows:
            raise not_found(previous_id, previous=True)
        if rows[0].previous_id is not None:
            if len(rows) >= bounds.max_turns:
                message = f"the conversation has more than {bounds.max_turns} turns: begin a new one"
                raise GatewayError(Kind.INVALID_REQUEST, message, param="previous_response_id")
            raise not_found(rows[0].previous_id, previous=True)
        if sum(len(row.sealed) for row in rows) > bounds.max_chain_bytes:
            message = f"the conversation has more than {bounds.max_chain_bytes} bytes: begin a new one"
            raise GatewayError(Kind.INVALID_REQUEST, message, param="previous_response_id")
        turns = [self._turn(row) for row in rows]
        return expand(body, turns)

    async def keep(self, owner: Owner, body: bytes, response: Mapping[str, Any]) -> None:
        """See `ResponseKeeper`. One that is too large is not kept: who asks for it is told that it isn't there."""
        await self._add(owner, body, response, background=False)

    async def begin(self, owner: Owner, body: bytes, response: Mapping[str, Any]) -> None:
        """See `ResponseKeeper`. Raises TOO_LARGE: a background response that can't be kept could never be read."""
        if not await self._add(owner, body, response, background=True):
            message = f"a background request may have {self._bounds.max_bytes} bytes"
            raise GatewayError(Kind.TOO_LARGE, message)

    async def progress(self, owner: Owner, response_id: str, events: Sequence[bytes], first_number: int) -> bool:
        """See `ResponseKeeper`."""
        now = self._clock.now_us()
        if not await self._repository.update_active(owner.workspace_id, response_id, "in_progress", now):
            return False
        if events:
            texts = [event.decode("utf-8", "surrogatepass") for event in events]
            sealed = self._seal(owner.workspace_id, f"{response_id}/{first_number}", _encode(texts))
            batch = EventBatch(first_number=first_number, count=len(events), sealed=sealed)
            await self._repository.add_events(owner.workspace_id, response_id, batch)
        return True

    async def finish(self, owner: Owner, response: Mapping[str, Any]) -> bool:
        """See `ResponseKeeper`. One whose answer is too large to keep is kept as failed."""
        identity, now = str(response["id"]), self._clock.now_us()
        row = await self._repository.get(owner.workspace_id, identity, now)
        if row is None:
            return False
        kept = StoredResponse(response=dict(response), input=self._open(row).input)
        data = _encode(kept)
        status = str(response["status"])
        if len(data) > self._bounds.max_bytes:
            error = {"code": "server_error", "message": f"the answer has more than {self._bounds.max_bytes} bytes"}
            failed = {**response, "status": "failed", "output": [], "error": error}
            status, data = "failed", _encode(StoredResponse(response=failed, input=[]))
        sealed = self._seal(owner.workspace_id, identity, data)
        return await self._repository.update_active(owner.workspace_id, identity, status, now, sealed)

    async def get(self, owner: Owner, response_id: str) -> StoredResponse:
        """A kept response with its present status. Raises NOT_FOUND."""
        return self._open(await self._row(owner, response_id))

    async def delete(self, owner: Owner, response_id: str) -> dict[str, Any]:
        """Forget a response; gives OpenAI's receipt. Raises NOT_FOUND. A background one stops at its next event."""
        await self._row(owner, response_id)
        await self._repository.delete(owner.workspace_id, response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    async def cancel(self, owner: Owner, response_id: str) -> dict[str, Any]:
        """Cancel a background response; one that has ended stays as it is. Raises NOT_FOUND, or INVALID_REQUEST for one
        that is not a background response.
        """
        row = await self._row(owner, response_id)
        if not row.background:
            raise GatewayError(Kind.INVALID_REQUEST, "Cannot cancel a synchronous response.")
        now = self._clock.now_us()
        await self._repository.update_active(owner.workspace_id, response_id, "cancelled", now)
        return self._open(await self._row(owner, response_id)).response

    async def input_items(
        self, owner: Owner, response_id: str, *, after: str | None = None, limit: int = 20, newest_first: bool = True
    ) -> dict[str, Any]:
        """A page of a response's input. Raises NOT_FOUND, INVALID_REQUEST for a wrong limit."""
        kept = await self.get(owner, response_id)
        return page(named_items(kept.input, response_id), after=after, limit=limit, newest_first=newest_first)

    async def events(self, owner: Owner, response_id: str, after: int = -1) -> tuple[list[bytes], bool]:
        """The events behind number ``after`` that are there by now, or the first of them if they are many, as they were
        framed; and whether more may come.

        Raises NOT_FOUND; INVALID_REQUEST for a response that was not streamed in the background.
        """
        row = await self._row(owner, response_id)
        if not row.background:
            message = "only a response that was made with background and stream can be streamed again"
            raise GatewayError(Kind.INVALID_REQUEST, message, param="stream")
        frames: list[bytes] = []
        batches = await self._repository.events(owner.workspace_id, response_id, after, EVENT_BATCHES)
        for batch in batches:
            name = f"{response_id}/{batch.first_number}"
            texts = _decode(self._key.open(PURPOSE, f"{owner.workspace_id}/{name}", batch.sealed).reveal())
            skipped = max(0, after + 1 - batch.first_number)
            frames += [text.encode("utf-8", "surrogatepass") for text in texts[skipped:]]
        return frames, row.status in ACTIVE or len(batches) == EVENT_BATCHES

    async def sweep(self) -> None:
        """Forget what is too old, and end background responses whose process is gone. To be called now and then."""
        now = self._clock.now_us()
        await self._repository.forget_expired(now)
        for row in await self._repository.abandoned(now - self._bounds.lost_after_seconds * _US):
            kept = self._open(row)
            error = {"code": "server_error", "message": LOST}
            lost = StoredResponse(response={**kept.response, "status": "failed", "error": error}, input=kept.input)
            sealed = self._seal(row.workspace_id, row.id, _encode(lost))
            await self._repository.update_active(row.workspace_id, row.id, "failed", now, sealed)

    async def _add(self, owner: Owner, body: bytes, response: Mapping[str, Any], *, background: bool) -> bool:
        fields = _decode(body)
        data = _encode(StoredResponse(response=dict(response), input=input_items(fields)))
        if len(data) > self._bounds.max_bytes:
            return False
        identity, now = str(response["id"]), self._clock.now_us()
        previous = fields.get("previous_response_id")
        row = ResponseRow(
            workspace_id=owner.workspace_id,
            id=identity,
            key_id=owner.key_id,
            previous_id=previous if isinstance(previous, str) else None,
            status=str(response["status"]),
            background=background,
            created_at=now,
            updated_at=now,
            expires_at=now + self._bounds.lifetime_seconds * _US,
            sealed=self._seal(owner.workspace_id, identity, data),
        )
        try:
            await self._repository.add(row, self._bounds.max_per_workspace)
        except AlreadyExistsError:
            return False  # an upstream that gives two answers one id: the first stays
        return True

    async def _row(self, owner: Owner, response_id: str) -> ResponseRow:
        row = await self._repository.get(owner.workspace_id, response_id, self._clock.now_us())
        if row is None:
            raise not_found(response_id, previous=False)
        return row

    def _turn(self, row: ResponseRow) -> Turn:
        kept = self._open(row)
        output = [item for item in kept.response.get("output") or () if isinstance(item, dict)]
        return Turn(id=row.id, status=row.status, input=kept.input, output=output)

    def _open(self, row: ResponseRow) -> StoredResponse:
        owner = f"{row.workspace_id}/{row.id}"
        kept = msgspec.json.decode(self._key.open(PURPOSE, owner, row.sealed).reveal(), type=StoredResponse)
        kept.response["status"] = row.status
        return kept

    def _seal(self, workspace_id: str, name: str, data: bytes) -> bytes:
        return self._key.seal(PURPOSE, f"{workspace_id}/{name}", Secret(data.decode()))
