"""The parts of budgets that a serving process has, put together for `app`."""

from collections.abc import Callable

from pointsman.accounting.budget_desk import BudgetDesk
from pointsman.accounting.homes import holder_name, home_of
from pointsman.accounting.journal import Journal
from pointsman.budget_settings import lease_seconds_of
from pointsman.installation import Installation
from pointsman.keyring import Secret
from pointsman.policy.budgets import Budgets
from pointsman.storage.budget_alerts import AlertRepository
from pointsman.storage.budget_leases import BudgetLeaseRepository, Holder
from pointsman.upstream.budget_alerts import AlertSender
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.json_posts import JsonPost
from pointsman.upstream.webhooks import Webhook

Counters = dict[str, tuple[str, str, Callable[[], dict[str, int]]]]


def open_budgets(installation: Installation, journal: Journal) -> Budgets:
    """The budgets of a process, which is known to the escrow by its journal. Raises OSError."""
    home = home_of(installation.data_dir / "journal")
    escrow = BudgetLeaseRepository(installation.database, installation.ledger.repository.credit_in)
    settings = installation.settings.budgets
    holder = Holder(holder_name(home, journal.tag), home, round(lease_seconds_of(settings) * 1e6))
    return Budgets(
        BudgetDesk(escrow, installation.clock, holder),
        installation.clock,
        unpriced=settings.unpriced,
        assumed_output_tokens=settings.assumed_output_tokens,
    )


def alert_sender(installation: Installation, client: UpstreamClient) -> AlertSender | None:
    """What tells the webhook; None without one. Raises ConfigError when its secret can't be read."""
    settings = installation.settings.budgets
    if settings.webhook_url is None or settings.webhook_secret is None:
        return None
    secret = installation.environment.resolve(settings.webhook_secret, "budgets.webhook_secret")
    url = Secret(settings.webhook_url)
    post = JsonPost("the webhook", client, url, allow_private=settings.webhook_allow_private)
    return AlertSender(
        AlertRepository(installation.database),
        installation.budget_rows,
        Webhook(post, secret, installation.clock),
        installation.clock,
    )


def budget_counters(budgets: Budgets, alerts: AlertSender | None) -> Counters:
    """What the metrics tell of budgets, as `Meter.counter` takes it."""
    return {
        "pointsman_budget_refusals": ("Calls that a budget could not pay for.", "scope", lambda: budgets.refused),
        "pointsman_budget_events": (
            "What happened between processes and the escrow of budgets; calls that waited or had no price.",
            "event",
            lambda: {**budgets.desk.events, "unpriced": budgets.unpriced_calls},
        ),
        "pointsman_budget_alerts": (
            "Attempts to tell the webhook of passed thresholds.",
            "result",
            lambda: alerts.results if alerts is not None else {},
        ),
    }
