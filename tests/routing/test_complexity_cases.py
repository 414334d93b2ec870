"""The labelled set, and how well the scorer does on its held-out part."""

from pathlib import Path

import pytest
from clawrouter_rules import judge

from pointsman.routing.complexity import TIERS, score
from pointsman.routing.complexity.cases import Case, build_cases, evaluate, fill

PAGE = Path(__file__).resolve().parents[2] / "docs" / "routing-complexity.md"
LANGUAGES = {"en", "de", "fr", "es", "zh", "ja"}


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """The whole set."""
    return build_cases()


def test_the_set_is_large_enough_and_no_prompt_is_there_twice(cases: list[Case]) -> None:
    assert len(cases) >= 600
    prompts = [(case.earlier, case.text) for case in cases]
    assert len(set(prompts)) == len(prompts)


def test_every_tier_and_language_is_in_both_parts(cases: list[Case]) -> None:
    for split in ("development", "held_out"):
        found = {(case.tier, case.language) for case in cases if case.split == split}
        assert found == {(tier, language) for tier in TIERS for language in LANGUAGES}


def test_no_template_is_in_both_parts(cases: list[Case]) -> None:
    splits: dict[int, set[str]] = {}
    for case in cases:
        splits.setdefault(case.template, set()).add(case.split)
    assert all(len(found) == 1 for found in splits.values())


def test_slots_are_filled_side_by_side() -> None:
    assert fill("{a|b|c} and {1|2}") == ["a and 1", "b and 2", "c and 1"]
    assert fill("no slot, { } and {x}") == ["no slot, { } and {x}"]


def test_the_scorer_holds_its_accuracy_on_the_held_out_part(cases: list[Case]) -> None:
    held_out = [case for case in cases if case.split == "held_out"]
    ours = evaluate(held_out, lambda request: score(request).tier)
    theirs = evaluate(held_out, judge)
    assert ours.right / ours.total >= 0.8
    assert ours.near == ours.total
    assert ours.right > theirs.right
    assert all(right / count >= 0.7 for right, count in ours.languages.values())


def test_the_page_has_the_figures_of_today(cases: list[Case]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for split, title in (("development", "development"), ("held_out", "held out")):
        part = [case for case in cases if case.split == split]
        ours, theirs = evaluate(part, lambda request: score(request).tier), evaluate(part, judge)
        row = f"| {title} | {ours.total} | {ours.right / ours.total:.1%} | {theirs.right / theirs.total:.1%} |"
        assert row in page


def test_the_page_says_how_large_the_set_is_and_how_alike_its_parts_are(cases: list[Case]) -> None:
    page = PAGE.read_text(encoding="utf-8").replace("\n", " ")
    assert f"has {len(cases)} prompts in six languages" in page
    assert f"made from {len({case.template for case in cases})} templates" in page
    assert all(sum(case.tier == tier for case in cases) >= 200 for tier in TIERS)
    plain = [case for case in cases if not case.earlier]
    known = {(case.tier, case.kind, case.language) for case in plain if case.split == "development"}
    kinds = {(tier, kind) for tier, kind, _ in known}
    held = {case.template: (case.tier, case.kind, case.language) for case in plain if case.split == "held_out"}
    alike = sum(one[:2] in kinds for one in held.values())
    assert f"{alike} of the {len(held)} held-out templates" in page
    assert f"{sum(one in known for one in held.values())} in the same language" in page
