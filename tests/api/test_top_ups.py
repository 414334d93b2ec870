"""Agents pay by x402 on a real EVM: what is asked, what is taken, and that nothing is credited twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from evm_chain import NETWORK, PAY_TO, EvmChain, running_chain
from gateway import RunningGateway, running_gateway, wait_until
from x402_payments import authorization, packed, payment, settings_of, submit, unpacked

PATH = "/api/agents/topup"
REFUSALS = "invalid_exact_evm_payload_"


@pytest.fixture(scope="module")
def chain() -> Iterator[EvmChain]:
    with running_chain() as started:
        yield started


@pytest.fixture(scope="module")
def gateway(chain: EvmChain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    settings = {"x402": settings_of(chain), "identity": {"agent_registrations": 50}}
    with running_gateway(tmp_path_factory.mktemp("x402"), settings) as started:
        yield started


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.address, timeout=20) as opened:
        yield opened


def register(client: httpx.Client, agent_id: str) -> dict[str, str]:
    answer = client.post("/api/agents/register", json={"agentId": agent_id})
    assert answer.status_code == 200, answer.text
    agent = {"authorization": f"Bearer {answer.json()['apiKey']}"}
    wait_until(lambda: client.get("/api/agents/me", headers=agent).status_code == 200, "account")
    return agent


@pytest.fixture(scope="module")
def pauper(gateway: RunningGateway) -> dict[str, str]:
    """An agent whose payments all fail."""
    with httpx.Client(base_url=gateway.address, timeout=20) as client:
        return register(client, "pauper")


def bought(client: httpx.Client, agent: dict[str, str]) -> float:
    return float(client.get("/api/agents/me", headers=agent).json()["account"]["creditsPurchased"])


def test_an_unpaid_call_is_told_the_price_in_both_versions(
    client: httpx.Client, chain: EvmChain, pauper: dict[str, str]
) -> None:
    answer = client.post(PATH, headers=pauper)
    assert answer.status_code == 402
    assert answer.headers["x-crosscompute-payment-header-present"] == "false"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["ok"], body["x402Version"]) == (False, 1)
    [old] = body["accepts"]
    assert (old["network"], old["maxAmountRequired"], old["payTo"]) == (NETWORK, "1000000", PAY_TO)
    told = unpacked(answer.headers["payment-required"])
    assert told["x402Version"] == 2
    assert told["resource"]["url"].endswith(PATH)
    [new] = told["accepts"]
    assert (new["network"], new["amount"], new["asset"]) == ("eip155:84532", "1000000", chain.token)
    assert new["extra"] == {"name": "USD Coin", "version": "2"}


def test_a_key_is_asked_for_before_a_payment(client: httpx.Client) -> None:
    assert client.post(PATH).status_code == 401


@pytest.mark.parametrize("version", [1, 2])
def test_a_payment_moves_the_money_and_credits_the_agent(client: httpx.Client, chain: EvmChain, version: int) -> None:
    agent, payer = register(client, f"pays-{version}"), chain.payer(version)
    before = chain.balance(PAY_TO)
    answer = client.post(PATH, headers={**agent, **payment(chain, payer, version, authorization(payer))})
    assert answer.status_code == 200, answer.text
    assert chain.balance(PAY_TO) - before == 1_000_000
    told = answer.json()
    assert (told["topup"]["credits"], told["topup"]["amountAtomic"]) == (10_000, "1000000")
    assert told["topup"]["status"] == "settled"
    assert told["account"]["creditsPurchased"] == told["key"]["remainingCredits"] == bought(client, agent) == 10_000
    name = "x-payment-response" if version == 1 else "payment-response"
    receipt = unpacked(answer.headers[name])
    assert receipt["success"] is True
    assert receipt["transaction"] == told["topup"]["txHash"]
    assert receipt["payer"].lower() == payer.address.lower()
    assert answer.headers["x-crosscompute-payment-header-kind"] == f"v{version}"


def test_the_same_payment_again_is_answered_alike_and_credited_once(client: httpx.Client, chain: EvmChain) -> None:
    agent, payer = register(client, "again"), chain.payer(3)
    headers = {**agent, **payment(chain, payer, 2, authorization(payer))}
    first, second = client.post(PATH, headers=headers), client.post(PATH, headers=headers)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["topup"] == second.json()["topup"]
    assert bought(client, agent) == 10_000


def test_a_payment_of_one_agent_is_no_good_for_another(
    client: httpx.Client, chain: EvmChain, pauper: dict[str, str]
) -> None:
    agent, thief, payer = register(client, "owner"), pauper, chain.payer(4)
    header = payment(chain, payer, 2, authorization(payer))
    assert client.post(PATH, headers={**agent, **header}).status_code == 200
    refused = client.post(PATH, headers={**thief, **header})
    assert (refused.status_code, refused.json()["error"]) == (402, "invalid_exact_evm_nonce_already_used")
    assert unpacked(refused.headers["payment-response"])["success"] is False
    assert bought(client, thief) == 0


def test_an_authorization_that_was_used_elsewhere_is_refused(
    client: httpx.Client, chain: EvmChain, pauper: dict[str, str]
) -> None:
    payer = chain.payer(5)
    told = authorization(payer)
    submit(chain, payer, told)
    refused = client.post(PATH, headers={**pauper, **payment(chain, payer, 1, told)})
    assert (refused.status_code, refused.json()["error"]) == (402, "invalid_exact_evm_nonce_already_used")
    assert bought(client, pauper) == 0


def test_one_payment_presented_many_times_at_once_is_credited_once(client: httpx.Client, chain: EvmChain) -> None:
    agent, payer = register(client, "hasty"), chain.payer(6)
    before = chain.balance(PAY_TO)
    headers = {**agent, **payment(chain, payer, 2, authorization(payer))}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: client.post(PATH, headers=headers), range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert len({answer.json()["topup"]["id"] for answer in answers}) == 1
    assert bought(client, agent) == 10_000
    assert chain.balance(PAY_TO) - before == 1_000_000


def test_other_amounts_are_paid_exactly(client: httpx.Client, chain: EvmChain) -> None:
    agent, payer = register(client, "odd"), chain.payer(7)
    told = authorization(payer, 2_345_678)
    answer = client.post(PATH, headers={**agent, **payment(chain, payer, 2, told)}, json={"amountUsd": "2.345678"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["topup"]["amountUsd"] == 2.345678
    told = authorization(payer, 500_000)
    answer = client.post(PATH, headers={**agent, **payment(chain, payer, 1, told)}, params={"credits": "5000"})
    assert answer.status_code == 200, answer.text
    assert bought(client, agent) == 28_456.78


@pytest.mark.parametrize(
    ("amount", "field"),
    [({"amountUsd": 0}, "amountUsd"), ({"amountUsd": -1}, "amountUsd"), ({"amountUsd": "a"}, "amountUsd"),
     ({"amountUsd": 1e9}, "amountUsd"), ({"amountUsd": "1.0000001"}, "amountUsd"), ({"credits": True}, "credits"),
     ({"credits": "nan"}, "credits"), ({"credits": 1, "amountUsd": 1}, "credits")],
)  # fmt: skip
def test_amounts_that_nobody_can_pay_are_refused_by_name(
    client: httpx.Client, pauper: dict[str, str], amount: Any, field: str
) -> None:
    answer = client.post(PATH, headers=pauper, json=amount)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


def _tampered(chain: EvmChain, payer: Any, change: str) -> tuple[dict[str, str], str]:
    """The header of a payment that is wrong in one way, and the reason that names it."""
    told = authorization(payer)
    if change == "value changed after signing":
        header = payment(chain, payer, 1, {**told, "value": "1"})
        document = unpacked(header["x-payment"])
        document["payload"]["authorization"]["value"] = "1000000"
        return {"x-payment": packed(document)}, REFUSALS + "signature"
    cases: dict[str, tuple[int, dict[str, Any], dict[str, Any], str]] = {
        "less": (1, {"value": "999999"}, {}, REFUSALS + "authorization_value_mismatch"),
        "more": (1, {"value": "1000001"}, {}, REFUSALS + "authorization_value_mismatch"),
        "less accepted": (2, {}, {"amount": "1"}, REFUSALS + "authorization_value_mismatch"),
        "to somebody else": (1, {"to": payer.address}, {}, REFUSALS + "recipient_mismatch"),
        "payTo": (2, {}, {"payTo": payer.address}, REFUSALS + "recipient_mismatch"),
        "expired": (1, {"validBefore": "1700000000"}, {}, REFUSALS + "authorization_valid_before"),
        "later": (2, {"validAfter": "4000000000", "validBefore": "4000000300"}, {},
                  REFUSALS + "authorization_valid_after"),
        "old network": (1, {}, {"network": "base"}, "network_mismatch"),
        "network": (2, {}, {"network": "eip155:8453"}, "network_mismatch"),
        "scheme": (2, {}, {"scheme": "upto"}, "unsupported_scheme"),
        "asset": (2, {}, {"asset": PAY_TO}, "invalid_payment_requirements"),
        "poor": (1, {}, {}, "invalid_exact_evm_insufficient_balance"),
    }  # fmt: skip
    version, signed, accepted, reason = cases[change]
    return payment(chain, payer, version, {**told, **signed}, **accepted), reason


@pytest.mark.parametrize(
    "change",
    ["value changed after signing", "less", "more", "less accepted", "to somebody else", "payTo", "expired", "later",
     "old network", "network", "scheme", "asset", "poor"],
)  # fmt: skip
def test_a_payment_that_is_not_what_was_asked_is_refused_with_its_reason(
    client: httpx.Client, chain: EvmChain, pauper: dict[str, str], change: str
) -> None:
    payer = chain.payer(99, 999_999) if change == "poor" else chain.payer(98)
    header, reason = _tampered(chain, payer, change)
    before = chain.balance(PAY_TO)
    answer = client.post(PATH, headers={**pauper, **header})
    assert (answer.status_code, answer.json()["error"]) == (402, reason)
    assert unpacked(answer.headers["payment-required"])["accepts"]
    assert chain.balance(PAY_TO) == before
    assert bought(client, pauper) == 0


@pytest.mark.parametrize(
    "header",
    [{"x-payment": "no base64!"}, {"x-payment": ""}, {"payment-signature": "e30="}, {"payment-signature": "W10="},
     {"x-payment": "eyJ4NDAyVmVyc2lvbiI6IDF9"}, {"x-payment": "A" * 20_000}],
)  # fmt: skip
def test_a_payment_that_can_not_be_read_is_400(
    client: httpx.Client, pauper: dict[str, str], header: dict[str, str]
) -> None:
    answer = client.post(PATH, headers={**pauper, **header})
    assert answer.status_code == 400
    assert answer.json()["ok"] is False


def test_health_says_that_payments_are_taken(client: httpx.Client) -> None:
    told = client.get("/health").json()
    assert told["x402"]["enabled"] is told["paymentChannels"]["x402"]["enabled"] is True
