"""The ledger of what translation did."""

import pytest

from pointsman.canonical.fidelity import MAX_NOTES, Action, Fidelity, Note
from pointsman.errors import GatewayError, Kind


def test_an_untouched_call_has_nothing_to_say() -> None:
    assert not Fidelity()


def test_the_header_counts_and_names_what_lost_something() -> None:
    fidelity = Fidelity()
    fidelity.mapped("reasoning_effort", "a budget of 4096 tokens")
    fidelity.dropped("logit_bias", "the API has none")
    fidelity.approximated("messages[3]", "sent as user text")
    assert fidelity.header() == b"mapped=1; approximated=1; dropped=1; fields=logit_bias,messages[3]"


def test_a_hostile_field_name_cant_break_the_header() -> None:
    fidelity = Fidelity()
    fidelity.dropped("a\r\nset-cookie: x,é" + "y" * 10_000, "unknown")
    header = fidelity.header()
    assert b"\r" not in header
    assert b"\n" not in header
    assert len(header) < 300


def test_a_flood_of_notes_is_counted_but_not_kept() -> None:
    fidelity = Fidelity()
    for number in range(MAX_NOTES * 2):
        fidelity.dropped(f"field{number}", "unknown")
    assert len(fidelity.notes) == MAX_NOTES
    assert fidelity.counts[Action.DROPPED] == MAX_NOTES * 2


def test_strictness_turns_a_drop_into_an_error_that_names_the_field() -> None:
    fidelity = Fidelity()
    fidelity.mapped("stop", "other spelling")
    fidelity.refuse_drops()
    fidelity.dropped("seed", "the API has none")
    with pytest.raises(GatewayError) as caught:
        fidelity.refuse_drops()
    assert caught.value.kind is Kind.UNSUPPORTED
    assert caught.value.param == "seed"
    assert "'seed'" in caught.value.message


def test_notes_keep_their_order() -> None:
    fidelity = Fidelity()
    fidelity.synthesised("max_tokens", "4096")
    fidelity.dropped("n", "one answer only")
    assert fidelity.notes == [
        Note("max_tokens", Action.SYNTHESISED, "4096"),
        Note("n", Action.DROPPED, "one answer only"),
    ]
