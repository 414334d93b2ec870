"""Faults at random and faults that come and go."""

import json
import urllib.error
import urllib.request
from collections import Counter

import pytest

from pointsman.testing import Behaviour, DirectiveError, FaultMixture, OpenAIChat, running_simulator


def drawn(mixture: FaultMixture, count: int) -> list[str | None]:
    return [fault.name if (fault := mixture.draw()) else None for _ in range(count)]


def test_the_same_seed_gives_the_same_faults_and_another_one_others() -> None:
    text = "rate_limit=0.3,reset=0.2"
    first = drawn(FaultMixture.parse(text, 7), 200)
    assert drawn(FaultMixture.parse(text, 7), 200) == first
    assert drawn(FaultMixture.parse(text, 8), 200) != first


def test_faults_come_as_often_as_they_are_likely() -> None:
    counts = Counter(drawn(FaultMixture.parse("rate_limit=0.1, stall=0.02", 1), 20_000))
    assert abs(counts["rate_limit"] - 2000) < 200
    assert abs(counts["stall"] - 400) < 100
    assert set(counts) == {"rate_limit", "stall", None}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("rate_limt=0.1", "rate_limt"),
        ("reset", "reset"),
        ("reset=often", "often"),
        ("reset=1.5", "from 0 to 1"),
        ("reset=nan", "from 0 to 1"),
        ("reset=0.6,stall=0.6", "more than 1"),
        ("", "expected"),
    ],
)
def test_a_wrong_mixture_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(DirectiveError, match=named):
        FaultMixture.parse(text)


def statuses(base_url: str, count: int, model: str = "sim-model") -> list[int]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    found = []
    for _ in range(count):
        request = urllib.request.Request(f"{base_url}/chat/completions", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                found.append(answer.status)
        except urllib.error.HTTPError as error:
            found.append(error.code)
            error.close()
    return found


def test_a_simulator_draws_from_its_mixture_unless_a_request_names_a_fault() -> None:
    with running_simulator(OpenAIChat()) as running:
        running.simulator.mixture = FaultMixture({"http_500": 1.0})
        assert statuses(running.base_url, 2) == [500, 500]
        assert statuses(running.base_url, 1, "sim-model#fault=http_503") == [503]


def test_a_fault_that_flaps_by_requests_fails_in_turns() -> None:
    behaviour = Behaviour(fault="http_503", fine_requests=2, failing_requests=1)
    with running_simulator(OpenAIChat(), behaviour) as running:
        assert statuses(running.base_url, 7) == [200, 200, 503, 200, 200, 503, 200]


def test_a_fault_that_flaps_by_time_is_fine_at_first() -> None:
    behaviour = Behaviour(fault="http_503", fine_s=3600, failing_s=1)
    with running_simulator(OpenAIChat(), behaviour) as running:
        assert statuses(running.base_url, 2) == [200, 200]


def test_a_fault_that_flaps_by_time_fails_when_its_time_has_come() -> None:
    behaviour = Behaviour(fault="http_503", fine_s=0, failing_s=3600)
    with running_simulator(OpenAIChat(), behaviour) as running:
        assert statuses(running.base_url, 2) == [503, 503]
