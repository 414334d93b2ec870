"""CrossCompute's views."""

from typing import Any

from pointsman.api.crosscompute.agent_standing import AgentStanding
from pointsman.api.crosscompute.agents import AgentViews
from pointsman.api.crosscompute.crawler_files import CrawlerFiles
from pointsman.api.crosscompute.keys import CrossComputeKeys
from pointsman.api.crosscompute.top_ups import TopUpView
from pointsman.api.crosscompute.users import UserViews
from pointsman.api.services import ManagementServices
from pointsman.storage.model_usage import ModelUsageRepository


def views(services: ManagementServices, own_keys: CrossComputeKeys) -> list[Any]:
    """All of them; ``own_keys`` also answer where OmniRoute's keys stand at the same path."""
    usage = ModelUsageRepository(services.database)
    books, clock = services.ledger.repository, services.gateway.clock
    standing = AgentStanding(services.agents, services.keys, books)
    return [
        *own_keys.handlers(),
        *UserViews(own_keys, services.accounts, services.users, books, clock).handlers(),
        *AgentViews(services.gateway, services.agents, standing, usage, services.apply).handlers(),
        TopUpView(standing, services.cashier).handler(),
        *CrawlerFiles(services.gateway, services.security_contact).handlers(),
    ]
