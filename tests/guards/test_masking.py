"""Masked values come back whole, however a stream cuts the text in which they come."""

import itertools
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pointsman.canonical.events import AnyEvent, Ended, PartDelta, PartEnded, PartStarted, Started
from pointsman.canonical.parts import Json, TextPart, ToolCallPart
from pointsman.canonical.request import Message, Request
from pointsman.guards.findings import Finding
from pointsman.guards.guard import placeholders_in
from pointsman.guards.masking import Mask, Restorer
from pointsman.guards.places import UNREAD, in_arguments, in_json
from pointsman.hub.guarded_calls import RestoringRenderer

VALUES = ("jane@example.org", 'quo"te\\d\n', "a[EMAIL_1]b", "[")


def mask_of(values: tuple[str, ...] = VALUES) -> Mask:
    mask = Mask()
    for value in values:
        mask.cover(value, [Finding(0, len(value), "EMAIL")])
    return mask


PIECES = st.sampled_from(
    ["[EMAIL_1]", "[EMAIL_2]", "[EMAIL_3]", "[EMAIL_4]", "[EMAIL_", "[", "]", "[[EMAIL_1]", "1]", "x", "é"]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)


def split(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in itertools.pairwise(places)] or [text]


@given(text=TEXTS, cuts=st.lists(st.integers(0, 200), max_size=20), quoted=st.booleans())
def test_any_split_of_a_stream_restores_the_same(text: str, cuts: list[int], quoted: bool) -> None:
    mask = mask_of()
    restorer = Restorer(mask, quoted=quoted)
    pieces = [restorer.feed(piece) for piece in split(text, cuts)]
    assert "".join(pieces) + restorer.finish() == mask.restore(text, quoted=quoted)


@given(text=st.text(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=8))
def test_what_was_masked_is_restored_to_the_same_text(text: str, cuts: list[int]) -> None:
    places = sorted({cut % (len(text) + 1) for cut in cuts})
    findings = [Finding(a, b, "X") for a, b in zip(places[::2], places[1::2], strict=False)]
    mask = Mask(placeholders_in(request_with(text)))
    assert mask.restore(mask.cover(text, findings)) == text


def request_with(text: str) -> Request:
    return Request(wire="openai.chat", model="m", messages=[Message(role="user", parts=[TextPart(text=text)])])


def test_a_placeholder_that_the_client_wrote_itself_stays_its_own() -> None:
    text = "my [EMAIL_1] is jane@example.org"
    mask = Mask(placeholders_in(request_with(text)))
    masked = mask.cover(text, [Finding(16, 32, "EMAIL")])
    assert masked == "my [EMAIL_1] is [EMAIL_2]"
    assert mask.restore(masked) == text


def test_the_same_value_has_one_placeholder_and_others_have_others() -> None:
    mask = Mask()
    text = mask.cover("a b a", [Finding(0, 1, "X"), Finding(2, 3, "X"), Finding(4, 5, "X")])
    assert text == "[X_1] [X_2] [X_1]"


def test_a_value_for_good_has_no_way_back() -> None:
    mask = Mask()
    assert mask.cover("secret", [Finding(0, 6, "SECRET", restore=False)]) == "[SECRET]"
    assert mask.restore("[SECRET]") == "[SECRET]"


def test_places_in_a_text_move_with_what_was_put_back() -> None:
    restorer = Restorer(mask_of(("jane@example.org",)))
    assert restorer.feed("to [EMAIL_1], now") == "to jane@example.org, now"
    assert (restorer.place(0), restorer.place(12), restorer.place(14)) == (0, 19, 21)


@given(
    value=st.recursive(
        st.text(max_size=8) | st.integers() | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=8,
    )
)
def test_json_in_which_nothing_is_found_stays_the_same_object(value: Json) -> None:
    assert in_json(value, lambda text: text) is value


def test_arguments_of_a_call_stay_json_when_a_value_is_masked_and_restored() -> None:
    mask = Mask()
    sent = in_arguments('{"id": "quo\\"te", "n":1}', lambda text: mask.cover(text, [Finding(0, len(text), "X")]))
    assert msgspec.json.decode(sent) == {"id": "[X_1]", "n": 1}
    assert msgspec.json.decode(mask.restore(sent, quoted=True)) == {"id": 'quo"te', "n": 1}
    assert "id" in UNREAD


class Kept:
    """A renderer that keeps what it is fed."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}

    def feed(self, event: AnyEvent) -> bytes:
        if isinstance(event, PartStarted):
            part: Any = event.part
            self.texts[event.index] = part.text if isinstance(part, TextPart) else part.arguments
        if isinstance(event, PartDelta):
            self.texts[event.index] += event.text
        return b""


@given(text=TEXTS, cuts=st.lists(st.integers(0, 200), max_size=20), ends=st.booleans())
def test_a_streams_events_give_their_reader_every_value(text: str, cuts: list[int], ends: bool) -> None:
    mask, kept = mask_of(), Kept()
    renderer = RestoringRenderer(kept, mask, False)
    renderer.feed(Started())
    renderer.feed(PartStarted(0, 0, TextPart(text="")))
    renderer.feed(PartStarted(0, 1, ToolCallPart(id="c", name="f")))
    for piece in split(text, cuts):
        renderer.feed(PartDelta(0, 0, piece))
        renderer.feed(PartDelta(0, 1, piece))
    if ends:
        renderer.feed(PartEnded(0, 0))
        renderer.feed(PartEnded(0, 1))
    renderer.feed(Ended())
    assert kept.texts == {0: mask.restore(text), 1: mask.restore(text, quoted=True)}
