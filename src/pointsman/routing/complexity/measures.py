"""What can be counted in a text: terms of the word lists, marks of source code and formulas, items, clauses, length."""

import re
from collections.abc import Sequence
from typing import Final

from pointsman.routing.complexity.facts import Prepared, Window
from pointsman.routing.complexity.lexicon import CJK, WORD, split_words

_LINE_ITEM: Final = re.compile(r"\n[ \t]{0,8}(?:\d{1,2}[.)]|[-*\u2022])[ \t]")
_INLINE_ITEM: Final = re.compile(r"\(\d{1,2}\)")
_CJK_ITEM: Final = re.compile(r"[\u2460-\u2473]|\uff08\d{1,2}\uff09")
_BREAKS: Final = (",", ";", ":", ".", "\n")  # between clauses
_CJK_BREAKS: Final = ("\u3001", "\u3002", "\uff0c", "\uff1b", "\uff1a")
_LONGEST_WORD: Final = 200  # at a cut, a part of a word is left out up to this length; longer is no word


class TextMeasures:
    """``counts``: measure of each signal that has any. ``tokens``: the estimated length. ``lowered``: what was read."""

    __slots__ = ("counts", "lowered", "tokens")

    def __init__(self, counts: dict[str, float], tokens: float, lowered: str) -> None:
        self.counts = counts
        self.tokens = tokens
        self.lowered = lowered


def measure_text(texts: Sequence[str], prepared: Prepared) -> TextMeasures:
    """Counts in ``texts``, a turn's text parts. Takes time in proportion to their length up to the window, then no more
    than it takes to add up their lengths.
    """
    facts = prepared.facts
    text = visible(texts, facts.window)
    lowered = text.lower()
    counts: dict[str, float] = dict(prepared.lexicon.find(lowered))
    cjk = 0 if text.isascii() else sum(map(len, CJK.findall(text)))
    tokens = _tokens(texts, text, cjk, prepared)
    counts["length"] = tokens
    counts["source"] = counts.get("source", 0) + prepared.source_marks.count(text)
    counts["notation"] = counts.get("notation", 0) + prepared.notation_marks.count(text)
    counts["enumeration"] = _items(text)
    counts["clauses"] = sum([text.count(mark) for mark in _BREAKS])
    counts["questions"] = text.count("?")
    if cjk:
        counts["clauses"] += sum([text.count(mark) for mark in _CJK_BREAKS])
        counts["questions"] += text.count("\uff1f")
    if tokens <= facts.memory.follow_up_tokens:
        counts["closing"] = int(_is_closing(lowered, prepared))
    return TextMeasures(counts, tokens, lowered)


def _items(text: str) -> int:
    """List items: lines that begin with a dash or a number, and numbers in brackets or circles."""
    found = len(_LINE_ITEM.findall(f"\n{text}")) + len(_INLINE_ITEM.findall(text))
    return found if text.isascii() else found + len(_CJK_ITEM.findall(text))


def _tokens(texts: Sequence[str], text: str, cjk: int, prepared: Prepared) -> float:
    """The length of ``texts`` in tokens, by the share of Chinese and Japanese in ``text``, what was read of them."""
    per_token = prepared.facts.characters_per_token
    total = sum(map(len, texts))
    share = cjk / len(text) if text else 0.0
    return total * (share / per_token.cjk + (1 - share) / per_token.latin)


def visible(texts: Sequence[str], window: Window) -> str:
    """The texts as one; of more than the window, its head and its tail, with no word cut in two."""
    if sum(map(len, texts)) <= window.head + window.tail:
        return texts[0] if len(texts) == 1 else "\n".join(texts)
    return f"{_head(texts, window.head)}\n{_tail(texts, window.tail)}"


def _head(texts: Sequence[str], length: int) -> str:
    pieces: list[str] = []
    for text in texts:
        if len(text) >= length:
            return "\n".join([*pieces, _without_last_part(text, length)])
        pieces.append(text)
        length -= len(text)
    return "\n".join(pieces)


def _tail(texts: Sequence[str], length: int) -> str:
    pieces: list[str] = []
    for text in reversed(texts):
        if len(text) >= length:
            pieces.append(_without_first_part(text, len(text) - length))
            break
        pieces.append(text)
        length -= len(text)
    return "\n".join(reversed(pieces))


def _without_last_part(text: str, end: int) -> str:
    """``text`` up to ``end``, less the word that the cut would go through."""
    if end < len(text) and _in_word(text[end]):
        start = end
        while start > 0 and end - start < _LONGEST_WORD and _in_word(text[start - 1]):
            start -= 1
        return text[:start]
    return text[:end]


def _without_first_part(text: str, start: int) -> str:
    """``text`` from ``start``, less the word that the cut would go through."""
    if start > 0 and _in_word(text[start - 1]):
        end = start
        while end < len(text) and end - start < _LONGEST_WORD and _in_word(text[end]):
            end += 1
        return text[end:]
    return text[start:]


def _in_word(character: str) -> bool:
    """Whether it joins its neighbours to a word. Chinese and Japanese have no such words."""
    return WORD.match(character) is not None and CJK.match(character) is None


def is_follow_up(measures: TextMeasures, prepared: Prepared) -> bool:
    """Whether a turn leans on what went before: it is short, and says so or says next to nothing. A farewell or a
    question of the easy sort that points nowhere stands for itself.
    """
    memory = prepared.facts.memory
    if measures.tokens > memory.follow_up_tokens or measures.counts["closing"]:
        return False
    if "follow_up" in measures.counts or _opens_as_follow_up(measures.lowered, prepared):
        return True
    return measures.tokens <= memory.bare_tokens and "easy" not in measures.counts


def _opens_as_follow_up(lowered: str, prepared: Prepared) -> bool:
    first = WORD.search(lowered)
    if first is None:
        return False
    return first[0] in prepared.openings or lowered.startswith(prepared.cjk_openings, first.start())


def _is_closing(lowered: str, prepared: Prepared) -> bool:
    """Whether thanks, praise and greetings are said, and nothing else."""
    words = split_words(lowered)
    for word in words:
        rest = word
        if not word.isascii():
            for term in prepared.cjk_closings:
                rest = rest.replace(term, "")
        if rest and rest not in prepared.closings:
            return False
    return bool(words)
