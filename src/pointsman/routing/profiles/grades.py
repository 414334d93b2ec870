"""What a model is fit for, told from what is known of it: the budget that it belongs to, and how capable it may be.

Nobody publishes how good a model is. What is known everywhere is its price, which is how its maker ranks it among its
like, whether it reasons, the size of its window, and its name: which release of its family it is, and how many
parameters it has. The figures here are our own, chosen so that current lists of models fall apart as their makers
sell them; an operator who knows better pins models (docs/routing-profiles.md).
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from math import log
from typing import Final

import msgspec

from pointsman.routing.capabilities import plain_name
from pointsman.routing.profiles.budgets import BUDGETS, Budget
from pointsman.routing.targets import ModelFacts, PriceTag, Target

MILLION: Final = 1_000_000  # a micro-USD per million tokens is a pico-USD per token
# Up to which price a model belongs to a budget: pico-USD a token, three in for one out (0.60 and 3 USD a million).
CHEAP_TO: Final = 600_000
MEDIUM_TO: Final = 3 * MILLION
LUXURY_FROM: Final = 40 * MILLION  # models for special work: never chosen while another one can answer
LOWEST, HIGHEST = 20_000, 15 * MILLION  # the ends of the scale of prices
SMALLEST, LARGEST = 4_096, 1_000_000  # of the scale of windows, in tokens
# What speaks for a model, together 1.
PRICE_SHARE, REASONING_SHARE, WINDOW_SHARE, SHAPE_SHARE = 0.45, 0.30, 0.15, 0.10
HALF: Final = 0.5  # what isn't known counts half
BY_NAME: Final = {"cheap": 0.3, "medium": HALF, "premium": 0.8}  # where an unknown price stands
REASONING: Final = frozenset(("reasoning", "reasoning_effort", "include_reasoning"))
# By the name alone, where no price is known: billions of parameters, then words that makers use.
CHEAP_BILLIONS, MEDIUM_BILLIONS, TINY_BILLIONS = 15.0, 80.0, 1.0
SMALL_BILLIONS: Final = 9.0  # so small a model is a lesser one whatever else is known
_BILLIONS: Final = re.compile(  # a window of ``1m`` tokens is no size
    r"(?<![a-z0-9.])(?:(\d{1,2})x)?(\d{1,4}(?:\.\d{1,2})?(?=b)|\d{3}(?=m))([bm])(?![a-z0-9])"
)
_LESSER: Final = re.compile(r"nano|mini(?!max)|lite|haiku|flash|small|tiny|instant|fast")
_GREATER: Final = re.compile(r"opus|\bpro\b|\bmax\b|ultra|large|premier|\bo[1-9]\b")
# For something else than talking, as far as the outputs don't say so: not among the candidates, or the last of them.
_OTHER: Final = re.compile(
    r"embed|rerank|whisper|\btts\b|dall-e|imagen|moderation|transcri|speech|text-to-|stable-diffusion|\bsora\b|\bveo\b"
)
_SPECIAL: Final = re.compile(r"guard|realtime|audio|image|search|deep-research|computer-use|\bocr\b|translat|\blive\b")
_VERSION: Final = re.compile(r"\d{1,2}(?:\.\d{1,2})?")
_PIECE: Final = re.compile(r"[a-z]+|\d+(?:\.\d+)?")
_NOISE: Final = frozenset(("preview", "latest", "exp", "experimental", "instruct", "chat", "it", "beta", "hf", "v"))
MOST_VERSIONS: Final = 3


class Grade(msgspec.Struct, frozen=True, gc=False):
    """``quality`` and ``price`` from 0 to 1; ``guessed``: no price is known, the name told the budget.

    ``rank``: 0 the usual, 1 a newer release of it is there, 2 luxury, for special work, or too small for real work.
    """

    budget: Budget
    quality: float = HALF
    price: float = HALF
    guessed: bool = False
    rank: int = 0

    def word(self) -> str:
        """The grade without its quality, as a step of a route keeps it."""
        return f"{self.budget} {self.price:.4f} {self.rank}{' guessed' if self.guessed else ''}"


@lru_cache(maxsize=10_000)
def grade_of(word: str, quality: float) -> Grade:
    """What `Grade.word` made; a step that has none is taken to be medium."""
    budget, _, rest = word.partition(" ")
    if budget not in BUDGETS:
        return Grade("medium", guessed=True)
    price, rank, *guessed = rest.split(" ")
    return Grade(budget, quality, float(price), bool(guessed), int(rank))


def grades(targets: Iterable[Target]) -> dict[str, Grade]:
    """The grade of each target by its id. A release ranks behind a newer one of its family that is among them.

    A model has one grade wherever it is served, by the lowest price: that a host is dearer makes no model better.
    """
    found = list(targets)
    families = {target.id: family_of(target) for target in found}
    newest: dict[tuple[str, ...], tuple[float, ...]] = {}
    prices: dict[str, int] = {}
    for target in found:
        family, version = families[target.id]
        newest[family] = max(newest.get(family, ()), version)
        blended = blended_price(target.facts.price)
        if blended is not None:
            name = target.facts.slug or target.id
            prices[name] = min(prices.get(name, blended), blended)
    out = {}
    for target in found:
        family, version = families[target.id]
        price = prices.get(target.facts.slug or target.id)
        out[target.id] = _grade(target, price, superseded=version < newest[family])
    return out


def _grade(target: Target, blended: int | None, *, superseded: bool) -> Grade:
    facts, name, billions = target.facts, plain_name(target.model, dated=True), billions_of(target.model)
    budget = _by_name(name, billions) if blended is None else _by_price(blended)
    price = BY_NAME[budget] if blended is None else price_position(blended)
    quality = _quality(facts, price)
    if billions is not None and billions <= SMALL_BILLIONS:
        quality *= billions / (billions + SMALL_BILLIONS)
    tiny = billions is not None and billions < TINY_BILLIONS
    special = _SPECIAL.search(name) is not None or (facts.outputs is not None and len(facts.outputs) > 1)
    odd = tiny or special or (blended or 0) >= LUXURY_FROM
    return Grade(budget, round(quality, 4), round(price, 4), blended is None, 2 if odd else 1 if superseded else 0)


def talks(target: Target) -> bool:
    """Whether a model answers in words, as far as is known."""
    outputs = target.facts.outputs
    return "text" in outputs if outputs is not None else _OTHER.search(target.model.lower()) is None


def blended_price(price: PriceTag | None) -> int | None:
    """What a token costs, three in for one out, in pico-USD; None: not known."""
    return None if price is None else (3 * price.prompt + price.completion) // 4


def _by_price(blended: int) -> Budget:
    return "cheap" if blended <= CHEAP_TO else "medium" if blended <= MEDIUM_TO else "premium"


def _by_name(name: str, billions: float | None) -> Budget:
    if billions is not None:
        return "cheap" if billions <= CHEAP_BILLIONS else "medium" if billions <= MEDIUM_BILLIONS else "premium"
    if _LESSER.search(name):
        return "cheap"
    return "premium" if _GREATER.search(name) else "medium"


def billions_of(model: str) -> float | None:
    """How many billions of parameters a model has by its name (``8x7b``, ``135m``); None: it doesn't say."""
    sizes = [
        int(times or 1) * float(size) / (1 if unit == "b" else 1000)
        for times, size, unit in _BILLIONS.findall(model.lower().rpartition("/")[2].replace("_", "-"))
    ]
    return max(sizes, default=None)


def _quality(facts: ModelFacts, price: float) -> float:
    """A sum of what speaks for a model, 0 to 1."""
    known, window = facts.parameters, facts.context_tokens
    reasons = HALF if known is None else float(not REASONING.isdisjoint(known))
    shapes = HALF if known is None else float("structured_outputs" in known and "tools" in known)
    size = HALF if window is None else _position(window, SMALLEST, LARGEST)
    return PRICE_SHARE * price + REASONING_SHARE * reasons + WINDOW_SHARE * size + SHAPE_SHARE * shapes


def price_position(blended: int) -> float:
    """Where a price stands between the lowest (0) and the highest (1), by its logarithm."""
    return _position(blended, LOWEST, HIGHEST)


def _position(value: float, low: float, high: float) -> float:
    if value <= low:
        return 0.0
    return min(1.0, log(value / low) / log(high / low))


def family_of(target: Target) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Whose family a model is of, and which release of it: its name without numbers, and the numbers.

    ``claude-3-opus`` and ``claude-opus-4-5`` are one family; a size (``70b``) belongs to the family. Dates are no
    versions: a name with one is the release that the name without it is.
    """
    name = plain_name(target.facts.slug or target.model)
    words = [target.facts.author or target.connection.vendor]
    versions: list[float] = []
    sizes = {f"{times}x{size}{unit}" for times, size, unit in _BILLIONS.findall(name)}
    for piece in _PIECE.findall(_BILLIONS.sub(" ", name)):
        if _VERSION.fullmatch(piece):
            versions.append(float(piece))
        elif piece[0].isalpha() and piece not in _NOISE:
            words.append(piece)
    return (*sorted(words), *sorted(sizes)), tuple(versions[:MOST_VERSIONS])
