"""API keys: only digests are stored; expiry, revocation and the first key."""

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pointsman.canonical.limits import Limits
from pointsman.clock import SystemClock
from pointsman.errors import ConfigError
from pointsman.identity.key_source import KeySource
from pointsman.identity.key_table import KeyTable
from pointsman.identity.keys import PEPPER_PURPOSE, KeyChange, KeyService, NewKey
from pointsman.keyring import MasterKey, Secret
from pointsman.storage.budgets import BudgetRepository
from pointsman.storage.database import FILE_NAME, Database
from pointsman.storage.keys import KeyRepository

MASTER = MasterKey(b"m" * 32)
BOOTSTRAP = Secret("bootstrap-key-0123456789-0123456789")
Run = Callable[[Callable[[KeyService], Awaitable[None]]], None]


@pytest.fixture
def run(tmp_path: Path, migrated_sqlite: Path) -> Run:
    """Runs a test's coroutine with a service over a database of its own; may be called again."""
    shutil.copy(migrated_sqlite, tmp_path / FILE_NAME)

    def start(test: Callable[[KeyService], Awaitable[None]]) -> None:
        async def main() -> None:
            database = Database.open(None, tmp_path)
            try:
                await test(KeyService(KeyRepository(database), MASTER, SystemClock()))
            finally:
                await database.aclose()

        asyncio.run(main())

    return start


async def table_of(service: KeyService) -> KeyTable:
    """What a process that starts now knows."""
    rows = service._keys
    table = KeyTable(MASTER.derive(PEPPER_PURPOSE))
    table.apply(await KeySource(rows, BudgetRepository(rows._database), 100).news(None, 1))
    return table


def test_a_new_key_is_found_and_never_stored(run: Run, tmp_path: Path) -> None:
    made: list[Secret] = []

    async def test(service: KeyService) -> None:
        row, secret = await service.create("app")
        made.append(secret)
        found = (await table_of(service)).find(secret.reveal().encode())
        assert found is not None
        assert (found.id, found.name, found.role, found.workspace_id) == (row.id, "app", "inference", "default")

    run(test)
    text = made[0].reveal()
    assert re.fullmatch(r"sk-pm-[A-Za-z0-9_-]{43}", text)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith(FILE_NAME))
    assert stored
    assert text.encode() not in stored
    assert text[6:-4].encode() not in stored
    assert text[6:18].encode() not in stored


def test_two_keys_are_never_the_same(run: Run) -> None:
    async def test(service: KeyService) -> None:
        made = [await service.create(f"k{number}") for number in range(20)]
        assert len({secret.reveal() for _, secret in made}) == 20
        assert len({row.id for row, _ in made}) == 20
        assert len(await table_of(service)) == 20

    run(test)


def test_the_hint_shows_the_prefix_and_four_characters(run: Run) -> None:
    async def test(service: KeyService) -> None:
        row, secret = await service.create("app")
        assert row.hint == "sk-pm-…" + secret.reveal()[-4:]

    run(test)


def test_a_hint_of_a_configured_key_gives_away_at_most_ten_characters(run: Run) -> None:
    async def test(service: KeyService) -> None:
        await service.ensure_first(BOOTSTRAP)
        (row,) = await service.list_newest(100)
        assert len(row.hint.replace("…", "")) <= 10

    run(test)


def test_a_revoked_key_stops_at_once(run: Run) -> None:
    async def test(service: KeyService) -> None:
        row, secret = await service.create("app")
        _, kept = await service.create("kept")
        revoked = await service.revoke(row.id)
        assert revoked is not None
        table = await table_of(service)
        assert table.find(secret.reveal().encode()) is None
        assert table.find(kept.reveal().encode()) is not None
        again = await service.revoke(row.id)
        assert again == revoked
        assert await service.revoke("key_nobody") is None

    run(test)


def test_expiry_is_kept_for_whoever_judges_it(run: Run) -> None:
    async def test(service: KeyService) -> None:
        _, secret = await service.create("app", expires_at=123)
        found = (await table_of(service)).find(secret.reveal().encode())
        assert found is not None
        assert found.expires_at == 123

    run(test)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31m", "x" * 101])
def test_a_name_that_cannot_be_shown_is_refused(run: Run, name: str) -> None:
    async def test(service: KeyService) -> None:
        with pytest.raises(ConfigError, match="printable"):
            await service.create(name)
        assert await service.list_newest(100) == ()

    run(test)


def test_a_digest_is_worth_nothing_to_another_installation(run: Run) -> None:
    async def test(service: KeyService) -> None:
        _, secret = await service.create("app")
        rows = await service.list_newest(100)
        other = KeyTable(MasterKey(b"o" * 32).derive(PEPPER_PURPOSE), rows)
        assert other.find(secret.reveal().encode()) is None

    run(test)


def test_the_first_key_is_made_once_and_shown_once(run: Run) -> None:
    async def test(service: KeyService) -> None:
        secret = await service.ensure_first(None)
        assert secret is not None
        assert await service.ensure_first(None) is None
        (row,) = await service.list_newest(100)
        assert (row.name, row.role) == ("bootstrap", "admin")
        assert (await table_of(service)).find(secret.reveal().encode()) is not None

    run(test)


def test_an_operator_without_a_usable_admin_key_gets_a_new_one(run: Run) -> None:
    async def test(service: KeyService) -> None:
        await service.ensure_first(None)
        (row,) = await service.list_newest(100)
        await service.create("inference only")
        await service.create("expired", "admin", expires_at=1)
        await service.revoke(row.id)
        secret = await service.ensure_first(None)
        assert secret is not None
        found = (await table_of(service)).find(secret.reveal().encode())
        assert found is not None
        assert found.role == "admin"
        assert await service.ensure_first(None) is None

    run(test)


def test_a_configured_first_key_is_made_once_and_works(run: Run) -> None:
    async def test(service: KeyService) -> None:
        for _ in range(3):
            assert await service.ensure_first(BOOTSTRAP) is None
        (row,) = await service.list_newest(100)
        assert row.role == "admin"
        assert (await table_of(service)).find(BOOTSTRAP.reveal().encode()) is not None

    run(test)
    run(test)


def test_a_configured_first_key_that_was_revoked_stays_revoked(run: Run) -> None:
    async def test(service: KeyService) -> None:
        await service.ensure_first(BOOTSTRAP)
        (row,) = await service.list_newest(100)
        await service.revoke(row.id)
        await service.ensure_first(BOOTSTRAP)
        assert (await table_of(service)).find(BOOTSTRAP.reveal().encode()) is None

    run(test)


@pytest.mark.parametrize("text", ["", "short", "x" * 31, "é" * 40, " " * 40, "x" * 31 + " ", "x" * 40 + "\n"])
def test_an_unsafe_configured_first_key_is_refused(run: Run, text: str) -> None:
    async def test(service: KeyService) -> None:
        with pytest.raises(ConfigError, match="POINTSMAN_BOOTSTRAP_KEY") as caught:
            await service.ensure_first(Secret(text))
        assert not text.strip() or text.strip() not in str(caught.value)
        assert await service.list_newest(100) == ()

    run(test)


def test_services_that_start_together_make_one_configured_first_key(run: Run) -> None:
    async def test(service: KeyService) -> None:
        await asyncio.gather(*(service.ensure_first(BOOTSTRAP) for _ in range(5)))
        assert len(await service.list_newest(100)) == 1

    run(test)


def test_a_key_is_meant_by_id_name_beginning_or_itself(run: Run) -> None:
    async def test(service: KeyService) -> None:
        row, secret = await service.create("app")
        other, _ = await service.create("other")
        for reference in (row.id, "app", secret.reveal()):
            assert (await service.find(reference)).id == row.id
        assert (
            await service.find(other.id[:-10] if not row.id.startswith(other.id[:-10]) else other.id)
        ).id == other.id

    run(test)


def test_an_unknown_key_is_refused_without_repeating_it(run: Run) -> None:
    async def test(service: KeyService) -> None:
        await service.create("application")
        with pytest.raises(ConfigError, match="not one of this installation") as caught:
            await service.find("sk-pm-0123456789-secret")
        assert "0123456789" not in str(caught.value)
        with pytest.raises(ConfigError, match="did you mean 'application'"):
            await service.find("aplication")
        for reference in ("key_", "", "zz", "\x1b[31m" * 100):
            with pytest.raises(ConfigError) as caught:
                await service.find(reference)
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 700

    run(test)


def test_a_key_of_a_contract_keeps_what_it_was_issued_with(run: Run) -> None:
    async def test(service: KeyService) -> None:
        wanted = NewKey(
            name="theirs",
            kind="openrouter",
            role="management",
            account_id="acc_1",
            workspace_id="ws_1",
            user_id="usr_1",
            creator_user_id="usr_2",
            scopes=("manage",),
            settings={"limit": 5},
        )
        row, secret = await service.issue(wanted)
        key = (await table_of(service)).find_any(secret.reveal().encode())
        assert key is not None
        assert (key.kind, key.role, key.account_id, key.workspace_id) == ("openrouter", "management", "acc_1", "ws_1")
        assert (key.user_id, key.scopes, key.settings) == ("usr_1", {"manage"}, {"limit": 5})
        assert row.fingerprint is not None
        assert await service.owned_by_fingerprint("acc_1", row.fingerprint) == row
        assert await service.owned("acc_1", row.id) == row

    run(test)


def test_another_accounts_key_is_not_found(run: Run) -> None:
    async def test(service: KeyService) -> None:
        row, _ = await service.issue(NewKey(name="theirs", kind="openrouter", account_id="acc_1"))
        assert row.fingerprint is not None
        assert await service.owned("default", row.id) is None
        assert await service.owned_by_fingerprint("default", row.fingerprint) is None
        await service.revoke(row.id)
        assert await service.owned("acc_1", row.id) is None

    run(test)


def test_a_change_leaves_the_rest_as_it_was(run: Run) -> None:
    async def test(service: KeyService) -> None:
        row, secret = await service.issue(NewKey(name="one", scopes=("manage",), expires_at=2**60))
        changed = await service.change(row.id, KeyChange(disabled=True, limits=Limits(requests_per_day=5)))
        assert changed is not None
        assert (changed.name, changed.scopes, changed.expires_at) == ("one", ("manage",), 2**60)
        assert (changed.disabled, changed.requests_per_day) == (True, 5)
        table = await table_of(service)
        assert table.find(secret.reveal().encode()) is None
        again = await service.change(row.id, KeyChange(disabled=False, expires_at=None))
        assert again is not None
        assert again.expires_at is None
        assert (await table_of(service)).find(secret.reveal().encode()) is not None
        with pytest.raises(ConfigError):
            await service.change(row.id, KeyChange(name="two\nlines"))

    run(test)
