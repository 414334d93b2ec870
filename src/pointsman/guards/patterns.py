"""Operators' own patterns and keywords, matched by RE2: in time that grows with the text only, whatever is written."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pointsman.errors import ConfigError
from pointsman.guards.findings import Detect, Finding

MAX_MEMORY: Final = 8 * 1024 * 1024  # bytes that a compiled pattern may take; RE2's own default


def _compiled(pattern: str, *, any_case: bool) -> Any:
    import re2  # 4 MB, and most gateways never need it

    options = re2.Options()
    options.log_errors = False  # it would write the pattern to the error stream
    options.max_mem = MAX_MEMORY
    options.case_sensitive = not any_case
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        raise ConfigError(reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)) from None


def size_of(pattern: str) -> int:
    """How large a pattern is: the instructions of RE2's program, to which the time to compile it and the memory that it
    takes are in proportion. Raises ConfigError for one that is none.
    """
    return int(_compiled(pattern, any_case=False).programsize)


def find_pattern(patterns: Iterable[str], label: str, *, any_case: bool) -> Detect:
    """A detector of regular expressions in RE2's syntax. Raises ConfigError for one that is none."""
    compiled = [_compiled(pattern, any_case=any_case) for pattern in patterns]

    def detect(text: str) -> Iterator[Finding]:
        for pattern in compiled:
            for match in pattern.finditer(text):
                yield Finding(match.start(), match.end(), label)

    return detect


def find_words(words: Iterable[str], label: str) -> Detect:
    """A detector of words, in any case, that stand alone: letters or digits beside one make it another."""
    import re2

    longest_first = sorted(words, key=lambda word: -len(word))
    compiled = _compiled("|".join(re2.escape(word) for word in longest_first), any_case=True)

    def detect(text: str) -> Iterator[Finding]:
        for match in compiled.finditer(text):
            start, end = match.start(), match.end()
            if not (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum()):
                yield Finding(start, end, label)

    return detect
