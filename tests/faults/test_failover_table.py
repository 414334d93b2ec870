"""What holds of every row of the table in docs/failover.md, in each client's API."""

from collections.abc import Iterator

import pytest
from failover_table import CLIENTS, DEADLINE_S, PAGE, Seen, look, wall

from pointsman.canonical.record import Outcome

# What another target is not asked for.
FILTERED = "content_filter_mid_stream"  # an answer whose finish reason says that it was cut
OWN = ("bad_request", "content_filter", FILTERED)
# The failed upstream tells what it used, too: what it will charge is counted.
TELLS_USAGE = ("malformed_json,after_events=1",)
ALONE, TWICE = (26, 13), (52, 26)  # tokens of the simulated answer
SLACK_S = 2.0  # the timer's half second, and a busy machine


@pytest.fixture(scope="module", params=CLIENTS.values())
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Seen]]:
    """Every case, asked once."""
    with wall(tmp_path_factory.mktemp("wall")) as gateway:
        yield look(gateway, request.param)


def has_content(one: Seen) -> bool:
    """Whether the client got any word of the answer."""
    return one.answer.status == 200 and b"echo" in one.answer.body


def test_with_a_sound_target_left_the_answer_is_whole_unless_content_had_been_sent(seen: list[Seen]) -> None:
    for one in seen:
        if one.case.situation == "two" and one.case.fault not in OWN:
            assert one.whole or has_content(one), one.cell()


def test_nothing_hangs(seen: list[Seen]) -> None:
    for one in seen:
        assert one.seconds < DEADLINE_S + SLACK_S, one.case


def test_no_answer_is_cut_off_in_silence(seen: list[Seen]) -> None:
    for one in seen:
        body = one.answer.body
        assert one.answer.complete, one.case
        if not one.whole:
            as_it_came = one.case.fault.startswith("malformed_json") and one.case.stream
            filtered = one.case.fault == FILTERED and (b'content_filter"' in body or b'"refusal"' in body)
            assert one.broken or as_it_came or filtered, one.case


def test_each_request_is_recorded_once_with_what_it_used(seen: list[Seen]) -> None:
    for one in seen:
        assert len(one.records) == 1, one.case
        assert (one.record.outcome is Outcome.SUCCESS) == (one.whole or one.cell().startswith("as it came")), one.case
        if one.whole and one.calls == 2:
            usage = (one.record.input_tokens, one.record.output_tokens)
            assert usage == ALONE or (usage == TWICE and one.case.fault in TELLS_USAGE), one.case


def test_total_failure_names_every_target(seen: list[Seen]) -> None:
    for one in seen:
        if one.case.situation == "all" and one.calls == 2:
            number = seen.index(one)
            assert one.broken is not None
            assert all(f"c{number}-{target}/sim-model" in one.broken for target in (1, 2)), one.broken


def test_the_page_has_a_row_for_each(seen: list[Seen]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for fault in {one.case.fault.partition(",")[0] for one in seen}:
        assert f"| {fault} | whole |" in page
        assert f"| {fault} | stream |" in page
