"""A real EVM with an ERC-3009 token (evm_token.vy), behind JSON-RPC at a socket of this machine.

Blocks are made at once, by py-evm through eth-tester. The chain says that it is Base Sepolia, which clients know.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_tester import EthereumTester, PyEVMBackend
from eth_tester.exceptions import TransactionFailed, TransactionNotFound
from eth_tester.exceptions import ValidationError as UnfitError
from eth_utils import ValidationError, keccak

CHAIN_ID = 84532
NETWORK = "base-sepolia"
TOKEN = json.loads(Path(__file__).with_name("evm_token.json").read_text())["bytecode"]
GAS = 3_000_000
RELAYER = Account.from_key("0x" + "5a" * 32)
PAY_TO = "0x" + "22" * 20
TYPES = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"},
        {"name": "to", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"},
        {"name": "validBefore", "type": "uint256"},
        {"name": "nonce", "type": "bytes32"},
    ],
    "CancelAuthorization": [{"name": "authorizer", "type": "address"}, {"name": "nonce", "type": "bytes32"}],
}


def selector(signature: str) -> str:
    return str(keccak(text=signature)[:4].hex())


def word(value: str | int) -> str:
    return f"{value if isinstance(value, int) else int(value, 16):064x}"


class EvmChain:
    """The chain and its token. ``calls`` are the JSON-RPC methods that were called; ``url`` is where."""

    def __init__(self) -> None:
        backend = PyEVMBackend()
        type(backend.chain).chain_id = CHAIN_ID
        self.tester = EthereumTester(backend)
        self._turn = threading.RLock()
        self._bank = self.tester.get_accounts()[0]
        made = self.tester.send_transaction({"from": self._bank, "data": TOKEN, "gas": GAS})
        self.token = str(self.tester.get_transaction_receipt(made)["contract_address"])
        self.give_ether(RELAYER.address)
        self.calls: list[str] = []
        self.before: Callable[[str], None] = lambda method: None  # may wait, or raise to break the connection off
        self.url = ""

    def give_ether(self, address: str) -> None:
        """Something to pay fees with."""
        self.tester.send_transaction({"from": self._bank, "to": address, "value": 10**18, "gas": 21_000})

    def mint(self, owner: str, atomic: int) -> None:
        """Give somebody tokens."""
        self.send(selector("mint(address,uint256)") + word(owner) + word(atomic))

    def send(self, data: str) -> str:
        """A call of the token by anybody; gives the transaction's hash."""
        with self._turn:
            wanted = {"from": self._bank, "to": self.token, "data": "0x" + data, "gas": GAS}
            return str(self.tester.send_transaction(wanted))

    def read(self, data: str) -> int:
        """A number that the token tells."""
        with self._turn:
            found = self.tester.call({"from": self._bank, "to": self.token, "data": "0x" + data})
        return int(found, 16)

    def balance(self, owner: str) -> int:
        """What somebody has of the token."""
        return self.read(selector("balanceOf(address)") + word(owner))

    def payer(self, number: int, atomic: int = 100_000_000) -> LocalAccount:
        """Somebody with tokens, always the same for a number."""
        account: LocalAccount = Account.from_key(keccak(text=f"payer {number}"))
        self.mint(account.address, atomic)
        return account

    @property
    def domain(self) -> dict[str, Any]:
        """The token's EIP-712 domain."""
        return {"name": "USD Coin", "version": "2", "chainId": CHAIN_ID, "verifyingContract": self.token}

    # JSON-RPC

    def answer(self, method: str, params: list[Any]) -> Any:
        """What a node answers to a call. Raises what eth-tester raises."""
        self.calls.append(method)
        self.before(method)
        with self._turn:
            return getattr(self, method)(*params)

    def eth_chainId(self) -> str:
        return hex(CHAIN_ID)

    def eth_blockNumber(self) -> str:
        return hex(self.tester.get_block_by_number("latest")["number"])

    def eth_gasPrice(self) -> str:
        return hex(self.tester.get_block_by_number("latest")["base_fee_per_gas"] + 10**9)

    def eth_getBlockByNumber(self, number: str, full: bool) -> dict[str, Any]:
        block = self.tester.get_block_by_number(number)
        names = {"number": "number", "timestamp": "timestamp", "baseFeePerGas": "base_fee_per_gas"}
        return {name: hex(block[inner]) for name, inner in names.items()}

    def eth_getTransactionCount(self, address: str, block: str) -> str:
        return hex(self.tester.get_nonce(address, block))

    def eth_call(self, wanted: dict[str, str], block: str) -> str:
        return str(self.tester.call({"from": self._bank, **wanted, "gas": GAS}, block))

    def eth_estimateGas(self, wanted: dict[str, str]) -> str:
        return hex(self.tester.estimate_gas({"from": self._bank, **wanted, "gas": GAS}))

    def eth_sendRawTransaction(self, raw: str) -> str:
        return str(self.tester.send_raw_transaction(raw))

    def eth_getTransactionByHash(self, name: str) -> dict[str, Any] | None:
        try:
            return {"hash": self.tester.get_transaction_by_hash(name)["hash"]}
        except TransactionNotFound:
            return None

    def eth_getTransactionReceipt(self, name: str) -> dict[str, Any] | None:
        try:
            found = self.tester.get_transaction_receipt(name)
        except TransactionNotFound:
            return None
        logs = [_event(event) for event in found["logs"]]
        numbers = {"status": hex(found["status"]), "blockNumber": hex(found["block_number"])}
        return {"transactionHash": found["transaction_hash"], "logs": logs, **numbers}

    def eth_getLogs(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        kinds, payer, nonce = wanted["topics"]
        found = self.tester.get_logs(
            from_block=int(wanted["fromBlock"], 16), to_block=int(wanted["toBlock"], 16), address=self.token
        )
        events = [_event(event) for event in found]
        return [event for event in events if event["topics"][0] in kinds and event["topics"][1:] == [payer, nonce]]


def _event(event: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": event["address"],
        "topics": list(event["topics"]),
        "data": event["data"],
        "logIndex": hex(event["log_index"]),
        "transactionHash": event["transaction_hash"],
    }


class _Rpc(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    chain: EvmChain

    def do_POST(self) -> None:
        wanted = json.loads(self.rfile.read(int(self.headers["content-length"])))
        told: dict[str, Any] = {"jsonrpc": "2.0", "id": wanted["id"]}
        try:
            told["result"] = self.chain.answer(wanted["method"], wanted["params"])
        except TransactionFailed as error:
            told["error"] = {"code": 3, "message": f"execution reverted: {error}"}
        except (UnfitError, ValidationError) as error:
            told["error"] = {"code": -32000, "message": str(error)}
        except ConnectionError:
            self.close_connection = True
            return
        body = json.dumps(told).encode()
        try:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # who asked is gone

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def running_chain() -> Iterator[EvmChain]:
    """A chain that listens until the end."""
    chain = EvmChain()
    handler = type("Handler", (_Rpc,), {"chain": chain})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    chain.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield chain
    finally:
        chain.before = lambda method: None
        server.shutdown()
        thread.join(5)
        server.server_close()
