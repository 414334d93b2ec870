"""Any problem: nothing is lost, the same problem gives the same plan, and a kept one can be made again."""

import random

import pytest
from benchmarks.plans import random_problem
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.routing.plan import plan
from pointsman.routing.replay import MOST_BYTES, dump, load
from pointsman.routing.strategies import STRATEGIES, strategy

PROBLEMS = st.builds(
    lambda seed, count, name: random_problem(random.Random(seed), count, name, wishes=True),
    st.integers(0, 2**32),
    st.integers(1, 40),
    st.sampled_from(sorted(STRATEGIES)),
)


@settings(max_examples=200, deadline=None)
@given(PROBLEMS)
def test_every_step_is_in_the_order_or_excluded_exactly_once(problem) -> None:  # type: ignore[no-untyped-def]
    made = plan(problem)
    told = [target.id for target in made.order] + [name for name, _ in made.excluded]
    steps = [step.target.id for step in problem.route.steps]
    if made.emptied_by is None:
        assert sorted(told) == sorted(steps)
        assert made.order
    else:
        assert sorted(told) == sorted(steps)
        assert not made.order


@settings(max_examples=100, deadline=None)
@given(PROBLEMS)
def test_the_same_problem_gives_the_same_plan(problem) -> None:  # type: ignore[no-untyped-def]
    assert plan(problem) == plan(problem)


@settings(max_examples=200, deadline=None)
@given(PROBLEMS)
def test_a_kept_plan_is_identical_when_made_again(problem) -> None:  # type: ignore[no-untyped-def]
    made = plan(problem)
    kept = dump(problem, made)
    assert len(kept) <= MOST_BYTES
    again = load(kept)
    if again.problem is None:
        assert "not kept" in again.note
        return
    assert again.identical()
    remade = plan(again.problem)
    assert [target.id for target in remade.order] == [target.id for target in made.order]
    assert (remade.excluded, remade.emptied_by, remade.last_resort, remade.panel) == (
        made.excluded,
        made.emptied_by,
        made.last_resort,
        made.panel,
    )


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_strategy_keeps_every_step_once(name: str) -> None:
    problem = random_problem(random.Random(3), 30, name)
    from pointsman.routing.draws import Draws

    ordered = strategy(name).order(list(problem.route.steps), problem, Draws(problem.seed))
    assert sorted(step.target.id for step in ordered) == sorted(step.target.id for step in problem.route.steps)


def test_a_plan_that_is_too_large_leaves_a_note() -> None:
    problem = random_problem(random.Random(3), 2000, "auto")
    again = load(dump(problem, plan(problem)))
    assert again.problem is None
    assert "2000 targets" in again.note


@pytest.mark.parametrize("data", [b"", b"x", b"\x92\x02\x90", b"\x92\x01\x90" + b"\x00" * 20, b"\xff" * 30])
def test_bytes_that_are_no_plan_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="can't be read"):
        load(data)
