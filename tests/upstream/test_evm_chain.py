"""What counts as a payment in a transaction's events; the rest of the chain's reader is tested on a real one."""

from typing import Any

import pytest

from pointsman.canonical.payments import PaymentState
from pointsman.storage.payments import PaymentRow
from pointsman.upstream.evm_chain import TRANSFER, USED, has_arrived, word

ASSET, PAYER, PAY_TO, OTHER = ("0x" + digit * 40 for digit in "1234")
NONCE = "0x" + "5" * 64
ROW = PaymentRow(
    id="pay_1",
    account_id="a",
    state=PaymentState.INTENDED,
    network="eip155:1",
    asset=ASSET,
    payer=PAYER,
    nonce=NONCE,
    pay_to=PAY_TO,
    amount_atomic=7,
    amount_nano_usd=7000,
    valid_before=0,
    first_block=0,
    created_at=0,
    updated_at=0,
    held_until=0,
    due_at=None,
)


def event(index: int, address: str, topics: list[str], data: str) -> dict[str, Any]:
    place = {"logIndex": hex(index), "transactionHash": "0x" + "7" * 64}
    return {"address": address, "topics": topics, "data": data, **place}


def used(index: int, nonce: str = NONCE, address: str = ASSET) -> dict[str, Any]:
    return event(index, address, [USED, "0x" + word(PAYER), nonce], "0x")


def moved(index: int, to: str = PAY_TO, amount: int = 7, address: str = ASSET) -> dict[str, Any]:
    topics = [TRANSFER, "0x" + word(PAYER), "0x" + word(to)]
    return event(index, address, topics, "0x" + word(amount))


def receipt(*logs: dict[str, Any], status: str = "0x1") -> dict[str, Any]:
    return {"status": status, "logs": list(logs)}


def test_the_use_and_the_transfer_right_behind_it_are_a_payment() -> None:
    assert has_arrived(receipt(used(3), moved(4)), ROW)
    assert has_arrived(receipt(moved(0, OTHER), used(1, "0x" + "6" * 64), moved(2, OTHER), used(3), moved(4)), ROW)


@pytest.mark.parametrize(
    "told",
    [
        receipt(used(0), moved(1), status="0x0"),
        receipt(moved(0)),
        receipt(moved(0), used(1)),
        receipt(used(0), moved(1, OTHER)),
        receipt(used(0), moved(1, amount=6)),
        receipt(used(0), moved(1, address=OTHER)),
        receipt(used(0, address=OTHER), moved(1, address=OTHER)),
        receipt(used(0, "0x" + "6" * 64), moved(1)),
        receipt(used(0), moved(2)),  # something of another contract came in between
    ],
)
def test_anything_else_is_none(told: dict[str, Any]) -> None:
    assert not has_arrived(told, ROW)


def test_one_transfer_does_not_stand_for_two_authorizations() -> None:
    """Both used for transfers to somebody else, and one ordinary transfer of the amount behind them."""
    other = "0x" + "6" * 64
    told = receipt(used(0), moved(1, OTHER), used(2, other), moved(3, OTHER), moved(4))
    assert not has_arrived(told, ROW)
