"""The public project ClawRouter's way to judge a prompt, written anew from its published figures, to compare with.

Its weights, steps, boundaries and overrides; its window of 500 characters; its search for substrings. It has word lists
of its own, which are not used here: both scorers get ours, so that the methods are compared and not the lists.
"""

import math
import re
from typing import Final

from pointsman.canonical.parts import TextPart
from pointsman.canonical.request import Request
from pointsman.routing.complexity.facts import TIERS, Tier, shipped

WINDOW: Final = 500
NEGATIONS: Final = (
    "not ",
    "without",
    "never",
    "nicht",
    "ohne",
    "sans",
    " sin ",
    "nunca",
    "不",
    "ない",
    "avoid",
    "except",
)
STEPS: Final = re.compile(r"first.{0,2000}then|step \d|^\s*\d+\.\s", re.IGNORECASE | re.MULTILINE | re.DOTALL)

# name, weight, steps of (hits, score), our list of words
BY_WORDS: Final = (
    ("reasoning", 0.18, ((1, 0.7), (2, 1.0))),
    ("code", 0.15, ((1, 0.5), (2, 1.0))),
    ("technical", 0.10, ((2, 0.5), (4, 1.0))),
    ("writing", 0.05, ((1, 0.5), (2, 0.7))),
    ("constraints", 0.04, ((1, 0.3), (3, 0.7))),
    ("agency", 0.04, ((1, 0.2), (3, 0.6), (4, 1.0))),
    ("building", 0.03, ((1, 0.3), (2, 0.5))),
    ("format", 0.03, ((1, 0.4), (2, 0.7))),
    ("easy", 0.02, ((1, -1.0),)),
    ("follow_up", 0.02, ((1, 0.3), (2, 0.5))),
    ("domain", 0.02, ((1, 0.5), (2, 0.8))),
)
WORDS: Final = {name: [term.rstrip("*").lower() for term in shipped().facts.terms(name)] for name, _, _ in BY_WORDS}


def judge(request: Request) -> Tier:
    """The tier by those rules."""
    texts = ["".join(part.text for part in message.parts if isinstance(part, TextPart)) for message in request.messages
             if message.role == "user"]  # fmt: skip
    tokens = math.ceil(sum(map(len, texts)) / 4)
    whole = texts[-1].lower()
    text = whole if len(whole) <= WINDOW else whole[: WINDOW // 2] + whole[-WINDOW // 2 :]
    if tokens > 100_000:
        return "COMPLEX"
    if _hits(WORDS["reasoning"], text) >= 2:
        return "REASONING"
    value = _weighted(text, tokens)
    boundaries = (0.0, 0.3, 0.5)
    distance = min(abs(value - boundary) for boundary in boundaries)
    if 1 / (1 + math.exp(-12 * distance)) < 0.7:
        return "MEDIUM"
    return TIERS[sum(value >= boundary for boundary in boundaries)]


def _weighted(text: str, tokens: int) -> float:
    value = sum(weight * _step(steps, _hits(WORDS[name], text)) for name, weight, steps in BY_WORDS)
    value += 0.12 * 0.5 * (STEPS.search(text) is not None)
    value += 0.08 * (-1 if tokens < 50 else tokens > 500)
    value += 0.05 * 0.5 * (text.count("?") > 3)
    return value + 0.01 * _step(((2, 0.3), (3, 0.5)), _hits(NEGATIONS, text))


def _hits(words: list[str] | tuple[str, ...], text: str) -> int:
    return sum(word in text for word in words)


def _step(steps: tuple[tuple[int, float], ...], hits: int) -> float:
    return next((score for least, score in reversed(steps) if hits >= least), 0.0)
