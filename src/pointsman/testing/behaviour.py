"""How a simulator behaves: one struct, set when it is built and overridden by each request's directives.

Directives are ``key=value`` pairs separated by ``;`` or ``,``. They stand in the ``x-simulate`` header, or in the
model's name after a ``#`` for a caller behind a gateway that forwards no such header::

    x-simulate: tokens=100;pace_ms=5;fault=cut_at_byte;at_byte=317
    "model": "sim-model#tokens=100,pace_ms=5,fault=http_500"
"""

import re
from typing import Annotated, Final, Literal

import msgspec

HEADER: Final = "x-simulate"
MODEL_MARK: Final = "#"

_SEPARATOR: Final = re.compile(r"[;,]")

Count = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=3_600_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]


class DirectiveError(ValueError):
    """A directive is unknown or has a value out of range; the message names it."""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a simulator does with a request; every field is also the name of a directive.

    ``tokens``: length of the answer; without it the answer echoes the last user message once.
    ``pace_ms``: time between two streamed events. ``first_token_ms``: time from the head to the first event of a
    stream, or before the head of a buffered answer. ``headers_ms``: time before the head with ``slow_headers``.
    ``usage``: ``exact``, ``none`` (left out) or ``wrong`` (numbers that contradict the answer and each other).
    ``prompt_tokens``, ``cached_tokens``, ``reasoning_tokens``: what usage reports instead of the simulator's own count.
    ``filtered``: a content filter stops the answer after ``after_events`` tokens, or, where an API tells of a filtered
    prompt in an answer, the prompt.
    ``fault``: a name in ``faults.FAULTS``; ``fail_first``: only the first N such requests of a model fail.
    A fault that flaps comes and goes: ``fine_requests`` of a model are answered, then ``failing_requests`` fail, again
    and again; or all are answered for ``fine_s`` seconds and fail for ``failing_s``, from the first such request on.
    ``after_events``: streamed events that go out before a fault in mid-stream. ``at_byte``: where ``cut_at_byte`` cuts.
    ``retry_after``: seconds in the answer of ``rate_limit``.
    """

    tokens: Count | None = None
    pace_ms: Milliseconds = 0.0
    first_token_ms: Milliseconds = 0.0
    headers_ms: Milliseconds = 1000.0
    usage: Literal["exact", "none", "wrong"] = "exact"
    prompt_tokens: Count | None = None
    cached_tokens: Count = 0
    reasoning_tokens: Count = 0
    filtered: Literal["no", "prompt", "answer"] = "no"
    fault: str | None = None
    fail_first: Count | None = None
    fine_requests: Count = 0
    failing_requests: Count = 0
    fine_s: Seconds = 0.0
    failing_s: Seconds = 0.0
    after_events: Count = 3
    at_byte: Count = 0
    retry_after: Seconds = 1.0


def with_directives(behaviour: Behaviour, *texts: str) -> Behaviour:
    """``behaviour`` overridden by the directives in ``texts``, the last one wins; DirectiveError when one is wrong."""
    pairs: dict[str, str] = {}
    for text in texts:
        pairs.update(_pairs(text))
    if not pairs:
        return behaviour
    try:
        return msgspec.convert({**msgspec.structs.asdict(behaviour), **pairs}, Behaviour, strict=False)
    except msgspec.ValidationError as error:
        raise DirectiveError(f"Wrong simulator directive in {'; '.join(filter(None, texts))!r}: {error}") from None


def directives_of_model(model: str) -> str:
    """The directives in a model's name: what stands after the first ``#``, or an empty string."""
    return model.partition(MODEL_MARK)[2]


def _pairs(text: str) -> dict[str, str]:
    pairs = {}
    for directive in filter(None, map(str.strip, _SEPARATOR.split(text))):
        key, equals, value = directive.partition("=")
        if not equals:
            raise DirectiveError(f"Wrong simulator directive {directive!r}: expected key=value")
        pairs[key.strip()] = value.strip()
    return pairs
