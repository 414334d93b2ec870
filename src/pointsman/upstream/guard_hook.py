"""A webhook that judges requests before the call, or answers before their client: asked within its time, through the
egress guard.

It gets ``{"type": "guard.request", "request_id", "rule", "model", "texts": [{"role", "text"}]}``, of an answer
``guard.answer``, and answers
``{"action": "allow" | "flag" | "redact" | "block"}``, with ``texts`` (as many strings) when it redacts. Where there is
a secret the call is signed (webhooks.py).
"""

from typing import Literal

import msgspec

from pointsman.clock import Clock
from pointsman.errors import GatewayError
from pointsman.guard_settings import GuardRuleSettings
from pointsman.keyring import Secret
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.json_posts import JsonPost
from pointsman.upstream.webhooks import Webhook


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook says. ``texts`` replace those that it was asked about, one by one."""

    action: Literal["allow", "flag", "redact", "block"]
    texts: list[str] | None = None


class HookFailed(Exception):
    """The webhook gave no judgement; the message says why, and holds nothing that was sent or answered."""


class GuardHook:
    """One rule's webhook."""

    def __init__(self, name: str, settings: GuardRuleSettings, client: UpstreamClient, clock: Clock) -> None:
        """``settings`` have passed `guard_settings.check_members`; their secret is one, and no reference."""
        self.name = name
        self.requests = settings.where != "answer"
        self.answers = settings.where != "request"
        self.closed = settings.on_failure == "closed"
        self._seconds = settings.timeout_seconds
        post = JsonPost("its webhook", client, Secret(settings.url or ""), allow_private=settings.allow_private)
        self._webhook = Webhook(post, settings.secret, clock)

    async def judge(self, of: tuple[str, str], model: str, texts: list[dict[str, str]]) -> Judgement:
        """Ask it about the ``request`` or ``answer`` ``of`` a request's id. Raises HookFailed."""
        what, request_id = of
        told = {
            "type": f"guard.{what}", "request_id": request_id, "rule": self.name, "model": model, "texts": texts
        }  # fmt: skip
        try:
            answer = await self._webhook.tell(told, self._seconds)
        except GatewayError as error:
            raise HookFailed(error.message) from None
        if answer.status != 200:
            raise HookFailed(f"status {answer.status}")
        try:
            judgement = msgspec.json.decode(answer.body, type=Judgement)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise HookFailed("its answer is no judgement") from None
        if judgement.action == "redact" and (judgement.texts is None or len(judgement.texts) != len(texts)):
            raise HookFailed("it redacts, and does not give as many texts as it got")
        return judgement
