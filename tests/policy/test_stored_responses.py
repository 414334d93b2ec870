"""Kept responses on both databases: whose they are, how long and how large, going on from them, the background."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select

from databases import DatabasePlace
from pointsman.errors import GatewayError, Kind
from pointsman.keyring import MasterKey
from pointsman.policy.stored_responses import EVENT_BATCHES, Owner, ResponseBounds, StoredResponses
from pointsman.storage import tables
from pointsman.storage.database import Database
from pointsman.storage.responses import ResponseRepository

OWNER = Owner("team", "key_1")
STRANGER = Owner("other", "key_2")
SECRET = "a very secret prompt"


class FixedClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1_764_000_000

    def monotonic(self) -> float:
        return float(self.seconds)

    def now_us(self) -> int:
        return self.seconds * 1_000_000

    def new_id(self, prefix: str, now_us: int | None = None) -> str:
        return f"{prefix}_1"


class Kept:
    """The service under test and what it stands on."""

    def __init__(self, database: Database, bounds: ResponseBounds | None) -> None:
        self.clock = FixedClock()
        self.database = database
        self.repository = ResponseRepository(database)
        self.service = StoredResponses(self.repository, MasterKey(b"k" * 32), self.clock, bounds)


def within(
    place: DatabasePlace, story: Callable[[Kept], Awaitable[None]], bounds: ResponseBounds | None = None
) -> None:
    """Run ``story`` over an open database."""

    async def run() -> None:
        database = place.open()
        try:
            await story(Kept(database, bounds))
        finally:
            await database.aclose()

    asyncio.run(run())


def request(text: str = SECRET, **members: Any) -> bytes:
    return json.dumps({"model": "m", "input": text, **members}).encode()


def response(identity: str, text: str = "answer", status: str = "completed", **members: Any) -> dict[str, Any]:
    said = {"type": "output_text", "text": text, "annotations": []}
    message = {
        "type": "message",
        "id": f"msg_{identity}",
        "role": "assistant",
        "status": "completed",
        "content": [said],
    }
    return {"id": identity, "object": "response", "status": status, "output": [message], **members}


async def refused(doing: Awaitable[object]) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await doing
    return caught.value


def test_a_kept_response_is_read_listed_and_deleted_by_its_workspace_alone(database_place: DatabasePlace) -> None:
    async def story(kept: Kept) -> None:
        service = kept.service
        await service.keep(OWNER, request(), response("resp_1"))
        again = await service.get(OWNER, "resp_1")
        assert again.response == response("resp_1")
        listed = await service.input_items(OWNER, "resp_1")
        assert [item["content"][0]["text"] for item in listed["data"]] == [SECRET]
        assert listed["data"][0]["id"].startswith("msg_pm")
        for doing in (service.get, service.delete, service.cancel, service.input_items, service.events):
            error = await refused(doing(STRANGER, "resp_1"))
            assert (error.kind, error.message) == (Kind.NOT_FOUND, "Response with id 'resp_1' not found.")
        foreign = await refused(service.expand(STRANGER, request(), "resp_1"))
        unknown = await refused(service.expand(STRANGER, request(), "resp_9"))
        assert foreign.message.replace("_1", "_9") == unknown.message
        assert foreign.param == "previous_response_id"
        receipt = await service.delete(OWNER, "resp_1")
        assert receipt == {"id": "resp_1", "object": "response", "deleted": True}
        assert (await refused(service.get(OWNER, "resp_1"))).kind is Kind.NOT_FOUND

    within(database_place, story)


def test_two_workspaces_may_have_the_same_id(database_place: DatabasePlace) -> None:
    async def story(kept: Kept) -> None:
        await kept.service.keep(OWNER, request(), response("resp_1", "mine"))
        await kept.service.keep(STRANGER, request(), response("resp_1", "theirs"))
        assert (await kept.service.get(OWNER, "resp_1")).response["output"] == response("resp_1", "mine")["output"]

    within(database_place, story)


def test_nothing_of_a_response_is_readable_in_the_database(database_place: DatabasePlace) -> None:
    async def story(kept: Kept) -> None:
        await kept.service.begin(OWNER, request(), response("resp_1", SECRET, "queued"))
        await kept.service.progress(OWNER, "resp_1", [SECRET.encode()], 0)
        async with kept.database.read() as connection:
            for table in (tables.responses, tables.response_events):
                (row,) = await connection.execute(select(table))
                assert SECRET.encode() not in repr(tuple(row)).encode()

    within(database_place, story)


def test_a_conversation_is_written_out_oldest_first_without_ids(database_place: DatabasePlace) -> None:
    async def story(kept: Kept) -> None:
        service = kept.service
        await service.keep(OWNER, request("one", instructions="old"), response("resp_1", "1"))
        await service.keep(OWNER, request("two", previous_response_id="resp_1"), response("resp_2", "2"))
        new = request("three", previous_response_id="resp_2", instructions="new", temperature=0.5)
        body = json.loads(await service.expand(OWNER, new, "resp_2"))
        texts = [item["content"][0]["text"] for item in body["input"]]
        assert texts == ["one", "1", "two", "2", "three"]
        assert not any("id" in item for item in body["input"])
        assert "previous_response_id" not in body
        assert (body["instructions"], body["temperature"]) == ("new", 0.5)

    within(database_place, story)


def test_a_reference_to_an_earlier_item_is_resolved(database_place: DatabasePlace) -> None:
    async def story(kept: Kept) -> None:
        await kept.service.keep(OWNER, request("one"), response("resp_1", "1"))
        new = json.dumps({"model": "m", "input": [{"type": "item_reference", "id": "msg_resp_1"}, {"id": "x"}]})
        body = json.loads(await kept.service.expand(OWNER, new.encode(), "resp_1"))
        assert body["input"][2]["content"][0]["text"] == "1"
        assert body["input"][3] == {"id": "x"}

    within(database_place, story)


def test_a_conversation_whose_beginning_is_gone_or_unfinished_is_refused(database_place: DatabasePlace) -> None:
    async def story(kept: Kept) -> None:
        service = kept.service
        await service.keep(OWNER, request("one"), response("resp_1"))
        await service.keep(OWNER, request("two", previous_response_id="resp_1"), response("resp_2"))
        await service.delete(OWNER, "resp_1")
        assert "resp_1" in (await refused(service.expand(OWNER, request(), "resp_2"))).message
        await service.begin(OWNER, request("x"), response("resp_3", status="queued"))
        assert "queued" in (await refused(service.expand(OWNER, request(), "resp_3"))).message

    within(database_place, story)


def test_a_circle_of_responses_ends(database_place: DatabasePlace) -> None:
    async def story(kept: Kept) -> None:
        for one, other in (("resp_1", "resp_2"), ("resp_2", "resp_1")):
            await kept.service.keep(OWNER, request("x", previous_response_id=other), response(one))
        assert "turns" in (await refused(kept.service.expand(OWNER, request(), "resp_1"))).message

    within(database_place, story, ResponseBounds(max_turns=8))


def test_size_age_and_number_are_bounded(database_place: DatabasePlace) -> None:
    async def story(kept: Kept) -> None:
        service = kept.service
        await service.keep(OWNER, request("x" * 3000), response("resp_large"))
        assert (await refused(service.get(OWNER, "resp_large"))).kind is Kind.NOT_FOUND
        large = await refused(service.begin(OWNER, request("x" * 3000), response("resp_b", status="queued")))
        assert large.kind is Kind.TOO_LARGE
        for number in range(3):
            kept.clock.seconds += 1
            await service.keep(OWNER, request("x"), response(f"resp_{number}"))
        assert (await refused(service.get(OWNER, "resp_0"))).kind is Kind.NOT_FOUND
        await service.get(OWNER, "resp_1")
        kept.clock.seconds += 100
        assert (await refused(service.get(OWNER, "resp_1"))).kind is Kind.NOT_FOUND
        await service.sweep()
        async with kept.database.read() as connection:
            assert (await connection.execute(select(tables.responses))).all() == []

    within(database_place, story, ResponseBounds(max_bytes=2000, max_per_workspace=2, lifetime_seconds=50))


def test_a_background_response_is_queued_runs_and_is_streamed_from_any_number(database_place: DatabasePlace) -> None:
    async def story(kept: Kept) -> None:
        service = kept.service
        await service.begin(OWNER, request(), response("resp_1", status="queued"))
        assert (await service.get(OWNER, "resp_1")).response["status"] == "queued"
        assert await service.events(OWNER, "resp_1") == ([], True)
        assert await service.progress(OWNER, "resp_1", [b"e0", b"e1"], 0)
        assert await service.progress(OWNER, "resp_1", ["e2 日本".encode()], 2)
        assert (await service.get(OWNER, "resp_1")).response["status"] == "in_progress"
        assert await service.finish(OWNER, response("resp_1", "done"))
        assert (await service.get(OWNER, "resp_1")).response == response("resp_1", "done")
        assert await service.events(OWNER, "resp_1", 0) == ([b"e1", "e2 日本".encode()], False)
        assert await service.events(OWNER, "resp_1", 2) == ([], False)
        assert (await service.input_items(OWNER, "resp_1"))["data"]
        await service.delete(OWNER, "resp_1")
        async with kept.database.read() as connection:
            assert (await connection.execute(select(tables.response_events))).all() == []

    within(database_place, story)


def test_events_are_read_some_batches_at_a_time(database_place: DatabasePlace) -> None:
    async def story(kept: Kept) -> None:
        service = kept.service
        await service.begin(OWNER, request(), response("resp_1", status="queued"))
        for number in range(0, 50, 2):
            assert await service.progress(OWNER, "resp_1", [b"e%d" % number, b"e%d" % (number + 1)], number)
        assert await service.finish(OWNER, response("resp_1", "done"))
        found: list[bytes] = []
        more = True
        while more:
            frames, more = await service.events(OWNER, "resp_1", len(found) - 1)
            assert len(frames) <= 2 * EVENT_BATCHES
            found += frames
        assert found == [b"e%d" % number for number in range(50)]

    within(database_place, story)


def test_a_cancelled_response_stays_cancelled(database_place: DatabasePlace) -> None:
    async def story(kept: Kept) -> None:
        service = kept.service
        await service.begin(OWNER, request(), response("resp_1", status="queued"))
        assert (await service.cancel(OWNER, "resp_1"))["status"] == "cancelled"
        assert not await service.progress(OWNER, "resp_1", [b"e"], 0)
        assert not await service.finish(OWNER, response("resp_1"))
        assert (await service.cancel(OWNER, "resp_1"))["status"] == "cancelled"
        await service.keep(OWNER, request(), response("resp_2"))
        assert "synchronous" in (await refused(service.cancel(OWNER, "resp_2"))).message
        assert (await refused(service.events(OWNER, "resp_2"))).param == "stream"
        assert not await service.finish(OWNER, response("resp_gone"))

    within(database_place, story)


def test_a_background_response_whose_process_is_gone_has_failed(database_place: DatabasePlace) -> None:
    async def story(kept: Kept) -> None:
        service = kept.service
        await service.begin(OWNER, request(), response("resp_1", status="queued"))
        kept.clock.seconds += 300
        await service.begin(OWNER, request(), response("resp_2", status="queued"))
        kept.clock.seconds += 301
        await service.sweep()
        lost = (await service.get(OWNER, "resp_1")).response
        assert (lost["status"], lost["error"]["code"]) == ("failed", "server_error")
        assert (await service.get(OWNER, "resp_2")).response["status"] == "queued"

    within(database_place, story)


def test_an_answer_too_large_to_keep_has_failed(database_place: DatabasePlace) -> None:
    async def story(kept: Kept) -> None:
        await kept.service.begin(OWNER, request(), response("resp_1", status="queued"))
        assert await kept.service.finish(OWNER, response("resp_1", "x" * 3000))
        failed = (await kept.service.get(OWNER, "resp_1")).response
        assert (failed["status"], failed["output"]) == ("failed", [])

    within(database_place, story, ResponseBounds(max_bytes=2000))


def test_input_items_are_paged_in_both_orders(database_place: DatabasePlace) -> None:
    async def story(kept: Kept) -> None:
        turns: list[Any] = [{"role": "user", "content": str(number)} for number in range(5)]
        body = json.dumps({"model": "m", "input": turns}).encode()
        await kept.service.keep(OWNER, body, response("resp_1"))

        async def texts(**options: Any) -> tuple[list[str], bool]:
            found = await kept.service.input_items(OWNER, "resp_1", **options)
            return [item["content"][0]["text"] for item in found["data"]], found["has_more"]

        assert await texts(limit=2) == (["4", "3"], True)
        first = await kept.service.input_items(OWNER, "resp_1", limit=2, newest_first=False)
        assert await texts(limit=9, newest_first=False, after=first["last_id"]) == (["2", "3", "4"], False)
        assert (await refused(texts(limit=0))).param == "limit"

    within(database_place, story)
