"""What settled requests mean for the ledger: one usage transaction for each account that paid in a batch. Pure.

The request rows are the detailed book, each there once by its id; the ledger has their sums. A batch of one request
gives one transaction for that request.
"""

from collections.abc import Iterable

from pointsman.accounting.billing import upstream_price
from pointsman.canonical.ledger import MOST_NANO_USD, AccountKind, Draft, LedgerAccount, TransactionKind, credit_of
from pointsman.canonical.record import RequestRecord

UNNAMED = "unknown"  # a provider, in records that name neither it nor a connection


def upstream_cost(record: RequestRecord) -> int:
    """What the operator owes a provider for a request, in nano-USD; 0 when the caller is billed, or nobody knows."""
    return 0 if record.byok else _bounded(upstream_price(record))


def charge(record: RequestRecord) -> int:
    """What a request's account pays for it, in nano-USD; 0 when nobody knows the price."""
    return _bounded(record.cost_nano_usd)


def _bounded(cost: int | None) -> int:
    return min(max(cost or 0, 0), MOST_NANO_USD)


def provider_of(record: RequestRecord) -> str:
    """Who may bill a request."""
    return _storable(record.provider or record.connection_id or UNNAMED)


def _storable(name: str) -> str:
    return name.replace("\0", "\ufffd")  # as in the request's row


def usage_drafts(records: Iterable[RequestRecord]) -> list[Draft]:
    """The transactions of these requests, in the order of their accounts; none for what cost nothing."""
    batches: dict[str, _Usage] = {}
    for record in records:
        if record.cost_nano_usd or record.upstream_cost_nano_usd:
            account_id = _storable(record.account_id)
            batch = batches.get(account_id)
            if batch is None:
                batch = batches[account_id] = _Usage(account_id, _storable(record.request_id))
            batch.add(record)
    drafts = (batches[account_id].draft() for account_id in sorted(batches))
    return [draft for draft in drafts if draft is not None]


class _Usage:
    """The requests of one account in a batch."""

    def __init__(self, account_id: str, first: str) -> None:
        self._account_id = account_id
        self._first = first
        self._requests = 0
        self._newest = 0
        self._charged = self._fees = self._costs = self._insured = 0
        self._providers: dict[str, int] = {}

    def add(self, record: RequestRecord) -> None:
        """Count one more request."""
        self._requests += 1
        self._newest = max(self._newest, record.created_at)
        charged, cost = charge(record), upstream_cost(record)
        if record.byok:
            self._fees += charged
        else:
            self._charged += charged
        if cost:
            if record.exemption is None:
                self._costs += cost
            else:
                self._insured += cost
            provider = provider_of(record)
            self._providers[provider] = self._providers.get(provider, 0) + cost

    def draft(self) -> Draft | None:
        """The transaction; None when the amounts of all requests were 0 in the end."""
        amounts = {
            credit_of(self._account_id): -self._charged - self._fees,
            LedgerAccount(AccountKind.USAGE): self._charged,
            LedgerAccount(AccountKind.BYOK_FEES): self._fees,
            LedgerAccount(AccountKind.UPSTREAM_COSTS): -self._costs,
            LedgerAccount(AccountKind.INSURANCE): -self._insured,
        }
        for provider, cost in self._providers.items():
            amounts[LedgerAccount(AccountKind.PROVIDER, provider)] = cost
        amounts = {account: amount for account, amount in amounts.items() if amount}
        if not amounts:
            return None
        return Draft(
            key=f"usage:{self._first}",
            kind=TransactionKind.USAGE,
            account_id=self._account_id,
            created_at=self._newest,
            source="requests",
            amounts=amounts,
            requests=self._requests,
        )
