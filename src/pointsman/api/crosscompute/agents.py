"""``/api/agents/...``: agents register themselves, and see their credits and what they used.

An agent's account belongs to the agent: its key alone sees it. It spends what was paid in and no more.
"""

from typing import Any, Final
from urllib.parse import urlsplit

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.crosscompute.agent_skill import SKILL
from pointsman.api.crosscompute.agent_standing import AgentStanding, shown
from pointsman.api.crosscompute.client import caller, read_members, tell, text_of
from pointsman.api.exchange import HttpRequest, wrong
from pointsman.api.omniroute.moments import instant
from pointsman.errors import GatewayError
from pointsman.gateway import Gateway
from pointsman.identity.agents import AGENT_ID, SKILL_URL, AgentService, AgentWords, Registered
from pointsman.identity.keys import Key
from pointsman.policy.authentication import identify
from pointsman.storage.accounts import AccountRow
from pointsman.storage.ledger import Prepaid
from pointsman.storage.model_usage import ModelUsageRepository

MAX_NAME: Final = 120
MAX_URL: Final = 1000
SECRET_HEADER: Final = "x-agent-registration-secret"


class AgentViews:
    """The views."""

    def __init__(
        self,
        gateway: Gateway,
        agents: AgentService,
        standing: AgentStanding,
        usage: ModelUsageRepository,
        apply: Any,
    ) -> None:
        self._gateway = gateway
        self._agents = agents
        self._standing = standing
        self._usage = usage
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @post("/api/agents/register", status_code=200)
        async def register(request: HttpRequest) -> Response[bytes]:
            return await self._register(request)

        @get("/api/agents/me")
        async def me(request: HttpRequest) -> Response[bytes]:
            return tell(await self._standing.of(caller(request)))

        @get("/api/agents/usage")
        async def usage(request: HttpRequest) -> Response[bytes]:
            key = caller(request)
            account = await self._agents.account_of(key)
            told = await self._credits(key, account)
            # Clients of the documentation read the members at the top, those of the specification below "usage".
            return tell({"usage": told, **told})

        @get("/api/agents/usage-models")
        async def usage_models(request: HttpRequest) -> Response[bytes]:
            return tell({"items": await self._models(caller(request))})

        @get("/api/agents/skill-md")
        async def skill(request: HttpRequest) -> Response[bytes]:
            await self._agents.account_of(caller(request))
            return Response(SKILL, media_type="text/markdown; charset=utf-8")

        return [register, me, usage, usage_models, skill]

    async def _register(self, request: HttpRequest) -> Response[bytes]:
        words = _read_words(await read_members(request))
        address = request.scope["client"][0] if request.scope["client"] else ""
        known = await self._agents.find(words.agent_id)
        if known is None:
            await self._agents.admit(request.headers.get(SECRET_HEADER), address)
            made = await self._agents.register(words)
            if made is not None:
                return await self._welcome(made)
            known = await self._agents.find(words.agent_id)
        key = self._key_of(request)
        if known is None or key is None or key.account_id != known.id:
            # Whoever has no key of it is told nothing of it, and changes nothing.
            return tell({"created": False, "account": {"agentId": words.agent_id}, "key": {}})
        await self._agents.change(known, words)
        return tell({"created": False, **await self._standing.of(key)})

    async def _welcome(self, made: Registered) -> Response[bytes]:
        await self._apply(made.revision)
        told = shown(made.account, made.key, Prepaid(balance=0, spent=0))
        return tell({"created": True, **told, "apiKey": made.secret.reveal()})

    def _key_of(self, request: HttpRequest) -> Key | None:
        """The agent's key that is shown, at a route that needs none."""
        headers: dict[bytes, bytes] = dict(request.scope["headers"])
        try:
            key = identify(headers, self._gateway.snapshot.keys, self._gateway.clock.now_us())
        except GatewayError:
            return None
        return key if key.kind == "crosscompute_agent" else None

    async def _credits(self, key: Key, account: AccountRow) -> dict[str, Any]:
        shown = await self._standing.of(key)
        told = {name: shown["key"][name] for name in ("quotaCredits", "usedCredits", "remainingCredits")}
        bought = shown["account"]["creditsPurchased"]
        return {"agentId": account.external_id, "keyPrefix": shown["key"]["prefix"], **told, "creditsPurchased": bought}

    async def _models(self, key: Key) -> list[dict[str, Any]]:
        rows = await self._usage.by_model(key.account_id)
        return [
            {
                "provider": row.provider,
                "model": row.model,
                "inputTokens": row.input_tokens,
                "outputTokens": row.output_tokens,
                "totalTokens": row.input_tokens + row.output_tokens,
                "requestCount": row.requests,
                "lastRequestAt": instant(row.newest_at),
                "updatedAt": instant(row.newest_at),
            }
            for row in rows
        ]


def _read_words(members: dict[str, Any]) -> AgentWords:
    agent_id = members.get("agentId")
    if not isinstance(agent_id, str) or AGENT_ID.fullmatch(agent_id) is None:
        raise wrong("agentId", "must be 3 to 128 letters, digits, dots, colons, '_' and '-'")
    url = text_of(members, SKILL_URL, MAX_URL)
    if url is not None and not _is_web_address(url):
        raise wrong(SKILL_URL, "must be an http or https address")
    return AgentWords(agent_id=agent_id, name=text_of(members, "name", MAX_NAME), skill_url=url)


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        return False
