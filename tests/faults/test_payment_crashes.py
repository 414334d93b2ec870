"""A server that dies while a payment is on its way: what arrived is credited at the next start, once."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from evm_chain import PAY_TO, EvmChain, running_chain
from gateway import wait_until
from serve_process import ServeProcess, serving, toml
from x402_payments import authorization, payment, settings_of

PATH = "/api/agents/topup"
START_S = 30.0  # a process of its own starts, on a machine that does other things too


class Gate:
    """Holds the chain's node before it answers ``method``."""

    def __init__(self, method: str) -> None:
        self._method = method
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, method: str) -> None:
        if method == self._method:
            self.reached.set()
            self.opened.wait(60)


def _client(server: ServeProcess) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60)


def _register(client: httpx.Client) -> dict[str, str]:
    made = client.post("/api/agents/register", json={"agentId": "crasher"}).json()
    agent = {"authorization": f"Bearer {made['apiKey']}"}
    wait_until(lambda: client.get("/api/agents/me", headers=agent).status_code == 200, "account")
    return agent


def _bought(client: httpx.Client, agent: dict[str, str]) -> float:
    return float(client.get("/api/agents/me", headers=agent).json()["account"]["creditsPurchased"])


def _die_in_the_middle(chain: EvmChain, data_dir: Path, config: str, method: str) -> tuple[dict[str, str], ...]:
    """Kill the server while it waits for the node's answer to ``method``; gives the headers of agent and payment."""
    payer, gate = chain.payer(len(method)), Gate(method)
    header = payment(chain, payer, 2, authorization(payer))
    with serving(data_dir, config) as server:
        with _client(server) as client:
            agent = _register(client)
            chain.before = gate
            broken: list[Exception] = []

            def pay() -> None:
                try:
                    client.post(PATH, headers={**agent, **header})
                except httpx.TransportError as error:
                    broken.append(error)

            caller = threading.Thread(target=pay)
            caller.start()
            try:
                assert gate.reached.wait(START_S)
            finally:
                server.signal(signal.SIGKILL)
                caller.join(START_S)
                chain.before = lambda method: None
                gate.opened.set()
        assert server.wait() == -signal.SIGKILL
        assert len(broken) == 1
    return agent, header


def test_a_payment_whose_server_died_after_sending_it_is_credited_at_the_next_start(tmp_path: Path) -> None:
    with running_chain() as chain:
        config = toml([], {"x402": settings_of(chain)})
        agent, header = _die_in_the_middle(chain, tmp_path / "data", config, "eth_getTransactionReceipt")
        assert chain.balance(PAY_TO) == 1_000_000
        with serving(tmp_path / "data", config) as server, _client(server) as client:
            wait_until(lambda: _bought(client, agent) == 10_000, "credit", START_S)
            again = client.post(PATH, headers={**agent, **header})
            assert again.status_code == 200, again.text
            assert again.json()["topup"]["txHash"].startswith("0x")
            assert _bought(client, agent) == 10_000
        assert chain.balance(PAY_TO) == 1_000_000
        assert chain.calls.count("eth_sendRawTransaction") == 1


def test_one_payment_presented_to_several_workers_at_once_is_credited_once(tmp_path: Path) -> None:
    with running_chain() as chain:
        config = toml([], {"x402": settings_of(chain, settle_timeout_seconds=30.0), "server": {"workers": 2}})
        payer = chain.payer(1)
        header = payment(chain, payer, 1, authorization(payer))
        with serving(tmp_path / "data", config) as server, _client(server) as client:
            agent = _register(client)

            def pay(_: int) -> httpx.Response:
                with _client(server) as own:  # a connection of its own: the kernel chooses the worker
                    return own.post(PATH, headers={**agent, **header})

            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(pay, range(8)))
            assert [answer.status_code for answer in answers] == [200] * 8
            assert len({answer.json()["topup"]["id"] for answer in answers}) == 1
            assert _bought(client, agent) == 10_000
        assert chain.balance(PAY_TO) == 1_000_000
        assert chain.calls.count("eth_sendRawTransaction") == 1


def test_a_payment_whose_server_died_before_sending_it_moves_nothing_until_it_is_presented_again(
    tmp_path: Path,
) -> None:
    with running_chain() as chain:
        settings = settings_of(chain, settle_timeout_seconds=0.2)
        config = toml([], {"x402": settings})
        agent, _ = _die_in_the_middle(chain, tmp_path / "data", config, "eth_estimateGas")
        looked = chain.calls.count("eth_getBlockByNumber")
        with serving(tmp_path / "data", config) as server, _client(server) as client:
            wait_until(lambda: chain.calls.count("eth_getBlockByNumber") > looked, "look at the chain", START_S)
            assert _bought(client, agent) == 0
        assert "eth_sendRawTransaction" not in chain.calls
        assert chain.balance(PAY_TO) == 0
