"""The parts of payments by x402 that a serving process has, put together for `app` when there is `[x402]`."""

import asyncio
from importlib.util import find_spec
from typing import Final

from pointsman.accounting.cashier import Cashier
from pointsman.accounting.payment_books import PaymentBooks
from pointsman.accounting.payment_watch import PaymentWatch
from pointsman.accounting.payments import PaymentDesk, Settler
from pointsman.errors import ConfigError
from pointsman.installation import Installation
from pointsman.keyring import Secret
from pointsman.payment_settings import X402Settings, check_address, network_of
from pointsman.storage.payments import PaymentRepository
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.evm_chain import EvmChain
from pointsman.upstream.evm_relayer import Relayer
from pointsman.upstream.facilitator import Facilitator
from pointsman.upstream.json_posts import JsonPost

KEY_DIGITS: Final = 64


class Payments:
    """Raises ConfigError for what is missing, by name."""

    def __init__(self, installation: Installation, client: UpstreamClient) -> None:
        settings, clock = installation.settings.x402, installation.clock
        rows = PaymentRepository(installation.database)
        books = PaymentBooks(installation.database, rows, installation.ledger, clock)
        chain = _chain(installation, client, settings)
        self._relayer: Relayer | None = None
        seconds = settings.settle_timeout_seconds
        settler: Settler
        if settings.facilitator_url is not None:
            settler = Facilitator(_facilitator(installation, client, settings, settings.facilitator_url), seconds)
        elif chain is not None:
            settler = self._relayer = Relayer(chain, _relayer_key(installation, settings), clock, seconds)
        else:
            raise ConfigError("x402: needs facilitator_url, or rpc_url and relayer_key")
        self.desk = PaymentDesk(rows, books, clock, settler, chain, seconds)
        self.cashier = Cashier(settings, self.desk)
        self._watch = PaymentWatch(rows, books, clock, chain)

    async def run(self, stop: asyncio.Event) -> None:
        """Look after payments that were begun, until ``stop`` is set."""
        await self._watch.run(stop)

    async def aclose(self) -> None:
        """End what waits for the chain, and finish what is being written."""
        if self._relayer is not None:
            self._relayer.close()
        await self.desk.aclose()


def _chain(installation: Installation, client: UpstreamClient, settings: X402Settings) -> EvmChain | None:
    if settings.rpc_url is None:
        return None
    url = installation.environment.resolve(settings.rpc_url, "x402.rpc_url")
    check_address(url.reveal(), "x402.rpc_url")
    node = JsonPost("the chain's node", client, url, allow_private=settings.allow_private)
    return EvmChain(node, network_of(settings).chain_id, settings.confirmations)


def _facilitator(installation: Installation, client: UpstreamClient, settings: X402Settings, url: str) -> JsonPost:
    token = settings.facilitator_token
    if token is not None:
        token = installation.environment.resolve(token, "x402.facilitator_token")
    return JsonPost("the facilitator", client, Secret(url), token, allow_private=settings.allow_private)


def _relayer_key(installation: Installation, settings: X402Settings) -> Secret:
    """Looked at without the libraries that sign: they are imported when a payment comes."""
    if find_spec("eth_account") is None:
        raise ConfigError("x402.relayer_key: needs the package eth-account: pip install 'pointsman[x402]'")
    if settings.relayer_key is None:
        raise ConfigError("x402.relayer_key: is missing")
    key = installation.environment.resolve(settings.relayer_key, "x402.relayer_key")
    digits = key.reveal().removeprefix("0x")
    if len(digits) != KEY_DIGITS or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
        raise ConfigError(f"x402.relayer_key: must be a private key: {KEY_DIGITS} hexadecimal digits")
    return key
