"""Every repository on both databases."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from databases import DatabasePlace
from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.storage.aliases import AliasRepository, AliasRow
from pointsman.storage.configuration import ConfigurationRepository
from pointsman.storage.connections import ConnectionRepository, ConnectionRow, ConnectionTest
from pointsman.storage.database import AlreadyExistsError, Database, StorageError
from pointsman.storage.keys import KeyFilter, KeyRepository, KeyRow
from pointsman.storage.nodes import NodeRepository, NodeRow
from pointsman.storage.provider_nodes import ProviderNodeRepository, ProviderNodeRow
from pointsman.storage.requests import RequestRepository
from pointsman.storage.segments import SegmentRepository, SegmentRow

KEY = KeyRow(
    id="key_1",
    digest=b"\x00\xff" * 16,
    name="first",
    hint="sk-pm-…abcd",
    role="admin",
    created_at=1_000,
    scopes=("manage",),
    settings={"noLog": True},
    revision=1,
)
FULL = RequestRecord(
    request_id="req_full",
    created_at=1_764_000_000_000_000,
    operation="chat",
    route="/v1/chat/completions",
    dialect="openai",
    workspace_id="team",
    key_id="key_1",
    connection_id="main",
    provider="openai",
    request_model="smart",
    response_model="gpt-5",
    stream=True,
    status=200,
    outcome=Outcome.SUCCESS,
    error_kind="none",
    finish_reason="stop",
    input_tokens=1,
    output_tokens=2,
    cache_read_tokens=3,
    cache_write_tokens=4,
    reasoning_tokens=5,
    usage_estimated=True,
    cost_nano_usd=2**40,
    duration_us=6,
    first_byte_us=7,
    upstream_us=8,
    bytes_in=9,
    bytes_out=10,
)


def within(place: DatabasePlace, story: Callable[[Database], Awaitable[None]]) -> None:
    """Run ``story`` with an open database."""

    async def run() -> None:
        database = place.open()
        try:
            await story(database)
        finally:
            await database.aclose()

    asyncio.run(run())


def record(number: int, *, workspace: str = "default", at: int | None = None) -> RequestRecord:
    """A small record."""
    return RequestRecord(
        request_id=f"req_{number:04}",
        created_at=number if at is None else at,
        operation="chat",
        route="/v1",
        dialect="openai",
        workspace_id=workspace,
    )


def test_a_key_is_found_by_its_digest_as_it_was_stored(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        keys = KeyRepository(database)
        assert await keys.add(KEY) == 1
        assert await keys.find_by_digest(KEY.digest) == KEY
        assert await keys.find_by_digest(b"other") is None
        assert await keys.load_newest(100) == (KEY,)

    within(database_place, story)


@pytest.mark.parametrize("twin", [{"id": "key_2"}, {"digest": b"other"}])
def test_a_second_key_with_the_same_id_or_digest_is_refused_and_counts_no_change(
    database_place: DatabasePlace, twin: dict[str, object]
) -> None:
    async def story(database: Database) -> None:
        keys = KeyRepository(database)
        await keys.add(KEY)
        with pytest.raises(AlreadyExistsError):
            await keys.add(msgspec.structs.replace(KEY, **twin))
        assert await ConfigurationRepository(database).revision() == 1
        assert await keys.load_newest(100) == (KEY,)

    within(database_place, story)


def test_a_key_with_an_unknown_role_is_refused(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        with pytest.raises(StorageError, match="role"):
            await KeyRepository(database).add(msgspec.structs.replace(KEY, role="owner"))

    within(database_place, story)


def test_revoking_twice_keeps_the_first_instant_and_counts_one_change(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        keys = KeyRepository(database)
        await keys.add(KEY)
        revoked = msgspec.structs.replace(KEY, revoked_at=5, revision=2)
        assert await keys.revoke(KEY.id, 5) == revoked
        assert await keys.revoke(KEY.id, 9) == revoked
        assert await keys.revoke("key", 9) is None  # a prefix is no id
        assert await ConfigurationRepository(database).revision() == 2

    within(database_place, story)


def test_lists_show_the_newest_first_and_only_what_was_wanted(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        keys = KeyRepository(database)
        theirs = {1: {"account_id": "b"}, 2: {"kind": "session"}, 3: {"disabled": True}, 4: {"expires_at": 50}}
        rows = [
            msgspec.structs.replace(KEY, id=f"key_{n}", digest=bytes([n]), created_at=n, **theirs.get(n, {}))
            for n in range(7)
        ]
        for row in rows:
            await keys.add(row)
        await keys.revoke("key_5", 9)

        async def ids(wanted: KeyFilter, limit: int = 10, offset: int = 0) -> list[str]:
            return [row.id for row in await keys.list_page(wanted, limit, offset)]

        assert await ids(KeyFilter()) == ["key_6", "key_4", "key_3", "key_1", "key_0"]
        assert await ids(KeyFilter(), 2, 1) == ["key_4", "key_3"]
        assert await ids(KeyFilter(account_id="b")) == ["key_1"]
        assert await ids(KeyFilter(kinds=("session",))) == ["key_2"]
        assert await ids(KeyFilter(include_disabled=False, valid_at=50)) == ["key_6", "key_1", "key_0"]
        assert await keys.count(KeyFilter(include_disabled=False)) == 4

    within(database_place, story)


def test_a_change_of_a_key_is_one_new_revision_and_none_for_an_unknown_key(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        keys = KeyRepository(database)
        await keys.add(KEY)
        changed = await keys.change(KEY.id, {"name": "second", "settings": {"a": [1]}, "scopes": ()})
        assert changed == msgspec.structs.replace(KEY, name="second", settings={"a": [1]}, scopes=(), revision=2)
        assert await keys.change("key_9", {"name": "x"}) is None
        assert await ConfigurationRepository(database).revision() == 2

    within(database_place, story)


def test_the_oldest_sessions_of_a_user_end(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        keys = KeyRepository(database)
        for n in range(5):
            user = "usr_2" if n == 4 else "usr_1"
            row = {"id": f"key_{n}", "digest": bytes([n]), "created_at": n, "kind": "session", "user_id": user}
            await keys.add(msgspec.structs.replace(KEY, **row))
        assert await keys.end_sessions("usr_1", 500, keep=3) == 1
        assert await keys.end_sessions("usr_1", 500) == 3
        assert [row.id for row in await keys.load_valid(100) or ()] == ["key_4"]

    within(database_place, story)


def test_the_last_use_of_a_key_never_moves_back_and_is_no_change_of_configuration(
    database_place: DatabasePlace,
) -> None:
    async def story(database: Database) -> None:
        keys = KeyRepository(database)
        await keys.add(KEY)
        for at in (50, 20):
            async with database.write() as connection:
                await keys.touch(connection, {KEY.id: at, "key_gone": 1})
        async with database.write() as connection:
            await keys.touch(connection, {})
        assert [key.last_used_at for key in await keys.load_newest(100)] == [50]
        assert await ConfigurationRepository(database).revision() == 1

    within(database_place, story)


def test_connections_are_added_replaced_listed_found_and_removed(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        connections = ConnectionRepository(database)
        plain = ConnectionRow(id="a", kind="local", created_at=1, updated_at=1)
        full = ConnectionRow(
            id="b",
            kind="openai",
            created_at=1,
            updated_at=1,
            base_url="https://x.example/v1",
            sealed_secret=b"\x01\x00\xff",
            models=("m-1", 'm"2'),
            priority=7,
            max_concurrent=3,
            requests_per_minute=4,
            requests_per_day=5,
            tokens_per_minute=6,
            allow_private=True,
            provider="x",
            enabled=False,
            sealed_proxy=b"\x01\x02",
            ca_file="/ca.pem",
            client_certificate="/me.pem",
            client_key="/me.key",
            name="B",
            display_name="The B",
            default_model="m-1",
            ca_certificates="PEM",
            node_id="n",
            prefix="p",
            excluded_models=("x*",),
            tags=("t", "u"),
            sealed_headers=b"\x01\x03",
            sealed_extra=b"\x01\x04",
        )
        assert [await connections.add(plain), await connections.add(full)] == [1, 2]
        assert await connections.list() == (full, plain)
        newer = msgspec.structs.replace(full, created_at=99, updated_at=2, sealed_secret=None)
        assert await connections.replace(newer) == 3
        assert await connections.find("b") == msgspec.structs.replace(newer, created_at=1)
        assert await connections.replace(msgspec.structs.replace(full, id="c")) is None
        assert await connections.remove("b") == 4
        assert await connections.remove("b") is None
        assert await connections.find("b") is None
        with pytest.raises(AlreadyExistsError):
            await connections.add(plain)
        assert await ConfigurationRepository(database).revision() == 4

    within(database_place, story)


def test_a_connection_that_somebody_else_has_changed_is_not_replaced(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        connections = ConnectionRepository(database)
        row = ConnectionRow(id="a", kind="local", created_at=1, updated_at=1)
        await connections.add(row)
        newer = msgspec.structs.replace(row, priority=2, updated_at=5)
        assert await connections.replace(newer, known_at=1) == 2
        assert await connections.replace(newer, known_at=1) is None
        assert await connections.find("a") == newer

    within(database_place, story)


def test_the_last_test_of_a_connection_is_kept_until_it_is_removed(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        connections = ConnectionRepository(database)
        await connections.add(ConnectionRow(id="a", kind="local", created_at=1, updated_at=1))
        failed = ConnectionTest(connection_id="a", tested_at=5, valid=False, verdict="auth", message="no", status=401)
        good = ConnectionTest(connection_id="a", tested_at=9, valid=True, verdict="ok", status=200, latency_ms=4)
        await connections.note_test(failed)
        await connections.note_test(good)
        assert await connections.tests() == {"a": good}
        assert await ConfigurationRepository(database).revision() == 1, "a test is no change of the configuration"
        await connections.remove("a")
        assert await connections.tests() == {}

    within(database_place, story)


def test_provider_nodes_are_added_replaced_listed_and_removed(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        nodes = ProviderNodeRepository(database)
        one = ProviderNodeRow(id="n", type="t", name="N", prefix="p", api_type="chat", base_url="u", created_at=1,
                              updated_at=1)  # fmt: skip
        two = msgspec.structs.replace(one, id="m", prefix="q", created_at=2, chat_path="/c", models_path="/m")
        assert [await nodes.add(one), await nodes.add(two)] == [1, 2]
        with pytest.raises(AlreadyExistsError):
            await nodes.add(msgspec.structs.replace(one, id="other"))
        with pytest.raises(AlreadyExistsError):
            await nodes.replace(msgspec.structs.replace(two, prefix="p"))
        assert await nodes.replace(msgspec.structs.replace(two, name="M")) == 3
        assert await nodes.list() == (one, msgspec.structs.replace(two, name="M"))
        assert await nodes.find("n") == one
        assert await nodes.remove("n") == 4
        assert await nodes.remove("n") is None
        assert await nodes.find("n") is None
        assert await nodes.replace(one) is None

    within(database_place, story)


def test_aliases_are_added_listed_found_and_removed(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        aliases = AliasRepository(database)
        smart, fast = (AliasRow(name=n, target=f"model-{n}", created_at=1) for n in ("smart", "fast"))
        assert [await aliases.add(smart), await aliases.add(fast)] == [1, 2]
        assert await aliases.list() == (fast, smart)
        assert await aliases.find("smart") == smart
        with pytest.raises(AlreadyExistsError):
            await aliases.add(smart)
        assert await aliases.remove("smart") == 3
        assert await aliases.remove("smart") is None
        assert await aliases.find("smart") is None

    within(database_place, story)


def test_a_failed_change_leaves_the_revision_alone(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        row = ConnectionRow(id="a", kind="openai", created_at=1, updated_at=1, max_concurrent=0)
        with pytest.raises(StorageError, match="max_concurrent"):
            await ConnectionRepository(database).add(row)
        assert await ConfigurationRepository(database).revision() == 0

    within(database_place, story)


def test_changes_at_the_same_time_each_get_a_revision_of_their_own(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        aliases = AliasRepository(database)
        rows = [AliasRow(name=f"a{n}", target="m", created_at=1) for n in range(20)]
        revisions = await asyncio.gather(*(aliases.add(row) for row in rows))
        assert sorted(revisions) == list(range(1, 21))

    within(database_place, story)


def test_nodes_live_as_long_as_they_are_heard_of(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        nodes = NodeRepository(database)
        one = NodeRow(id="n1", address="http://a", version="1", started_at=1, heartbeat_at=1)
        two = NodeRow(id="n2", address="http://b", version="1", started_at=2, heartbeat_at=2)
        for node in (one, two):
            await nodes.register(node)
        assert await nodes.beat("n1", 10, 4)
        assert await nodes.live(5) == (msgspec.structs.replace(one, heartbeat_at=10, revision=4),)
        await nodes.register(msgspec.structs.replace(one, started_at=20, heartbeat_at=20))
        assert [node.started_at for node in await nodes.live(0)] == [2, 20]
        await nodes.remove("n1")
        await nodes.remove("n1")
        assert not await nodes.beat("n1", 30, 4)
        assert await nodes.live(0) == (two,)

    within(database_place, story)


def test_segments_are_saved_loaded_and_forgotten(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        segments = SegmentRepository(database)
        first = SegmentRow(name="1", position=10, records=1, updated_at=1)
        other = SegmentRow(name="2", position=2**40, records=3, damaged=1, finished=True, updated_at=1)
        async with database.write() as connection:
            await segments.save(connection, [first, other])
            await segments.save(connection, [])
        later = msgspec.structs.replace(first, position=20, records=2, finished=True, updated_at=2)
        async with database.write() as connection:
            await segments.save(connection, [later])
        assert await segments.load(["1", "2", "3"]) == {"1": later, "2": other}
        await segments.forget(["1"])
        assert await segments.load(["1", "2"]) == {"2": other}

    within(database_place, story)


def test_a_record_comes_back_as_it_was_stored(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        requests = RequestRepository(database)
        async with database.write() as connection:
            assert len((await requests.insert_many(connection, [FULL, record(1)])).records) == 2
            assert len((await requests.insert_many(connection, [])).records) == 0
        assert await requests.find(FULL.request_id) == FULL
        assert await requests.find("req_0001") == record(1)
        assert await requests.find("req") is None

    within(database_place, story)


def test_a_record_is_stored_once_however_often_it_comes(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        requests = RequestRepository(database)
        async with database.write() as connection:
            assert len((await requests.insert_many(connection, [record(1), record(1), record(2)])).records) == 2
        async with database.write() as connection:
            assert len((await requests.insert_many(connection, [record(2), record(3)])).records) == 1
        assert await requests.list_page("default", 10) == (record(3), record(2), record(1))

    within(database_place, story)


def test_what_no_column_can_hold_is_altered_and_not_refused(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        requests = RequestRepository(database)
        odd = msgspec.structs.replace(FULL, request_model="a\0b", input_tokens=2**70, output_tokens=-(2**70))
        async with database.write() as connection:
            assert len((await requests.insert_many(connection, [record(1), odd])).records) == 2
        assert await requests.find(FULL.request_id) == msgspec.structs.replace(
            FULL, request_model="a\ufffdb", input_tokens=2**63 - 1, output_tokens=-(2**63)
        )

    within(database_place, story)


def test_pages_hold_one_workspace_newest_first(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        requests = RequestRepository(database)
        mine = [record(n, workspace="mine", at=n // 2) for n in range(9)]
        async with database.write() as connection:
            await requests.insert_many(connection, [*mine, record(100, workspace="other")])
        assert await requests.list_page("mine", 4) == tuple(mine[:4:-1])
        assert await requests.list_page("mine", 100, 4) == tuple(mine[4::-1])
        assert await requests.list_page("nobody", 4) == ()

    within(database_place, story)


def test_a_follower_sees_a_long_request_that_began_before_the_last_one_it_saw(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        requests = RequestRepository(database)
        assert await requests.last_cursor() == 0
        async with database.write() as connection:
            await requests.insert_many(connection, [record(5), record(6, workspace="other")])
        seen = await requests.list_after("default", 0, 10)
        assert [row.record for row in seen] == [record(5)]
        assert await requests.last_cursor() > seen[-1].sequence
        async with database.write() as connection:
            await requests.insert_many(connection, [record(1), record(2)])
        assert [row.record for row in await requests.list_after("default", seen[-1].sequence, 1)] == [record(1)]
        assert [row.record.request_id for row in await requests.list_after(None, seen[-1].sequence, 10)] == [
            "req_0006",
            "req_0001",
            "req_0002",
        ]

    within(database_place, story)


def test_routing_decisions_are_kept_apart_found_by_workspace_and_pruned(database_place: DatabasePlace) -> None:
    async def story(database: Database) -> None:
        requests = RequestRepository(database)
        old = msgspec.structs.replace(record(1, at=1000), plan=b"\x00old\xff")
        new = msgspec.structs.replace(record(2, at=5000, workspace="team"), plan=b"new")
        async with database.write() as connection:
            assert len((await requests.insert_many(connection, [old, new, record(3)])).records) == 3
            assert len((await requests.insert_many(connection, [old])).records) == 0
        assert await requests.find_plan(old.request_id) == b"\x00old\xff"
        assert await requests.find_plan(new.request_id, "team") == b"new"
        assert await requests.find_plan(new.request_id, "default") is None
        assert await requests.find_plan(record(3).request_id) is None
        found = await requests.find(old.request_id)
        assert found is not None
        assert found.plan is None
        assert await requests.forget_plans(5000) == 1
        assert await requests.find_plan(old.request_id) is None
        assert await requests.find_plan(new.request_id) == b"new"

    within(database_place, story)
