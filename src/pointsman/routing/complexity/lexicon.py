"""Finding the terms of many word lists in a text, in time that grows with the text and not with the lists.

A term of Latin script is one word or several, found as whole words only: ``class`` is not in ``classic``. One that ends
with ``*`` stands for every word that begins so (``proof*``), in a term of several words for its last one. Accents may
be left out by the writer. A term of Chinese or Japanese is found anywhere, as these scripts leave no gaps; one of
katakana alone only where no further katakana follows or precedes, which is their word.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final

WORD: Final = re.compile(r"\w+")
CJK: Final = re.compile("[\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
_GAPS: Final = str.maketrans({code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")})
_KATAKANA: Final = re.compile("[\u30a0-\u30ff]+")
_COMMON: Final = "=>`_[]/()\"':-\n.,0123456789abcdefghijklmnopqrstuvwxyz "  # rarer first
_STEM: Final = 4  # characters by which stems are looked up; a shorter stem would match too much anyway
_GERMAN: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})


class Lexicon:
    """Terms of several lists. ``lists`` maps a list's name to its terms.

    Raises ValueError for a stem that is too short.
    """

    def __init__(self, lists: Mapping[str, Iterable[str]]) -> None:
        self._words: dict[str, set[str]] = {}
        self._phrases: dict[tuple[str, str], list[tuple[str, str]]] = {}  # by the first two words
        self._open_phrases: dict[str, list[tuple[str, str]]] = {}  # of a word and a stem, by the word
        self._stems: dict[str, dict[str, set[str]]] = {}  # by their first letters
        self._cjk: dict[str, dict[str, set[str]]] = {}  # by first character
        self._seconds: dict[str, str] = {}  # of each of these terms: its second character
        for name, terms in lists.items():
            for spelling in _uncovered({one for term in terms for one in _spellings(term.lower())}):
                self._add(name, spelling)
        self._known_words = frozenset(self._words)
        self._known_pairs = frozenset(self._phrases)
        self._first_words = frozenset(self._open_phrases)
        self._first_characters = frozenset(self._cjk)

    def _add(self, name: str, term: str) -> None:
        if CJK.search(term):
            self._cjk.setdefault(term[0], {}).setdefault(term, set()).add(name)
            self._seconds[term] = term[1:2] or term
            return
        if " " in term:
            self._add_phrase(name, term)
        elif term.endswith("*"):
            if len(term) <= _STEM:
                raise ValueError(f"{term!r} in {name!r}: a stem has at least {_STEM} letters")
            self._stems.setdefault(term[:_STEM], {}).setdefault(term[:-1], set()).add(name)
        else:
            self._words.setdefault(term, set()).add(name)

    def _add_phrase(self, name: str, phrase: str) -> None:
        first, second = phrase.split()[:2]
        known = f" {phrase[:-1]}" if phrase.endswith("*") else f" {phrase} "
        if second.endswith("*"):
            self._open_phrases.setdefault(first, []).append((known, name))
        else:
            self._phrases.setdefault((first, second), []).append((known, name))

    def find(self, lowered: str) -> dict[str, int]:
        """How many different terms of each list occur in ``lowered``, a text in lower case; lists without any are not
        named.

        Words that share a stem count once for each of their forms.
        """
        words = split_words(lowered)
        distinct = set(words)
        hits: dict[str, int] = {}
        for word in distinct & self._known_words:
            _count(hits, self._words[word])
        found = [one for pair in self._known_pairs.intersection(pairwise(words))
                 for one in self._phrases[pair]]  # fmt: skip
        found += [one for first in distinct & self._first_words for one in self._open_phrases[first]]
        if found:
            joined = f" {' '.join(words)} "
            for phrase, name in found:
                if phrase in joined:
                    hits[name] = hits.get(name, 0) + 1
        self._find_stems(distinct, hits)
        if not lowered.isascii():
            self._find_cjk(lowered, hits)
        return hits

    def _find_stems(self, words: set[str], hits: dict[str, int]) -> None:
        known = self._stems
        for word in [word for word in words if word[:_STEM] in known]:
            for stem, names in known[word[:_STEM]].items():
                if word.startswith(stem):
                    _count(hits, names)

    def _find_cjk(self, lowered: str, hits: dict[str, int]) -> None:
        characters = set(lowered)
        for first in self._first_characters & characters:
            for term, names in self._cjk[first].items():
                if self._seconds[term] not in characters or term not in lowered:
                    continue
                if not _KATAKANA.fullmatch(term) or _stands_alone(term, lowered):
                    _count(hits, names)


def split_words(text: str) -> list[str]:
    """The words of ``text``: what `WORD` finds, sooner where there is ASCII only."""
    return text.translate(_GAPS).split() if text.isascii() else WORD.findall(text)


def _count(hits: dict[str, int], names: set[str]) -> None:
    for name in names:
        hits[name] = hits.get(name, 0) + 1


def _uncovered(terms: set[str]) -> list[str]:
    """``terms`` less those that would be found only where another one is found too, so that nothing counts twice."""
    stems = {term[:-1] for term in terms if term.endswith("*") and " " not in term}
    cjk = {term for term in terms if CJK.search(term)}
    kept = []
    for term in terms:
        beginnings = () if " " in term else [term[:end] for end in range(1, len(term.rstrip("*")) + 1)]
        covered = any(one in stems for one in beginnings if f"{one}*" != term)
        if not covered and not (term in cjk and any(one != term and one in term for one in cjk)):
            kept.append(term)
    return kept


def _spellings(term: str) -> set[str]:
    """The term, without its accents, and with German umlauts written as two letters."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", term) if not unicodedata.combining(one))
    without = {plain} if len(term) > _STEM or " " in term else set()  # "dés" would be "des", another word
    return {term, term.translate(_GERMAN)} | without


def _stands_alone(term: str, text: str) -> bool:
    """Whether katakana ``term`` occurs in ``text`` with no katakana beside it."""
    place = text.find(term)
    while place >= 0:
        end = place + len(term)
        if not (_KATAKANA.match(text, place - 1, place) if place else None) and not _KATAKANA.match(text, end, end + 1):
            return True
        place = text.find(term, end)
    return False


def _commonness(character: str) -> int:
    """How common a character is in prose, by rank."""
    if not character.isascii():
        return 0
    return 2 + _COMMON.find(character) if character in _COMMON else 1


class Marks:
    """Pieces of text, such as ``=>`` or ``def ``, that are found anywhere, in the case they are written in."""

    def __init__(self, marks: Iterable[str]) -> None:
        self._by_sign: dict[str, list[str]] = {}  # by the character that ordinary text has most seldom
        for mark in marks:
            self._by_sign.setdefault(min(mark, key=_commonness), []).append(mark)

    def count(self, text: str) -> int:
        """How many different marks occur in ``text``."""
        return sum([mark in text for sign, marks in self._by_sign.items() if sign in text for mark in marks])
