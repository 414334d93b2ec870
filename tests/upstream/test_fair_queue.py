"""Turns: every caller who waits is served once before anyone is served twice."""

from hypothesis import given
from hypothesis import strategies as st

from pointsman.upstream.fair_queue import FairQueue


def filled(text: str) -> FairQueue[str]:
    """A queue of "a1", "a2", "b1" ..., pushed in that order by callers "a" and "b"."""
    queue: FairQueue[str] = FairQueue()
    for item in text.split():
        queue.push(item[0], item)
    return queue


def drained(queue: FairQueue[str]) -> str:
    """Everything, in the order of service."""
    return " ".join(queue.pop() for _ in range(len(queue)))


def test_callers_take_turns_and_each_keeps_its_order() -> None:
    assert drained(filled("a1 a2 a3 a4 b1 c1 c2")) == "a1 b1 c1 a2 c2 a3 a4"


def test_a_caller_that_comes_again_is_the_last_to_have_a_turn() -> None:
    queue = filled("a1 b1 b2 c1")
    assert queue.pop() == "a1"
    queue.push("a", "a2")
    assert drained(queue) == "b1 c1 a2 b2"


def test_one_who_leaves_takes_nobodys_turn() -> None:
    queue = filled("a1 a2 b1 c1")
    queue.discard("a", "a1")
    queue.discard("b", "b1")
    queue.discard("b", "b1")
    queue.discard("d", "d1")
    assert len(queue) == 2
    assert drained(queue) == "a2 c1"


def test_the_longest_line_gives_way_to_a_caller_with_less() -> None:
    queue = filled("a1 a2 a3 b1 b2")
    assert queue.pop_longest("c") == "a3"
    assert queue.pop_longest("b") is None
    assert queue.pop_longest("a") is None
    assert drained(queue) == "a1 b1 a2 b2"
    assert queue.pop_longest("a") is None
    assert filled("a1 a2 b1").pop_longest("b") is None  # they would only change places


callers = st.sampled_from("abcd")


@given(steps=st.lists(st.tuples(st.sampled_from(["push", "push", "push", "pop", "discard"]), callers), max_size=60))
def test_no_caller_is_served_twice_while_another_waits(steps: list[tuple[str, str]]) -> None:
    queue: FairQueue[str] = FairQueue()
    lines: dict[str, list[str]] = {caller: [] for caller in "abcd"}
    passed_over = dict.fromkeys("abcd", 0)
    for number, (step, caller) in enumerate(steps):
        if step == "push":
            if not lines[caller]:
                passed_over[caller] = 0
            lines[caller].append(f"{caller}{number}")
            queue.push(caller, lines[caller][-1])
        elif step == "discard" and lines[caller]:
            queue.discard(caller, lines[caller].pop())
        elif step == "pop" and len(queue):
            served = queue.pop()
            assert served == lines[served[0]].pop(0)
            passed_over[served[0]] = 0
            for other, line in lines.items():
                passed_over[other] += bool(line) and other != served[0]
                assert passed_over[other] < 4
        assert len(queue) == sum(map(len, lines.values()))
