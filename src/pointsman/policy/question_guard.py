"""What two questions must have in common before likeness counts: numbers, names, negations, language, code, quotes.

Vectors of meaning tell subjects apart well and details badly: "add 2 and 3" is all but the same as "add 2 and 4". So
questions are compared by their details first, and these must be equal. What is lost are hits; the lists of words here
(question_words.toml) err on that side. They are of English, with negations and articles of some more languages.
"""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

_NUMBER: Final = re.compile(r"\d+(?:[.,:/-]\d+)*%?")
_WORD: Final = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_CODE: Final = re.compile(r"```.*?```|`[^`]+`|https?://\S+|\S+@\S+|\S*[_/\\(){}\[\]<>=+*^$#|&~]\S*", re.DOTALL)
_QUOTE: Final = re.compile(r"\"[^\"]+\"|“[^”]+”|«[^»]+»|„[^“]+“")
_SENTENCE_END: Final = frozenset(".!?:\n")
_LISTS: Final[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("question_words.toml").read_text("utf-8"))


def _list(name: str) -> frozenset[str]:
    return frozenset(_LISTS[name].split())


_NUMBER_WORDS: Final = _list("numbers")
_NEGATIONS: Final = _list("negations")
_SIDES: Final = _list("sides") | _list("questions")
_SUBJECTS: Final = _list("subjects")
_EMPTY: Final = _list("openers") | _SIDES  # left out when the rest of two questions is compared word by word
_LANGUAGES: Final = {name: frozenset(words.split()) for name, words in _LISTS["languages"].items()}


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What must be equal. Orders count: who pays whom is told by nothing else."""

    numbers: tuple[str, ...]
    names: tuple[str, ...]
    negations: int
    sides: tuple[str, ...]
    language: str
    code: tuple[str, ...]
    quotes: tuple[str, ...]


def details_of(text: str) -> Details:
    """The details of a question."""
    code, plain = _taken(_CODE, text)
    quotes, plain = _taken(_QUOTE, plain)
    words = _words(plain)
    small = [word.lower().replace("\u2019", "'") for word, _ in words]
    spelled = [word for word in small if word in _NUMBER_WORDS]
    return Details(
        numbers=(*_NUMBER.findall(plain), *spelled),
        names=tuple(word.lower() for word, begins in words if _is_name(word, begins)),
        negations=sum(word in _NEGATIONS or word.endswith("n't") for word in small),
        sides=tuple(word for word in small if word in _SIDES),
        language=_language(small, plain),
        code=code,
        quotes=quotes,
    )


def rest_of(text: str) -> tuple[str, ...]:
    """The words of a question that carry its subject, in their order."""
    return tuple(word for found in _WORD.findall(text) if (word := found.lower()) not in _EMPTY)


def is_swap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two questions are the same but for one word, or for their order: likelier another question than
    another way to say it.
    """
    if one == other:
        return False
    if len(one) == len(other):
        return sum(a != b for a, b in zip(one, other, strict=True)) == 1 or sorted(one) == sorted(other)
    longer, shorter = (one, other) if len(one) > len(other) else (other, one)
    return len(longer) == len(shorter) + 1 and _is_within(shorter, longer)


def _is_within(shorter: Sequence[str], longer: Sequence[str]) -> bool:
    rest = iter(longer)
    return all(word in rest for word in shorter)


def _taken(pattern: re.Pattern[str], text: str) -> tuple[tuple[str, ...], str]:
    return tuple(pattern.findall(text)), pattern.sub(" ", text)


def _words(text: str) -> list[tuple[str, bool]]:
    """Every word, and whether it begins a sentence."""
    found: list[tuple[str, bool]] = []
    end = 0
    for match in _WORD.finditer(text):
        between = text[end : match.start()]
        found.append((match[0], not found or not _SENTENCE_END.isdisjoint(between)))
        end = match.end()
    return found


def _is_name(word: str, begins: bool) -> bool:
    small = word.lower()
    if small in _SUBJECTS:
        return True
    if word == "I" or small.startswith("i'") or not word[0].isupper():
        return False
    return not begins or (len(word) > 1 and word.isupper()) or small not in _EMPTY


def _language(words: Sequence[str], text: str) -> str:
    """The language of which most small words are there; else the script of most letters."""
    counts = {name: sum(word in known for word in words) for name, known in _LANGUAGES.items()}
    best: str = max(counts, key=lambda name: counts[name])
    if counts[best]:
        return best
    letters = [letter for letter in text if letter.isalpha()]
    return "latin" if all(ord(letter) < 0x250 for letter in letters) else f"script-{ord(max(letters)) >> 8}"
