"""``[x402]``: what is refused, and by which name."""

from typing import Any

import pytest

from pointsman.errors import ConfigError
from pointsman.payment_settings import network_of
from pointsman.settings import parse_settings

PAY_TO = "0x" + "22" * 20
OWN = {"pay_to": PAY_TO, "rpc_url": "env:NODE", "relayer_key": "env:KEY"}


def test_nothing_is_taken_without_a_receiver() -> None:
    assert not parse_settings({}, "test").x402.enabled


def test_usdc_is_known_on_base() -> None:
    settings = parse_settings({"x402": OWN}, "test").x402
    network = network_of(settings)
    assert (network.chain_id, network.asset_name, network.asset_version) == (8453, "USD Coin", "2")


def test_other_chains_are_named_by_their_number() -> None:
    asset = {"asset": "0x" + "44" * 20, "asset_name": "USD", "asset_version": "1"}
    network = network_of(parse_settings({"x402": {**OWN, **asset, "network": "eip155:31337"}}, "test").x402)
    assert (network.chain_id, network.name, network.asset) == (31337, "eip155:31337", asset["asset"])


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"pay_to": "0x12"}, "x402.pay_to"),
        ({"pay_to": "0x" + "0" * 40}, "x402.pay_to"),
        ({"network": "dogecoin"}, "x402.network"),
        ({"network": "polygon"}, "x402.asset"),
        ({"asset": "0x" + "44" * 20}, "x402.asset_name"),
        ({"default_nano_usd": 1}, "x402.default_nano_usd"),
        ({"default_nano_usd": 1_000_000_001}, "x402.default_nano_usd"),
        ({"facilitator_url": "https://example.org"}, "x402.relayer_key"),
        ({"facilitator_url": "ftp://example.org", "relayer_key": None}, "x402.facilitator_url"),
        ({"relayer_key": None}, "x402: needs"),
        ({"rpc_url": None}, "x402: needs"),
    ],
)
def test_payments_that_could_not_be_taken_are_refused_at_the_start(more: dict[str, Any], name: str) -> None:
    table = {key: value for key, value in {**OWN, **more}.items() if value is not None}
    with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
        parse_settings({"x402": table}, "test")
