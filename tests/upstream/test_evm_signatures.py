"""EIP-712 signatures against vectors that were computed with another library."""

import msgspec
import pytest

from pointsman.canonical.payments import Authorization, Offer
from pointsman.keyring import Secret
from pointsman.upstream.evm_signatures import address_of, signer_of

KEY = "11" * 32  # of nobody
SIGNER = "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a"
OFFER = Offer(
    resource="",
    chain_id=8453,
    old_network="base",
    asset="0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    asset_name="USD Coin",
    asset_version="2",
    pay_to="0x" + "22" * 20,
    atomic=1_000_000,
    nano_usd=10**9,
    valid_seconds=300,
)
SIGNED = Authorization(
    payer=SIGNER,
    pay_to="0x" + "22" * 20,
    value=1_000_000,
    valid_after=0,
    valid_before=1_900_000_000,
    nonce="0x" + "33" * 32,
    signature=bytes.fromhex(
        "f29de56976bdf773de1ae52a2c2ab33d1f54dcb5bf69acfa6b82f771a6d12224"
        "24f6acf692feb6699395cc79663ada3134d6ee1ed5605ba82c23591157b0eb271b"
    ),
)


def test_a_signature_names_its_signer() -> None:
    assert signer_of(OFFER, SIGNED) == SIGNER == address_of(Secret(KEY)).lower()


@pytest.mark.parametrize(
    "change",
    [{"value": 1_000_001}, {"pay_to": "0x" + "23" * 20}, {"valid_before": 1_900_000_001}, {"valid_after": 1},
     {"nonce": "0x" + "34" * 32}, {"signature": b""}, {"signature": bytes(65)}, {"signature": b"\xff" * 65},
     {"signature": SIGNED.signature + b"\0"}],
)  # fmt: skip
def test_a_signature_of_something_else_does_not(change: dict[str, object]) -> None:
    assert signer_of(OFFER, msgspec.structs.replace(SIGNED, **change)) != SIGNER


@pytest.mark.parametrize("change", [{"chain_id": 84532}, {"asset": "0x" + "44" * 20}, {"asset_version": "1"}])
def test_nor_one_for_another_chain_or_asset(change: dict[str, object]) -> None:
    assert signer_of(msgspec.structs.replace(OFFER, **change), SIGNED) != SIGNER


def test_a_key_that_is_none_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits") as caught:
        address_of(Secret("zz" * 32))
    assert "zz" not in str(caught.value)
