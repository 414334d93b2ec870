"""What a server's metrics tell beside its requests: what is under way, what waits, what was refused."""

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from pointsman.accounting.telemetry import Merge
from pointsman.budget_parts import budget_counters
from pointsman.clock import Clock
from pointsman.installation import Installation

if TYPE_CHECKING:
    from pointsman.app import Server


Gauges = dict[str, tuple[str, Callable[[], float], Merge]]
Counters = dict[str, tuple[str, str, Callable[[], dict[str, int]]]]


def show_gauges(server: "Server", installation: Installation, clock: Clock) -> None:
    """Have the server's meter show them."""
    for name, (text, read, merge) in _gauges(server, installation, clock).items():
        server.meter.gauge(name, text, read, merge)
    if server.house is not None:
        server.house.show_gauges(server.meter)
    for name, (text, label, counts) in _counters(server, installation).items():
        server.meter.counter(name, text, label, counts)


def _gauges(server: "Server", installation: Installation, clock: Clock) -> Gauges:
    return {
        "pointsman_requests_in_flight": ("Requests being served.", lambda: server.edge.active, "sum"),
        "pointsman_requests_queued": ("Calls that wait for a place.", lambda: server.admission.queued, "sum"),
        "pointsman_client_connections": ("Open client connections.", lambda: len(server.edge.connections), "sum"),
        "pointsman_upstream_connections": (
            "Open upstream connections.", lambda: server.client.open_connections, "sum"
        ),
        "pointsman_event_loop_lag_seconds": (
            "How late the last timer came.", lambda: server.ticker.lag_seconds, "max"
        ),
        "pointsman_asyncio_tasks": (
            "Tasks that are not done.", lambda: len(asyncio.all_tasks(server.ticker.loop)), "sum"
        ),
        "pointsman_python_blocks": (
            "Pieces of memory that objects have; their size on pages (RSS) also grows with gaps between them.",
            sys.getallocatedblocks,
            "sum",
        ),
        "pointsman_journal_parked_records": (
            "Records waiting for the journal.", lambda: server.ledger.parked, "sum"
        ),
        "pointsman_vault_memory_bytes": (
            "Reasoning state in memory.", lambda: server.gateway.vault.bytes, "sum"
        ),
        "pointsman_vault_queued_writes": (
            "Reasoning state that waits for the database.", lambda: installation.states.queued, "sum"
        ),
        "pointsman_unpriced_models": (
            "Offered models that nobody knows the price of.", lambda: server.unpriced.count, "max"
        ),
        "pointsman_connections_cooling": (
            "Accounts that are left alone now.", lambda: server.health.standing(clock.now_us())[0], "max"
        ),
        "pointsman_providers_open": (
            "Providers that are not asked now.", lambda: server.health.standing(clock.now_us())[1], "max"
        ),
        "pointsman_configuration_revision": ("Revision in use.", lambda: server.gateway.snapshot.revision, "min"),
    }  # fmt: skip


def _counters(server: "Server", installation: Installation) -> Counters:
    limiter, states, answers = server.limiter, installation.states, installation.answers
    return {
        "pointsman_rate_limited_requests": ("Calls refused by a limit.", "limit", lambda: limiter.refused),
        "pointsman_overload_refusals": ("Calls refused by overload.", "reason", lambda: server.admission.refused),
        "pointsman_limit_store_events": (
            "Failures of the limits' store, and calls let through without a limit because of them.",
            "event",
            lambda: {"failure": limiter.counters.failures, "let_through": limiter.unlimited},
        ),
        **budget_counters(server.budgets, server.alerts),
        **server.guards.counters(),
        "pointsman_hedges": (
            "Second attempts beside slow ones, and those that were too many or too dear.",
            "result",
            lambda: server.gateway.hedges.counts,
        ),
        "pointsman_side_calls": (
            "Shadow calls and summaries that were begun, and left out.",
            "result",
            lambda: server.combos.beside.counts,
        ),
        "pointsman_cache_events": (
            "What the response cache did; `unfit`: answers that it must not keep.",
            "event",
            lambda: server.gateway.cache.counts if server.gateway.cache is not None else {},
        ),
        "pointsman_health_events": ("What happened to upstreams' health.", "event", lambda: server.health.events),
        "pointsman_vault_writes": ("Reasoning state for the database.", "result", lambda: states.writes),
        "pointsman_kept_answer_writes": ("Answers for the database.", "result", lambda: answers.writes),
        "pointsman_kept_answer_reads": (
            "Looks into the database for answers to repeated requests.",
            "result",
            lambda: answers.reads,
        ),
        "pointsman_audit_rows": ("Rows for the audit log.", "result", lambda: installation.audit.rows),
        "pointsman_vault_reads": (
            "Looks into the database for reasoning state that memory has not.",
            "result",
            lambda: states.reads,
        ),
    }
