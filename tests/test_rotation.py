"""The master key is changed while servers run: everything stays readable, and the old key opens nothing afterwards."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import msgspec
import pytest
from sqlalchemy import LargeBinary, func, select

from gateway import KEY, RunningGateway, running_gateway
from pointsman.canonical.files import FileQuery, StoredFile
from pointsman.errors import ConfigError
from pointsman.identity.audit_check import check_log
from pointsman.installation import Installation, open_installation
from pointsman.keyring import LASTING, MasterKey, Secret, configured_key
from pointsman.policy.stored_files import FileOwner
from pointsman.policy.stored_responses import Owner
from pointsman.resealing import COLUMNS
from pointsman.rotation import Rotated
from pointsman.settings import Environment, Settings
from pointsman.storage.database import OutdatedKeyError
from pointsman.storage.opaque_states import StateRepository, StateRow
from pointsman.storage.schema import metadata
from pointsman.storage.tables import connections
from pointsman.upstream.declared import NewConnection

FILES = FileOwner(workspace_id="default", wire="openai")
FILE = StoredFile(id="file-1", told={"filename": "a.txt"}, size_bytes=3, purpose="batch", expires_at=None)
RESPONSES = Owner("default")
BODY = b'{"model":"m","input":"hello","store":true}'
ANSWER = {"id": "resp_1", "object": "response", "status": "completed", "output": []}
ADMIN = {"authorization": f"Bearer {KEY}"}
CHOSEN, NEXT = Secret("c" * 40), Secret("n" * 40)
ROTATE_AND_DIE = """
import asyncio, os, pathlib, signal, sys
import pointsman.resealing as resealing
from pointsman.installation import open_installation
from pointsman.settings import Environment, Settings

resealing.BATCH_ROWS = 3

async def run():
    async with open_installation(Settings(), Environment(data_dir=pathlib.Path(sys.argv[1]))) as installation:
        await installation.rotation().run(None, lambda *_: os.kill(os.getpid(), signal.SIGKILL))

asyncio.run(run())
"""


GUARD = {
    "name": "asking",
    "rules": [
        {"name": "ask", "kind": "webhook", "url": "https://203.0.113.9/", "secret": "guard-secret-of-many-letters"}
    ],
}


def nothing(*_: object) -> None:
    """Hears of progress."""


def within(environment: Environment, test: Callable[[Installation], Awaitable[None]]) -> None:
    """Run a test with an installation of its own, as a command has one."""

    async def run() -> None:
        async with open_installation(Settings(), environment) as installation:
            await test(installation)

    asyncio.run(run())


def rotate(environment: Environment, new: bytes | None = None) -> Rotated:
    done: list[Rotated] = []

    async def test(installation: Installation) -> None:
        done.append(await installation.rotation().run(new, nothing))

    within(environment, test)
    return done[0]


async def fill(installation: Installation) -> None:
    """One thing of each kind that is stored sealed, and some connections more."""
    for number in range(8):
        new = NewConnection(
            id=f"c{number}",
            kind="openai",
            secret=Secret(f"sk-upstream-{number}"),
            headers={"x-a": Secret("header-secret")},
            extra_secrets=(Secret("extra-secret"),),
            proxy=Secret("http://user:proxy-secret@203.0.113.9:8080"),
        )
        await installation.connections.add(new)
    await installation.guards.create(GUARD)
    await installation.engines.set({}, Secret("engine-key"))
    await installation.files.add(FILES, "c1", FILE)
    await installation.responses.keep(RESPONSES, BODY, ANSWER)
    installation.states.put("default", b"name", b"state")
    installation.states.stop()
    await installation.states.run()


async def check_readable(installation: Installation) -> None:
    """All that `fill` has stored."""
    rows = await installation.connections.list_all()
    assert [(row.problem, row.has_secret, row.extra_keys) for row in rows] == [(None, True, 1)] * 8
    guard = next(one for one in await installation.guards.guards() if one.name == "asking")
    assert guard.rules[0].secret == Secret("guard-secret-of-many-letters")
    engine = await installation.engines.current()
    assert engine is not None
    assert engine.secret == Secret("engine-key")
    page = await installation.files.page(FILES, FileQuery(limit=5))
    assert [file.told for file in page.files] == [{"filename": "a.txt"}]
    assert (await installation.responses.get(RESPONSES, "resp_1")).response == ANSWER
    states = await installation.states.find("default", [b"name"])
    assert states is not None
    assert states[b"name"].data == b"state"
    assert all(one.other == 0 for one in await installation.resealer().counts())


def key_file(data_dir: Path) -> str:
    return (data_dir / "secret.key").read_text(encoding="ascii").strip()


def test_every_sealed_column_is_sealed_anew() -> None:
    sealed = {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary) and column.name.startswith("sealed")
    }
    assert sealed - {("kept_keys", "sealed")} == {(spot.table.name, spot.column) for spot in COLUMNS}


def test_everything_is_readable_with_the_new_key_and_nothing_with_the_old(tmp_path: Path) -> None:
    environment = Environment(data_dir=tmp_path, bootstrap_key=Secret(KEY))
    found: dict[str, MasterKey | bytes] = {}

    async def before(installation: Installation) -> None:
        await installation.keys.ensure_first(Secret(KEY))
        await fill(installation)
        found["lasting"] = b"".join(installation.master.derive(purpose) for purpose in sorted(LASTING))

    async def after(installation: Installation) -> None:
        await check_readable(installation)
        assert (await installation.keys.find(KEY)).name == "bootstrap"
        lasting = b"".join(installation.master.derive(purpose) for purpose in sorted(LASTING))
        assert lasting == found["lasting"]
        assert (await check_log(installation.audit)).is_right
        async with installation.database.read() as connection:
            for value in (await connection.execute(select(connections.c.sealed_secret))).scalars():
                with pytest.raises(ConfigError):
                    MasterKey(old).open("connection-secret", "c1", bytes(value))

    within(environment, before)
    old = bytes.fromhex(key_file(tmp_path))
    for _ in range(2):  # and once more, when what is kept of the first generation stands sealed with the second
        done = rotate(environment)
        assert (done.finished, done.resumed, done.resealed.unreadable) == (True, False, ())
        assert done.resealed.values == 8 * 4 + 5
        within(environment, after)
    assert bytes.fromhex(key_file(tmp_path)) != old
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600


def test_large_values_are_sealed_anew_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointsman.resealing.BATCH_BYTES", 150)
    environment, batches = Environment(data_dir=tmp_path), list[int]()

    async def test(installation: Installation) -> None:
        await fill(installation)
        done = await installation.rotation().run(None, lambda _, values: batches.append(values))
        assert sum(batches) == done.resealed.values
        assert max(batches) < 8  # of the connections' secrets there are so many
        await check_readable(installation)

    within(environment, test)


def test_a_key_file_from_before_is_refused_with_the_reason(tmp_path: Path) -> None:
    environment = Environment(data_dir=tmp_path)
    within(environment, fill)
    old = key_file(tmp_path)
    rotate(environment)
    new = key_file(tmp_path)
    (tmp_path / "secret.key").write_text(old)
    with pytest.raises(ConfigError, match="was replaced and opens nothing any more"):
        within(environment, check_readable)
    (tmp_path / "secret.key").write_text("ab" * 32)
    with pytest.raises(ConfigError, match="is not this database's"):
        within(environment, check_readable)
    (tmp_path / "secret.key").write_text(new)
    within(environment, check_readable)


def test_a_killed_rotation_goes_on_where_it_stopped(tmp_path: Path) -> None:
    environment = Environment(data_dir=tmp_path)
    within(environment, fill)
    old = key_file(tmp_path)
    done = subprocess.run([sys.executable, "-c", ROTATE_AND_DIE, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL

    async def halfway(installation: Installation) -> None:
        assert any(one.other and one.current for one in await installation.resealer().counts())
        assert all(row.problem is None for row in await installation.connections.list_all())

    within(environment, halfway)
    (tmp_path / "secret.key").write_text(old)  # of a node that was down: it finds the new one with the old
    within(environment, halfway)
    assert key_file(tmp_path) != old
    assert rotate(environment).resumed
    within(environment, check_readable)


def test_a_running_gateway_takes_part_and_answers_all_the_time(tmp_path: Path) -> None:
    with running_gateway(tmp_path, {}) as gateway:
        gateway.call(fill(gateway.installation))
        first = gateway.installation.master.id
        assert rotate(Environment(data_dir=tmp_path)).finished
        assert httpx.get(f"{gateway.address}/api/providers", headers=ADMIN).status_code == 200
        assert gateway.installation.master.id != first
        gateway.call(check_readable(gateway.installation))
        added = {"provider": "openai", "apiKey": "sk-later-0123456789", "name": "later"}
        assert httpx.post(f"{gateway.address}/api/providers", json=added, headers=ADMIN).status_code == 201
        assert sum_of_others(gateway) == 0

    async def test(installation: Installation) -> None:
        assert (await installation.keys.find(KEY)).name == "bootstrap"
        assert len(await installation.connections.list_all()) == 9

    within(Environment(data_dir=tmp_path), test)


def sum_of_others(gateway: RunningGateway) -> int:
    return sum(one.other for one in gateway.call(gateway.installation.resealer().counts()))


def test_a_key_of_the_operator_s_own_is_changed_in_two_steps(tmp_path: Path) -> None:
    before = Environment(data_dir=tmp_path, secret_key=CHOSEN)
    after = Environment(data_dir=tmp_path, secret_key=NEXT)
    within(before, fill)
    with pytest.raises(ConfigError, match="--new-key"):
        rotate(before)
    assert not rotate(before, configured_key(NEXT)).finished
    within(before, check_readable)
    within(after, check_readable)
    assert rotate(after).finished
    within(after, check_readable)
    with pytest.raises(ConfigError, match="was replaced"):
        within(before, check_readable)
    with pytest.raises(ConfigError, match="was used before"):
        rotate(after, configured_key(CHOSEN))


def test_a_process_outlives_the_operator_s_old_key(tmp_path: Path) -> None:
    async def test(installation: Installation) -> None:
        await fill(installation)
        await asyncio.to_thread(rotate, Environment(data_dir=tmp_path, secret_key=CHOSEN), configured_key(NEXT))
        await installation.secrets.refresh()
        assert (await asyncio.to_thread(rotate, Environment(data_dir=tmp_path, secret_key=NEXT))).finished
        await installation.secrets.refresh()
        await check_readable(installation)

    within(Environment(data_dir=tmp_path, secret_key=CHOSEN), test)


def test_a_command_that_began_before_another_one_had_changed_the_key_changes_nothing(tmp_path: Path) -> None:
    """It does not know the key that is current, which alone may seal what comes next."""

    async def test(installation: Installation) -> None:
        await fill(installation)
        assert (await asyncio.to_thread(rotate, Environment(data_dir=tmp_path))).finished
        with pytest.raises(ConfigError, match="was replaced"):
            await installation.rotation().run(None, nothing)
        rows, _ = await installation.secrets.repository.load()
        assert [row.state for row in rows] == ["retired", "current"]

    within(Environment(data_dir=tmp_path), test)
    within(Environment(data_dir=tmp_path), check_readable)


def test_commands_at_the_same_time_change_the_key_together_or_one_after_the_other(tmp_path: Path) -> None:
    environment = Environment(data_dir=tmp_path)
    within(environment, fill)

    async def change() -> Rotated | str:
        async with open_installation(Settings(), environment) as installation:
            try:
                return await installation.rotation().run(None, nothing)
            except ConfigError as error:
                return str(error)

    async def several() -> list[Rotated | str]:
        return await asyncio.gather(*(change() for _ in range(4)))

    ends = asyncio.run(several())
    done = [one for one in ends if not isinstance(one, str)]
    assert done, ends
    assert all(one.finished for one in done)
    refused = [one for one in ends if isinstance(one, str)]
    assert all("is being changed" in one or "was replaced" in one for one in refused), refused

    async def after(installation: Installation) -> None:
        await check_readable(installation)
        rows, _ = await installation.secrets.repository.load()
        assert {row.state for row in rows[:-1]} == {"retired"}
        assert (rows[-1].state, rows[-1].id) == ("current", installation.master.id)
        assert len(rows) - 1 <= len(done)

    within(environment, after)


def test_a_step_of_a_change_that_is_over_does_nothing(tmp_path: Path) -> None:
    async def test(installation: Installation) -> None:
        old = installation.master.id
        new = (await installation.rotation().run(None, nothing)).key_id
        before = (await installation.secrets.repository.load())[0]
        await installation.secrets.repository.promote(new, old)
        await installation.secrets.repository.retire(old, new, 1)
        assert (await installation.secrets.repository.load())[0] == before
        assert await installation.secrets.repository.announce(before[0], [], old) is None

    within(Environment(data_dir=tmp_path), test)


def test_what_no_key_opens_is_named_and_left_alone(tmp_path: Path) -> None:
    environment = Environment(data_dir=tmp_path)
    broken = b"\x01" + bytes(40)

    async def damage(installation: Installation) -> None:
        await fill(installation)
        async with installation.database.write() as connection:
            await connection.execute(connections.update().where(connections.c.id == "c3").values(sealed_secret=broken))

    async def check(installation: Installation) -> None:
        async with installation.database.read() as connection:
            query = select(func.count()).where(connections.c.sealed_secret == broken)
            assert (await connection.execute(query)).scalar_one() == 1

    within(environment, damage)
    assert rotate(environment).resealed.unreadable == ("connections.sealed_secret of 'c3'",)
    within(environment, check)


def late_writes(installation: Installation) -> tuple[Callable[[], Awaitable[object]], ...]:
    """What a command may store sealed."""
    new = NewConnection(id="late", kind="openai", secret=Secret("sk-late"))
    queued = {**ANSWER, "id": "resp_2", "status": "queued"}

    async def keep_state() -> None:
        row = StateRow(workspace_id="default", key=b"late", sealed=installation.master.prefix, expires_at=1)
        await StateRepository(installation.database).put([row], 10)

    return (
        lambda: installation.connections.add(new),
        lambda: installation.connections.update("c1", lambda _: msgspec.structs.replace(new, id="c1")),
        lambda: installation.guards.create({**GUARD, "name": "late"}),
        lambda: installation.engines.set({}, Secret("late-key")),
        lambda: installation.files.add(FILES, "c1", msgspec.structs.replace(FILE, id="file-2")),
        lambda: installation.responses.keep(RESPONSES, BODY, {**ANSWER, "id": "resp_3"}),
        lambda: installation.responses.begin(RESPONSES, BODY, queued),
        lambda: installation.responses.progress(RESPONSES, "resp_0", [b"event"], 0),
        keep_state,
    )


def test_a_command_that_began_before_a_change_of_the_key_stores_nothing_with_the_old_one(tmp_path: Path) -> None:
    async def test(installation: Installation) -> None:
        await fill(installation)
        await installation.responses.begin(RESPONSES, BODY, {**ANSWER, "id": "resp_0", "status": "queued"})
        assert (await asyncio.to_thread(rotate, Environment(data_dir=tmp_path))).finished
        for write in late_writes(installation):
            with pytest.raises((OutdatedKeyError, ConfigError), match=r"do it again|can't be decrypted"):
                await write()

    within(Environment(data_dir=tmp_path), test)
    within(Environment(data_dir=tmp_path), check_readable)


@pytest.mark.parametrize("step", ["announced", "promoted"])
def test_between_the_steps_of_a_change_only_servers_store_with_the_key_that_goes(tmp_path: Path, step: str) -> None:
    """What they store is sealed anew when all of them know the new key; of a command nobody knows."""

    async def test(installation: Installation) -> None:
        await fill(installation)
        secrets, old = installation.secrets, installation.master.id
        await secrets.announce(None)
        keep = installation.engines.set
        if step == "announced":
            await keep({}, Secret("engine-key"))
            return
        rows, _ = await secrets.repository.load()
        await secrets.repository.promote(rows[-1].id, old)
        with pytest.raises(OutdatedKeyError):
            await keep({}, Secret("lost"))
        secrets.takes_part = True
        await keep({}, Secret("engine-key"))

    within(Environment(data_dir=tmp_path), test)
    assert rotate(Environment(data_dir=tmp_path)).finished
    within(Environment(data_dir=tmp_path), check_readable)
