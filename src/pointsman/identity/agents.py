"""Agents: programs that register themselves, each with an account of its own that spends only what was paid in."""

import hmac
import re
from typing import Any, Final

import msgspec

from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.identity.keys import Key, KeyService, NewKey
from pointsman.identity.lockout import Lockout, source_of
from pointsman.keyring import Secret
from pointsman.storage.accounts import AccountRepository, AccountRow, WorkspaceRow
from pointsman.storage.database import AlreadyExistsError
from pointsman.storage.keys import KeyRow

AGENT_ID: Final = re.compile(r"[A-Za-z0-9._:-]{3,128}")
WINDOW_SECONDS: Final = 3600.0  # in which registrations from one address count
SKILL_URL: Final = "skillMdUrl"  # in the account's settings
MAX_KEY_NAME: Final = 100


class AgentWords(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent says of itself."""

    agent_id: str
    name: str | None = None
    skill_url: str | None = None


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A new agent's account and key; the secret can't be had again. ``revision`` is the configuration's with it."""

    account: AccountRow
    key: KeyRow
    secret: Secret
    revision: int

    def __repr__(self) -> str:
        return f"Registered(account={self.account.id!r})"


class AgentService:
    """Registers agents and changes what they say of themselves.

    ``registrations``: how many may register from one address within `WINDOW_SECONDS`; None: none may. ``secret``:
    what they must know; ``guesses`` counts wrong ones, of each address alone.
    """

    def __init__(
        self,
        accounts: AccountRepository,
        keys: KeyService,
        clock: Clock,
        registrations: Lockout | None,
        secret: Secret | None,
        guesses: Lockout,
    ) -> None:
        self._accounts = accounts
        self._keys = keys
        self._clock = clock
        self._secret = secret
        self._guesses = guesses
        self._registrations = registrations

    async def find(self, agent_id: str) -> AccountRow | None:
        """The account of the agent that calls itself so."""
        return await self._accounts.find_external("agent", agent_id)

    async def account_of(self, key: Key) -> AccountRow:
        """The account of an agent's key. Raises GatewayError(UNAUTHENTICATED) when it is no agent's."""
        account = await self._accounts.find(key.account_id)
        if account is None or account.kind != "agent":
            raise GatewayError(Kind.UNAUTHENTICATED, "the API key is not valid")
        return account

    async def admit(self, presented: str | None, address: str) -> None:
        """Count a try. Raises GatewayError: UNAUTHENTICATED without the secret, RATE_LIMITED after too many."""
        registrations = self._registrations
        if self._secret is not None:
            await self._check_secret(self._secret, presented or "", address)
        wait = await registrations.try_once(address, "") if registrations is not None else int(WINDOW_SECONDS)
        if wait > 0:
            message = "too many agents were registered; try again later"
            if registrations is None:
                message = "agents can't register here"
            raise GatewayError(Kind.RATE_LIMITED, message, retry_after_seconds=wait)

    async def _check_secret(self, wanted: Secret, presented: str, address: str) -> None:
        wait = await self._guesses.try_once(address, f"at {source_of(address)}")
        if wait > 0:
            message = "too many wrong secrets were sent; try again later"
            raise GatewayError(Kind.RATE_LIMITED, message, retry_after_seconds=wait)
        if not hmac.compare_digest(wanted.reveal().encode(), presented.encode()):
            raise GatewayError(Kind.UNAUTHENTICATED, "registration needs the header x-agent-registration-secret")
        await self._guesses.note_success(address, f"at {source_of(address)}")

    async def register(self, words: AgentWords) -> Registered | None:
        """Make an agent's account, workspace and key, all or none; None: somebody has this name already."""
        now = self._clock.now_us()
        account_id = self._clock.new_id("acc")
        name = words.name or words.agent_id
        account = AccountRow(
            id=account_id,
            kind="agent",
            name=name,
            external_id=words.agent_id,
            created_at=now,
            updated_at=now,
            settings={SKILL_URL: words.skill_url} if words.skill_url is not None else {},
        )
        workspace = WorkspaceRow(
            id=account_id, account_id=account_id, slug="default", name="Default", created_at=now, updated_at=now
        )
        wanted = NewKey(
            name=name[:MAX_KEY_NAME], kind="crosscompute_agent", account_id=account_id, workspace_id=account_id
        )
        key, secret = self._keys.draw(wanted)
        try:
            revision = await self._accounts.add(account, workspace, key)
        except AlreadyExistsError:
            return None
        return Registered(account=account, key=key, secret=secret, revision=revision or 0)

    async def change(self, account: AccountRow, words: AgentWords) -> AccountRow:
        """Take over what an agent says of itself; what it does not say stays."""
        values: dict[str, Any] = {}
        if words.name is not None and words.name != account.name:
            values["name"] = words.name
        if words.skill_url is not None and words.skill_url != account.settings.get(SKILL_URL):
            values["settings"] = {**account.settings, SKILL_URL: words.skill_url}
        if not values:
            return account
        return await self._accounts.change(account.id, {**values, "updated_at": self._clock.now_us()}) or account
