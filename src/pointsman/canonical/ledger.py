"""The ledger's language: its accounts, and transactions before they are posted (docs/ledger.md).

Amounts are integer nano-USD: above 0 where value arrives (credit), below 0 where it leaves (debit). So what is owed to
somebody (an account's credit, a provider's bill) and what was earned stands above 0, money held outside and expenses
below 0, and all balances together are 0.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

MOST_NANO_USD: Final = 10**15  # a million USD, of one transaction: 9,000 of them fit into 64 bits
NANO_PER_USD: Final = 10**9


class AccountKind(StrEnum):
    """The chart of accounts: what a ledger account is for."""

    CREDIT = "credit"  # liability: what an account has paid in and not spent, one for each account
    PROVIDER = "provider"  # liability: what a provider may bill, one for each provider
    USAGE = "usage"  # income: calls that were charged
    BYOK_FEES = "byok_fees"  # income: the share for calls that a provider bills to the caller itself
    UPSTREAM_COSTS = "upstream_costs"  # expense: what charged calls cost upstream
    INSURANCE = "insurance"  # expense: what calls cost upstream that are not charged
    PROMOTIONS = "promotions"  # expense: credit that was given
    EXTERNAL = "external"  # asset: payments that came in, less those that went out
    ADJUSTMENTS = "adjustments"  # equity: corrections by hand


class TransactionKind(StrEnum):
    """Why something is posted."""

    USAGE = "usage"
    TOP_UP = "top_up"
    GRANT = "grant"
    WITHDRAWAL = "withdrawal"
    TRANSFER = "transfer"
    ADJUSTMENT = "adjustment"
    REFUND = "refund"


class LedgerAccount(NamedTuple):
    """One account of the ledger. ``owner`` is an account's or a provider's name; empty for the operator's own."""

    kind: AccountKind
    owner: str = ""

    @property
    def id(self) -> str:
        """Its name in the tables: the kind, and the owner after a colon."""
        return f"{self.kind}:{self.owner}" if self.owner else self.kind.value


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction that is to be posted. Posting the same ``key`` again changes nothing.

    ``created_at`` is in microseconds since 1970 UTC; ``subject`` is the id of the request that a refund is for;
    ``requests`` is how many requests a usage transaction sums up. Raises ValueError when it does not sum to 0.
    """

    key: str
    kind: TransactionKind
    account_id: str
    created_at: int
    source: str
    amounts: Mapping[LedgerAccount, int]
    note: str = ""
    subject: str | None = None
    requests: int = 0

    def __post_init__(self) -> None:
        if sum(self.amounts.values()) or not all(self.amounts.values()):
            raise ValueError(f"the transaction {self.key} does not sum to 0, or has an empty posting")


def credit_of(account_id: str) -> LedgerAccount:
    """The ledger account of what this account may spend."""
    return LedgerAccount(AccountKind.CREDIT, account_id)
