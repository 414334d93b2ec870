"""What a model's name tells of what it takes: Claude's generations differ in how they are told to think.

Sources: platform.claude.com/docs/en/about-claude/models/migration-guide and the pages on extended and adaptive
thinking, effort and structured outputs, as of 2026-11. Of a name that isn't Claude's nothing is known.
"""

import re
from functools import lru_cache
from typing import Final

import msgspec

KNOWN_MODELS: Final = 256  # names that are kept
_NAME: Final = re.compile(r"claude-(?:(?P<old>[23])|(?P<line>[a-z]+)-(?P<major>\d)(?!\d)(?:[-.](?P<minor>\d)(?!\d))?)")


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """``budgets``: thinking takes a number of tokens; ``adaptive``: it can be left to the model; ``sampling``:
    temperature and the like are taken, ``one_sampling``: only one of them; ``schemas``: answers can be bound to one.
    ``output_tokens``: an answer's limit that every model of the generation takes, for callers that name none; the
    models overview of the same documentation has the largest.
    """

    budgets: bool = True
    adaptive: bool = True
    sampling: bool = True
    one_sampling: bool = False
    schemas: bool = True
    output_tokens: int = 32_000


UNKNOWN: Final = Generation(schemas=False, output_tokens=4096)  # what every model takes
_OLDEST: Final = Generation(adaptive=False, schemas=False, output_tokens=4096)  # 2 and 3
_FIRST_FOUR: Final = Generation(adaptive=False, schemas=False)  # 4.0
_FIRST_SCHEMAS: Final = Generation(adaptive=False, one_sampling=True)  # 4.1 and 4.5
_BOTH: Final = Generation(one_sampling=True)  # 4.6
_NEWEST: Final = Generation(budgets=False, sampling=False)  # 4.7 and after, and all lines that began later


@lru_cache(maxsize=KNOWN_MODELS)
def generation_of(model: str) -> Generation:
    """What is known of ``model``; a host's prefix or date does not matter."""
    found = _NAME.search(model.lower())
    if found is None:
        return UNKNOWN
    if found["old"] is not None:
        return _OLDEST
    major, minor = int(found["major"]), int(found["minor"] or 0)
    if major <= 3:
        return _OLDEST
    if major == 4 and minor == 0:
        return _FIRST_FOUR
    if major == 4 and minor <= 5:
        return _FIRST_SCHEMAS
    if major == 4 and minor == 6:
        return _BOTH
    return _NEWEST
