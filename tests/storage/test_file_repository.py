"""Whose file is whose, on both databases."""

import asyncio
from typing import Any

from databases import DatabasePlace
from pointsman.canonical.files import FileQuery
from pointsman.storage.files import FileRepository, FileRow


def row(file_id: str, **changes: Any) -> FileRow:
    values: dict[str, Any] = {"workspace_id": "a", "wire": "openai", "connection_id": "main", "created_at": 5}
    return FileRow(id=file_id, sealed=b"\x00", **{**values, **changes})


def test_files_are_their_workspaces_until_their_time_is_over(database_place: DatabasePlace) -> None:
    async def story(files: FileRepository) -> None:
        await files.add(row("one", expires_at=100))
        await files.add(row("two", workspace_id="b"))
        assert (await files.get("a", "openai", "one", 99)) is not None
        assert (await files.get("a", "openai", "one", 100)) is None
        assert (await files.get("b", "openai", "one", 1)) is None
        assert (await files.get("a", "anthropic", "one", 1)) is None
        assert [found.id for found in await files.find("a", "openai", ["one", "two"], 1)] == ["one"]
        assert await files.known("openai", ["one", "two", "three"]) == {"one", "two"}
        await files.delete("b", "openai", "one")
        assert await files.forget_expired(99) == 0
        assert await files.forget_expired(100) == 1

    run(database_place, story)


def test_a_name_that_is_given_anew_leaves_its_first_owner(database_place: DatabasePlace) -> None:
    async def story(files: FileRepository) -> None:
        await files.add(row("one"))
        await files.add(row("one", workspace_id="b", connection_id="other"))
        assert (await files.get("a", "openai", "one", 1)) is not None
        await files.add(row("one", workspace_id="b"))
        assert (await files.get("a", "openai", "one", 1)) is None

    run(database_place, story)


def test_pages_go_on_both_ways_through_equal_instants(database_place: DatabasePlace) -> None:
    async def story(files: FileRepository) -> None:
        for name in ("a", "b", "c", "d"):
            await files.add(row(name, purpose="batch" if name == "d" else None))

        async def names(**wanted: Any) -> list[str] | None:
            found = await files.page("a", "openai", FileQuery(**{"limit": 2, **wanted}), 1)
            return None if found is None else [one.id for one in found]

        assert await names() == ["d", "c", "b"]
        assert await names(after="c") == ["b", "a"]
        assert await names(newest_first=False, after="a") == ["b", "c", "d"]
        assert await names(before="a") == ["b", "c", "d"]
        assert await names(purpose="batch") == ["d"]
        assert await names(ids=("a", "z")) == ["a"]
        assert await names(after="nobody") is None

    run(database_place, story)


def run(place: DatabasePlace, story: Any) -> None:
    async def within() -> None:
        database = place.open()
        try:
            await database.migrate()
            await story(FileRepository(database))
        finally:
            await database.aclose()

    asyncio.run(within())
