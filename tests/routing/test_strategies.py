"""What each strategy does, told by the order of targets."""

import random
from typing import Any

import msgspec
import pytest
from benchmarks.plans import random_problem

from pointsman.routing import memory
from pointsman.routing.measures import HOUR
from pointsman.routing.plan import NO_MEMORY, Condition, Memory, Problem, QuotaWindow, Route, Step, plan
from pointsman.routing.strategies.auto_factors import measured
from pointsman.routing.strategies.auto_sum import weighted_sum
from pointsman.routing.strategies.auto_weights import DEFAULT, PACKS, chosen_weights
from pointsman.routing.strategies.context_relay import handoff_due
from pointsman.routing.targets import Connection, ModelFacts, PriceTag, target_of
from pointsman.routing.wants import Wants

NOW = 1_790_000_000_000_000
WANTS = Wants(model="smart")


def step(name: str, facts: ModelFacts | None = None, **connection: Any) -> Step:
    """A target ``name/m``."""
    return Step(target=target_of(Connection(id=name, kind="openai", **connection), "m", facts or ModelFacts()))


def made(
    strategy: str,
    steps: list[Step],
    conditions: dict[str, Condition] | None = None,
    *,
    wants: Wants = WANTS,
    remembered: Memory = NO_MEMORY,
    settings: dict[str, Any] | None = None,
    seed: int = 1,
) -> tuple[str, Problem]:
    """The order, a letter for each target, and the problem."""
    route = Route(name="smart", kind="combo", strategy=strategy, steps=tuple(steps), settings=settings or {})
    named = {f"{name}/m": condition for name, condition in (conditions or {}).items()}
    problem = Problem(route=route, wants=wants, conditions=named, memory=remembered, now=NOW, seed=seed)
    return "".join(target.connection.id for target in plan(problem).order), problem


def order(*args: Any, **more: Any) -> str:
    """Only the order."""
    return made(*args, **more)[0]


ABC = [step("a"), step("b"), step("c")]


def priced(name: str, prompt: int, completion: int) -> Step:
    """A target with a price in USD a million tokens."""
    return step(name, ModelFacts(price=PriceTag(prompt=prompt * 10**6, completion=completion * 10**6)))


def window(remaining: float, hours: float | None, kind: Any = "weekly") -> Condition:
    """An account with one quota."""
    return Condition(
        windows=(QuotaWindow(kind=kind, remaining=remaining, resets_at=hours and int(NOW + hours * HOUR)),)
    )


def test_priority_keeps_the_routes_order() -> None:
    assert order("priority", ABC) == "abc"


def test_fill_first_goes_by_quota_and_stays_with_the_one_in_use() -> None:
    assert order("fill-first", ABC) == "abc"
    assert order("fill-first", ABC, {"a": Condition(headroom=0.01)}) == "bca"
    assert order("fill-first", ABC, remembered=Memory(filling="b/m")) == "bca"  # though a has quota again
    assert order("fill-first", ABC, {"b": Condition(headroom=0.0)}, remembered=Memory(filling="b/m")) == "cab"


def test_fill_first_is_not_moved_by_a_failure() -> None:
    away = {"a": Condition(usable=False, until=NOW + 1)}
    got, problem = made("fill-first", ABC, away, remembered=Memory(filling="b/m"))
    assert got == "bc"
    assert memory.planned(problem, plan(problem)).filling == "b/m"


def test_round_robin_takes_turns() -> None:
    turns = [order("round-robin", ABC, remembered=Memory(turn=turn)) for turn in range(4)]
    assert turns == ["abc", "bca", "cab", "abc"]
    sticky = {"stickyRoundRobinLimit": 2}
    assert [order("round-robin", ABC, remembered=Memory(turn=turn), settings=sticky)[0] for turn in range(5)] == [
        *"aabbc"
    ]


def test_least_used_counts_the_present_load() -> None:
    load = {"a": Condition(in_flight=2, calls=1), "b": Condition(in_flight=0, calls=90), "c": Condition(in_flight=1)}
    assert order("least-used", ABC, load) == "bca"


def test_least_used_takes_turns_among_the_idle() -> None:
    assert {order("least-used", ABC, remembered=Memory(turn=turn))[0] for turn in range(3)} == set("abc")


def test_cost_counts_output_and_the_requests_size() -> None:
    steps = [priced("a", 1, 30), priced("b", 4, 4), step("c")]
    assert order("cost-optimized", steps) == "bac"
    assert order("cost-optimized", steps, wants=Wants(model="m", input_tokens=100_000, max_output_tokens=10)) == "abc"


def test_the_largest_window_first() -> None:
    steps = [step("a", ModelFacts(context_tokens=8000)), step("b"), step("c", ModelFacts(context_tokens=200_000))]
    assert order("context-optimized", steps) == "cab"


def test_who_answered_last_comes_first_or_one_like_it() -> None:
    steps = [step("a", provider="x"), step("b", provider="y"), step("c", provider="y")]
    assert order("lkgp", steps) == "abc"
    assert order("lkgp", steps, remembered=Memory(last_good="c/m")) == "cab"
    away = {"c": Condition(usable=False, until=NOW + 1)}
    assert order("lkgp", steps, away, remembered=Memory(last_good="c/m")) == "ba"


def test_reset_aware_spends_what_comes_back_soon_and_spares_the_rest() -> None:
    quota = {"a": window(0.5, 160), "b": window(0.5, 2), "c": Condition(quota_spent=True)}
    assert order("reset-aware", ABC, quota) == "bac"
    assert order("reset-aware", ABC[:2], {"a": window(0.05, None, "session"), "b": window(0.9, None)}) == "ba"


def test_reset_aware_takes_turns_among_those_alike() -> None:
    quota = {name: window(0.5, 10) for name in "abc"}
    assert {order("reset-aware", ABC, quota, remembered=Memory(turn=turn))[0] for turn in range(3)} == set("abc")


def test_reset_window_goes_by_the_next_reset() -> None:
    quota = {"a": window(0.5, 50), "b": window(0.5, 2)}
    assert order("reset-window", ABC, quota) == "bac"
    near = {"a": window(0.5, 2.001), "b": window(0.5, 2), "c": window(0.5, 9)}
    assert {order("reset-window", ABC, near, remembered=Memory(turn=turn))[0] for turn in range(2)} == set("ab")
    session = {"a": window(0.5, 1, "session"), "b": window(0.5, 2)}
    assert order("reset-window", ABC, session) == "bac"
    assert order("reset-window", ABC, session, settings={"resetWindowIncludeSession": True}) == "abc"


def test_headroom_descends_and_the_unknown_is_whole() -> None:
    assert order("headroom", ABC, {"a": Condition(headroom=0.3), "b": window(0.8, None)}) == "cba"


def test_context_relay_says_when_to_hand_over() -> None:
    assert order("context-relay", ABC) == "abc"
    assert [handoff_due(Condition(headroom=left), {}) for left in (0.5, 0.1, 0.02)] == [False, True, False]


def test_a_panel_has_its_healthy_members_first() -> None:
    got, problem = made("fusion", ABC, {"a": Condition(unstable=True)}, settings={"fusionTuning": {"maxPanel": 2}})
    assert (got, plan(problem).panel) == ("bca", 2)
    tools = Wants(model="smart", tools=True)
    got, problem = made("fusion", ABC, wants=tools, settings={"judgeModel": "c/m"})
    assert (got[0], plan(problem).panel) == ("c", 0)


def test_a_conversation_stays_while_quota_is_left() -> None:
    assert order("priority", ABC, remembered=Memory(sticky="c/m")) == "cab"
    assert order("priority", ABC, {"c": Condition(headroom=0.1)}, remembered=Memory(sticky="c/m")) == "abc"
    off = {"disableSessionStickiness": True}
    assert order("priority", ABC, remembered=Memory(sticky="c/m"), settings=off) == "abc"


CALM = {"explorationRate": 0}


def test_auto_prefers_health_and_price() -> None:
    steps = [priced("a", 10, 50), priced("b", 1, 2), priced("c", 1, 2)]
    ill = {"c": Condition(breaker="half_open", success_rate=0.5)}
    assert order("auto", steps, ill, settings=CALM)[0] == "b"
    assert order("auto", steps, ill, settings={**CALM, "modePack": "cost-saver"})[0] == "b"


def test_auto_explores_as_often_as_it_is_told() -> None:
    steps = [priced("a", 10, 50), priced("b", 1, 2)]
    firsts = [
        order("auto", steps, seed=seed * 0x9E3779B97F4A7C15, settings={"modePack": "cheap"}) for seed in range(4000)
    ]
    assert 0.015 < sum(first[0] == "a" for first in firsts) / 4000 < 0.035  # half of 5 %
    assert {order("auto", steps, seed=seed, settings={**CALM, "modePack": "cheap"})[0] for seed in range(50)} == {"b"}


def test_auto_lets_rest_who_does_badly_and_longer_each_time() -> None:
    steps = [step("a"), step("b")]
    bad = {"a": Condition(breaker="open", headroom=0.0)}
    weights = {"weights": {"health": 1.0, "quota": 1.0}, **CALM}
    got, problem = made("auto", steps, bad, settings=weights)
    assert got == "ba"
    rested = memory.planned(problem, plan(problem)).resting
    assert rested["a/m"] == (NOW + 300 * 1_000_000, 1)
    assert order("auto", steps, settings=weights, remembered=Memory(resting={"a/m": (NOW + 1, 1)})) == "ba"
    again, problem = made("auto", steps, bad, settings=weights, remembered=Memory(resting={"a/m": (NOW - 1, 3)}))
    assert memory.planned(problem, plan(problem)).resting["a/m"] == (NOW + 1800 * 1_000_000, 4)
    assert again == "ba"


def test_auto_keeps_within_the_budget() -> None:
    steps = [priced("a", 10, 50), priced("b", 1, 2)]
    settings = {**CALM, "weights": {"contextAffinity": 1.0}}
    stuck = Memory(sticky="a/m")
    assert order("auto", steps, settings=settings, remembered=stuck)[0] == "a"
    tight = Wants(model="smart", budget=5 * 10**9)  # half a cent
    assert order("auto", steps, wants=tight, settings=settings, remembered=Memory())[0] == "b"
    strict = Wants(model="smart", budget=1, budget_strict=True)
    _, problem = made("auto", steps, wants=strict)
    assert plan(problem).emptied_by == "budget"


@pytest.mark.parametrize(("router", "first"), [("cost", "b"), ("latency", "a"), ("sla", "a"), ("lkgp", "b")])
def test_autos_other_routers(router: str, first: str) -> None:
    steps = [priced("a", 10, 50), priced("b", 1, 2)]
    found = {
        "a": Condition(latency_p95=1, success_rate=1.0, latency_deviation=0.1),
        "b": Condition(latency_p95=9, success_rate=0.2, latency_deviation=3),
    }
    settings = {"routerStrategy": router}
    assert order("auto", steps, found, settings=settings, remembered=Memory(last_good="b/m"))[0] == first


@pytest.mark.parametrize("pack", [None, *PACKS, "fast", "nonsense"])
def test_weights_sum_to_one(pack: str | None) -> None:
    assert sum(chosen_weights({"modePack": pack}).values()) == pytest.approx(1)
    if pack in PACKS:
        assert chosen_weights({"modePack": pack}) | PACKS[pack] == pytest.approx(chosen_weights({"modePack": pack}))


def test_own_weights_are_made_to_sum_to_one_and_none_are_the_default() -> None:
    assert chosen_weights({"weights": {"quota": 3, "health": 1}}) == {"quota": 0.75, "health": 0.25}
    assert chosen_weights({"weights": {"quota": 0}}) == chosen_weights({})
    assert sum(DEFAULT.values()) == pytest.approx(1)


def test_steps_of_a_smaller_group_come_first_in_every_strategy() -> None:
    steps = [Step(target=one.target, group=int(one.target.connection.id == "a")) for one in ABC]
    assert all(order("random", steps, seed=seed)[-1] == "a" for seed in range(20))


@pytest.mark.parametrize("seed", range(20))
def test_the_quick_sum_is_the_sum_of_the_factors(seed: int) -> None:
    problem = random_problem(random.Random(seed), 20, "auto")
    if seed % 3 == 0:
        problem = msgspec.structs.replace(problem, conditions={})
    if seed % 2:
        wants = msgspec.structs.replace(problem.wants, difficulty=None, cache_marks=True)
        sticky = Memory(sticky=problem.route.steps[3].target.id)
        problem = msgspec.structs.replace(problem, wants=wants, memory=sticky)
    steps = list(problem.route.steps)
    weights = {name: number + 1.0 for number, name in enumerate(DEFAULT)}
    weights = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    found = measured(steps, problem, frozenset(weights))
    for index, score in enumerate(weighted_sum(steps, problem, weights)):
        parts = [
            weights[name] * (values if isinstance(values, float) else values[index]) for name, values in found.items()
        ]
        assert score == pytest.approx(sum(parts))
