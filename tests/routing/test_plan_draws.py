"""What chance does to plans, over 100,000 of them: the draws have the distributions that they should have."""

from collections import Counter
from itertools import permutations
from math import sqrt

import pytest

from pointsman.routing import memory
from pointsman.routing.plan import NO_MEMORY, Condition, Problem, Route, Step, plan
from pointsman.routing.targets import Connection, target_of
from pointsman.routing.wants import Wants

PLANS = 100_000
WANTS = Wants(model="smart")


def route(strategy: str, *weights: float) -> Route:
    """A route with a target for each weight: ``c0/m``, ``c1/m`` ..."""
    steps = tuple(
        Step(target=target_of(Connection(id=f"c{number}", kind="openai"), "m"), weight=weight)
        for number, weight in enumerate(weights)
    )
    return Route(name="smart", kind="combo", strategy=strategy, steps=steps)


def drawn(route: Route, conditions: dict[str, Condition] | None = None, *, whole: bool = False) -> Counter[str]:
    """How often each target came first (or each order came)."""
    found: Counter[str] = Counter()
    for seed in range(PLANS):
        made = plan(Problem(route=route, wants=WANTS, conditions=conditions or {}, seed=seed * 0x9E3779B97F4A7C15))
        found["".join(target.id[1] for target in made.order) if whole else made.order[0].id] += 1
    return found


def assert_fits(found: Counter[str], expected: dict[str, float]) -> None:
    """Chi-square against shares: beyond mean + 5 standard deviations (p about 1e-5 or less) it is another distribution.

    Seeds are fixed, so the outcome is the same on every run.
    """
    total = sum(found.values())
    assert set(found) <= set(expected)
    square = sum((found[name] - share * total) ** 2 / (share * total) for name, share in expected.items())
    freedom = len(expected) - 1
    assert square < freedom + 5 * sqrt(2 * freedom)


def test_weighted_draws_by_weight() -> None:
    assert_fits(drawn(route("weighted", 5, 3, 0, 2)), {"c0/m": 0.5, "c1/m": 0.3, "c3/m": 0.2})


def test_weights_of_nothing_draw_evenly() -> None:
    assert_fits(drawn(route("weighted", 0, 0, 0)), {f"c{number}/m": 1 / 3 for number in range(3)})


def test_random_gives_every_order_alike() -> None:
    orders = {"".join(map(str, one)): 1 / 24 for one in permutations(range(4))}
    assert_fits(drawn(route("random", 0, 0, 0, 0), whole=True), orders)


def test_p2c_prefers_the_better_of_two() -> None:
    conditions = {f"c{number}/m": Condition(success_rate=1 - number / 10) for number in range(4)}
    # The best of 4 wins every pair that it is in: 3 of 6; the next one 2, then 1, the worst none.
    expected = {"c0/m": 3 / 6, "c1/m": 2 / 6, "c2/m": 1 / 6}
    assert_fits(drawn(route("p2c", 0, 0, 0, 0), conditions), expected)


def test_p2c_among_equals_draws_evenly() -> None:
    assert_fits(drawn(route("p2c", 0, 0, 0, 0, 0)), {f"c{number}/m": 0.2 for number in range(5)})


def test_strict_random_deals_each_once_and_every_order_alike() -> None:
    deck, found, dealt = NO_MEMORY, Counter[str](), ""
    way = route("strict-random", 0, 0, 0)
    for seed in range(PLANS):
        problem = Problem(route=way, wants=WANTS, memory=deck, seed=seed * 0x9E3779B97F4A7C15)
        made = plan(problem)
        deck = memory.planned(problem, made)
        dealt += made.order[0].id[1]
        if len(dealt) == 3:
            found[dealt] += 1
            dealt = ""
    assert_fits(found, {"".join(map(str, one)): 1 / 6 for one in permutations(range(3))})


@pytest.mark.parametrize("strategy", ["random", "weighted", "p2c", "strict-random"])
def test_other_seeds_give_other_plans(strategy: str) -> None:
    way = route(strategy, 1, 1, 1, 1)
    firsts = {plan(Problem(route=way, wants=WANTS, seed=seed)).order[0].id for seed in range(100)}
    assert len(firsts) == 4
