"""Faults at random: how likely each one is, drawn from a seed; the same requests fail alike."""

import random
from typing import Final

from .behaviour import DirectiveError
from .faults import FAULTS, Fault

_EXPECTED: Final = "expected fault=probability, fault=probability ..."


class FaultMixture:
    """At most one fault for each request. ``probabilities`` by name of a fault, each from 0 to 1 and at most 1 in all.

    Raises DirectiveError that names the fault or the number that is wrong.
    """

    def __init__(self, probabilities: dict[str, float], seed: int = 0) -> None:
        for name, probability in probabilities.items():
            if name not in FAULTS:
                raise DirectiveError(f"No fault is called {name[:100]!r}; there are: {', '.join(FAULTS)}")
            if not 0 <= probability <= 1:
                raise DirectiveError(f"The probability of {name!r} is from 0 to 1, not {probability:g}")
        if sum(probabilities.values()) > 1 + 1e-9:
            raise DirectiveError(f"The probabilities add up to {sum(probabilities.values()):g}, more than 1")
        self.probabilities = dict(probabilities)
        self._random = random.Random(seed)

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> "FaultMixture":
        """The mixture that ``rate_limit=0.1,reset=0.05`` describes. Raises DirectiveError."""
        probabilities: dict[str, float] = {}
        for part in filter(None, map(str.strip, text.split(","))):
            name, equals, number = part.partition("=")
            try:
                if not equals:
                    raise ValueError
                probabilities[name.strip()] = float(number)
            except ValueError:
                raise DirectiveError(f"Wrong fault {part[:100]!r}: {_EXPECTED}") from None
        if not probabilities:
            raise DirectiveError(f"No faults: {_EXPECTED}")
        return cls(probabilities, seed)

    def draw(self) -> Fault | None:
        """What happens to the next request; None: nothing. Takes one random number, whatever comes."""
        number = self._random.random()
        for name, probability in self.probabilities.items():
            number -= probability
            if number < 0:
                return FAULTS[name]
        return None
