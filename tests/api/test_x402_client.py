"""x402's reference client pays a real gateway by itself, on a real EVM; its facilitator settles for one."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from web3 import Web3
from web3.providers.eth_tester import EthereumTesterProvider
from x402 import x402Client, x402FacilitatorSync
from x402.http.clients.httpx import x402AsyncTransport
from x402.http.utils import encode_payment_signature_header
from x402.mechanisms.evm.exact.register import register_exact_evm_client
from x402.schemas import parse_payment_required
from x402.schemas.v1 import PaymentRequiredV1

from evm_chain import PAY_TO, RELAYER, EvmChain, running_chain
from gateway import running_gateway, wait_until
from x402_payments import authorization, payment, settings_of, unpacked

PATH = "/api/agents/topup"


@pytest.fixture(scope="module")
def chain() -> Iterator[EvmChain]:
    with running_chain() as started:
        yield started


@pytest.fixture(scope="module")
def address(chain: EvmChain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_gateway(tmp_path_factory.mktemp("x402"), {"x402": settings_of(chain)}) as started:
        yield started.address


def register(address: str, agent_id: str) -> dict[str, str]:
    made = httpx.post(f"{address}/api/agents/register", json={"agentId": agent_id}, timeout=20).json()
    agent = {"authorization": f"Bearer {made['apiKey']}"}
    wait_until(lambda: httpx.get(f"{address}/api/agents/me", headers=agent).status_code == 200, "account")
    return agent


def payer_client(chain: EvmChain, number: int) -> x402Client:
    """The client of a payer; the token of the tests is none of those that it knows."""
    client = x402Client()
    register_exact_evm_client(client, chain.payer(number))
    client.set_spend_controls(False)
    return client


def test_the_reference_client_tops_up_by_itself(chain: EvmChain, address: str) -> None:
    agent, client = register(address, "reference"), payer_client(chain, 1)
    before = chain.balance(PAY_TO)

    async def pay() -> httpx.Response:
        async with httpx.AsyncClient(transport=x402AsyncTransport(client), timeout=30) as http:
            return await http.post(f"{address}{PATH}", headers=agent, json={"amountUsd": 3})

    answer = asyncio.run(pay())
    assert answer.status_code == 200, answer.text
    assert answer.json()["topup"]["credits"] == 30_000
    assert unpacked(answer.headers["payment-response"])["success"] is True
    assert chain.balance(PAY_TO) - before == 3_000_000


def test_the_reference_client_pays_the_challenge_of_version_1(chain: EvmChain, address: str) -> None:
    agent, client = register(address, "reference-1"), payer_client(chain, 2)
    asked = parse_payment_required(httpx.post(f"{address}{PATH}", headers=agent, timeout=20).json())
    assert isinstance(asked, PaymentRequiredV1)
    made = asyncio.run(client.create_payment_payload(asked))
    header = {"X-PAYMENT": encode_payment_signature_header(made)}
    answer = httpx.post(f"{address}{PATH}", headers={**agent, **header}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert unpacked(answer.headers["x-payment-response"])["success"] is True


class _Facilitation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    facilitator: x402FacilitatorSync
    down: threading.Event  # the answer to a settlement is lost while it is set

    def do_POST(self) -> None:
        from x402.schemas import PaymentPayload, PaymentRequirements
        from x402.schemas.v1 import PaymentPayloadV1, PaymentRequirementsV1

        told = json.loads(self.rfile.read(int(self.headers["content-length"])))
        old = told["x402Version"] == 1
        paid: Any = (PaymentPayloadV1 if old else PaymentPayload).model_validate(told["paymentPayload"])
        asked: Any = (PaymentRequirementsV1 if old else PaymentRequirements).model_validate(told["paymentRequirements"])
        work = self.facilitator.verify if self.path == "/f/verify" else self.facilitator.settle
        body = work(paid, asked).model_dump_json(by_alias=True, exclude_none=True).encode()
        if self.path == "/f/settle" and self.down.is_set():
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def running_facilitator(chain: EvmChain) -> Iterator[tuple[str, threading.Event]]:
    """x402's own facilitator behind a socket."""
    from x402.mechanisms.evm import FacilitatorWeb3Signer
    from x402.mechanisms.evm.exact.register import register_exact_evm_facilitator

    signer = FacilitatorWeb3Signer(private_key=RELAYER.key.hex(), rpc_url=chain.url)
    signer._w3 = Web3(EthereumTesterProvider(chain.tester))
    facilitator = x402FacilitatorSync()
    register_exact_evm_facilitator(facilitator, signer, networks="eip155:84532")
    down = threading.Event()
    handler = type("Handler", (_Facilitation,), {"facilitator": facilitator, "down": down})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/f", down
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def _facilitated(chain: EvmChain, url: str, **more: Any) -> dict[str, Any]:
    settings = {**settings_of(chain), "facilitator_url": url, **more}
    del settings["relayer_key"]
    return {"x402": {name: value for name, value in settings.items() if value is not None}}


@pytest.mark.parametrize("version", [1, 2])
def test_the_reference_facilitator_settles_for_the_gateway(chain: EvmChain, tmp_path: Path, version: int) -> None:
    payer = chain.payer(10 + version)
    with (
        running_facilitator(chain) as (url, _),
        running_gateway(tmp_path, _facilitated(chain, url, rpc_url=None)) as gateway,
    ):
        agent, before = register(gateway.address, "facilitated"), chain.balance(PAY_TO)
        headers = {**agent, **payment(chain, payer, version, authorization(payer))}
        first = httpx.post(f"{gateway.address}{PATH}", headers=headers, timeout=30)
        assert first.status_code == 200, first.text
        assert (
            httpx.post(f"{gateway.address}{PATH}", headers=headers, timeout=30).json()["topup"] == first.json()["topup"]
        )
        poor = chain.payer(20 + version, 5)
        header = payment(chain, poor, version, authorization(poor))
        refused = httpx.post(f"{gateway.address}{PATH}", headers={**agent, **header}, timeout=30)
        assert refused.status_code == 402
        assert refused.json()["error"].startswith("invalid_exact_evm_")  # its own word, passed on
        assert chain.balance(PAY_TO) - before == 1_000_000


def test_a_payment_whose_facilitator_never_answered_is_credited_when_the_chain_shows_it(
    chain: EvmChain, tmp_path: Path
) -> None:
    payer = chain.payer(30)
    with (
        running_facilitator(chain) as (url, down),
        running_gateway(tmp_path, _facilitated(chain, url)) as gateway,
    ):
        agent = register(gateway.address, "unanswered")
        down.set()
        header = payment(chain, payer, 2, authorization(payer))
        answer = httpx.post(f"{gateway.address}{PATH}", headers={**agent, **header}, timeout=30)
        assert (answer.status_code, answer.json()["error"]) == (402, "settlement_pending")

        def credited() -> bool:
            told = httpx.get(f"{gateway.address}/api/agents/me", headers=agent, timeout=20).json()
            return bool(told["account"]["creditsPurchased"] == 10_000)

        wait_until(credited, "credit", 20.0)
        again = httpx.post(f"{gateway.address}{PATH}", headers={**agent, **header}, timeout=30)
        assert again.status_code == 200
        assert credited()
