"""What accounts are charged for calls: the settings. Pure data: `settings` reads it, `accounting.billing` obeys."""

from typing import Annotated

import msgspec

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[ledger]``: what accounts are charged (docs/ledger.md)."""

    zero_completion_insurance: bool = True
    byok_fee_percent: Percent = 5.0
