"""The settings of budgets and credits. Budgets themselves are data: operators change them while the server runs."""

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec

from pointsman.errors import ConfigError
from pointsman.keyring import Secret

# Enough for nearly every answer of a chat; models that write more say so, and their own limit is taken.
ASSUMED_OUTPUT_TOKENS: Final = 4096
# Longer than a node needs to start again on its journal, so that it mostly finds its leases as they were.
LEASE_SECONDS: Final = 300.0
SHORTEST_LEASE_SECONDS: Final = 1.0
ENDLESS_SECONDS: Final = 3e9  # about a century


class BudgetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[budgets]``."""

    unpriced: Literal["allow", "refuse"] = "allow"
    assumed_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**31)] = ASSUMED_OUTPUT_TOKENS
    lease_seconds: float = LEASE_SECONDS  # 0: leases of lost nodes never expire
    webhook_url: str | None = None
    webhook_secret: Secret | None = None  # env:NAME, file:PATH or the secret itself
    webhook_allow_private: bool = True  # the operator wrote the file: trusted


def lease_seconds_of(settings: BudgetSettings) -> float:
    """How long leases last of which nothing is heard."""
    return settings.lease_seconds or ENDLESS_SECONDS


class CreditSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[credits]``."""

    enforced: bool = False


def check_budgets(settings: BudgetSettings, place: str) -> None:
    """Raises ConfigError for leases of an impossible duration, for a webhook that can't be called, or whose calls
    nobody could tell from a forger's.
    """
    if settings.lease_seconds and not SHORTEST_LEASE_SECONDS <= settings.lease_seconds <= ENDLESS_SECONDS:
        raise ConfigError(f"{place}.lease_seconds: must be 0 (never) or {SHORTEST_LEASE_SECONDS:g} at least")
    if settings.webhook_url is None:
        return
    parts = urlsplit(settings.webhook_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not parts.path.isascii():
        raise ConfigError(f"{place}.webhook_url: must be like https://example.org/path, without a password")
    if settings.webhook_secret is None:
        raise ConfigError(f"{place}.webhook_secret: is missing; calls of the webhook are signed with it")
