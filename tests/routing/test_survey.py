"""What is looked up once for a route says the same as looking at every target."""

import random

import msgspec
import pytest
from benchmarks.plans import random_problem

from pointsman.routing.draws import Draws
from pointsman.routing.filters import FILTERS, active
from pointsman.routing.providers import provider_matches
from pointsman.routing.survey import MOST, Survey, _surveys, survey_of

SLUGS = ("vendor-3", "Account-7", "vendor-11", "nobody")


@pytest.mark.parametrize("seed", range(10))
def test_the_accounts_of_slugs_are_those_that_each_target_is_matched_to(seed: int) -> None:
    steps = random_problem(random.Random(seed), 40, "priority").route.steps
    ids = Survey(steps).accounts(SLUGS)
    assert ids is not None
    for step in steps:
        matched = any(provider_matches(slug, step.target) for slug in SLUGS)
        assert (step.target.connection.id in ids) == matched


def test_slugs_with_a_variant_are_not_told_by_accounts() -> None:
    steps = random_problem(random.Random(1), 5, "priority").route.steps
    assert Survey(steps).accounts(("vendor-3/fp8",)) is None


@pytest.mark.parametrize("seed", range(30))
def test_a_filter_that_is_not_made_would_have_taken_nothing_out(seed: int) -> None:
    problem = random_problem(random.Random(seed), 3, "priority", wishes=True)
    made = {name for name, _ in active(problem)}
    for name, _, _, make in FILTERS:
        sieve = make(problem)
        if sieve is not None and name not in made:
            assert sieve(problem.route.steps) == list(problem.route.steps)


def test_many_routes_do_not_stay_in_memory() -> None:
    for seed in range(MOST + 20):
        route = random_problem(random.Random(seed), 1, "priority").route
        assert survey_of(route.steps).steps is route.steps
        assert survey_of(msgspec.structs.replace(route, name="other").steps) is survey_of(route.steps)
    assert len(_surveys) <= MOST


def test_many_fractions_at_once_are_those_one_after_another() -> None:
    one, many = Draws(99), Draws(99)
    assert [one.fraction() for _ in range(50)] == many.fractions(50)
    assert one.bits() == many.bits()


def test_a_shuffle_draws_as_fisher_and_yates_do() -> None:
    items, draws = list(range(30)), Draws(7)
    for last in range(29, 0, -1):
        other = draws.below(last + 1)
        items[last], items[other] = items[other], items[last]
    assert Draws(7).shuffled(range(30)) == items
