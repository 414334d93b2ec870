"""Every leaf of every client's request is at the upstream, or in the ledger: for every dialect and every upstream."""

import copy
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.translation.leaf_probe import Outcome, Refused, lost_leaves, without
from tests.translation.leaf_requests import CHAT, SAMPLES, TARGETS, Sample, Target

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.request import Request
from pointsman.dialects import openai_chat
from pointsman.errors import GatewayError
from pointsman.providers import gemini
from pointsman.providers.formats import provider_format

MOST_REFUSALS = 30
TEXT = {"type": "text", "text": "a"}


class Silent(msgspec.Struct, frozen=True):
    """Leaves that say nothing which isn't said elsewhere too, so that changing one alone may change nothing.

    ``but``: the upstream API that carries them all the same; ``only``: the one that can do without.
    """

    path: str
    but: str = ""
    only: str = ""


SILENT = (
    Silent(r"model"),  # the upstream's own name goes out
    Silent(r"stream_options\.include_usage"),  # an upstream is always asked; the answer shows it or not
    Silent(r"echo"),  # the gateway itself puts the prompt before the answer
    Silent(r"messages\[\d+\]\.tool_calls\[\d+\]\.function\.index"),  # its place in the list
    Silent(r"contents\[\d+\]\.role", but="gemini"),  # a function's response is the user's, whatever it is called
    Silent(r".*\.functionResponse\.name", but="gemini"),  # that of the call whose id stands beside it
    Silent(r"messages\[\d+\]\.tool_name", but="ollama"),  # the same
    Silent(r"tool_choice(\.tools\[\d+\])?\.type"),  # the tool of that name says what it is
    Silent(r"messages\[\d+\]\.reasoning"),  # reasoning_details beside it hold the same text
    Silent(r".*\.reasoning_details\[\d+\]\.(format|id|type)"),  # of state that is named as a whole
    Silent(r"input\[\d+\]\.id", but="openai.responses"),  # no other API has names for items
    Silent(r"input\[\d+\]\.(content|summary)\[\d+\]\.type"),  # reasoning has one kind of each
    Silent(r".*\.fileData\.mimeType", but="gemini"),  # what stands at an address says its type itself
    Silent(r".*\.(media_type|mimeType)", only="ollama"),  # its pictures say by their bytes what they are
)


def built(sample: Sample, target: Target, body: Any) -> Outcome:
    """What goes out for a client's body."""
    try:
        request = sample.dialect.read_request(msgspec.json.encode(body), sample.call)
        fidelity = Fidelity(request.names)
        made = provider_format(target.wire).build_request(request, target.upstream, fidelity)
    except GatewayError as error:
        raise Refused(error.param or "", error.message) from error
    told = frozenset(note.path for note in fidelity.notes)
    return Outcome(out=b" ".join((made.path.encode(), repr(made.headers).encode(), made.body)), told=told)


def taken(sample: Sample, target: Target) -> Any:
    """The sample without what the upstream is refused by name."""
    body = copy.deepcopy(sample.body)
    for _ in range(MOST_REFUSALS):
        try:
            built(sample, target, body)
        except Refused as refusal:
            body = without(body, refusal.path)
        else:
            return body
    raise AssertionError("too much is refused")


def lost(sample: Sample, target: Target) -> list[str]:
    """The leaves of a sample that neither reach a target nor stand in the ledger."""
    rules = [rule.path for rule in SILENT if target.wire != rule.but and rule.only in ("", target.wire)]
    return lost_leaves(taken(sample, target), lambda body: built(sample, target, body), re.compile("|".join(rules)))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_every_leaf_is_at_the_upstream_or_in_the_ledger(sample: str, target: str) -> None:
    assert lost(SAMPLES[sample], TARGETS[target]) == []


@settings(max_examples=40, deadline=None)
@given(
    names=st.sets(st.sampled_from(sorted(set(CHAT) - {"model", "messages"}))),
    target=st.sampled_from(["openai", "mistral", "anthropic"]),
)
def test_any_set_of_options_is_at_the_upstream_or_in_the_ledger(names: set[str], target: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **{name: CHAT[name] for name in names}}
    assert lost(Sample(dialect=openai_chat, body=body), TARGETS[target]) == []


def test_a_member_that_a_format_forgets_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = gemini.build_request

    def forgetful(request: Request, upstream: Upstream, fidelity: Fidelity) -> Built:
        request.top_p = None
        request.messages[0].parts = request.messages[0].parts[1:]
        return plain(request, upstream, fidelity)

    monkeypatch.setattr(gemini, "build_request", forgetful)
    body = {
        "model": "m",
        "top_p": 0.5,
        "messages": [{"role": "user", "content": [TEXT, {"type": "text", "text": "b"}]}],
    }
    found = lost(Sample(dialect=openai_chat, body=body), TARGETS["gemini"])
    first = "messages[0].content[0]"
    assert [leaf.partition("=")[0] for leaf in found] == ["top_p", f"{first}.type", f"{first}.text"]


def test_a_drop_that_the_ledger_does_not_tell_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fidelity, "dropped", lambda ledger, path, detail: None)
    found = lost(Sample(dialect=openai_chat, body=CHAT), TARGETS["anthropic"])
    assert {"seed", "logit_bias.50256", "verbosity"} <= {leaf.partition("=")[0] for leaf in found}
