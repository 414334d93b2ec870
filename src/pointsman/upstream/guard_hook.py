"""A webhook that judges requests before the call, or answers before their client: asked within its time, through the
egress guard.

It gets ``{"type": "guard.request", "request_id", "rule", "model", "texts": [{"role", "text"}]}``, of an answer
``guard.answer``, and answers
``{"action": "allow" | "flag" | "redact" | "block"}``, with ``texts`` (as many strings) when it redacts. Where there is
a secret the call is signed like those about budgets (budget_alerts.py): ``X-Pointsman-Signature``.
"""

import asyncio
import hmac
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from pointsman.clock import Clock
from pointsman.errors import GatewayError
from pointsman.guard_settings import GuardRuleSettings
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.endpoints import header_lines, host_header
from pointsman.upstream.origins import Origin


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
        self._secret = settings.secret
        self._client = client
        self._clock = clock
        parts = urlsplit(settings.url or "")
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._origin = Origin(scheme=parts.scheme, host=host, port=port, allow_private=settings.allow_private)
        self._host = host_header(parts.scheme, host, port)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    async def judge(self, of: tuple[str, str], model: str, texts: list[dict[str, str]]) -> Judgement:
        """Ask it about the ``request`` or ``answer`` ``of`` a request's id. Raises HookFailed."""
        what, request_id = of
        told: dict[str, Any] = {
            "type": f"guard.{what}", "request_id": request_id, "rule": self.name, "model": model, "texts": texts
        }  # fmt: skip
        answer = CollectedAnswer()
        try:
            async with asyncio.timeout(self._seconds):
                await self._client.send(self._origin, self._message(msgspec.json.encode(told)), answer)
        except TimeoutError:
            raise HookFailed(f"no answer within {self._seconds:g} s") from None
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

    def _message(self, body: bytes) -> bytes:
        headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
        if self._secret is not None:
            seconds = self._clock.now_us() // 1_000_000
            signature = hmac.digest(self._secret.reveal().encode(), b"%d.%b" % (seconds, body), "sha256").hex()
            headers += (("x-pointsman-signature", f"t={seconds},v1={signature}"),)
        return b"POST %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (
            self._target.encode("ascii"), header_lines(self._host, headers), len(body), body
        )  # fmt: skip
