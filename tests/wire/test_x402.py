"""x402's messages: whatever a header holds is read, or refused in words of ours."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.canonical.payments import Offer, PaymentRefused
from pointsman.errors import GatewayError
from pointsman.wire.x402 import MAX_PAYMENT, challenge, facilitator_request, read_payment, receipt

OFFER = Offer(
    resource="http://here/topup",
    chain_id=8453,
    old_network="base",
    asset="0x" + "aB" * 20,
    asset_name="USD Coin",
    asset_version="2",
    pay_to="0x" + "cD" * 20,
    atomic=1_000_000,
    nano_usd=10**9,
    valid_seconds=300,
)
AUTHORIZATION = {
    "from": "0x" + "eF" * 20, "to": OFFER.pay_to, "value": "1000000", "validAfter": "0", "validBefore": "1900000000",
    "nonce": "0x" + "0A" * 32,
}  # fmt: skip
PAYLOAD = {"signature": "0x" + "11" * 65, "authorization": AUTHORIZATION}
ACCEPTED = {"scheme": "exact", "network": "eip155:8453", "asset": OFFER.asset.lower(), "amount": "1000000",
            "payTo": OFFER.pay_to.upper().replace("0X", "0x"), "maxTimeoutSeconds": 300, "extra": {}}  # fmt: skip
SHOWN: dict[int, dict[str, Any]] = {
    1: {"x402Version": 1, "scheme": "exact", "network": "base", "payload": PAYLOAD},
    2: {"x402Version": 2, "accepted": ACCEPTED, "payload": PAYLOAD, "extensions": {"more": 1}},
}


def packed(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize("version", [1, 2])
def test_a_payment_is_read_with_numbers_as_numbers_and_addresses_in_lower_case(version: int) -> None:
    signed = read_payment(version, packed(SHOWN[version]), OFFER).authorization
    assert (signed.payer, signed.nonce) == ("0x" + "ef" * 20, "0x" + "0a" * 32)
    assert (signed.value, signed.valid_after, signed.valid_before) == (1_000_000, 0, 1_900_000_000)
    assert signed.signature == b"\x11" * 65
    assert "11" * 65 not in repr(signed)


@pytest.mark.parametrize("version", [1, 2])
def test_a_facilitator_is_told_the_payment_as_it_was_written(version: int) -> None:
    told = json.loads(facilitator_request(read_payment(version, packed(SHOWN[version]), OFFER)))
    assert told["paymentPayload"] == SHOWN[version]
    assert told["x402Version"] == version
    amount = "maxAmountRequired" if version == 1 else "amount"
    assert told["paymentRequirements"][amount] == "1000000"


@pytest.mark.parametrize("version", [1, 2])
def test_a_facilitator_is_told_of_no_other_payment_than_the_one_that_was_read(version: int) -> None:
    """It settles what it reads: another way to pay, or another writing of the same names, would be credited wrongly."""
    shown = SHOWN[version]
    payload = {**shown["payload"], "permit2Authorization": {"from": "0x"}, "Authorization": {}}
    told = json.loads(
        facilitator_request(read_payment(version, packed({**shown, "payload": payload, "Payload": 1}), OFFER))
    )
    assert told["paymentPayload"] == shown


def test_a_challenge_and_a_receipt_say_the_same_in_both_versions() -> None:
    body, header = challenge(OFFER, "why")
    new = json.loads(base64.b64decode(header))
    assert (body["error"], new["error"]) == ("why", "why")
    assert body["accepts"][0]["resource"] == new["resource"]["url"] == OFFER.resource
    payment = read_payment(2, packed(SHOWN[2]), OFFER)
    assert json.loads(base64.b64decode(receipt(payment, "0x1"))) == {
        "success": True, "transaction": "0x1", "network": "eip155:8453", "payer": "0x" + "ef" * 20, "amount": "1000000"
    }  # fmt: skip
    assert json.loads(base64.b64decode(receipt(payment, "", "no")))["errorReason"] == "no"


@pytest.mark.parametrize(
    ("place", "value"),
    [("value", "-1"), ("value", "1e6"), ("value", str(2**256)), ("value", 5), ("nonce", "0x00"), ("from", "0x12"),
     ("validBefore", "٣"), ("validAfter", "")],
)  # fmt: skip
@pytest.mark.parametrize("version", [1, 2])
def test_what_no_payer_signs_is_refused(version: int, place: str, value: object) -> None:
    shown = json.loads(json.dumps(SHOWN[version]))
    shown["payload"]["authorization"][place] = value
    with pytest.raises(GatewayError):
        read_payment(version, packed(shown), OFFER)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(version=st.sampled_from([1, 2]), text=st.text(max_size=60) | JSON.map(packed) | st.just("A" * (MAX_PAYMENT + 1)))
def test_anything_else_is_refused_in_words_of_ours(version: int, text: str) -> None:
    with pytest.raises((GatewayError, PaymentRefused)):
        read_payment(version, text, OFFER)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("odd", [b'"\xff"', b"[" * 2000 + b"]" * 2000], ids=["no_utf8", "deep"])
def test_a_payment_that_can_not_be_read_whole_is_refused_in_what_it_adds_too(version: int, odd: bytes) -> None:
    document = json.dumps(SHOWN[version]).encode()[:-1] + b',"resource":' + odd + b"}"
    with pytest.raises(GatewayError, match=r"(?i)payment"):
        read_payment(version, base64.b64encode(document).decode(), OFFER)
