"""Tells a webhook that budgets have passed thresholds: each once, again until it was taken, signed (webhooks.py).

``X-Pointsman-Delivery`` is the same in every attempt for one alert.
"""

import asyncio
from typing import Any, Final

import structlog

from pointsman.clock import Clock
from pointsman.errors import GatewayError
from pointsman.policy.budgets import NANO, moment, reset_of
from pointsman.storage.budget_alerts import AlertRepository, AlertRow
from pointsman.storage.budgets import BudgetRepository
from pointsman.storage.database import StorageError
from pointsman.upstream.webhooks import Webhook

LOOK_SECONDS: Final = 0.5
CALL_SECONDS: Final = 10.0
CLAIM_US: Final = 60_000_000  # who dies with an alert in hand has it told by another a minute later
MOST_IN_HAND: Final = 5  # all of them are told before others may take them, however late the webhook is
FIRST_WAIT_US: Final = 1_000_000
LONGEST_WAIT_US: Final = 3_600_000_000
MOST_ATTEMPTS: Final = 30  # a day and more
STALE_US: Final = 2 * 86_400_000_000  # noted while there was no webhook: nobody wants to know it now
log = structlog.get_logger("pointsman.budgets")


class AlertSender:
    """Sends what `AlertRepository` has noted."""

    def __init__(self, alerts: AlertRepository, budgets: BudgetRepository, webhook: Webhook, clock: Clock) -> None:
        self._alerts = alerts
        self._budgets = budgets
        self._webhook = webhook
        self._clock = clock
        self.results = {"sent": 0, "failed": 0, "given_up": 0}

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set; an alert in hand is finished, not cancelled."""
        while not stop.is_set():
            try:
                await self.step(stop)
            except StorageError as error:
                log.warning("budget alerts not sent", reason=str(error))
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await stop.wait()
            except TimeoutError:
                pass

    async def step(self, stop: asyncio.Event | None = None) -> int:
        """Send what is due, until ``stop`` is set; gives how many were taken. Raises StorageError."""
        now, taken = self._clock.now_us(), 0
        for row in await self._alerts.claim(now, now + CLAIM_US, MOST_IN_HAND):
            if stop is not None and stop.is_set():
                await self._alerts.end(row, sent_at=None, due_at=now)  # the next start tells it, or another node
                continue
            if now - row.created_at > STALE_US:
                self.results["given_up"] += 1
                await self._alerts.end(row, sent_at=None, due_at=None)
                continue
            problem = await self._tell(row)
            now = self._clock.now_us()
            if problem is None:
                taken += 1
                self.results["sent"] += 1
                await self._alerts.end(row, sent_at=now, due_at=None)
                continue
            given_up = row.attempts >= MOST_ATTEMPTS
            self.results["given_up" if given_up else "failed"] += 1
            log.warning("budget alert not taken", budget=row.budget_id, attempt=row.attempts, reason=problem)
            wait = min(LONGEST_WAIT_US, FIRST_WAIT_US * 2 ** min(row.attempts - 1, 20))
            await self._alerts.end(row, sent_at=None, due_at=None if given_up else now + wait)
        return taken

    async def _tell(self, row: AlertRow) -> str | None:
        """One attempt; None: it was taken, else what was wrong."""
        delivery = (("x-pointsman-delivery", _delivery(row)),)
        try:
            answer = await self._webhook.tell(await self._payload(row), CALL_SECONDS, delivery)
        except GatewayError as error:
            return error.message
        return None if 200 <= answer.status < 300 else f"status {answer.status}"

    async def _payload(self, row: AlertRow) -> dict[str, Any]:
        budget = await self._budgets.get(row.budget_id)
        told: dict[str, Any] = {
            "type": "budget.threshold",
            "id": _delivery(row),
            "created_at": moment(row.created_at),
            "threshold_percent": row.threshold,
            "spent_usd": row.spent_nano_usd / NANO,
            "limit_usd": row.limit_nano_usd / NANO,
            "budget": {"id": row.budget_id},
        }
        if budget is not None:
            resets_at = reset_of(budget.window, budget.window.period(row.created_at), None)
            told["budget"] |= {
                "scope": budget.scope,
                "subject": budget.subject,
                "window": budget.window.kind,
                "hard": budget.hard,
                "resets_at": None if resets_at is None else moment(resets_at),
            }
        return told


def _delivery(row: AlertRow) -> str:
    return f"{row.budget_id}-{row.turn}-{row.threshold}"
