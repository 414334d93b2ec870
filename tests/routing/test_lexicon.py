"""Terms of word lists in texts of any script."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.routing.complexity.facts import Window, parse_facts, prepare, shipped
from pointsman.routing.complexity.lexicon import WORD, Lexicon, Marks, split_words
from pointsman.routing.complexity.measures import visible

LEXICON = Lexicon(
    {
        "code": ["class", "unit test*", "クラス", "函数"],
        "proof": [
            "proof*",
            "proofs",
            "proofread*",
            "証明",
            "を証明",
            "démontr*",
            "step by step",
            "beweisführung",
            "für alle",
            "dés",
        ],
    }
)


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("a class", {"code": 1}),
        ("classic, subclass, class_name, classes", {}),
        ("class class class", {"code": 1}),
        ("class: (class)", {"code": 1}),
        ("unit testing", {"code": 1}),
        ("a unit, a test", {}),
        ("community tests", {}),
        ("proofs and proofread", {"proof": 2}),
        ("waterproof", {}),
        ("定理を証明", {"proof": 1}),
        ("step by step", {"proof": 1}),
        ("step\nby, step", {"proof": 1}),
        ("step by steps", {}),
        ("demontrer", {"proof": 1}),
        ("démontrez", {"proof": 1}),
        ("beweisfuehrung fuer alle", {"proof": 2}),
        ("les des", {}),
        ("les dés", {"proof": 1}),
        ("这个函数很慢", {"code": 1}),
        ("このクラスは", {"code": 1}),
        ("クラスター", {}),
        ("クラスターのクラス", {"code": 1}),
        ("", {}),
    ],
)
def test_whole_terms_are_found(text: str, hits: dict[str, int]) -> None:
    assert LEXICON.find(text.lower()) == hits


def test_a_stem_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'abc\*' in 'code'"):
        Lexicon({"code": ["abc*"]})


@given(st.text())
def test_words_are_those_of_the_pattern(text: str) -> None:
    assert split_words(text) == WORD.findall(text)


@given(st.text(st.characters(max_codepoint=127)))
def test_words_of_ascii_are_those_of_the_pattern(text: str) -> None:
    assert split_words(text) == WORD.findall(text)


@given(st.text())
def test_marks_are_counted_once_each(text: str) -> None:
    marks = ["=>", "def ", "```", "≤", "a"]
    assert Marks(marks).count(text) == sum(mark in text for mark in marks)


@given(st.lists(st.text(st.sampled_from("ab 证。\n")), max_size=8))
def test_a_cut_leaves_no_part_of_a_word(texts: list[str]) -> None:
    window = Window(head=7, tail=5)
    seen = visible(texts, window)
    assert len(seen) <= 12 + len(texts)
    assert set(WORD.findall(seen.replace("证", " "))) <= set(WORD.findall("\n".join(texts).replace("证", " ")))


def test_a_short_text_is_seen_whole() -> None:
    assert visible(["one", "two"], Window(head=3, tail=3)) == "one\ntwo"


def test_a_word_without_end_is_cut_somewhere() -> None:
    assert visible(["x" * 5000], Window(head=1000, tail=500)) == "x" * 800 + "\n" + "x" * 300


def test_every_shipped_term_is_found_in_itself() -> None:
    prepared = shipped()
    lost = [
        (name, term)
        for name in set(prepared.facts.words) - {"opening", "closing"}
        for term in prepared.facts.terms(name)
        if name not in prepared.lexicon.find(term.rstrip("*").lower())
    ]
    assert lost == []


def test_no_shipped_list_has_a_term_twice() -> None:
    facts = shipped().facts
    twice = [
        (name, language, term)
        for name, lines in facts.words.items()
        for language, line in lines.items()
        for term in set(line.split(", "))
        if line.split(", ").count(term) > 1
    ]
    assert twice == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"MEDIUM": 0.25', '"MEDIUM": 0.9', "boundaries"),
        ('"base"', '"bass"', "bass"),
        ("[[0, 0], [2, 0.5], [5, 1]]", "[[0, 0], [5, 0.5], [2, 1]]", "do not rise"),
        ('"domain": {\n', '"demain": {\n', "demain"),
    ],
)
def test_wrong_facts_are_named(old: str, new: str, message: str) -> None:
    from pointsman.routing.complexity import facts

    text = facts._FILE.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(ValueError, match=message):
        prepare(parse_facts(text.replace(old, new, 1).encode()))


def test_strengths_are_linear_between_points() -> None:
    figures = shipped().facts.signals["enumeration"]
    (low, below), (high, above) = figures.points[1:3]
    assert figures.strength((low + high) / 2) == pytest.approx((below + above) / 2)
    assert figures.strength(10_000) == above
    assert figures.strength(-1) == figures.points[0][1]
