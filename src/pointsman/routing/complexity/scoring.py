"""The score of a request: how capable a model it asks for, and why. docs/routing-complexity.md explains the method."""

import re
from itertools import islice
from math import exp
from typing import Final

import msgspec

from pointsman.canonical.parts import TextPart, ToolResultPart
from pointsman.canonical.request import Request
from pointsman.routing.complexity.facts import TIERS, Facts, Prepared, Tier, shipped
from pointsman.routing.complexity.measures import TextMeasures, is_follow_up, measure_text, visible
from pointsman.routing.complexity.turns import Conversation, Turn, read_turns

_STEEPNESS: Final = 12.0  # of the confidence over the distance to a boundary: ClawRouter's figure
_BELOW: Final = 0.01  # how far below the highest tier the score of mere work ends
_JSON: Final = re.compile("json")
_JSON_PLACES: Final = 8
_AROUND: Final = 40  # characters before and after a mention: the longest term of the list has 24
_STRUCTURED: Final = frozenset(("json_object", "json_schema", "grammar"))


class Signal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One reason: ``measure`` is what was counted, ``strength`` what that means (0: nothing, 1: plenty), ``weight`` how
    much it matters. It holds no word of the prompt.
    """

    name: str
    measure: float
    strength: float
    weight: float

    @property
    def contribution(self) -> float:
        """What it adds to the score."""
        return self.strength * self.weight


class Complexity(msgspec.Struct, frozen=True, kw_only=True):
    """How demanding a request is. ``score`` is from 0 to 1 and always lies within ``tier``'s boundaries.

    ``base`` and the ``signals``' contributions add up to the score of the turn by itself; ``rules`` names what raised
    it beyond: follow_up, structured_output, json_order, long_context, reasoning_words, tool_loop. ``confidence``, from
    0.5 to 1, is low near a boundary. ``tool_loop``: tools are at work since the user last spoke.
    """

    tier: Tier
    score: float
    confidence: float
    base: float
    signals: tuple[Signal, ...]
    rules: tuple[str, ...] = ()
    tool_loop: bool = False


class ConversationMemory(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What to keep of a conversation between two requests: the level it has (a score, decayed since), and the tier of
    the last decision, which a tool loop does not fall below.
    """

    level: float
    tier: Tier


def score(request: Request, memory: ConversationMemory | None = None, prepared: Prepared | None = None) -> Complexity:
    """Scores ``request`` by its last user turn, its demands and what went before.

    Without ``memory`` (the first request, or nothing was kept) the level comes from the user turns before, which the
    request carries. ``prepared`` replaces the figures and word lists that are shipped. Never raises.
    """
    prepared = prepared or shipped()
    facts = prepared.facts
    conversation = read_turns(request.messages, 1 if memory is not None else 1 + facts.memory.turns)
    turn = conversation.turns[0] if conversation.turns else Turn(texts=[])
    measures = measure_text(turn.texts, prepared)
    signals = _signals(measures.counts | _demands(request, turn), facts)
    level = memory.level if memory is not None else _level_before(conversation.turns[1:], prepared)
    value, rules = _raised(_total(signals, facts), _least(request, measures, level, prepared))
    if conversation.tool_loop:
        least = _loop_level(conversation, memory, level, prepared)
        value, rules = max(value, least), (*rules, *(("tool_loop",) if least > value else ()))
    return Complexity(
        tier=tier_of(value, facts),
        score=value,
        confidence=_confidence(value, facts),
        base=facts.base,
        signals=signals,
        rules=rules,
        tool_loop=conversation.tool_loop,
    )


def remember(complexity: Complexity, memory: ConversationMemory | None = None) -> ConversationMemory:
    """What to keep after a decision, given what was kept before. The level decays once a turn, not in a tool loop."""
    level = memory.level if memory is not None else 0.0
    if not complexity.tool_loop:
        level *= shipped().facts.memory.decay
    return ConversationMemory(level=max(complexity.score, level), tier=complexity.tier)


def tier_of(value: float, facts: Facts | None = None) -> Tier:
    """The tier that a score from 0 to 1 lies in."""
    tier: Tier = TIERS[0]
    for name, least in (facts or shipped().facts).boundaries.items():
        if value >= least:
            tier = name
    return tier


def _demands(request: Request, turn: Turn) -> dict[str, float]:
    """What is measured apart from the text."""
    structured = request.output_format is not None and request.output_format.kind in _STRUCTURED
    return {
        "tools": len(request.tools),
        "images": turn.images,
        "documents": turn.documents,
        "structured_output": int(structured),
    }


def _signals(counts: dict[str, float], facts: Facts) -> tuple[Signal, ...]:
    """The signals that say something, in the order of the facts."""
    found = []
    for name, figures in facts.signals.items():
        measure = counts.get(name)
        if measure and (strength := figures.strength(measure)):
            found.append(Signal(name=name, measure=measure, strength=strength, weight=figures.weight))
    return tuple(found)


def _total(signals: tuple[Signal, ...], facts: Facts) -> float:
    """The score of a turn by itself, from 0 to 1."""
    total = facts.base + sum([signal.strength * signal.weight for signal in signals])
    highest = facts.boundaries[TIERS[-1]]
    if total >= highest:
        names = facts.thought.signals
        thought = sum([signal.strength * signal.weight for signal in signals if signal.name in names])
        if thought < facts.thought.least:
            return highest - _BELOW
    return min(1.0, max(0.0, total))


def _least(request: Request, measures: TextMeasures, level: float, prepared: Prepared) -> list[tuple[str, float]]:
    """The rules that hold for the request, each with the least score it asks for."""
    facts = prepared.facts
    floors: list[tuple[str, Tier]] = []
    if request.output_format is not None and request.output_format.kind in _STRUCTURED:
        floors.append(("structured_output", facts.floors.structured_output))
    if _orders_json(request, prepared):
        floors.append(("json_order", facts.floors.json_order))
    if _characters(request) / facts.characters_per_token.latin > facts.long_context_tokens:
        floors.append(("long_context", facts.floors.long_context))
    if measures.counts.get("reasoning", 0) >= facts.reasoning_words:
        floors.append(("reasoning_words", facts.floors.reasoning_words))
    rules = [(name, facts.boundaries.get(tier, 0.0)) for name, tier in floors]
    if level and is_follow_up(measures, prepared):
        rules.append(("follow_up", level * facts.memory.keep))
    return rules


def _raised(value: float, rules: list[tuple[str, float]]) -> tuple[float, tuple[str, ...]]:
    """``value`` as the rules raise it, and the names of those that did."""
    named = tuple([name for name, least in rules if least > value])
    return max(value, max([least for _, least in rules], default=0.0)), named


def _loop_level(
    conversation: Conversation, memory: ConversationMemory | None, level: float, prepared: Prepared
) -> float:
    """What a tool loop does not fall below: the last decision's tier, and that of the text which began the turn."""
    facts = prepared.facts
    least = facts.boundaries.get(memory.tier, 0.0) if memory is not None else 0.0
    turn = conversation.turns[0] if conversation.turns else None
    if turn is not None and 0 < turn.starter < len(turn.texts):
        least = max(least, _text_level(turn.texts[: turn.starter], level, prepared))
    return least


def _level_before(turns: list[Turn], prepared: Prepared) -> float:
    """The level that earlier turns (newest first) leave, by their texts alone."""
    level = 0.0
    for turn in reversed(turns):
        level = max(_text_level(turn.texts, level, prepared), level * prepared.facts.memory.decay)
    return level


def _text_level(texts: list[str], level: float, prepared: Prepared) -> float:
    """The score of a turn's texts by themselves, given the level before them."""
    measures = measure_text(texts, prepared)
    value = _total(_signals(measures.counts, prepared.facts), prepared.facts)
    if level and is_follow_up(measures, prepared):
        return max(value, level * prepared.facts.memory.keep)
    return value


def _orders_json(request: Request, prepared: Prepared) -> bool:
    """Whether the system prompt asks for JSON as the answer; mentioning it is not enough. Looks at the words around the
    first `_JSON_PLACES` mentions in each message.
    """
    for message in request.messages:
        if message.role in ("system", "developer"):
            texts = [part.text for part in message.parts if isinstance(part, TextPart)]
            text = visible(texts, prepared.facts.window).lower()
            places = [found.start() for found in islice(_JSON.finditer(text), _JSON_PLACES)]
            around = " . ".join([text[max(0, place - _AROUND) : place + _AROUND] for place in places])
            if around and "json_order" in prepared.lexicon.find(around):
                return True
    return False


def _characters(request: Request) -> int:
    """The length of all texts of the request, those of tool results included."""
    total = 0
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, TextPart):
                total += len(part.text)
            elif isinstance(part, ToolResultPart):
                total += sum([len(inner.text) for inner in part.content if isinstance(inner, TextPart)])
    return total


def _confidence(value: float, facts: Facts) -> float:
    distance = min([abs(value - boundary) for boundary in facts.boundaries.values()])
    return 1 / (1 + exp(-_STEEPNESS * distance))
