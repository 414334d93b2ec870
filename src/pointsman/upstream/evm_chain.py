"""An EVM chain by the JSON-RPC of one of its nodes: what became of an authorization, as ERC-3009 tokens record it.

Selectors and topics are the first 4 bytes and the whole of Keccak-256 of the names beside them.
"""

from itertools import pairwise
from typing import Any, Final

import msgspec
import structlog

from pointsman.accounting.payments import Look, Sight
from pointsman.canonical.payments import EXPIRED, NONCE_USED, TRANSFER_MISMATCH
from pointsman.errors import GatewayError, Kind
from pointsman.storage.payments import PaymentRow
from pointsman.upstream.json_posts import JsonPost

CALL_SECONDS: Final = 10.0
MOST_BLOCKS: Final = 2000  # of one query for logs; public nodes refuse larger ones
AUTHORIZATION_STATE: Final = "e94a0102"  # authorizationState(address,bytes32)
BALANCE_OF: Final = "70a08231"  # balanceOf(address)
USED: Final = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"  # AuthorizationUsed(address,bytes32)
TRANSFER: Final = (
    "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"  # Transfer(address,address,uint256)
)
# AuthorizationCanceled(address,bytes32)
CANCELED: Final = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81"
_encode: Final = msgspec.json.Encoder().encode
log = structlog.get_logger("pointsman.payments")


class NodeError(Exception):
    """The node's own refusal of a call, by JSON-RPC: not shown to anybody else than the log."""


class _Fault(msgspec.Struct, frozen=True, kw_only=True):
    code: int = 0
    message: str = ""


class _Reply(msgspec.Struct, frozen=True, kw_only=True):
    result: Any = None
    error: _Fault | None = None


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    address: str
    topics: list[str]
    data: str
    index: str = msgspec.field(name="logIndex")
    transaction_hash: str = msgspec.field(name="transactionHash")

    @property
    def kind(self) -> list[str]:
        """Its topics, as they are compared: which event it is, and of whom."""
        return [topic.lower() for topic in self.topics]


class EvmChain:
    """One chain. ``confirmations``: how many blocks, its own included, must stand on a transaction to be believed.

    All calls raise GatewayError when the node gives no answer, or one that is none.
    """

    def __init__(self, node: JsonPost, chain_id: int, confirmations: int) -> None:
        self._node = node
        self._chain_id = chain_id
        self._confirmations = confirmations
        self._checked = False

    async def call(self, method: str, *params: Any) -> Any:
        """One JSON-RPC call. Raises NodeError for its refusal."""
        if not self._checked:
            await self._check()
        return await self._ask(method, *params)

    async def _check(self) -> None:
        """A node of another chain would believe payments that are worth nothing."""
        found = number(await self._ask("eth_chainId"))
        if found != self._chain_id:
            message = f"{self._node.name} is of the chain {found}, payments are for {self._chain_id}"
            raise GatewayError(Kind.UPSTREAM_ERROR, message)
        self._checked = True

    async def _ask(self, method: str, *params: Any) -> Any:
        body = _encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        answer = await self._node.ask(body, CALL_SECONDS)
        try:
            reply = msgspec.json.decode(answer.body, type=_Reply)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            message = f"{self._node.name} gave an answer that can't be read, with status {answer.status}"
            raise GatewayError(Kind.UPSTREAM_ERROR, message) from None
        if reply.error is not None:
            raise NodeError(f"{method}: {reply.error.code} {reply.error.message[:200]}")
        return reply.result

    async def read(self, method: str, *params: Any) -> Any:
        """A call that a node has no reason to refuse: a refusal is a GatewayError too."""
        try:
            return await self.call(method, *params)
        except NodeError as error:
            raise node_trouble(error) from None

    async def height(self) -> int:
        """The number of the newest block."""
        return number(await self.read("eth_blockNumber"))

    async def newest(self) -> dict[str, Any]:
        """The newest block's head."""
        found = await self.read("eth_getBlockByNumber", "latest", False)
        if not isinstance(found, dict):
            raise GatewayError(Kind.UPSTREAM_ERROR, "the chain's node has no newest block")
        return found

    async def is_used(self, asset: str, payer: str, nonce: str) -> bool:
        """Whether this authorization was used or cancelled."""
        return await self._word(asset, AUTHORIZATION_STATE + word(payer) + word(nonce)) != 0

    async def balance(self, asset: str, owner: str) -> int:
        """What somebody has of an asset, in atomic units."""
        return await self._word(asset, BALANCE_OF + word(owner))

    async def _word(self, asset: str, data: str) -> int:
        found = await self.read("eth_call", {"to": asset, "data": "0x" + data}, "latest")
        if not isinstance(found, str) or len(found) < 66:  # an address without code answers nothing
            raise GatewayError(Kind.UPSTREAM_ERROR, "the asset is not on this chain, or not as ERC-3009 has it")
        return number(found[:66])

    async def look(self, row: PaymentRow) -> Look:
        """How a payment stands: first by its own transaction, then by the authorization's state and its events.

        Raises GatewayError for a payment of another chain, of which this one knows nothing.
        """
        if row.network != f"eip155:{self._chain_id}":
            raise GatewayError(Kind.UPSTREAM_ERROR, f"the payment is of {row.network}, and {self._node.name} is not")
        under_way = False
        if row.transaction_hash is not None:
            receipt = await self.receipt(row.transaction_hash)
            if receipt is not None and has_arrived(receipt, row):
                return await self._believed(row, receipt)
            if receipt is None:
                under_way = await self.read("eth_getTransactionByHash", row.transaction_hash) is not None
        # The time first: what is unused in a block from beyond its end stays so.
        is_over = number((await self.newest()).get("timestamp")) >= row.valid_before
        if await self.is_used(row.asset, row.payer, row.nonce):
            return await self._by_events(row)
        if is_over:
            return Look(sight=Sight.GONE, reason=EXPIRED)  # also when no block has taken its transaction: none can now
        return Look(sight=Sight.WAITING if under_way else Sight.OPEN)

    async def _believed(self, row: PaymentRow, receipt: dict[str, Any]) -> Look:
        if self._confirmations > 1:
            depth = await self.height() - number(receipt.get("blockNumber")) + 1
            if depth < self._confirmations:
                return Look(sight=Sight.WAITING)
        return Look(sight=Sight.ARRIVED, transaction=str(receipt.get("transactionHash")))

    async def _by_events(self, row: PaymentRow) -> Look:
        """The authorization was used since the payment began: by whom, and for this payment?"""
        first, newest = row.first_block, await self.height()
        while first <= newest:
            span = {"fromBlock": hex(first), "toBlock": hex(min(newest, first + MOST_BLOCKS - 1))}
            topics = [[USED, CANCELED], "0x" + word(row.payer), row.nonce]
            wanted = {"address": row.asset, "topics": topics, **span}
            for event in _events(await self.read("eth_getLogs", wanted)):
                receipt = await self.receipt(event.transaction_hash)
                if receipt is not None and has_arrived(receipt, row):
                    return await self._believed(row, receipt)
                cancelled = event.kind[:1] == [CANCELED]
                return Look(sight=Sight.GONE, reason=NONCE_USED if cancelled else TRANSFER_MISMATCH)
            first += MOST_BLOCKS
        return Look(sight=Sight.WAITING)  # this node has the state already, and not yet the events

    async def receipt(self, transaction: str) -> dict[str, Any] | None:
        """What a transaction did; None: it is in no block yet."""
        found = await self.read("eth_getTransactionReceipt", transaction)
        return found if isinstance(found, dict) else None


def has_arrived(receipt: dict[str, Any], row: PaymentRow) -> bool:
    """Whether a transaction moved just this payment: the authorization's use and, right behind it, the transfer.

    Right behind it: in between nothing else could be slipped, so one transfer can't stand for two authorizations.
    Raises GatewayError for a receipt that is none.
    """
    if number(receipt.get("status")) != 1:
        return False
    events = [event for event in _events(receipt.get("logs")) if event.address.lower() == row.asset]
    used = [USED, "0x" + word(row.payer), row.nonce]
    moved = [TRANSFER, "0x" + word(row.payer), "0x" + word(row.pay_to)]
    for event, following in pairwise(events):
        if event.kind == used and following.kind == moved:
            adjacent = number(following.index) == number(event.index) + 1
            return adjacent and number(following.data) == row.amount_atomic
    return False


def _events(told: object) -> list[_Event]:
    """The events that a node tells. Raises GatewayError when they are none."""
    try:
        return msgspec.convert(told, list[_Event])
    except msgspec.ValidationError:
        raise GatewayError(Kind.UPSTREAM_ERROR, "the chain's node gave something else than events") from None


def node_trouble(error: NodeError) -> GatewayError:
    """A refusal that is no answer about the payment; the node's words are for the log alone."""
    log.warning("the chain's node refused a call", reason=str(error))
    return GatewayError(Kind.UPSTREAM_ERROR, "the chain's node refused a call")


def word(value: str | int) -> str:
    """A number, or hexadecimal text with 0x, as a word of 32 bytes for a call."""
    return f"{value if isinstance(value, int) else int(value, 16):064x}"


def number(value: object) -> int:
    """A quantity of JSON-RPC. Raises GatewayError for anything else."""
    if not isinstance(value, str):
        raise GatewayError(Kind.UPSTREAM_ERROR, "the chain's node gave something else than a number")
    try:
        return int(value, 16)
    except ValueError:
        raise GatewayError(Kind.UPSTREAM_ERROR, "the chain's node gave something else than a number") from None
