"""The figures and word lists of the scorer: `facts.json`, checked once and made ready for use.

Where they come from: the word lists are our own; weights and points were set by hand and then adjusted on the
development part of the labelled set (docs/routing-complexity.md).
"""

from functools import cache
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from pointsman.routing.complexity.lexicon import CJK, Lexicon, Marks

Tier = Literal["SIMPLE", "MEDIUM", "COMPLEX", "REASONING"]
TIERS: Final[tuple[Tier, ...]] = get_args(Tier)
_FILE: Final = Path(__file__).with_name("facts.json")
_APART: Final = ("follow_up", "opening", "json_order")  # lists that are no signals


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of a turn is read, in characters: all of it up to the sum of both, else so much of its two ends."""

    head: int
    tail: int


class CharactersPerToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For the estimate of a text's length in tokens."""

    latin: float
    cjk: float


class MemoryFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``keep``: the part of the level before that a follow-up has at least; ``decay``: the part of a level that is
    left after a turn below it; ``turns``: earlier turns that are read when there is no memory; ``follow_up_tokens``:
    a longer turn stands for itself; ``bare_tokens``: so short a turn is a follow-up by its shortness alone.
    """

    keep: float
    decay: float
    turns: int
    follow_up_tokens: float
    bare_tokens: float


class Floors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The least tier of a request that demands structured output, whose system prompt orders JSON, that is longer
    than ``long_context_tokens``, or that has ``reasoning_words`` words of that list.
    """

    structured_output: Tier
    json_order: Tier
    long_context: Tier
    reasoning_words: Tier


class Thought(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The highest tier is for requests whose ``signals`` of this name contribute at least ``least``: much work alone is
    not hard thought, and stays one tier below.
    """

    signals: list[str]
    least: float


class SignalFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a measure adds to the score: its strength, linear between ``points`` (measure, strength), times weight."""

    weight: float
    points: list[tuple[float, float]]

    def strength(self, measure: float) -> float:
        """The strength at ``measure``; beyond the ends it is that of the end."""
        low, below = self.points[0]
        for high, above in self.points:
            if measure < high:
                return below if measure <= low else below + (above - below) * (measure - low) / (high - low)
            low, below = high, above
        return below


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. ``words``: list, language, terms with commas between them (how terms are written: `lexicon`)."""

    window: Window
    characters_per_token: CharactersPerToken
    base: float
    boundaries: dict[Tier, float]
    floors: Floors
    long_context_tokens: int
    reasoning_words: int
    thought: Thought
    memory: MemoryFigures
    signals: dict[str, SignalFigures]
    source_marks: list[str]
    notation_marks: list[str]
    words: dict[str, dict[str, str]]

    def terms(self, name: str) -> list[str]:
        """The terms of the word list ``name``, of all languages."""
        return [term for line in self.words[name].values() for term in line.split(", ")]


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """The facts, made ready for use: what is asked for in every request is looked up or built once."""

    facts: Facts
    lexicon: Lexicon
    source_marks: Marks
    notation_marks: Marks
    openings: frozenset[str]
    cjk_openings: tuple[str, ...]
    closings: frozenset[str]
    cjk_closings: tuple[str, ...]


def parse_facts(data: bytes) -> Facts:
    """The facts in ``data``; raises ValueError that names what is wrong."""
    facts = msgspec.json.decode(data, type=Facts)
    if list(facts.boundaries) != list(TIERS[1:]) or sorted(facts.boundaries.values()) != [*facts.boundaries.values()]:
        raise ValueError(f"boundaries: are not those of {', '.join(TIERS[1:])}, rising")
    for name, figures in facts.signals.items():
        places = [point[0] for point in figures.points]
        if places != sorted(set(places)) or not places:
            raise ValueError(f"signals.{name}.points: do not rise")
    strangers = [name for name in facts.words if name not in facts.signals and name not in _APART]
    if strangers:
        raise ValueError(f"words.{strangers[0]}: there is no signal of this name")
    return facts


def prepare(facts: Facts) -> Prepared:
    """Builds what the scorer works with. Raises ValueError for a term that can't be searched."""
    searched = {name: facts.terms(name) for name in facts.words if name not in ("opening", "closing")}
    openings, closings = facts.terms("opening"), facts.terms("closing")
    return Prepared(
        facts=facts,
        lexicon=Lexicon(searched),
        source_marks=Marks(facts.source_marks),
        notation_marks=Marks(facts.notation_marks),
        openings=frozenset(openings),
        cjk_openings=tuple(term for term in openings if CJK.search(term)),
        closings=frozenset(closings),
        cjk_closings=tuple(term for term in closings if CJK.search(term)),
    )


@cache
def shipped() -> Prepared:
    """The facts as they are shipped, read at first use."""
    return prepare(parse_facts(_FILE.read_bytes()))
