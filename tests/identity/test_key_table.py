"""The keys in memory: bounded, and nothing of before a change is left after it."""

from pointsman.identity.key_table import KeyNews, KeyTable, Known
from pointsman.identity.keys import Key

PEPPER = b"p" * 32


def known(table: KeyTable, name: str, **fields: object) -> Known:
    """The key ``name`` whose secret is its name."""
    return Known(table.digest(name.encode()), Key(id=name, name=name, role="inference", workspace_id="w", **fields))  # type: ignore[arg-type]


def test_a_full_table_forgets_its_oldest_keys_and_says_that_it_is_not_whole() -> None:
    table = KeyTable(PEPPER, most=2)
    table.learn([known(table, "a"), known(table, "b")])
    assert table.whole
    assert table.find(b"a") is not None
    table.learn([known(table, "c")])
    assert (table.find(b"a"), table.by_id("a"), len(table), table.whole) == (None, None, 2, False)
    assert table.find(b"b") is not None
    assert table.find(b"c") is not None


def test_a_seen_key_that_is_gone_or_changed_is_found_no_more_as_it_was() -> None:
    table = KeyTable(PEPPER)
    table.learn([known(table, "a"), known(table, "b")])
    assert table.find(b"a") is not None
    assert table.find(b"b") is not None
    table.apply(KeyNews(revision=2, gone=("a",), valid=(known(table, "b", priority=7),)))
    assert table.find(b"a") is None
    found = table.find(b"b")
    assert found is not None
    assert found.priority == 7


def test_a_whole_table_learns_new_keys_and_another_only_changes_of_those_it_knows() -> None:
    table = KeyTable(PEPPER)
    table.apply(KeyNews(revision=2, valid=(known(table, "a"),)))
    assert table.find(b"a") is not None
    table.apply(KeyNews(revision=3, anew=True, whole=False))
    table.apply(KeyNews(revision=4, valid=(known(table, "b"),)))
    assert (len(table), table.whole, table.revision) == (0, False, 4)


def test_a_key_for_management_is_found_only_where_any_is_asked_for() -> None:
    table = KeyTable(PEPPER)
    row = Key(id="m", name="m", role="management", workspace_id="w")
    table.learn([Known(table.digest(b"m"), row)])
    assert table.find(b"m") is None
    assert table.find_any(b"m") is row
    table.apply(KeyNews(revision=1, gone=("m",)))
    assert table.find_any(b"m") is None
