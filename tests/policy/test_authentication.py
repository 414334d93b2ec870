"""Authentication: header forms, and refusals from which nothing can be learned."""

import hmac
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.errors import GatewayError, Kind
from pointsman.identity.key_table import KeyTable
from pointsman.policy.authentication import authenticate
from pointsman.storage.keys import KeyRow

PEPPER = b"p" * 32
NOW = 1_000_000


def row(secret: str, **more: Any) -> KeyRow:
    """A stored key."""
    digest = hmac.digest(PEPPER, secret.encode(), "sha256")
    fields = {"id": f"key_{secret}", "name": secret, "hint": "", "role": "inference", "created_at": 0, **more}
    return KeyRow(digest=digest, **fields)


TABLE = KeyTable(
    PEPPER,
    [
        row("good"),
        row("later", expires_at=NOW + 1),
        row("expired", expires_at=NOW),
        row("revoked", revoked_at=NOW - 5),
        row("off", disabled=True),
        row("manager", role="management"),
    ],
)


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer good"},
        {b"authorization": b"bearer good"},
        {b"authorization": b"BEARER good"},
        {b"authorization": b"Bearer  good "},
        {b"x-api-key": b"good"},
        {b"x-api-key": b" good\t"},
    ],
)
def test_the_key_is_taken_from_either_header(headers: dict[bytes, bytes]) -> None:
    assert authenticate(headers, TABLE, NOW).id == "key_good"


def test_a_key_serves_until_it_expires() -> None:
    assert authenticate({b"x-api-key": b"later"}, TABLE, NOW).id == "key_later"
    with pytest.raises(GatewayError):
        authenticate({b"x-api-key": b"later"}, TABLE, NOW + 1)


def test_a_disabled_key_and_one_for_management_are_found_only_when_asked_for() -> None:
    for name in (b"off", b"manager"):
        assert TABLE.find(name) is None
        found = TABLE.find_any(name)
        assert found is not None
        assert TABLE.by_id(found.id) is found
    assert TABLE.find_any(b"good") is TABLE.find(b"good")
    assert TABLE.find_any(b"revoked") is None


def refusal(headers: dict[bytes, bytes]) -> GatewayError:
    """The error with which headers are refused."""
    with pytest.raises(GatewayError) as caught:
        authenticate(headers, TABLE, NOW)
    assert (caught.value.kind, caught.value.status) == (Kind.UNAUTHENTICATED, 401)
    return caught.value


def test_unknown_revoked_and_expired_keys_are_refused_alike() -> None:
    names = (b"expired", b"revoked", b"unknown", b"", b"\xff\x00", b"good" * 10_000, b"key_good", b"Good")
    told = set()
    for name in names:
        error = refusal({b"authorization": b"Bearer x" + name} if not name else {b"authorization": b"Bearer " + name})
        told.add((error.message, error.param, error.status))
    assert len(told) == 1


@pytest.mark.parametrize("value", [b"", b"good", b"Basic good", b"Bearer", b"Bearer ", b"Bearer\tgood", b"Bearer  "])
def test_another_form_is_refused_with_the_right_one(value: bytes) -> None:
    error = refusal({b"authorization": value})
    assert "Authorization: Bearer <key>" in error.message or error.message == "the API key is not valid"
    assert "good" not in error.message


def test_no_key_is_refused_with_how_to_make_one() -> None:
    for headers in ({}, {b"x-api-key": b""}, {b"cookie": b"key=good"}, {b"x-other-key": b"good"}):
        assert "pointsman keys create" in refusal(headers).message


def test_white_space_is_no_key() -> None:
    refusal({b"x-api-key": b"  "})
    refusal({b"authorization": b"Bearer  "})


def test_a_wrong_authorization_is_not_made_good_by_another_header() -> None:
    refusal({b"authorization": b"Bearer wrong", b"x-api-key": b"good"})


@given(value=st.binary(max_size=60), name=st.sampled_from([b"authorization", b"x-api-key"]))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_are_refused(value: bytes, name: bytes) -> None:
    if value.strip() not in (b"good", b"later"):
        refusal({name: value})
