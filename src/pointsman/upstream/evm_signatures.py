"""EIP-712 signatures of authorizations, and our own of transactions, by eth-account: blocking, so called in a thread.

It is imported when the first payment comes: 15 MB that nobody else needs (docs/decisions/0025-x402.md).
"""

from typing import Any, Final

from pointsman.canonical.payments import Authorization, Offer
from pointsman.keyring import Secret

PLAIN_BYTES: Final = 65  # r, s and v of an ordinary account's signature
UNDEPLOYED: Final = bytes.fromhex("6492" * 16)  # ends the signature of a wallet that is not on the chain yet (ERC-6492)
_TYPES: Final = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"},
        {"name": "to", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"},
        {"name": "validBefore", "type": "uint256"},
        {"name": "nonce", "type": "bytes32"},
    ]
}


def signer_of(offer: Offer, signed: Authorization) -> str | None:
    """The address (lower case) whose key made the signature; None for one that nobody's key makes."""
    from eth_account import Account
    from eth_account.messages import encode_typed_data
    from eth_keys.exceptions import BadSignature
    from eth_utils.exceptions import ValidationError

    domain = {
        "name": offer.asset_name,
        "version": offer.asset_version,
        "chainId": offer.chain_id,
        "verifyingContract": offer.asset.lower(),
    }
    message = {
        "from": signed.payer,
        "to": signed.pay_to,
        "value": signed.value,
        "validAfter": signed.valid_after,
        "validBefore": signed.valid_before,
        "nonce": bytes.fromhex(signed.nonce[2:]),
    }
    if len(signed.signature) != PLAIN_BYTES:
        return None
    try:
        found = Account.recover_message(encode_typed_data(domain, _TYPES, message), signature=signed.signature)
    except (BadSignature, ValidationError, ValueError):
        return None
    return str(found).lower()


def sign_transaction(key: Secret, fields: dict[str, Any]) -> tuple[str, str]:
    """A transaction as nodes take it, and its hash, both hexadecimal with 0x."""
    from eth_account import Account

    receiver = bytes.fromhex(fields["to"][2:])  # as text it would have to be written with EIP-55's capitals
    signed = Account.from_key(key.reveal()).sign_transaction({**fields, "to": receiver})
    return "0x" + bytes(signed.raw_transaction).hex(), "0x" + bytes(signed.hash).hex()


def address_of(key: Secret) -> str:
    """The address of a key. Raises ValueError, without the key, for one that is none."""
    from eth_account import Account

    try:
        return str(Account.from_key(key.reveal()).address)
    except Exception:  # noqa: BLE001 - whatever it says may hold the key
        raise ValueError("it must be a private key: 64 hexadecimal digits") from None
