"""The settings of budgets and credits. Budgets themselves are data: operators change them while the server runs."""

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec

from pointsman.errors import ConfigError
from pointsman.keyring import Secret

# Enough for nearly every answer of a chat; models that write more say so, and their own limit is taken.
ASSUMED_OUTPUT_TOKENS: Final = 4096


class BudgetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[budgets]``."""

    unpriced: Literal["allow", "refuse"] = "allow"
    assumed_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**31)] = ASSUMED_OUTPUT_TOKENS
    webhook_url: str | None = None
    webhook_secret: Secret | None = None  # env:NAME, file:PATH or the secret itself
    webhook_allow_private: bool = True  # the operator wrote the file: trusted


class CreditSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[credits]``."""

    enforced: bool = False


def check_budgets(settings: BudgetSettings, place: str) -> None:
    """Raises ConfigError for a webhook that can't be called, or whose calls nobody could tell from a forger's."""
    if settings.webhook_url is None:
        return
    parts = urlsplit(settings.webhook_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not parts.path.isascii():
        raise ConfigError(f"{place}.webhook_url: must be like https://example.org/path, without a password")
    if settings.webhook_secret is None:
        raise ConfigError(f"{place}.webhook_secret: is missing; calls of the webhook are signed with it")
