"""Every leaf of every upstream's answer is in the client's answer, or in the ledger: for every format and dialect.

The streamed answer is walked by the events of the whole one: that an upstream's stream gives the same events is what
the tests of each format show.
"""

import copy
import re
from collections import Counter
from importlib import import_module
from typing import Any

import msgspec
import pytest
from tests.translation.leaf_answers import ANSWERS
from tests.translation.leaf_probe import Json, Place, Refused, candidates, changed, leaves, path_of

from pointsman.canonical.fidelity import TELEMETRY
from pointsman.canonical.halves import Dialect, Upstream
from pointsman.canonical.identity import Identity
from pointsman.canonical.request import ReasoningOptions, Request
from pointsman.errors import GatewayError
from pointsman.hub.passage import Passage
from pointsman.providers.formats import provider_format

IDENTITY = Identity(request_id="req_1", created=1_769_000_000)
DIALECTS = (
    "openai_chat", "openrouter", "openai_completions", "openai_responses", "anthropic", "gemini", "ollama.chat",
    "ollama.generate",
)  # fmt: skip
# What an answer's envelope says, which every API has in its own way or does without.
SILENT = re.compile(
    r"(.*\.)?(role|object|type|status|index|id|responseId|created|created_at)"
    r"|(.*\.)?(finish_reason|finishReason|stop_reason|stopReason|done_reason)"
    r"|(.*\.)?(total_tokens|totalTokens|totalTokenCount)"  # the sum of what stands beside it
    r"|.*\.bytes\[\d+\]"  # those of the token
    r"|(.*\.)?(start_index|end_index)"  # where in the text a source is named; not every API says it
    r"|message\.citations\[\d+\]\.text"  # what stands between start and end
    r"|usage\.tokens\.\w+"  # Cohere's count beside what it bills
    r"|.*\.reasoning_details\[\d+\]\.format"  # whose state it is: told with the state
)


class Told(msgspec.Struct, frozen=True):
    """What the client gets, and the ledger."""

    out: bytes
    notes: Counter[str]


def told(wire: str, dialect: Dialect, body: Json, *, stream: bool) -> Told:
    """What becomes of an upstream's answer."""
    request = Request(wire=dialect.WIRE, model="m", messages=[], logprobs=True, top_logprobs=3, include_usage=True)
    request.reasoning = ReasoningOptions(effort="high", encrypted=True)
    passage = Passage(dialect, provider_format(wire), request, Upstream(model="m"), IDENTITY)
    try:
        response = passage.parse(msgspec.json.encode(body))
        out = passage.stream_of(response) if stream else passage.write(response)
    except GatewayError as error:
        raise Refused(error.param or "", error.message) from error
    return Told(out, Counter(note.path for note in passage.fidelity.notes))


def lost_of(wire: str, dialect: Dialect, body: Json, *, stream: bool) -> list[str]:
    """The leaves of an answer that neither reach the client nor are told."""
    whole = told(wire, dialect, body, stream=stream)
    return [
        f"{path_of(place)}={value!r}"
        for place, value in list(leaves(body))
        if not SILENT.fullmatch(path_of(place))
        and TELEMETRY.isdisjoint(place)
        and not is_named(place, whole)
        and makes_no_difference(wire, dialect, body, place, value, whole, stream=stream)
        and not is_dropped_with_more(wire, dialect, body, place, whole, stream=stream)
    ]


def is_named(place: Place, whole: Told) -> bool:
    """True when the ledger says the name of something that the leaf stands in."""
    names = {path.rpartition(".")[2] for path in whole.notes}
    return any(step in names for step in place if isinstance(step, str))


def makes_no_difference(
    wire: str, dialect: Dialect, body: Json, place: Place, value: Json, whole: Told, *, stream: bool
) -> bool:
    """True when another value in the leaf's place changes neither the answer nor the ledger."""
    for candidate in candidates(value, place):
        try:
            with changed(body, place, candidate.value):
                return told(wire, dialect, body, stream=stream) == whole
        except Refused:
            continue
    return False


def is_dropped_with_more(wire: str, dialect: Dialect, body: Json, place: Place, whole: Told, *, stream: bool) -> bool:
    """True when a note goes away with the leaf or with the object that it stands in: it is what the note is about."""
    for length in range(len(place), 1, -1):
        less: Any = copy.deepcopy(body)
        holder = less
        for step in place[: length - 1]:
            holder = holder[step]
        del holder[place[length - 1]]
        try:
            if whole.notes - told(wire, dialect, less, stream=stream).notes:
                return True
        except Refused:
            continue
    return False


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_every_leaf_of_an_answer_is_at_the_client_or_in_the_ledger(answer: str, name: str, stream: bool) -> None:
    wire, body = ANSWERS[answer]
    dialect: Any = import_module(f"pointsman.dialects.{name}")
    assert lost_of(wire, dialect, copy.deepcopy(body), stream=stream) == []
