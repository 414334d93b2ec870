"""What keeps questions apart that vectors hold for the same."""

import pytest
from benchmarks.cache_pairs import CHANGES, SAME, pairs

from pointsman.policy.question_guard import details_of, is_swap, rest_of


def is_let_through(one: str, other: str) -> bool:
    return details_of(one) == details_of(other) and not is_swap(rest_of(one), rest_of(other))


@pytest.mark.parametrize("kind", sorted({kind for kind, _, _ in CHANGES}))
def test_no_change_of_a_detail_is_let_through(kind: str) -> None:
    changed = [pair for pair in pairs() if pair.kind == kind]
    assert [pair for pair in changed if is_let_through(pair.one, pair.other)] == []


def test_some_paraphrases_are_let_through() -> None:
    same = [pair for pair in pairs() if pair.kind == SAME]
    assert sum(is_let_through(pair.one, pair.other) for pair in same) > len(same) / 10


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Pay 10 to Bob and 20 to Eve.", "Pay 20 to Bob and 10 to Eve."),
        ("Is 3.5 enough?", "Is 35 enough?"),
        ("Who paid ten?", "Who paid twelve?"),
        ("I don't know it", "I know it"),
        ("Tell me about Lisbon", "Tell me about Madrid"),
        ("read `a`", "read `b`"),
        ("open http://a.example/x", "open http://a.example/y"),
        ('say "yes"', 'say "no"'),
        ("Это кот", "これは猫"),
    ],
)
def test_details_differ(one: str, other: str) -> None:
    assert details_of(one) != details_of(other)


def test_capitals_at_the_beginning_and_spaces_are_no_details() -> None:
    assert details_of("What is the tallest tower?") == details_of("what is the  tallest tower")


def test_a_swap_is_one_word_more_less_or_other_or_another_order() -> None:
    one = ("cook", "brown", "rice")
    assert is_swap(one, ("cook", "white", "rice"))
    assert is_swap(one, ("cook", "rice"))
    assert is_swap(("cook", "rice"), one)
    assert is_swap(one, ("rice", "brown", "cook"))
    assert not is_swap(one, one)
    assert not is_swap(one, ("boil", "white", "rice"))
