"""A directory of journals has one name as long as it stays where it is, and a copy of it has another one."""

import asyncio
import shutil
from pathlib import Path

from budget_stage import stage

from databases import DatabasePlace
from pointsman.accounting.homes import HOME_FILE, home_of, leave_home
from pointsman.accounting.projector import Projector
from pointsman.housekeeping import Housekeeping
from pointsman.installation import open_installation
from pointsman.settings import Environment, parse_settings


def start_in(directory: Path) -> str:
    """The name that a server has for it from its start."""
    leave_home(directory)
    return home_of(directory)


def test_a_directory_keeps_its_name_from_start_to_start(tmp_path: Path) -> None:
    first = start_in(tmp_path / "journal")
    assert [start_in(tmp_path / "journal") for _ in range(3)] == [first] * 3


def test_a_directory_that_is_renamed_keeps_its_name(tmp_path: Path) -> None:
    first = start_in(tmp_path / "journal")
    (tmp_path / "journal").rename(tmp_path / "moved")
    assert start_in(tmp_path / "moved") == first


def test_a_copy_has_a_name_of_its_own_which_it_keeps(tmp_path: Path) -> None:
    first = start_in(tmp_path / "journal")
    shutil.copytree(tmp_path / "journal", tmp_path / "copy")
    second = start_in(tmp_path / "copy")
    assert second != first
    assert (start_in(tmp_path / "copy"), start_in(tmp_path / "journal")) == (second, first)


def test_a_name_from_before_places_were_noted_stays_and_no_copy_made_from_now_on_has_it(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "home").write_text("0123456789abcdef", encoding="ascii")
    assert home_of(tmp_path / "journal") == "0123456789abcdef"
    assert [start_in(tmp_path / "journal") for _ in range(2)] == ["0123456789abcdef"] * 2
    shutil.copytree(tmp_path / "journal", tmp_path / "copy")
    assert start_in(tmp_path / "copy") != "0123456789abcdef"
    assert [path.name for path in (tmp_path / "journal").iterdir()] == ["home"]


def test_a_server_with_a_copied_data_directory_leaves_the_leases_of_the_other_one_alone(
    database_place: DatabasePlace,
) -> None:
    async def story() -> None:
        one_dir, copy_dir = (database_place.data_dir / name / "journal" for name in ("one", "copy"))
        home_of(one_dir)
        shutil.copytree(one_dir.parent, copy_dir.parent)
        async with stage(database_place) as one:
            row, _ = await one.budgets.set("key", "key_1", 1000)
            await one.process("one/journal").reserve(row, 900)
            environment = Environment(data_dir=copy_dir.parent)
            async with open_installation(parse_settings({"local": {"enabled": False}}, "test"), environment) as own:
                await Housekeeping(own).aclose()
            projector = Projector(one.database, copy_dir, one.clock, batch_rows=50, retention_days=7)
            await projector.drain()
            assert await projector.release() == 0
            assert (await one.budgets.standing(row)).held >= 900

    asyncio.run(story())


def test_a_name_that_a_power_failure_has_taken_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / HOME_FILE).write_bytes(b"")
    leave_home(tmp_path)
    assert len(home_of(tmp_path)) == 16
