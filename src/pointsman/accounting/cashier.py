"""What a payment must be: amounts within the operator's bounds, in whole units of the asset, as offers of x402."""

from pointsman.accounting.payments import PaymentDesk
from pointsman.canonical.ledger import NANO_PER_USD
from pointsman.canonical.payments import Offer
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.payment_settings import X402Settings, network_of


class Cashier:
    """Makes offers; ``desk`` takes what is paid for them. Raises ConfigError for settings without a receiver."""

    def __init__(self, settings: X402Settings, desk: PaymentDesk) -> None:
        if settings.pay_to is None:
            raise ConfigError("x402.pay_to: is missing")
        self._settings = settings
        self._pay_to = settings.pay_to
        self._network = network_of(settings)
        self.desk = desk

    def offer(self, nano_usd: int | None, resource: str, field: str) -> Offer:
        """For an amount, or for the usual one. Raises GatewayError(INVALID_REQUEST) naming ``field``."""
        settings, network = self._settings, self._network
        nano = settings.default_nano_usd if nano_usd is None else nano_usd
        if not settings.min_nano_usd <= nano <= settings.max_nano_usd:
            bounds = f"{_usd(settings.min_nano_usd)} to {_usd(settings.max_nano_usd)} USD"
            raise GatewayError(Kind.INVALID_REQUEST, f"'{field}' must be {bounds}", param=field)
        atomic, rest = divmod(nano * 10**settings.asset_decimals, NANO_PER_USD)
        if rest:
            message = f"'{field}' is finer than the asset, which has {settings.asset_decimals} decimals"
            raise GatewayError(Kind.INVALID_REQUEST, message, param=field)
        return Offer(
            resource=resource,
            chain_id=network.chain_id,
            old_network=network.name,
            asset=network.asset or "",
            asset_name=network.asset_name or "",
            asset_version=network.asset_version or "",
            pay_to=self._pay_to,
            atomic=atomic,
            nano_usd=nano,
            valid_seconds=settings.valid_seconds,
        )


def _usd(nano: int) -> str:
    whole, rest = divmod(nano, NANO_PER_USD)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
