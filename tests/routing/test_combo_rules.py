"""Each setting of a combo is obeyed or refused: tiers, pools, turns that last, budgets, modes, tasks, quick answers."""

from typing import Any

import msgspec
import pytest

from pointsman.errors import ConfigError
from pointsman.policy.combos import _combo, _from_file
from pointsman.routing.catalogue import Catalogue
from pointsman.routing.combo_settings import DEFAULTS, check_settings
from pointsman.routing.combo_shapes import InvalidFieldsError, document_of
from pointsman.routing.combos import Combo, ComboBook, Entry
from pointsman.routing.demands import Asked, wants_of
from pointsman.routing.memory import planned
from pointsman.routing.plan import NO_MEMORY, Condition, Memory, Problem, Route, Step, plan
from pointsman.routing.strategies.auto_weights import chosen_weights
from pointsman.routing.targets import Connection, ModelFacts, PriceTag, target_of
from pointsman.routing.wants import Wants
from pointsman.settings import ComboSettings

OPTIONS: Any = {"comboDefaults": {}, "providerOverrides": {}, "globalFallbackModel": None}
NOTHING_FOR: Any = [
    ("evalRouting", {"enabled": True}, "evalRouting.enabled"),
    ("compressionMode", "lite", "compressionMode"),
    ("fallbackCompressionMode", "lite", "fallbackCompressionMode"),
    ("fallbackCompressionThreshold", 1000, "fallbackCompressionThreshold"),
    ("nestedComboMode", "execute", "nestedComboMode"),
    ("resetAwareQuotaCacheTtlMs", 1000, "resetAwareQuotaCacheTtlMs"),
    ("resetAwareQuotaCacheMaxStaleMs", 1000, "resetAwareQuotaCacheMaxStaleMs"),
    ("routerStrategy", "magic", "routerStrategy"),
    ("modePack", "magic", "modePack"),
    ("weights", {"quota": "much"}, "weights.quota"),
    ("budgetFallback", "none", "budgetFallback"),
    ("sla", {"maxErrorRate": 2}, "sla.maxErrorRate"),
]


def steps(*names: str, **facts: Any) -> tuple[Step, ...]:
    """Targets ``name/m``, each with the weight 1."""
    return tuple(
        Step(
            target=target_of(Connection(id=name, kind="openai"), "m", ModelFacts(**facts)), weight=1, id=f"step-{place}"
        )
        for place, name in enumerate(names, 1)
    )


def problem(route: Route, memory: Memory = NO_MEMORY, **rest: Any) -> Problem:
    """A request of this route."""
    return Problem(route=route, wants=rest.pop("wants", Wants(model="smart")), memory=memory, **rest)


def order(asked: Problem) -> str:
    """The order, a letter for each target."""
    return "".join(target.connection.id for target in plan(asked).order)


@pytest.mark.parametrize(("name", "value", "field"), NOTHING_FOR, ids=[field for *_, field in NOTHING_FOR])
def test_what_nothing_obeys_is_refused_with_its_name(name: str, value: Any, field: str) -> None:
    [(found, reason)] = check_settings("config", {name: value})
    assert found == f"config.{field}"
    assert reason


def test_the_defaults_and_the_values_that_turn_things_off_are_taken() -> None:
    off = {"evalRouting": {"enabled": False, "suiteIds": []}, "compressionMode": "off", "nestedComboMode": "flatten"}
    assert list(check_settings("config", {**DEFAULTS, **off, "fallbackCompressionThreshold": 0})) == []


TIERS: Any = {
    "defaultTier": "good",
    "tiers": {
        "good": {"stepId": "step-3", "fallbackTier": "fair"},
        "fair": {"stepId": "step-1"},
        "x": {"stepId": "step-2"},
    },
}


def test_the_default_tier_comes_first_then_those_it_falls_back_to() -> None:
    rows = [Connection(id=name, kind="openai", models=("m",)) for name in "abcd"]
    entries = tuple(Entry(target=f"{name}/m", id=f"step-{place}") for place, name in enumerate("abcd", 1))
    tiered = Combo(name="tiered", entries=entries, settings={"compositeTiers": TIERS}, strategy="random")
    route = Catalogue(rows, {}, ComboBook(combos=(tiered,))).route("tiered")
    assert {order(problem(route, seed=seed)) for seed in range(40)} == {"cabd", "cadb"}


def test_a_tier_without_an_entry_is_refused() -> None:
    tiers = {"defaultTier": "a", "tiers": {"a": {"stepId": "step-9"}}}
    with pytest.raises(InvalidFieldsError) as refused:
        document_of({"name": "a", "models": ["work/big"], "config": {"compositeTiers": tiers}})
    assert refused.value.faults == [("config.compositeTiers.tiers.a.stepId", "names no entry of this combo")]
    document_of(
        {
            "name": "a",
            "models": ["work/big"],
            "config": {"compositeTiers": {**tiers, "tiers": {"a": {"stepId": "step-1"}}}},
        }
    )


def test_auto_chooses_in_its_pool_unless_that_is_empty() -> None:
    rows = [Connection(id=name, kind="openai", provider=vendor, models=("m",)) for name, vendor in
            (("a", "acme"), ("b", "acme"), ("c", "other"))]  # fmt: skip
    entries = tuple(Entry(target=f"{name}/m") for name in "abc")
    for pool, expected in ((["acme"], "ab"), (["c", "a/m"], "ac"), (["nobody"], "abc"), ([], "abc")):
        made = Combo(name="x", entries=entries, settings={"candidatePool": pool}, strategy="auto")
        found = Catalogue(rows, {}, ComboBook(combos=(made,))).route("x").steps
        assert "".join(step.target.connection.id for step in found) == expected


def test_a_drawn_target_serves_so_many_requests_in_a_row() -> None:
    route = Route(
        name="w", kind="combo", strategy="weighted", steps=steps(*"abcd"), settings={"stickyWeightedLimit": 3}
    )
    memory, firsts = NO_MEMORY, []
    for seed in range(30):
        asked = problem(route, memory, seed=seed)
        made = plan(asked)
        firsts.append(made.order[0].connection.id)
        memory = planned(asked, made)
    runs = [set(firsts[start : start + 3]) for start in range(0, 30, 3)]
    assert all(len(run) == 1 for run in runs)
    assert len(set().union(*runs)) > 1


def test_a_drawn_target_that_is_away_is_drawn_anew() -> None:
    route = Route(name="w", kind="combo", strategy="weighted", steps=steps(*"ab"), settings={"stickyWeightedLimit": 3})
    remembered = Memory(turn=1, filling="a/m")
    assert order(problem(route, remembered)) == "ab"
    assert order(problem(route, remembered, conditions={"a/m": Condition(usable=False, until=9)}, now=1)) == "b"


def test_targets_that_begin_late_go_behind_the_others() -> None:
    quick = {"zeroLatencyOptimizationsEnabled": True, "predictiveTtftMs": 500}
    conditions = {"a/m": Condition(first_token={"p50": 0.9}), "b/m": Condition(first_token={"p50": 0.2})}
    for settings, expected in ((quick, "bca"), ({**quick, "zeroLatencyOptimizationsEnabled": False}, "abc")):
        route = Route(name="q", kind="combo", steps=steps(*"abc"), settings=settings)
        assert order(problem(route, conditions=conditions)) == expected


def asked(text: str, **headers: str) -> Asked:
    """A chat request."""
    body = msgspec.json.encode({"model": "smart", "messages": [{"role": "user", "content": text}]})
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return Asked(
        model="smart", operation="chat", body=body, headers=named, input_tokens=9, max_output_tokens=0, fields=fields
    )


def test_the_smaller_of_two_budgets_counts_and_the_header_says_how_strictly() -> None:
    auto = Route(
        name="smart", strategy="auto", steps=steps("a"), settings={"budgetCap": 0.5, "budgetFallback": "strict"}
    )
    found = wants_of(asked("hi"), auto)
    assert (found.budget, found.budget_strict) == (5 * 10**11, True)
    found = wants_of(asked("hi", x_omniroute_budget="0.25", x_omniroute_budget_fallback="cheapest"), auto)
    assert (found.budget, found.budget_strict) == (25 * 10**10, False)
    plain = Route(name="smart", steps=steps("a"), settings={"budgetCap": 0.5})
    assert wants_of(asked("hi", x_omniroute_budget="-1", x_omniroute_mode="fast"), plain) == wants_of(
        asked("hi"), plain
    )


def test_a_mode_of_the_request_replaces_the_weights_of_the_combo() -> None:
    auto = Route(name="smart", strategy="auto", steps=steps("a"), settings={"weights": {"quota": 1}})
    assert wants_of(asked("hi", x_omniroute_mode="Fast"), auto).mode == "fast"
    assert wants_of(asked("hi", x_omniroute_mode="warp"), auto).mode is None
    assert chosen_weights(auto.settings) == {"quota": 1}
    assert chosen_weights(auto.settings, "fast") == chosen_weights({"modePack": "ship-fast"})
    assert chosen_weights(auto.settings, "balanced") == chosen_weights({})


@pytest.mark.parametrize(
    ("text", "task", "difficulty"),
    [
        ("hi", "simple", "free"),
        ("Prove step by step that there are infinitely many primes, and derive a bound.", "reasoning", "premium"),
        ("Why does `def f(x): return x + 1` in my Python class raise a TypeError in this function?", "code", None),
    ],
)  # fmt: skip
def test_what_a_request_is_about_is_judged_for_auto_alone(text: str, task: str, difficulty: str | None) -> None:
    auto = Route(name="smart", strategy="auto", steps=steps("a"))
    found = wants_of(asked(text), auto)
    assert found.task == task
    assert difficulty in (None, found.difficulty)
    assert wants_of(asked(text), Route(name="smart", steps=steps("a"))).task is None


def test_a_harder_request_goes_to_a_dearer_model_when_little_else_tells_them_apart() -> None:
    cheap, dear = steps("a", price=PriceTag(prompt=10**5, completion=10**5)), steps(
        "b", price=PriceTag(prompt=10**7, completion=10**7)
    )  # fmt: skip
    only = {"weights": {"specificityMatch": 1}, "explorationRate": 0}
    auto = Route(name="smart", kind="auto", strategy="auto", steps=(*cheap, *dear), settings=only)
    hard = wants_of(asked("Prove step by step that there are infinitely many primes, and derive a bound."), auto)
    assert order(problem(auto, wants=hard)) == "ba"


def test_a_combo_of_the_file_has_the_retries_of_other_models_unless_it_says_so() -> None:
    row = ComboSettings(name="smart", targets=["work/big"])
    assert "maxRetries" not in _combo(_from_file(row, 0), OPTIONS, stored=False).settings
    given = ComboSettings(name="smart", targets=["work/big"], settings={"maxRetries": 2})
    found = _combo(_from_file(given, 0), OPTIONS, stored=False).settings
    assert (found["maxRetries"], "retryDelayMs" in found, found["queueDepth"]) == (2, False, 20)
    shared = {**OPTIONS, "comboDefaults": {"maxRetries": 3}, "providerOverrides": {"work": {"retryDelayMs": 5}}}
    found = _combo(_from_file(row, 0), shared, stored=False).settings
    assert (found["maxRetries"], found["retryDelayMs"]) == (3, 5)
    stored = _combo(_from_file(row, 0), OPTIONS, stored=True).settings
    assert (stored["maxRetries"], stored["retryDelayMs"]) == (1, 2000)


def test_a_wrong_setting_of_a_combo_of_the_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"combos\[3\]\.settings\.maxRetries: must be a whole number from 0 to 10"):
        _from_file(ComboSettings(name="smart", targets=["work/big"], settings={"maxRetries": 11}), 3)
