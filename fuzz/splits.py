"""One input of the fuzzer: a byte of options, a byte that says how the rest is cut, and the rest."""

import random
import re
from dataclasses import dataclass
from itertools import pairwise

BLANK_LINES = re.compile(rb"\n(?:\r?\n)+")


@dataclass(frozen=True)
class Case:
    """What an input stands for. ``parts`` joined are ``data``, and none of them is empty."""

    options: int
    data: bytes
    parts: list[bytes]


def case_of(raw: bytes) -> Case:
    """Read an input; a second byte of 255 cuts after every byte."""
    options, cuts = (raw[0], raw[1]) if len(raw) >= 2 else (0, 0)
    data = raw[2:]
    if cuts == 255:
        return Case(options, data, [data[place : place + 1] for place in range(len(data))])
    chance = random.Random(cuts)
    places = sorted({chance.randrange(1, len(data)) for _ in range(1 + cuts % 7)}) if len(data) > 1 else []
    edges = [0, *places, len(data)]
    return Case(options, data, [data[a:b] for a, b in pairwise(edges) if b > a])


def one_blank_line(events: bytes) -> bytes:
    """An event stream with one blank line wherever there are several, and none at its end: they mean the same."""
    return BLANK_LINES.sub(b"\n\n", events).rstrip(b"\r\n")
