"""How an agent's account stands, as CrossCompute's answers show it."""

from typing import Any

from pointsman.canonical.credits import credits_number
from pointsman.errors import GatewayError, Kind
from pointsman.identity.agents import SKILL_URL, AgentService
from pointsman.identity.key_numbers import uuid_of
from pointsman.identity.keys import Key, KeyService
from pointsman.storage.accounts import AccountRow
from pointsman.storage.keys import KeyRow
from pointsman.storage.ledger import LedgerRepository, Prepaid


class AgentStanding:
    """Asks for account, key and credit."""

    def __init__(self, agents: AgentService, keys: KeyService, ledger: LedgerRepository) -> None:
        self._agents = agents
        self._keys = keys
        self._ledger = ledger

    async def of(self, key: Key) -> dict[str, Any]:
        """``{account, key}`` of an agent's key. Raises GatewayError(UNAUTHENTICATED)."""
        account = await self._agents.account_of(key)
        row = await self._keys.owned(key.account_id, key.id)
        if row is None:
            raise GatewayError(Kind.UNAUTHENTICATED, "the API key is not valid")
        return shown(account, row, await self._ledger.prepaid(account.id))


def shown(account: AccountRow, key: KeyRow, prepaid: Prepaid) -> dict[str, Any]:
    """``{account, key}``."""
    bought = credits_number(prepaid.balance + prepaid.spent)
    return {
        "account": {
            "id": account.id,
            "agentId": account.external_id,
            "name": account.name,
            "skillMdUrl": account.settings.get(SKILL_URL),
            "creditsPurchased": bought,
        },
        "key": {
            "id": uuid_of(key.id),
            "label": key.name,
            "prefix": key.hint,
            "quotaCredits": bought,
            "usedCredits": credits_number(prepaid.spent),
            "remainingCredits": credits_number(prepaid.balance),
            "active": not key.disabled,
        },
    }
