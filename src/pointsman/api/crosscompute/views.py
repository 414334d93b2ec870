"""CrossCompute's views."""

from typing import Any

from pointsman.api.crosscompute.agents import AgentViews
from pointsman.api.crosscompute.keys import CrossComputeKeys
from pointsman.api.crosscompute.users import UserViews
from pointsman.api.services import ManagementServices
from pointsman.storage.model_usage import ModelUsageRepository


def views(services: ManagementServices, own_keys: CrossComputeKeys) -> list[Any]:
    """All of them; ``own_keys`` also answer where OmniRoute's keys stand at the same path."""
    usage = ModelUsageRepository(services.database)
    books, clock = services.ledger.repository, services.gateway.clock
    return [
        *own_keys.handlers(),
        *UserViews(own_keys, services.accounts, services.users, books, clock).handlers(),
        *AgentViews(services.gateway, services.agents, services.keys, books, usage, services.apply).handlers(),
    ]
