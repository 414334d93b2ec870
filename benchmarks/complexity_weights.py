"""Adjusts the weights of the complexity scorer on the development part of its labelled set.

    python -m benchmarks.complexity_weights            print the weights
    python -m benchmarks.complexity_weights --write    write them into facts.json

Starts from weights set by hand and changes one at a time, in steps that get smaller, while the loss falls. The loss is
how far a prompt's score is on the wrong side of its tier's boundaries, or not far enough on the right one, and how far
the weights have gone from those set by hand. Each prompt is shown several times, with some of its word signals left
out: words that the lists lack are the rule outside of the set, so that no single list may decide. The held-out part is
never read. Needs numpy; takes a few seconds.
"""

import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointsman.routing import complexity
from pointsman.routing.complexity.cases import Case, build_cases
from pointsman.routing.complexity.facts import TIERS, Facts, shipped
from pointsman.routing.complexity.measures import measure_text

FACTS = Path(complexity.__file__).with_name("facts.json")
MARGIN = 0.06  # how far from a boundary a score shall be
TIES = 0.04  # how much a weight's way from its start counts, per prompt and square
COPIES = 8
LEFT_OUT = 0.25  # the chance of a word signal, in all copies but the first
STEPS = (0.05, 0.02, 0.01)
ROUNDS = 40
BASE, LEAST = 0.3, 0.3
START = {
    "reasoning": 0.55, "mathematics": 0.25, "notation": 0.2, "code": 0.1, "source": 0.1, "technical": 0.2,
    "domain": 0.1, "building": 0.2, "analysis": 0.2, "writing": 0.05, "explaining": 0.08, "constraints": 0.15,
    "sequence": 0.1, "enumeration": 0.1, "format": 0.05, "agency": 0.15, "easy": -0.2, "closing": -0.2,
    "length": 0.15, "clauses": 0.1, "questions": 0.05, "tools": 0.05, "images": 0.05, "documents": 0.1,
    "structured_output": 0.05,
}  # fmt: skip

Floats = NDArray[np.float64]


class Problem:
    """Strengths of all signals in all prompts, and their labels."""

    def __init__(self, cases: list[Case], facts: Facts) -> None:
        prepared = shipped()
        counts = [measure_text([case.text], prepared).counts for case in cases]
        rows = [[one.strength(row.get(name, 0)) if row.get(name) else 0.0 for name, one in facts.signals.items()]
                for row in counts]  # fmt: skip
        chance = np.random.default_rng(1)
        lexical = np.array([name in facts.words and name != "closing" for name in facts.signals])
        copies = [np.array(rows)]
        for _ in range(COPIES - 1):
            copies.append(np.where(lexical & (chance.random((len(rows), len(lexical))) < LEFT_OUT), 0.0, copies[0]))
        self.strengths: Floats = np.concatenate(copies)
        self.labels = np.tile([TIERS.index(case.tier) for case in cases], COPIES)
        self.thought = [list(facts.signals).index(name) for name in facts.thought.signals]
        self.boundaries = list(facts.boundaries.values())
        self.start: Floats = np.array([*(START[name] for name in facts.signals), BASE, LEAST])

    def loss(self, values: Floats) -> float:
        """The loss of weights, followed by the base and the least contribution of thought."""
        weights, base, least = values[:-2], values[-2], values[-1]
        scores = base + self.strengths @ weights
        thought = self.strengths[:, self.thought] @ weights[self.thought]
        total = TIES * len(self.labels) * float(((values - self.start) ** 2).sum())
        for place, boundary in enumerate(self.boundaries):
            above = self.labels > place
            short, over = boundary + MARGIN - scores, scores - boundary + MARGIN
            if place == len(self.boundaries) - 1:  # the highest tier asks for both, the others may lack either
                short = np.maximum(short, least + MARGIN / 2 - thought)
                over = np.minimum(over, thought - least + MARGIN / 2)
            total += float(np.maximum(0, short[above]).sum() + np.maximum(0, over[~above]).sum())
        return total


def fit(problem: Problem) -> Floats:
    """The values at which no step of the smallest size lowers the loss, or after `ROUNDS` rounds of each size."""
    values, loss = problem.start.copy(), problem.loss(problem.start)
    for step in STEPS:
        for _ in range(ROUNDS):
            before = loss
            for place in range(len(values)):
                for change in (step, -step):
                    tried = values.copy()
                    tried[place] = round(tried[place] + change, 3)
                    if tried[place] * problem.start[place] > 0 and (new := problem.loss(tried)) < loss - 1e-9:
                        values, loss = tried, new
            if loss == before:
                break
    return values


def main() -> None:
    """Fits, prints, and writes when told to."""
    facts = shipped().facts
    cases = [case for case in build_cases() if case.split == "development" and not case.earlier]
    *weights, base, least = map(float, fit(Problem(cases, facts)))
    print(f"base {base:g}, least {least:g}")
    text = re.sub(r'("base": )[0-9.]+', rf"\g<1>{base:g}", FACTS.read_text(encoding="utf-8"))
    text = re.sub(r'("least": )[0-9.]+', rf"\g<1>{least:g}", text)
    for name, weight in zip(facts.signals, weights, strict=True):
        print(f"{name:18} {weight:6.2f} (set by hand: {START[name]:.2f})")
        text = re.sub(rf'("{name}": {{"weight": )[-0-9.]+', rf"\g<1>{weight:g}", text)
    if "--write" in sys.argv[1:]:
        FACTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
