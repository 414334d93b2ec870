"""Giving way to everybody: a process of the idle class yields at each turn, and knows what it gets of a core."""

import asyncio
import time

import pytest

from driven_clock import DrivenClock
from pointsman.accounting import idle
from pointsman.accounting.idle import PATIENT_SECONDS, GivingWay, Pace, turns_of_processor


def test_a_background_process_gives_way_at_every_turn_of_its_loop() -> None:
    turns: list[None] = []

    async def story() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    selector = GivingWay(lambda: turns.append(None))
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(story())
    assert len(turns) >= 10


def test_a_background_process_gives_way_no_more_when_a_batch_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[float] = []
    clock = DrivenClock()
    monkeypatch.setattr(idle, "give_way", lambda: turns.append(clock.monotonic()))
    pace = Pace(clock, lambda: (0, 0))
    for _ in range(2):
        pace.begin()
        for _ in range(4):
            pace.give_way()
            clock.advance(PATIENT_SECONDS / 2)
    assert len(turns) == 4


@pytest.mark.parametrize(
    ("ran", "waited", "share"), [(5, 0, 1.0), (1, 3, 0.25), (0, 7, 0.0), (0, 0, 1.0)], ids=lambda value: str(value)
)
def test_the_share_is_that_of_the_time_since_it_was_last_asked(ran: int, waited: int, share: float) -> None:
    figures = [(100, 900), (100 + ran, 900 + waited)]
    assert Pace(DrivenClock(), lambda: figures.pop(0)).share() == share


def test_the_kernel_tells_how_long_a_thread_ran() -> None:
    before, begin = turns_of_processor(), time.thread_time_ns()
    while time.thread_time_ns() - begin < 20_000_000:
        pass
    after = turns_of_processor()
    assert after[0] - before[0] >= 15_000_000
    assert after[1] >= before[1]


def test_where_no_kernel_tells_the_share_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", refuse)
    assert turns_of_processor() == (0, 0)
