"""Payments by x402 in the gateway's own language: what is asked for, what was signed, and how it stands.

Amounts of the asset are whole atomic units, money of ours is nano-USD, instants of the chain are seconds since 1970
UTC. Addresses and hashes are lower-case hexadecimal with ``0x``, unless they are only shown.
"""

from enum import StrEnum
from typing import Final

import msgspec

EXACT: Final = "exact"  # the one scheme that is taken: just this amount, by one signed transfer


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked at the address ``resource``. ``network`` is the chain's CAIP-2 name, ``old_network`` version 1's.

    ``asset_name`` and ``asset_version`` are of the asset's EIP-712 domain; ``valid_seconds``: how long the payer's
    signature should hold. ``pay_to`` and ``asset`` are written as the operator wrote them.
    """

    resource: str
    chain_id: int
    old_network: str
    asset: str
    asset_name: str
    asset_version: str
    pay_to: str
    atomic: int
    nano_usd: int
    valid_seconds: int

    @property
    def network(self) -> str:
        """The chain's CAIP-2 name."""
        return f"eip155:{self.chain_id}"


class Authorization(msgspec.Struct, frozen=True, kw_only=True):
    """ERC-3009: ``payer`` lets anybody move ``value`` atomic units to ``pay_to``, once, within a time.

    ``signature`` is of the payer's EIP-712 message: not shown.
    """

    payer: str
    pay_to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str
    signature: bytes

    def __repr__(self) -> str:
        return f"Authorization(payer={self.payer!r}, nonce={self.nonce!r})"


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """A payment as it was presented for an offer. ``document`` is its JSON, for the facilitator."""

    version: int
    offer: Offer
    authorization: Authorization
    document: bytes

    def __repr__(self) -> str:
        return f"Payment({self.authorization!r})"


class PaymentState(StrEnum):
    """How far a payment has come; each is stored before what comes next is begun."""

    INTENDED = "intended"  # checked; the money may move from now on
    SETTLED = "settled"  # the money has arrived
    CREDITED = "credited"  # and it is in the ledger, by the same transaction
    FAILED = "failed"  # the authorization can't be used any more, and nothing arrived
    UNCLEAR = "unclear"  # nobody can say; a person has to look


OPEN_STATES: Final = (PaymentState.INTENDED, PaymentState.SETTLED)


class PaymentRefused(Exception):
    """The payment is not taken; ``reason`` is x402's word for why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PaymentPending(PaymentRefused):
    """Nobody knows yet whether it arrives. The same payment presented again goes on with it."""

    def __init__(self) -> None:
        super().__init__(SETTLEMENT_PENDING)


# Reasons, as x402's reference facilitator writes them.
UNSUPPORTED_SCHEME: Final = "unsupported_scheme"
NETWORK_MISMATCH: Final = "network_mismatch"
RECIPIENT_MISMATCH: Final = "invalid_exact_evm_payload_recipient_mismatch"
VALUE_MISMATCH: Final = "invalid_exact_evm_payload_authorization_value_mismatch"
EXPIRED: Final = "invalid_exact_evm_payload_authorization_valid_before"
NOT_YET_VALID: Final = "invalid_exact_evm_payload_authorization_valid_after"
INVALID_SIGNATURE: Final = "invalid_exact_evm_payload_signature"
UNDEPLOYED_WALLET: Final = "invalid_exact_evm_payload_undeployed_smart_wallet"
NONCE_USED: Final = "invalid_exact_evm_nonce_already_used"
INSUFFICIENT_BALANCE: Final = "invalid_exact_evm_insufficient_balance"
SIMULATION_FAILED: Final = "invalid_exact_evm_transaction_simulation_failed"
TRANSFER_MISMATCH: Final = "invalid_exact_evm_transfer_event_mismatch"
INVALID_REQUIREMENTS: Final = "invalid_payment_requirements"
TRANSACTION_FAILED: Final = "transaction_failed"
SETTLEMENT_PENDING: Final = "settlement_pending"
