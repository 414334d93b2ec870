"""Values of a request that the upstream must not see, what stands for them there, and their way back.

Placeholders look like ``[EMAIL_1]``: they begin with the only ``[`` and end with the only ``]`` in them, so that the
piece of one that a stream's chunk ends in can be told, and no two of them overlap. They are numbered in the order of
their first appearance: the same conversation gets the same ones in every turn, for prompt caches and signatures.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from pointsman.guards.findings import Finding

PLACEHOLDER: Final = re.compile(r"\[[A-Z][A-Z0-9_]{0,63}_[1-9]\d{0,8}\]")
LABEL: Final = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
_encode: Final = msgspec.json.Encoder().encode


class Mask:
    """The values of one request by their placeholders. ``taken``: what looks like one in its own texts."""

    __slots__ = ("_numbers", "_of", "_pattern", "_taken", "values")

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.values: dict[str, str] = {}
        self._of: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        self._taken = frozenset(taken)
        self._pattern: re.Pattern[str] | None = None

    def cover(self, text: str, findings: Iterable[Finding]) -> str:
        """The text with placeholders for ``findings``, which are in order and apart."""
        pieces, at = [], 0
        for found in findings:
            pieces.append(text[at : found.start])
            value = text[found.start : found.end]
            pieces.append(self._placeholder(value, found.label) if found.restore else f"[{found.label}]")
            at = found.end
        pieces.append(text[at:])
        return "".join(pieces)

    def _placeholder(self, value: str, label: str) -> str:
        known = self._of.get(value)
        if known is not None:
            return known
        number = self._numbers.get(label, 0) + 1
        while f"[{label}_{number}]" in self._taken:
            number += 1
        self._numbers[label] = number
        placeholder = self._of[value] = f"[{label}_{number}]"
        self.values[placeholder] = value
        self._pattern = None
        return placeholder

    def restore(self, text: str, *, quoted: bool = False) -> str:
        """The text with the values back in. ``quoted``: it is JSON, and they stand inside of its strings."""
        if "[" not in text or not self.values:
            return text
        return self.pattern.sub(self.put(quoted=quoted), text)

    @property
    def pattern(self) -> re.Pattern[str]:
        """Any of the placeholders."""
        if self._pattern is None:
            self._pattern = re.compile("|".join(map(re.escape, self.values)))
        return self._pattern

    def put(self, *, quoted: bool) -> Callable[[re.Match[str]], str]:
        """What replaces a placeholder."""
        if quoted:
            return lambda match: _encode(self.values[match[0]])[1:-1].decode()
        return lambda match: self.values[match[0]]


class Restorer:
    """Restores a text that comes in pieces: any pieces of the same text give the same, in all."""

    __slots__ = ("_held", "_mask", "_quoted", "_read", "_shifts")

    def __init__(self, mask: Mask, *, quoted: bool = False) -> None:
        self._mask = mask
        self._quoted = quoted
        self._held = ""
        self._read = 0  # characters before what is held, as they came
        self._shifts: list[tuple[int, int]] = []  # where a placeholder ended, and how much longer the text became

    def feed(self, text: str) -> str:
        """What is sure of the text so far; the beginning of a possible placeholder is held back."""
        text = self._held + text
        at = text.rfind("[")
        if at >= 0 and self._may_go_on(text[at:]):
            self._held = text[at:]
            return self._restored(text[:at])
        self._held = ""
        return self._restored(text)

    def finish(self) -> str:
        """What was held back, when no more comes."""
        text, self._held = self._held, ""
        return self._restored(text)

    def place(self, offset: int | None) -> int | None:
        """Where a place in the masked text is in the restored one."""
        if offset is None:
            return None
        return offset + sum(longer for end, longer in self._shifts if end <= offset)

    def _may_go_on(self, tail: str) -> bool:
        return any(len(tail) < len(one) and one.startswith(tail) for one in self._mask.values)

    def _restored(self, text: str) -> str:
        if not self._mask.values or "[" not in text:
            self._read += len(text)
            return text
        put = self._mask.put(quoted=self._quoted)
        pieces: list[str] = []
        at = 0
        for match in self._mask.pattern.finditer(text):
            value = put(match)
            pieces += (text[at : match.start()], value)
            at = match.end()
            self._shifts.append((self._read + at, len(value) - len(match[0])))
        pieces.append(text[at:])
        self._read += len(text)
        return "".join(pieces)
