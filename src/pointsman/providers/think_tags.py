"""Reasoning that a host leaves in the text: ``<think>...</think>`` before the answer."""

from typing import Final

OPEN: Final = "<think>"
CLOSE: Final = "</think>"


class ThinkSplitter:
    """Tells what was thought from what was said, however the text is cut.

    Only a text that begins with the tag is split. Blanks right inside and right after the tags belong to nobody.
    """

    __slots__ = ("_held", "_state")

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"

    @property
    def settled(self) -> bool:
        """True when the rest of the text is plain: `feed` would only hand it on."""
        return self._state == "said"

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """Pieces as (was thought, text), none of them empty."""
        if self._state == "start" and not self._held and not may_begin_thinking(text):
            self._state = "said"  # as nearly every text
        if self._state == "said":
            return [(False, text)] if text else []
        self._held += text
        found: list[tuple[bool, str]] = []
        while self._step(found):
            pass
        return found

    def finish(self) -> list[tuple[bool, str]]:
        """What is still held when the text is over."""
        held, self._held = self._held, ""
        if self._state == "start":
            return [(False, held)] if held else []
        thought = held.rstrip() if self._state == "thought" else ""
        return [(True, thought)] if thought else []

    def _step(self, found: list[tuple[bool, str]]) -> bool:
        """One move on; False when more text is needed."""
        if self._state == "start":
            return self._begin(found)
        if self._state in ("opened", "closed"):
            self._held = self._held.lstrip()
            if not self._held:
                return False
            self._state = "thought" if self._state == "opened" else "said"
            if self._state == "said":
                found.append((False, self._held))
                self._held = ""
                return False
        return self._think(found)

    def _begin(self, found: list[tuple[bool, str]]) -> bool:
        bare = self._held.lstrip()
        if bare.startswith(OPEN):
            self._held, self._state = bare[len(OPEN) :], "opened"
            return True
        if OPEN.startswith(bare):
            return False
        found.append((False, self._held))
        self._held, self._state = "", "said"
        return False

    def _think(self, found: list[tuple[bool, str]]) -> bool:
        end = self._held.find(CLOSE)
        if end >= 0:
            thought = self._held[:end].rstrip()
            if thought:
                found.append((True, thought))
            self._held, self._state = self._held[end + len(CLOSE) :], "closed"
            return True
        keep = _held_back(self._held)
        if keep < len(self._held):
            found.append((True, self._held[: len(self._held) - keep]))
            self._held = self._held[len(self._held) - keep :]
        return False


def may_begin_thinking(text: str) -> bool:
    """False for a text that is plain whatever follows it, as nearly every text."""
    return not text or text[0] == "<" or text[0].isspace()


def _held_back(text: str) -> int:
    """How many characters at the end may belong to blanks before the closing tag, or to the tag."""
    for size in range(min(len(CLOSE) - 1, len(text)), 0, -1):
        if CLOSE.startswith(text[-size:]):
            return len(text) - len(text[:-size].rstrip())
    return len(text) - len(text.rstrip())
