"""Conversations that clients name: how many a key may have, and which are the active ones."""

from typing import Any

import pytest

from pointsman.errors import GatewayError
from pointsman.policy.sessions import IDLE_US, SessionTable, session_line, session_named, session_planned
from pointsman.routing.wants import Wants

NOW = 1_790_000_000_000_000


@pytest.mark.parametrize(
    ("settings", "most"), [({}, 3), ({"maxSessions": 1}, 1), ({"maxSessions": 0}, 0), ({"maxSessions": "2"}, 3)]
)
def test_a_keys_own_number_counts_first(settings: dict[str, Any], most: int) -> None:
    assert SessionTable(3).allowed(settings) == most


def test_a_new_session_has_room_when_another_is_over() -> None:
    table = SessionTable()
    table.admit("a", "key", NOW, 2)
    table.admit("b", "key", NOW + 60_000_000, 2)
    with pytest.raises(GatewayError, match="SESSION_LIMIT_EXCEEDED") as refused:
        table.admit("c", "key", NOW + 120_000_000, 2)
    assert refused.value.retry_after_seconds == pytest.approx(IDLE_US / 1e6 - 120)
    table.admit("c", "other", NOW + 120_000_000, 2)
    table.admit("c", "key", NOW + IDLE_US, 2)


def test_a_session_that_goes_on_stays() -> None:
    table = SessionTable()
    table.admit("a", "key", NOW, 1)
    table.admit("a", "key", NOW + IDLE_US - 1, 1)
    with pytest.raises(GatewayError):
        table.admit("b", "key", NOW + IDLE_US, 1)


def test_names_are_safe_in_a_header() -> None:
    name = session_named({b"x-session-id": b"a\r\nx: \xff" + b"y" * 100})
    assert name is not None
    assert session_line(name) == b"X-OmniRoute-Session-Id: ext:a??x:??" + b"y" * 57 + b"\r\n"
    assert session_planned(Wants(model="m", conversation="0123456789abcdef0123")) == "0123456789abcdef"
    assert session_planned(Wants(model="m", session="mine", conversation="x")) == "ext:mine"
    assert session_planned(Wants(model="m")) is None
