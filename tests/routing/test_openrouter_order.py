"""The order that OpenRouter's rules give: its own worked example, draws, lists, sorts, tiers, ownership, stickiness."""

from collections import Counter
from math import sqrt
from typing import Any

from pointsman.routing.plan import Condition, Memory, Problem, Route, Step, plan
from pointsman.routing.targets import Connection, ModelFacts, PriceTag, target_of
from pointsman.routing.variants import SETTING, split_variants
from pointsman.routing.wants import Percentiles, Preferences, Wants

PLANS = 100_000
UNSTABLE = Condition(unstable=True)


def step(name: str, price: int | None = 1, *, tags: tuple[str, ...] = (), **facts: Any) -> Step:
    """An endpoint: ``price`` in USD per million tokens, in and out alike."""
    tag = None if price is None else PriceTag(prompt=price * 10**6, completion=price * 10**6)
    connection = Connection(id=name, kind="openai", provider=name, tags=frozenset(tags))
    return Step(target=target_of(connection, "m", ModelFacts(price=tag, **facts)))


def route(*steps: Step, variants: tuple[str, ...] = ()) -> Route:
    """A model's route."""
    return Route(name="m", strategy="openrouter", steps=steps, settings={SETTING: variants} if variants else {})


def first_ones(problem_route: Route, conditions: dict[str, Condition], count: int = PLANS) -> Counter[str]:
    """How often each order came, by the connections' names."""
    wants = Wants(model="m")
    found: Counter[str] = Counter()
    for seed in range(count):
        made = plan(Problem(route=problem_route, wants=wants, conditions=conditions, seed=seed * 0x9E3779B97F4A7C15))
        found["".join(target.connection.id for target in made.order)] += 1
    return found


def order(problem_route: Route, wants: Wants | None = None, **more: Any) -> str:
    """The connections' names in the plan's order."""
    made = plan(Problem(route=problem_route, wants=wants or Wants(model="m"), **more))
    return "".join(target.connection.id for target in made.order)


def prefer(**preferences: Any) -> Wants:
    """A request with preferences."""
    return Wants(model="m", preferences=Preferences(**preferences))


def assert_fits(found: Counter[str], expected: dict[str, float]) -> None:
    """Chi-square: beyond mean + 5 standard deviations it is another distribution. Seeds are fixed."""
    total = sum(found.values())
    assert set(found) <= set(expected)
    square = sum((found[name] - share * total) ** 2 / (share * total) for name, share in expected.items())
    freedom = len(expected) - 1
    assert square < freedom + 5 * sqrt(2 * freedom)


def test_the_worked_example_of_prices_1_2_3_with_the_second_unstable() -> None:
    found = first_ones(route(step("a", 1), step("b", 2), step("c", 3)), {"b/m": UNSTABLE})
    assert_fits(found, {"acb": 0.9, "cab": 0.1})


def test_endpoints_are_drawn_by_the_inverse_square_of_their_price_and_so_are_those_after_them() -> None:
    weights = {"a": 1.0, "b": 1 / 4, "c": 1 / 16}
    total = sum(weights.values())
    expected = {
        one + two + three: weights[one] / total * weights[two] / (total - weights[one])
        for one, two, three in ("abc", "acb", "bac", "bca", "cab", "cba")
    }
    assert_fits(first_ones(route(step("a", 1), step("b", 2), step("c", 4)), {}), expected)


def test_what_is_free_comes_first_and_an_unknown_price_counts_as_the_highest() -> None:
    found = first_ones(route(step("p", 1), step("f", 0), step("g", 0), step("u", None)), {}, 20_000)
    assert {name[:2] for name in found} == {"fg", "gf"}
    first, last = Counter[str](), Counter[str]()
    for name, count in found.items():
        first[name[0]] += count
        last[name[-1]] += count
    assert_fits(first, {"f": 0.5, "g": 0.5})
    assert_fits(last, {"p": 0.5, "u": 0.5})


def test_a_list_is_followed_and_then_the_others_unless_fallbacks_are_forbidden() -> None:
    three = route(step("a", 1), step("b", 2), step("c", 30))
    assert order(three, prefer(order=("c", "b"))) == "cba"
    assert order(three, prefer(order=("c", "b"), allow_fallbacks=False)) == "cb"
    assert order(three, prefer(order=("x", "C"))).startswith("c")
    assert len(order(three, prefer(allow_fallbacks=False))) == 1


def test_sorts_are_strict_and_unknown_figures_come_last() -> None:
    four = route(step("a", 3), step("b", 1), step("c", None), step("d", 2))
    measured = {
        "a/m": Condition(first_token={"p50": 0.2}, throughput={"p50": 90.0}, success_rate=0.5, unstable=True),
        "b/m": Condition(first_token={"p50": 0.9}, throughput={"p50": 10.0}, success_rate=1.0),
        "d/m": Condition(first_token={"p50": 0.5}, throughput={"p50": 50.0}, success_rate=1.0),
    }
    for seed in range(20):
        assert order(four, prefer(sort="price"), conditions=measured, seed=seed) == "bdac"
    assert order(four, prefer(sort="latency"), conditions=measured) == "adbc"
    assert order(four, prefer(sort="throughput"), conditions=measured) == "adbc"
    assert order(four, prefer(sort="exacto"), conditions=measured) == "dbca"


def test_variants_sort_and_an_explicit_sort_beats_them() -> None:
    assert split_variants("openai/gpt:nitro:online") == ("openai/gpt", ("nitro", "online"))
    assert split_variants("openai:gpt-4") == ("openai:gpt-4", ())
    measured = {"a/m": Condition(throughput={"p50": 9.0}), "b/m": Condition(throughput={"p50": 99.0})}
    pair = (step("a", 1), step("b", 9))
    assert order(route(*pair, variants=("nitro",)), conditions=measured) == "ba"
    assert order(route(*pair, variants=("floor",)), conditions=measured) == "ab"
    assert order(route(*pair, variants=("nitro",)), prefer(sort="price"), conditions=measured) == "ab"


def test_the_slower_go_to_the_end_and_all_bounds_have_to_hold() -> None:
    measured = {
        "a/m": Condition(first_token={"p50": 0.3, "p99": 9.0}, throughput={"p50": 90.0}),
        "b/m": Condition(first_token={"p50": 0.5, "p99": 1.0}, throughput={"p50": 40.0}),
    }
    pair = route(step("a", 1), step("b", 9), step("u", 20))
    wants = {"sort": "price", "max_latency": Percentiles(p50=1.0, p99=2.0)}
    assert order(pair, prefer(**wants), conditions=measured) == "bua"
    assert order(pair, prefer(**wants, min_throughput=Percentiles(p50=50.0)), conditions=measured) == "uab"


def test_own_accounts_come_before_any_list_and_those_for_emergencies_last() -> None:
    mixed = route(step("a", 1, tags=("byok-fallback",)), step("b", 9), step("c", 50, tags=("byok",)))
    assert order(mixed) == "cba"
    assert order(mixed, prefer(order=("a", "b"))) == "cba"


def test_tiers_are_for_those_who_ask_or_name_them() -> None:
    tiers = route(step("a", 1), step("p", 1, service_tier="priority"), step("f", 1, service_tier="flex"))
    assert order(tiers) == "a"
    assert order(tiers, Wants(model="m", service_tier="priority", tiers=frozenset(("priority",)))) == "pa"
    assert order(tiers, Wants(model="m", service_tier="flex", tiers=frozenset(("flex",)))) == "f"
    assert order(tiers, prefer(order=("f/flex",))) == "fa"
    nitro = {"p/m": Condition(throughput={"p50": 99.0}), "a/m": Condition(throughput={"p50": 9.0})}
    wants = Wants(model="m", tiers=frozenset(("priority",)))
    assert order(route(*tiers.steps, variants=("nitro",)), wants, conditions=nitro) == "pa"


def test_a_conversation_stays_but_not_against_a_list_nor_with_an_outage() -> None:
    pair = route(step("a", 1), step("b", 30))
    sticky = Memory(sticky="b/m")
    for seed in range(20):
        assert order(pair, memory=sticky, seed=seed) == "ba"
    assert order(pair, prefer(order=("a",)), memory=sticky) == "ab"
    assert order(pair, memory=sticky, conditions={"b/m": UNSTABLE}) == "ab"
    assert order(pair, memory=sticky, conditions={"b/m": Condition(usable=False)}) == "a"
