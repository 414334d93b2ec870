"""Which models a profile chooses among, and in which order."""

from collections.abc import Iterable
from typing import Any

import pytest

from pointsman.canonical.parts import TextPart
from pointsman.canonical.request import Message, Request
from pointsman.errors import GatewayError
from pointsman.routing.catalogue import Catalogue, Naming
from pointsman.routing.facts import FactBook, ListedModel
from pointsman.routing.plan import Condition, Memory, Problem, Route, plan
from pointsman.routing.profiles.book import Pins, ProfileBook
from pointsman.routing.profiles.budgets import PROFILES, budget_of, present_name
from pointsman.routing.profiles.grades import billions_of, family_of, grade_of, grades
from pointsman.routing.profiles.judging import judge
from pointsman.routing.profiles.making import profile_of, profile_words
from pointsman.routing.profiles.narrowing import CANDIDATES, narrowed
from pointsman.routing.replay import dump, load
from pointsman.routing.targets import Connection, ModelFacts, PriceTag, Target, target_of
from pointsman.routing.wants import Judged, Preferences, Wants

USD = 1_000_000  # a dollar per million tokens


def price(prompt: float, completion: float | None = None) -> PriceTag:
    return PriceTag(prompt=round(prompt * USD), completion=round((completion or prompt * 4) * USD))


def facts(cost: float | None, slug: str | None = None, **rest: Any) -> ModelFacts:
    return ModelFacts(price=None if cost is None else price(cost), slug=slug, **rest)


def catalogue(models: dict[str, ModelFacts], book: ProfileBook | None = None, **priorities: int) -> Catalogue:
    """Models by full id, each connection's in one list."""
    lists: dict[str, list[ListedModel]] = {}
    for name, known in models.items():
        connection, _, model = name.partition("/")
        lists.setdefault(connection, []).append(ListedModel(name=model, facts=known))
    connections = [Connection(id=name, kind="openai", priority=priorities.get(name, 0)) for name in lists]
    return Catalogue(connections, {}, None, FactBook(listed=lists), Naming(words=profile_words(book or ProfileBook())))


def judged(budget: str = "medium", tier: str = "MEDIUM", **rest: Any) -> Judged:
    return Judged(profile=rest.pop("profile", budget), budget=budget, tier=tier, score=0.4, confidence=0.9, **rest)


def order(route: Route, how: Judged, wants: dict[str, Any] | None = None, **rest: Any) -> list[str]:
    problem = Problem(route=route, wants=Wants(model="auto", judged=how, **(wants or {})), **rest)
    return [target.id for target in plan(narrowed(problem)).order]


THREE = {
    "up/small": facts(0.1, "sim/small"),
    "up/middle": facts(1.0, "sim/middle"),
    "up/large": facts(5.0, "sim/large"),
}


@pytest.fixture
def three() -> Route:
    return catalogue(THREE).route("auto")


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ("cheap", ["up/small", "up/middle", "up/large"]),
        ("medium", ["up/middle", "up/large", "up/small"]),
        ("premium", ["up/large", "up/middle", "up/small"]),
    ],
)
def test_a_budgets_own_models_come_first_then_dearer_ones_then_cheaper_ones(
    three: Route, budget: str, expected: list[str]
) -> None:
    assert order(three, judged(budget)) == expected


def test_profiles_mean_budgets_and_old_words_have_new_names() -> None:
    assert [budget_of("auto", tier) for tier in ("SIMPLE", "MEDIUM", "COMPLEX", "REASONING")] == [
        "cheap", "medium", "premium", "premium",
    ]  # fmt: skip
    assert {word: present_name(word) for word in PROFILES} == {
        "auto": "auto", "cheap": "cheap", "medium": "medium", "premium": "premium", "eco": "cheap",
        "balanced": "medium",
    }  # fmt: skip
    with pytest.raises(KeyError):
        budget_of("gpt-4o", "SIMPLE")
    names = catalogue(THREE)
    assert {word: profile_of(names.route(word)) for word in PROFILES} == {word: present_name(word) for word in PROFILES}


def test_a_combination_of_words_that_an_upstream_has_itself_is_its_own() -> None:
    assert catalogue(THREE).route("openrouter/auto").kind == "profile"
    served = catalogue({**THREE, "hub/openrouter/auto": facts(None, "openrouter/auto")})
    assert [step.target.id for step in served.route("openrouter/auto").steps] == ["hub/openrouter/auto"]
    assert served.route("auto").kind == "profile"


def test_without_a_model_that_talks_a_profile_means_nothing() -> None:
    embedder = ModelFacts(outputs=frozenset(("embeddings",)))
    for models in ({}, {"up/vectors": embedder, "up/text-embedding-9": ModelFacts(), "up/whisper-2": ModelFacts()}):
        with pytest.raises(GatewayError, match="does not exist"):
            catalogue(models).route("auto")


def test_newer_releases_come_before_older_ones_of_their_family() -> None:
    models = {
        "up/thinker-4": facts(5.0),
        "up/thinker-5.2": facts(5.0),
        "up/thinker-5-20250101": facts(6.0),
        "up/thinker-mini-4": facts(5.5),
    }
    found = order(catalogue(models).route("premium"), judged("premium"))
    assert set(found[:2]) == {"up/thinker-5.2", "up/thinker-mini-4"}
    assert set(found[2:]) == {"up/thinker-4", "up/thinker-5-20250101"}


@pytest.mark.parametrize(
    ("one", "other"),
    [("claude-3-opus-20240229", "claude-opus-4-5"), ("gpt-4.1", "gpt-5"), ("llama-3.1-70b-instruct", "llama-3.3-70b")],
)
def test_releases_of_one_family_are_told_by_their_names(one: str, other: str) -> None:
    connection = Connection(id="up", kind="openai")
    before, after = (family_of(target_of(connection, name)) for name in (one, other))
    assert before[0] == after[0]
    assert before[1] < after[1]


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("llama-3.1-8b-instruct", 8), ("mixtral-8x7b", 56), ("smollm2-135m-instruct", 0.135), ("qwen3:0.6b", 0.6),
        ("qwen2.5-14b-instruct-1m", 14), ("qwen3-30b-a3b", 30), ("gpt-5.2", None), ("gemini-2.5-pro-1m", None),
    ],
)  # fmt: skip
def test_a_models_size_is_read_from_its_name(name: str, billions: float | None) -> None:
    assert billions_of(name) == (None if billions is None else pytest.approx(billions))


def test_without_a_price_the_name_tells_the_budget_and_known_prices_come_first() -> None:
    found = graded(
        {"up/llama-8b": None, "up/llama-70b": None, "up/llama-405b": None, "up/thing-nano": None, "up/opus": None}
    )
    assert {name: grade.budget for name, grade in found.items()} == {
        "up/llama-8b": "cheap", "up/llama-70b": "medium", "up/llama-405b": "premium", "up/thing-nano": "cheap",
        "up/opus": "premium",
    }  # fmt: skip
    assert all(grade.guessed for grade in found.values())
    both = catalogue({"up/a": facts(1.0), "up/b": ModelFacts()})
    assert order(both.route("medium"), judged("medium")) == ["up/a", "up/b"]


def graded(models: dict[str, float | None]) -> dict[str, Any]:
    connection = Connection(id="up", kind="openai")
    targets = [target_of(connection, name.partition("/")[2], facts(cost)) for name, cost in models.items()]
    return grades(targets)


def test_tiny_and_luxurious_models_are_asked_when_nothing_else_is_left() -> None:
    models = {"up/toy-135m": facts(0.0), "up/usual-8b": facts(0.1), "up/gold": facts(150.0), "up/great": facts(5.0)}
    route = catalogue(models).route("auto")
    assert order(route, judged("cheap"))[:2] == ["up/usual-8b", "up/great"]
    assert order(route, judged("premium"))[:2] == ["up/great", "up/usual-8b"]


def test_a_grade_survives_being_written_into_a_step() -> None:
    for grade in graded({"up/llama-8b": None, "up/toy-135m": 0.0, "up/gold": 150.0, "up/usual": 1.0}).values():
        assert grade_of(grade.word(), grade.quality) == grade
    assert grade_of("", 0.0).budget == "medium"


def test_one_model_at_several_connections_goes_by_priority_then_by_price() -> None:
    models = {
        "far/x": facts(3.0, "sim/x"), "near/x": facts(5.0, "sim/x"), "mid/x": facts(4.0, "sim/x"),
        "up/small": facts(0.1),
    }  # fmt: skip
    route = catalogue(models, None, near=5).route("premium")
    assert order(route, judged("premium")) == ["near/x", "far/x", "mid/x", "up/small"]


def test_reasoning_asks_for_a_model_that_reasons() -> None:
    dull, deep = frozenset(("tools",)), frozenset(("tools", "reasoning"))
    models = {"up/dull": facts(9.0, parameters=dull), "up/deep": facts(1.0, parameters=deep), "up/odd": facts(4.0)}
    route = catalogue(models).route("premium")
    assert order(route, judged("premium", "COMPLEX"))[0] != "up/deep"
    assert order(route, judged("premium", "REASONING")) == ["up/odd", "up/deep", "up/dull"]


def test_what_a_request_needs_takes_out_what_cannot_serve_it(three: Route) -> None:
    models = {
        "up/plain": facts(0.1, parameters=frozenset(("temperature",)), inputs=frozenset(("text",))),
        "up/sees": facts(5.0, parameters=frozenset(("tools",)), inputs=frozenset(("text", "image"))),
    }
    route = catalogue(models).route("cheap")
    assert order(route, judged("cheap")) == ["up/plain", "up/sees"]
    assert order(route, judged("cheap"), {"tools": True}) == ["up/sees"]
    assert order(route, judged("cheap"), {"inputs": frozenset(("image",))}) == ["up/sees"]
    only = {"preferences": Preferences(only=("nobody",))}
    problem = Problem(route=three, wants=Wants(model="auto", judged=judged(), **only))
    assert plan(narrowed(problem)).emptied_by == "only"


def test_who_fails_often_comes_last(three: Route) -> None:
    unstable = {"up/small": Condition(unstable=True)}
    assert order(three, judged("cheap"), conditions=unstable) == ["up/middle", "up/large", "up/small"]


def test_an_engines_choice_comes_first_and_pins_before_it() -> None:
    book = ProfileBook(budgets={"cheap": Pins(names={"": ("up/large",)})})
    chosen = judged("cheap", picks=("up/middle",), engine="somebody")
    assert order(catalogue(THREE).route("cheap"), chosen) == ["up/middle", "up/small", "up/large"]
    assert order(catalogue(THREE, book).route("cheap"), chosen) == ["up/large", "up/middle", "up/small"]


def test_pins_hold_for_their_tier_name_models_in_every_way_and_pass_over_what_is_not_there() -> None:
    names = {"": ("nobody", "sim/large"), "SIMPLE": ("up/mid*",)}
    book = ProfileBook(budgets={"cheap": Pins(names=names)})
    route = catalogue(THREE, book).route("cheap")
    assert order(route, judged("cheap", "SIMPLE")) == ["up/middle", "up/large", "up/small"]
    assert order(route, judged("cheap", "COMPLEX")) == ["up/large", "up/small", "up/middle"]
    assert order(route, judged("medium", "SIMPLE"))[0] == "up/middle"


def test_pinned_models_alone_are_chosen_where_the_operator_wants_it_and_none_is_no_choice() -> None:
    book = ProfileBook(budgets={"cheap": Pins(names={"": ("up/middle",)}, only=True), "premium": Pins(only=True)})
    route = catalogue(THREE, book).route("auto")
    assert order(route, judged("cheap")) == ["up/middle"]
    assert len(order(route, judged("premium"))) == 3


class TestConversations:
    """Where a conversation stays."""

    def stays(self, route: Route, how: Judged) -> str:
        return order(route, how, memory=Memory(sticky="up/large"))[0]

    def test_it_stays_while_tools_are_at_work_and_falls_back_to_no_lesser_model(self) -> None:
        models = {**THREE, "up/other": facts(4.5)}
        how = judged("cheap", "SIMPLE", profile="auto", tool_loop=True)
        found = order(catalogue(models).route("auto"), how, memory=Memory(sticky="up/large"))
        assert found[:2] == ["up/large", "up/other"]

    def test_it_stays_as_long_as_its_level_holds_the_budget(self, three: Route) -> None:
        assert self.stays(three, judged("cheap", "SIMPLE", profile="auto", holds="premium")) == "up/large"
        assert self.stays(three, judged("cheap", "SIMPLE", profile="auto", holds="medium")) == "up/small"

    def test_it_rises_at_once(self, three: Route) -> None:
        how = judged("premium", "COMPLEX", profile="auto", holds="premium")
        assert order(three, how, memory=Memory(sticky="up/small"))[0] == "up/large"

    def test_with_a_named_budget_it_stays(self, three: Route) -> None:
        assert order(three, judged("cheap"), memory=Memory(sticky="up/middle"))[0] == "up/middle"

    def test_it_leaves_a_model_that_cannot_reason_when_reasoning_is_asked_for(self) -> None:
        dull, deep = facts(0.1, parameters=frozenset(("tools",))), facts(0.2, parameters=frozenset(("reasoning",)))
        route = catalogue({"up/dull": dull, "up/deep": deep}).route("cheap")
        assert order(route, judged("cheap", "REASONING"), memory=Memory(sticky="up/dull"))[0] == "up/deep"


def many(count: int) -> Catalogue:
    return catalogue({
        f"c{number % 7}/model-{number}": facts(
            0.02 * (1 + number % 300), f"sim/model-{number}",
            inputs=frozenset(("text", "image") if number % 50 == 49 else ("text",)),
        )
        for number in range(count)
    })  # fmt: skip


def test_of_many_models_the_first_that_can_serve_are_candidates() -> None:
    route = many(600).route("auto")
    assert len(route.steps) == 600
    found = order(route, judged("cheap"))
    assert len(found) == CANDIDATES
    seeing = order(route, judged("cheap"), {"inputs": frozenset(("image",))})
    assert len(seeing) == 12
    sticky = order(route, judged("premium"), memory=Memory(sticky="c0/model-0"))
    assert sticky[0] == "c0/model-0"
    assert len(sticky) == CANDIDATES


def test_the_first_of_many_candidates_is_the_first_of_all() -> None:
    route = many(600).route("auto")
    for budget in ("cheap", "medium", "premium"):
        problem = Problem(route=route, wants=Wants(model="auto", judged=judged(budget)))
        whole = [target.id for target in plan(problem).order]
        assert order(route, judged(budget)) == whole[:CANDIDATES]


def test_a_decision_among_many_is_kept_whole_and_replays_identically() -> None:
    route = many(600).route("auto")
    for budget in ("cheap", "medium", "premium"):
        how = judged(budget, "REASONING", signals={"reasoning": 0.6}, rules=("follow_up",), picks=("c1/model-1",))
        problem = narrowed(
            Problem(
                route=route, wants=Wants(model="auto", judged=how), memory=Memory(sticky="c3/model-3"), now=5, seed=7
            )
        )
        made = plan(problem)
        replay = load(dump(problem, made))
        assert replay.problem is not None
        assert replay.identical()
        assert replay.problem.wants.judged == how


def test_the_same_candidates_are_the_same_route_so_that_it_is_written_once() -> None:
    route = many(100).route("auto")
    one, two = (narrowed(Problem(route=route, wants=Wants(model="auto", judged=judged()))) for _ in range(2))
    assert one.route is two.route


def conversation(*texts: str) -> Request:
    roles: Iterable[Any] = ("user", "assistant") * len(texts)
    messages = [Message(role=role, parts=[TextPart(text=text)]) for role, text in zip(roles, texts, strict=False)]
    return Request(wire="openai.chat", model="auto", messages=messages)


def test_a_judgement_holds_no_word_of_the_request_and_names_its_features() -> None:
    found = judge(conversation("Prove that the square root of 2 is irrational."), "auto").judged
    assert (found.budget, found.tier, found.holds) == ("premium", "REASONING", "premium")
    assert found.signals["reasoning"] > 0
    assert "irrational" not in repr(found)


def test_a_conversations_level_holds_its_budget_for_some_turns() -> None:
    first = judge(conversation("Prove that the square root of 2 is irrational."), "auto")
    memory, holds = first.memory, []
    for _ in range(12):
        verdict = judge(conversation("What is the capital of France?"), "auto", memory)
        assert verdict.judged.budget == "cheap"
        holds.append(verdict.judged.holds)
        memory = verdict.memory
    assert holds[0] == "premium"
    assert holds[-1] == "cheap"
    assert sorted(holds, key=["premium", "medium", "cheap"].index) == holds


def test_a_targets_grade_needs_nothing_but_its_facts(three: Route) -> None:
    targets: list[Target] = [step.target for step in three.steps]
    assert grades(targets) == grades(reversed(targets))
