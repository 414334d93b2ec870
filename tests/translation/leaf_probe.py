"""Finds the leaves of a JSON value that make no difference: each is changed in turn, and what comes of it is compared.

A leaf is carried when its new value is found in what comes out, or, where it is a word, a switch or a place that the
other API says in its own way, when what comes out differs. Otherwise the ledger has to name it.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

Json = Any
Step = str | int
Place = tuple[Step, ...]
MARK: Final = "Zq7"
_NUMBER: Final = 7
_MOST_TRIED: Final = 12
# Words of lists that are not told when another is sent, and others of the same list.
_WORDS: Final = (
    ("user", "assistant"), ("low", "high"), ("auto", "required"), ("flex", "priority"), ("wav", "mp3"),
    ("function", "custom"), ("system", "user"), ("developer", "user"), ("json", "text"), ("text", "audio"),
    ("audio", "text"),
    ("MEDIA_RESOLUTION_LOW", "MEDIA_RESOLUTION_HIGH"), ("TEXT", "IMAGE"), ("BLOCKING", "NON_BLOCKING"),
    ("SILENT", "WHEN_IDLE"), ("24h", "in-memory"), ("image/png", "image/jpeg"), ("audio/mp3", "audio/wav"),
    ("application/pdf", "text/plain"), ("json_schema", "text"), ("json_object", "text"),
)  # fmt: skip
# Names of things that are named in two places: the name may be another one out there, in both.
_LINK: Final = re.compile(r"(.*\.)?(id|call_id|tool_call_id|tool_use_id|tool_name|lsh_id)")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{4,}={0,2}")


class Candidate(msgspec.Struct, frozen=True):
    """What to put in a leaf's place. ``free``: it has to be found in what comes out, word for word."""

    value: Json
    free: bool


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of a body: the bytes that go out, and the paths that the ledger names."""

    out: bytes
    told: frozenset[str]


class Refused(Exception):
    """The body is no good; ``path`` names what is wrong with it, ``message`` may say what may stand there instead."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(path, message)
        self.path = path
        self.words = message.partition("must be one of ")[2].split(", ") if "must be one of " in message else []


def leaves(value: Json, place: Place = ()) -> Iterator[tuple[Place, Json]]:
    """Every leaf and where it stands; null says nothing and is none."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*place, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, (*place, number))
    elif value is not None:
        yield place, value


def path_of(place: Place) -> str:
    """A place as the ledger writes it."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def is_told(path: str, told: frozenset[str]) -> bool:
    """True when the ledger names a leaf or what it stands in."""
    return path in told or any(path.startswith((f"{one}.", f"{one}[")) for one in told)


def candidates(value: Json, place: Place) -> Iterator[Candidate]:
    """Other values of a leaf, the most telling first."""
    if isinstance(value, bool):
        yield Candidate(not value, False)
    elif isinstance(value, int):
        yield Candidate(value + _NUMBER, True)
        yield Candidate(value + 1, True)
        yield Candidate(max(0, value - 1), True)
    elif isinstance(value, float):
        yield Candidate(value + 0.03125 if value < 0.9 else value - 0.03125, True)
    elif value.startswith("{"):
        yield Candidate(json.dumps({MARK: value}), False)
    elif value.startswith("data:"):
        yield Candidate(value.partition(",")[0] + ",UFJPQkVE", False)
    else:
        yield from (Candidate(other, False) for one, other in _WORDS if value == one)
        yield Candidate(value + MARK, not _LINK.fullmatch(path_of(place)))
        if _BASE64.fullmatch(value):
            yield Candidate("UFJPQkVE", False)


@contextmanager
def changed(body: Json, place: Place, value: Json) -> Iterator[None]:
    """``body`` with another value at ``place``, for a while."""
    holder = body
    for step in place[:-1]:
        holder = holder[step]
    kept, holder[place[-1]] = holder[place[-1]], value
    try:
        yield
    finally:
        holder[place[-1]] = kept


def lost_leaves(body: Json, run: Callable[[Json], Outcome], silent: re.Pattern[str]) -> list[str]:
    """The leaves that neither come out nor are told, but for those whose paths are ``silent``.

    ``run`` raises `Refused` for a body that is no good.
    """
    whole = run(body)
    lost = []
    for place, value in list(leaves(body)):
        path = path_of(place)
        if is_told(path, whole.told) or silent.fullmatch(path):
            continue
        found = _fate(body, place, value, run, whole)
        if found is not None:
            lost.append(f"{path}={value!r}: {found}")
    return lost


def _fate(body: Json, place: Place, value: Json, run: Callable[[Json], Outcome], whole: Outcome) -> str | None:
    """What is wrong with a leaf; None when it is carried or told, or when nothing else may stand there."""
    tried = list(candidates(value, place))
    for candidate in tried:
        try:
            with changed(body, place, candidate.value):
                probed = run(body)
        except Refused as refusal:
            tried += [Candidate(word, False) for word in refusal.words if word != value and len(tried) < _MOST_TRIED]
            continue
        if is_told(path_of(place), probed.told):
            return None
        if probed.out == whole.out:
            return f"{candidate.value!r} makes no difference"
        if candidate.free and _count(candidate.value, probed.out) <= _count(candidate.value, whole.out):
            return f"{candidate.value!r} is not in what comes out"
        return None
    return None


def _count(value: Json, out: bytes) -> int:
    """How often a text or a number stands in what comes out."""
    text = out.decode()
    return (
        text.count(value)
        if isinstance(value, str)
        else len(re.findall(rf"(?<![\d.]){re.escape(str(value))}(?!\d)", text))
    )


def without(body: Json, path: str) -> Json:
    """A copy of ``body`` without the innermost element of a list that holds ``path``, or without the member itself."""
    steps = [int(one) if one.isdecimal() else one for one in re.findall(r"[^.\[\]]+", path)]
    while steps and not _is_there(body, steps):
        steps.pop()
    elements = [number for number, step in enumerate(steps) if isinstance(step, int)]
    cut = steps[: elements[-1] + 1] if elements else steps
    assert cut, f"nothing in the body is called {path!r}"
    made = copy.deepcopy(body)
    holder = made
    for step in cut[:-1]:
        holder = holder[step]
    del holder[cut[-1]]
    return made


def _is_there(body: Json, steps: list[Step]) -> bool:
    for step in steps:
        try:
            body = body[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True
