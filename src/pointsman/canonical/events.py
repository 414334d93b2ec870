"""A streamed answer in our own words: what happened, in order.

The rules that every stream parser keeps:

- `Started` comes first, once. Then parts: `PartStarted`, deltas, `PartEnded`, told apart by (choice, index). ``index``
  counts a choice's parts from 0 in the order of their start. Parts of one choice may overlap (parallel tool calls whose
  arguments arrive mixed); `pointsman.canonical.sequence.Sequencer` puts them one after the other for who needs that.
- Every part that was started is ended before its choice's `ChoiceEnded`.
- `UsageReported` may come at any time and more than once: the last one holds.
- `Ended` is the last event, and comes only when the upstream said that its answer is whole. A stream that stops before
  that ends with `Failed` instead. After either nothing follows.
- Empty deltas are not given out.
"""

import msgspec

from pointsman.canonical.parts import AnyPart, Citation, Extra, Opaque
from pointsman.canonical.response import FinishReason, TokenLogprob
from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The answer begins. ``extra``: what the API said of the whole answer beyond our words."""

    id: str | None = None
    model: str | None = None
    created: int | None = None
    service_tier: str | None = None
    extra: Extra | None = None


class PartStarted(msgspec.Struct, frozen=True):
    """A part begins. ``part`` holds its identity (kind, call id, name) and what is known of it already; the deltas
    are added to a copy of it, never to it. A part that comes whole is a start and an end.
    """

    choice: int
    index: int
    part: AnyPart


class PartDelta(msgspec.Struct, frozen=True, gc=False):
    """More of a part's main text: text, arguments, reasoning text, refusal, base64 audio."""

    choice: int
    index: int
    text: str


class SummaryDelta(msgspec.Struct, frozen=True, gc=False):
    """More of a reasoning part's summary number ``section``; sections begin in order."""

    choice: int
    index: int
    section: int
    text: str


class TranscriptDelta(msgspec.Struct, frozen=True, gc=False):
    """More of what an audio part says."""

    choice: int
    index: int
    text: str


class OpaqueSet(msgspec.Struct, frozen=True, gc=False):
    """A part's opaque state, whole."""

    choice: int
    index: int
    opaque: Opaque


class CitationAdded(msgspec.Struct, frozen=True):
    """A text part names a source."""

    choice: int
    index: int
    citation: Citation


class LogprobsAdded(msgspec.Struct, frozen=True):
    """Log probabilities of the tokens that came last."""

    choice: int
    tokens: list[TokenLogprob]


class PartEnded(msgspec.Struct, frozen=True, gc=False):
    """A part is whole."""

    choice: int
    index: int


class ChoiceEnded(msgspec.Struct, frozen=True, gc=False):
    """A choice is whole."""

    choice: int
    finish_reason: FinishReason
    native: str | None = None
    stop_sequence: str | None = None
    extra: Extra | None = None


class UsageReported(msgspec.Struct, frozen=True, gc=False):
    """What it cost so far, in tokens. ``service_tier``: the one that served it, where that is told at the end only."""

    usage: TokenUsage
    extra: Extra | None = None
    service_tier: str | None = None


class Failed(msgspec.Struct, frozen=True):
    """The answer broke off."""

    error: GatewayError


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The answer is whole."""


AnyEvent = (
    Started | PartStarted | PartDelta | SummaryDelta | TranscriptDelta | OpaqueSet | CitationAdded | LogprobsAdded
    | PartEnded | ChoiceEnded | UsageReported | Failed | Ended
)  # fmt: skip
