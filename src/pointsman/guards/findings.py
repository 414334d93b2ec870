"""What detectors give: places in a text."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple


class Finding(NamedTuple):
    """Something found in a text, from ``start`` to ``end`` (characters), and what it is (``EMAIL``).

    ``restore``: when it is masked, the answer's reader gets it back.
    """

    start: int
    end: int
    label: str
    restore: bool = True


Detect = Callable[[str], Iterable[Finding]]


def by_pattern(pattern: re.Pattern[str], label: str, holds: Callable[[str], bool] | None = None) -> Detect:
    """A detector of what ``pattern`` matches and ``holds`` confirms. A first group limits the finding to itself."""
    group = 1 if pattern.groups else 0

    def detect(text: str) -> Iterator[Finding]:
        for match in pattern.finditer(text):
            if holds is None or holds(match[group]):
                yield Finding(match.start(group), match.end(group), label)

    return detect


def apart(findings: Iterable[Finding]) -> list[Finding]:
    """The findings in order, none over another: of those that overlap the first one takes in the others."""
    out: list[Finding] = []
    for one in sorted(findings, key=lambda found: (found.start, -found.end)):
        if one.end > one.start and (not out or one.start >= out[-1].end):
            out.append(one)
        elif out and one.start < out[-1].end < one.end:
            out[-1] = out[-1]._replace(end=one.end, restore=out[-1].restore and one.restore)
    return out
