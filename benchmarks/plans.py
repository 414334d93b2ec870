"""How long a routing decision takes, and whether replayed plans are the originals.

`python -m benchmarks.plans [--replay COUNT]` prints microseconds of CPU time for each strategy over 5 and 200
candidates with five filters at work; with --replay, random problems are planned, dumped, loaded and planned again.
"""

import argparse
import gc
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from pointsman.routing.plan import Condition, Memory, Problem, QuotaWindow, Route, Step, plan
from pointsman.routing.replay import dump, load
from pointsman.routing.strategies import STRATEGIES
from pointsman.routing.targets import Connection, ModelFacts, PriceTag, target_of
from pointsman.routing.wants import Preferences, Wants

PARAMETERS: Final = frozenset(("tools", "tool_choice", "temperature", "top_p", "response_format", "max_tokens"))
NOW: Final = 1_790_000_000_000_000
SIZES: Final = (5, 200)


ACCOUNTS: Final = [
    Connection(id=f"account-{number}", kind="openai", provider=f"vendor-{number % 12}") for number in range(40)
]


def random_step(chance: random.Random, number: int) -> Step:
    """A target with facts such as those of real lists of models, some of them unknown."""
    connection = ACCOUNTS[number % len(ACCOUNTS)]
    facts = ModelFacts(
        author="author",
        slug=f"author/model-{number}",
        context_tokens=chance.choice((None, 8_192, 128_000, 1_000_000)),
        max_output_tokens=chance.choice((None, 4_096, 64_000)),
        inputs=chance.choice((None, frozenset(("text",)), frozenset(("text", "image")))),
        parameters=chance.choice((None, PARAMETERS, PARAMETERS - {"tools"})),
        price=chance.choice((None, PriceTag(prompt=chance.randrange(10**7), completion=chance.randrange(10**7)))),
        quantization=chance.choice((None, "fp8", "bf16")),
        zdr=chance.choice((None, True, False)),
    )
    return Step(target=target_of(connection, f"model-{number}", facts), weight=chance.randrange(5))


def random_condition(chance: random.Random, unusable: float = 0.1) -> Condition:
    """How a target may do."""
    return Condition(
        usable=chance.random() > unusable,
        until=NOW + chance.randrange(10**8),
        calls=chance.randrange(100),
        in_flight=chance.randrange(5),
        success_rate=chance.random(),
        latency=chance.random() * 10,
        latency_p95=chance.random() * 20,
        latency_deviation=chance.random(),
        headroom=chance.random(),
        windows=(QuotaWindow(kind="weekly", remaining=chance.random(), resets_at=NOW + chance.randrange(10**12)),),
        breaker=chance.choice(("closed", "closed", "half_open")),
    )


def random_problem(chance: random.Random, count: int, strategy: str, *, wishes: bool = False) -> Problem:
    """A decision between ``count`` targets."""
    steps = tuple(random_step(chance, number) for number in range(count))
    preferences = Preferences(ignore=("vendor-11",), zdr=wishes and chance.random() < 0.2)
    wants = Wants(
        model="smart",
        input_tokens=3000,
        max_output_tokens=1000,
        inputs=frozenset(("image",)) if not wishes or chance.random() < 0.3 else frozenset(),
        parameters=frozenset(("temperature", "response_format")),
        tools=chance.random() < 0.5,
        preferences=preferences,
        task="code",
        difficulty="premium",
    )
    return Problem(
        route=Route(name="smart", kind="combo", strategy=strategy, steps=steps),
        wants=wants,
        conditions={step.target.id: random_condition(chance) for step in steps if chance.random() < 0.8},
        memory=Memory(turn=chance.randrange(1000), last_good=steps[-1].target.id),
        now=NOW,
        seed=chance.getrandbits(64),
    )


def best_us(works: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The best mean of 25 runs of each, in microseconds. They take turns, so that a busy moment hits them all."""
    best = [float("inf")] * len(works)
    for _ in range(25):
        for number, work in enumerate(works):
            begun = time.process_time()
            for _ in range(rounds):
                work()
            best[number] = min(best[number], (time.process_time() - begun) / rounds)
    return [one * 1e6 for one in best]


def show_decisions() -> None:
    """The table of docs/routing-plans.md."""
    print(f"{'strategy':20s}" + "".join(f"{size:>12d}" for size in SIZES) + "   us per decision")
    columns = []
    for size in SIZES:
        problems = [random_problem(random.Random(7), size, name) for name in STRATEGIES]
        columns.append(best_us([partial(plan, problem) for problem in problems], 1_000 // size))
    for name, *cells in zip(STRATEGIES, *columns, strict=True):
        print(f"{name:20s}" + "".join([f"{cell:12.1f}" for cell in cells]))
    for size in SIZES:
        problem = random_problem(random.Random(7), size, "round-robin")
        keep = partial(dump, problem, plan(problem))
        print(f"kept, {size} candidates: {best_us([keep], 1_000 // size)[0]:.1f} us, {len(keep())} bytes")


def replay(count: int) -> None:
    """Plan, dump, load and plan again, ``count`` times; AssertionError when two plans differ."""
    chance = random.Random(11)
    names = list(STRATEGIES)
    begun, size = time.process_time(), 0
    for number in range(count):
        problem = random_problem(chance, chance.randrange(1, 6), names[number % len(names)], wishes=True)
        original = plan(problem)
        stored = dump(problem, original)
        size += len(stored)
        again = load(stored)
        if again.problem is None or plan(again.problem).excluded != original.excluded:
            raise AssertionError(f"plan {number} has other reasons when replayed")
        if [target.id for target in plan(again.problem).order] != [target.id for target in original.order]:
            raise AssertionError(f"plan {number} is not the original")
    seconds = time.process_time() - begun
    print(f"{count} plans replayed, all equal; {size / count:.0f} bytes each, {seconds:.0f} s of processor time")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replay", type=int, metavar="COUNT", default=0)
    wanted = parser.parse_args().replay
    gc.freeze()
    if wanted:
        replay(wanted)
    else:
        show_decisions()
