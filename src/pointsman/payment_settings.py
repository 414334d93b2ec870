"""The settings of payments by x402: a part of pointsman.toml (settings.py reads it; docs/payments.md)."""

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from pointsman.errors import ConfigError
from pointsman.keyring import Secret

ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_CAIP: Final = re.compile(r"eip155:([1-9][0-9]{0,18})")
Nano = Annotated[int, msgspec.Meta(ge=1, le=10**15)]  # 10^15 is the most that the ledger moves at once


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A chain, by its number and its name in version 1; ``asset`` is Circle's USDC there, with its EIP-712 domain."""

    chain_id: int
    name: str
    asset: str | None = None
    asset_name: str | None = None
    asset_version: str | None = None


# Names of version 1 and addresses of USDC as the reference client 2.25.0 has them (2026-11).
NETWORKS: Final = (
    Network(
        chain_id=8453,
        name="base",
        asset="0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        asset_name="USD Coin",
        asset_version="2",
    ),
    Network(
        chain_id=84532,
        name="base-sepolia",
        asset="0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        asset_name="USDC",
        asset_version="2",
    ),
    Network(chain_id=1, name="ethereum"),
    Network(chain_id=137, name="polygon"),
    Network(chain_id=80002, name="polygon-amoy"),
    Network(chain_id=43114, name="avalanche"),
    Network(chain_id=43113, name="avalanche-fuji"),
    Network(chain_id=42220, name="celo"),
)


class X402Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[x402]``: payments by which agents top up their credit (docs/payments.md). Amounts in nano-USD."""

    pay_to: str | None = None
    network: str = "base"
    asset: str | None = None
    asset_name: str | None = None
    asset_version: str | None = None
    asset_decimals: Annotated[int, msgspec.Meta(ge=0, le=36)] = 6
    default_nano_usd: Nano = 1_000_000_000
    min_nano_usd: Nano = 100_000_000
    max_nano_usd: Nano = 1_000_000_000_000
    valid_seconds: Annotated[int, msgspec.Meta(ge=30, le=86_400)] = 300
    settle_timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=600)] = 60.0
    confirmations: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    facilitator_url: str | None = None
    facilitator_token: Secret | None = None  # env:NAME, file:PATH or the secret itself
    rpc_url: Secret | None = None  # env:NAME, file:PATH or the URL itself: it may hold a key
    relayer_key: Secret | None = None  # env:NAME, file:PATH or the key itself
    allow_private: bool = True  # the operator wrote the file: trusted

    @property
    def enabled(self) -> bool:
        """Whether payments are taken."""
        return self.pay_to is not None


def network_of(settings: X402Settings) -> Network:
    """The chain, with the asset that is taken there. Raises ConfigError that names what is missing."""
    found = _CAIP.fullmatch(settings.network)
    known = [one for one in NETWORKS if settings.network in (one.name, f"eip155:{one.chain_id}")]
    if not known and found is None:
        names = ", ".join(one.name for one in NETWORKS)
        raise ConfigError(f"network: must be like eip155:8453, or one of {names}")
    network = known[0] if known else Network(chain_id=int(found[1]) if found else 0, name=settings.network)
    chosen = {name: getattr(settings, name) for name in ("asset", "asset_name", "asset_version")}
    if settings.asset is not None:  # another asset has another domain
        network = msgspec.structs.replace(network, asset=None, asset_name=None, asset_version=None)
    network = msgspec.structs.replace(network, **{name: value for name, value in chosen.items() if value is not None})
    missing = [name for name in chosen if not getattr(network, name)]
    if missing:
        raise ConfigError(f"{missing[0]}: is missing; {settings.network} has none that is known")
    return network


def check_x402(settings: X402Settings, place: str) -> None:
    """Raises ConfigError for payments that could not be asked for, checked or settled."""
    if settings.pay_to is None:
        return
    try:
        network = network_of(settings)
    except ConfigError as error:
        raise ConfigError(f"{place}.{error}") from None
    for name, value in (("pay_to", settings.pay_to), ("asset", network.asset or "")):
        if ADDRESS.fullmatch(value) is None or int(value, 16) == 0:
            raise ConfigError(f"{place}.{name}: must be an address, 0x and 40 hexadecimal digits")
    if not settings.min_nano_usd <= settings.default_nano_usd <= settings.max_nano_usd:
        raise ConfigError(f"{place}.default_nano_usd: must be from min_nano_usd to max_nano_usd")
    if settings.default_nano_usd * 10**settings.asset_decimals % 10**9:
        raise ConfigError(f"{place}.default_nano_usd: the asset has only {settings.asset_decimals} decimals")
    _check_settler(settings, place)


def _check_settler(settings: X402Settings, place: str) -> None:
    if settings.facilitator_url is None:
        if settings.rpc_url is None or settings.relayer_key is None:
            raise ConfigError(f"{place}: needs facilitator_url, or rpc_url and relayer_key")
        return
    if settings.relayer_key is not None:
        raise ConfigError(f"{place}.relayer_key: is not used, the facilitator settles; leave one of the two out")
    check_address(settings.facilitator_url, f"{place}.facilitator_url")


def check_address(url: str, place: str) -> None:
    """Raises ConfigError, without repeating it, for a URL that can't be called."""
    try:
        parts = urlsplit(url)
        fit = parts.scheme in ("http", "https") and parts.hostname and parts.username is None and parts.port != 0
    except ValueError:
        fit = False
    if not fit or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"{place}: must be like https://example.org/path, without a user")
