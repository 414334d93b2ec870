"""Questions that mean the same: found by the likeness of vectors, among those whose details are equal.

Vectors are made on this machine and stay in the memory of their process; nothing of a question goes elsewhere. What is
found is the name of an answer in the cache, in the same workspace and under the same policy.
"""

import hashlib
import math
from array import array
from collections import OrderedDict
from operator import mul
from typing import Final, Protocol

import msgspec

from pointsman.canonical.request import Request
from pointsman.clock import Clock
from pointsman.policy.cache_names import Asker, CacheName, group_of, question_of
from pointsman.policy.question_guard import details_of, is_swap, rest_of

MOST_ALIKE: Final = 64  # questions of one group with equal details: each costs a look some 15 us
_encode: Final = msgspec.json.Encoder().encode


class Vectors(Protocol):
    """Makes vectors of meaning (upstream/local_vectors.py)."""

    async def vector(self, text: str) -> "array[float] | None":
        """A unit vector; None when there is none in time. Never raises GatewayError."""
        ...


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question as it is compared. ``place`` is where its like are: whose it is, all else of the request, and its
    details.
    """

    place: bytes
    vector: "array[float]"
    rest: tuple[str, ...]


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    question: Question
    name: CacheName
    ends: float


class Meanings:
    """The questions of one process whose answers are kept, the oldest of too many forgotten."""

    def __init__(self, clock: Clock, threshold: float, most: int) -> None:
        """``threshold``: the least cosine of two questions that mean the same."""
        self._clock = clock
        self._threshold = threshold
        self._most = most
        self._places: OrderedDict[bytes, list[_Asked]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def nearest(self, question: Question) -> CacheName | None:
        """The answer's name of the question that is most alike, if it is alike enough."""
        now, best, name = self._clock.monotonic(), self._threshold, None
        for asked in self._places.get(question.place, ()):
            if asked.ends <= now:
                continue
            likeness = math.fsum(map(mul, asked.question.vector, question.vector))
            if likeness >= best and not is_swap(asked.question.rest, question.rest):
                best, name = likeness, asked.name
        return name

    def add(self, question: Question, name: CacheName, seconds: float) -> None:
        """A question was answered."""
        now = self._clock.monotonic()
        before = self._places.pop(question.place, [])
        alike = [asked for asked in before if asked.ends > now and asked.name.key != name.key][-MOST_ALIKE + 1 :]
        self._places[question.place] = [*alike, _Asked(question=question, name=name, ends=now + seconds)]
        self._count += len(alike) + 1 - len(before)
        while self._count > self._most:
            _, gone = self._places.popitem(last=False)
            self._count -= len(gone)

    def forget(self) -> None:
        """Forget all."""
        self._places.clear()
        self._count = 0


def is_askable(request: Request, max_temperature: float) -> bool:
    """Whether the meaning of a request may stand for it: plain text is asked for, and not a surprising one."""
    if request.tools or request.output_format is not None or (request.choices or 1) > 1 or request.logprobs:
        return False
    return request.temperature is None or request.temperature <= max_temperature


async def question_asked(
    vectors: Vectors, request: Request, asked: tuple[str, Asker, bytes], max_characters: int
) -> Question | None:
    """The question of a request for a model, by who asks, with the secret of names; None: it has none to compare."""
    model, asker, secret = asked
    text = question_of(request)
    if text is None or not text.strip() or len(text) > max_characters:
        return None
    vector = await vectors.vector(text)
    if vector is None:
        return None
    group = group_of(request, model, asker, secret)
    place = hashlib.sha256(group + _encode(details_of(text))).digest()
    return Question(place=place, vector=vector, rest=rest_of(text))
