"""Settles payments ourselves: checks the signature, tries the transfer, and sends it with the relayer's key.

The relayer pays the chain's fee and can do nothing else: the payer's signature names amount and receiver. One process
sends one after another, so that the numbers of its transactions are in order; two processes that took the same number
are told so by the node, and the slower takes the next. The authorization itself works once, whoever sends it.
"""

import asyncio
from typing import Any, Final

import msgspec

from pointsman.accounting.payments import Note, Sight
from pointsman.canonical.payments import (
    INSUFFICIENT_BALANCE,
    INVALID_SIGNATURE,
    NONCE_USED,
    SIMULATION_FAILED,
    TRANSACTION_FAILED,
    TRANSFER_MISMATCH,
    UNDEPLOYED_WALLET,
    Payment,
    PaymentPending,
    PaymentRefused,
)
from pointsman.clock import Clock
from pointsman.errors import GatewayError
from pointsman.keyring import Secret
from pointsman.storage.payments import PaymentRow
from pointsman.upstream import evm_signatures
from pointsman.upstream.evm_chain import EvmChain, NodeError, node_trouble, number, word

# transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)
TRANSFER_WITH_AUTHORIZATION: Final = "e3ee160e"
FIRST_LOOK_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 1.0
MOST_TRIES: Final = 5  # for a transaction's number that another process took
SPARE_GAS: Final = (5, 4)  # a quarter more than estimated: the state may change until then
LEAST_TIP: Final = 1_000_000  # wei per gas


class Relayer:
    """``seconds``: how long settling may take. `close` ends what waits for the chain."""

    def __init__(self, chain: EvmChain, key: Secret, clock: Clock, seconds: float) -> None:
        self._chain = chain
        self._key = key
        self._clock = clock
        self._seconds = seconds
        self._turn = asyncio.Lock()
        # One signature at a time: some 10 ms of Python each, and anybody may send wrong ones.
        self._check = asyncio.Lock()
        self._closing = False
        self._address: str | None = None

    def close(self) -> None:
        """Wait for no block any more: what is on its way is looked for at the next start."""
        self._closing = True

    async def verify(self, payment: Payment) -> None:
        """Raises PaymentRefused for a payment that the chain would not take now."""
        offer, signed = payment.offer, payment.authorization
        if signed.signature.endswith(evm_signatures.UNDEPLOYED):
            raise PaymentRefused(UNDEPLOYED_WALLET)
        async with self._check:
            signer = await asyncio.to_thread(evm_signatures.signer_of, offer, signed)
        if signer != signed.payer:
            raise PaymentRefused(INVALID_SIGNATURE)
        asset = offer.asset.lower()
        used, balance = await asyncio.gather(
            self._chain.is_used(asset, signed.payer, signed.nonce), self._chain.balance(asset, signed.payer)
        )
        if used:
            raise PaymentRefused(NONCE_USED)
        if balance < signed.value:
            raise PaymentRefused(INSUFFICIENT_BALANCE)
        try:
            await self._chain.call("eth_call", await self._wanted(payment), "latest")
        except NodeError as error:
            raise _refusal(error, SIMULATION_FAILED) from None

    async def settle(self, row: PaymentRow, payment: Payment, note: Note) -> str:
        """Send the transfer, and wait until it is in a block."""
        deadline = self._clock.monotonic() + self._seconds
        async with self._turn:
            transaction = await self._send(payment, note)
        wait = FIRST_LOOK_SECONDS
        while True:
            receipt = await self._chain.receipt(transaction)
            if receipt is not None:
                break
            if self._closing or self._clock.monotonic() > deadline:
                raise PaymentPending
            await asyncio.sleep(wait)
            wait = min(LOOK_SECONDS, wait * 2)
        if number(receipt.get("status")) != 1:
            raise PaymentRefused(TRANSACTION_FAILED)
        return await self._believed(row, transaction, deadline)

    async def _believed(self, row: PaymentRow, transaction: str, deadline: float) -> str:
        """The transaction, when the chain says that it moved this payment and enough blocks stand on it."""
        sent = msgspec.structs.replace(row, transaction_hash=transaction)
        while True:
            look = await self._chain.look(sent)
            if look.sight is Sight.ARRIVED:
                return look.transaction
            if look.sight is not Sight.WAITING:
                raise PaymentRefused(TRANSFER_MISMATCH)
            if self._closing or self._clock.monotonic() > deadline:
                raise PaymentPending
            await asyncio.sleep(LOOK_SECONDS)

    async def _send(self, payment: Payment, note: Note) -> str:
        """Gives the hash of the transaction, which the node has taken or may have."""
        for _ in range(MOST_TRIES):
            fields = await self._fields(payment)
            raw, transaction = await asyncio.to_thread(evm_signatures.sign_transaction, self._key, fields)
            await note(transaction)
            try:
                await self._chain.call("eth_sendRawTransaction", raw)
            except NodeError as error:
                text = str(error).lower()
                if "already known" in text or "known transaction" in text:
                    return transaction
                if "nonce" not in text and "underpriced" not in text:
                    raise _refusal(error, TRANSACTION_FAILED) from None
                continue
            except GatewayError:
                pass  # it may have been taken all the same
            return transaction
        raise PaymentRefused(TRANSACTION_FAILED)

    async def _fields(self, payment: Payment) -> dict[str, Any]:
        """The transaction, with a number, a limit and a price for its gas."""
        wanted = await self._wanted(payment)
        try:
            gas = number(await self._chain.call("eth_estimateGas", wanted))
        except NodeError as error:
            raise _refusal(error, SIMULATION_FAILED) from None
        count, price, newest = await asyncio.gather(
            self._chain.read("eth_getTransactionCount", wanted["from"], "pending"),
            self._chain.read("eth_gasPrice"),
            self._chain.newest(),
        )
        fields: dict[str, Any] = {
            "to": wanted["to"],
            "data": wanted["data"],
            "value": 0,
            "chainId": payment.offer.chain_id,
            "nonce": number(count),
            "gas": gas * SPARE_GAS[0] // SPARE_GAS[1],
        }
        base = newest.get("baseFeePerGas")
        if base is None:
            return {**fields, "gasPrice": number(price)}
        tip = max(LEAST_TIP, number(price) - number(base))
        return {**fields, "type": 2, "maxPriorityFeePerGas": tip, "maxFeePerGas": 2 * number(base) + tip}

    async def _wanted(self, payment: Payment) -> dict[str, str]:
        """The call of the asset's contract."""
        if self._address is None:
            self._address = await asyncio.to_thread(evm_signatures.address_of, self._key)
        signed = payment.authorization
        times = (signed.valid_after, signed.valid_before)
        words: tuple[str | int, ...] = (signed.payer, signed.pay_to, signed.value, *times, signed.nonce)
        r, s, v = (signed.signature[part].hex() for part in (slice(32), slice(32, 64), slice(64, 65)))
        v = f"{int(v, 16) + 27:02x}" if int(v, 16) < 27 else v  # some signers count from 0
        data = "0x" + TRANSFER_WITH_AUTHORIZATION + "".join(map(word, words)) + f"{v:0>64}{r}{s}"
        return {"from": self._address, "to": payment.offer.asset.lower(), "data": data}


def _refusal(error: NodeError, reason: str) -> Exception:
    """The contract's refusal of the transfer; anything else is the node's trouble."""
    if "revert" in str(error).lower():
        return PaymentRefused(reason)
    return node_trouble(error)
