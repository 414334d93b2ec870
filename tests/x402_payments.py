"""Payments as a payer makes them by hand: signed by EIP-712, in the headers of either version of x402."""

import base64
import json
import os
import time
from typing import Any

from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount

from evm_chain import NETWORK, PAY_TO, RELAYER, TYPES, EvmChain, selector, word


def settings_of(chain: EvmChain, **more: Any) -> dict[str, Any]:
    """``[x402]`` for a gateway that settles on this chain itself."""
    return {
        "pay_to": PAY_TO, "network": NETWORK, "asset": chain.token, "asset_name": "USD Coin", "asset_version": "2",
        "rpc_url": chain.url, "relayer_key": RELAYER.key.hex(), "settle_timeout_seconds": 5.0, **more,
    }  # fmt: skip


def packed(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def unpacked(text: str) -> Any:
    return json.loads(base64.b64decode(text))


def authorization(payer: LocalAccount, atomic: int = 1_000_000, **more: Any) -> dict[str, Any]:
    """What a payer signs."""
    now = int(time.time())
    return {
        "from": payer.address, "to": PAY_TO, "value": str(atomic), "validAfter": str(now - 600),
        "validBefore": str(now + 300), "nonce": "0x" + os.urandom(32).hex(), **more,
    }  # fmt: skip


def signature(chain: EvmChain, payer: LocalAccount, told: dict[str, Any]) -> str:
    """Its signature."""
    numbers = {name: int(told[name]) for name in ("value", "validAfter", "validBefore")}
    message = {**told, **numbers, "nonce": bytes.fromhex(told["nonce"][2:])}
    kind = {"TransferWithAuthorization": TYPES["TransferWithAuthorization"]}
    return "0x" + str(payer.sign_message(encode_typed_data(chain.domain, kind, message)).signature.hex())


def payment(
    chain: EvmChain, payer: LocalAccount, version: int, told: dict[str, Any], **accepted: Any
) -> dict[str, str]:
    """The header of a payment."""
    payload = {"signature": signature(chain, payer, told), "authorization": told}
    if version == 1:
        shown = {"x402Version": 1, "scheme": "exact", "network": NETWORK, "payload": payload, **accepted}
        return {"x-payment": packed(shown)}
    choice = {
        "scheme": "exact", "network": "eip155:84532", "asset": chain.token, "amount": told["value"], "payTo": PAY_TO,
        "maxTimeoutSeconds": 300, "extra": {"name": "USD Coin", "version": "2"}, **accepted,
    }  # fmt: skip
    return {"payment-signature": packed({"x402Version": 2, "accepted": choice, "payload": payload})}


def submit(chain: EvmChain, payer: LocalAccount, told: dict[str, Any]) -> str:
    """The payment made on the chain by somebody else than the gateway."""
    made = bytes.fromhex(signature(chain, payer, told)[2:])
    words = [told["from"], told["to"], *(int(told[name]) for name in ("value", "validAfter", "validBefore"))]
    name = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"
    parts = [*map(word, (*words, told["nonce"])), word(made[64]), made[:32].hex(), made[32:64].hex()]
    return chain.send(selector(name) + "".join(parts))


def cancel(chain: EvmChain, payer: LocalAccount, nonce: str) -> str:
    """The payer takes an authorization back."""
    kind = {"CancelAuthorization": TYPES["CancelAuthorization"]}
    message = {"authorizer": payer.address, "nonce": bytes.fromhex(nonce[2:])}
    made = payer.sign_message(encode_typed_data(chain.domain, kind, message)).signature
    parts = [word(payer.address), word(nonce), word(made[64]), made[:32].hex(), made[32:64].hex()]
    return chain.send(selector("cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)") + "".join(parts))
