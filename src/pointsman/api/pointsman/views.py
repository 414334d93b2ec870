"""The views of our own API."""

from typing import Any

from pointsman.api.pointsman.audit import AuditViews
from pointsman.api.pointsman.budgets import BudgetViews
from pointsman.api.pointsman.documents import ContractDocuments
from pointsman.api.pointsman.engines import EngineViews
from pointsman.api.pointsman.guardrail_defaults import GuardrailDefaults
from pointsman.api.pointsman.guards import GuardViews
from pointsman.api.pointsman.ledger import LedgerViews
from pointsman.api.pointsman.model_words import ModelWordViews
from pointsman.api.pointsman.routes import RouteExplanations
from pointsman.api.pointsman.user_tokens import UserTokens
from pointsman.api.services import ManagementServices


def views(services: ManagementServices) -> list[Any]:
    """All of them."""
    return [
        ContractDocuments().handler(),
        *RouteExplanations(services.gateway, services.requests).handlers(),
        *EngineViews(services.engines, services.apply).handlers(),
        *GuardViews(services.guards, services.apply).handlers(),
        *BudgetViews(services.budgets, services.apply).handlers(),
        *GuardrailDefaults(services.guardrails, services.apply).handlers(),
        *LedgerViews(services.ledger, services.database, services.journal).handlers(),
        *AuditViews(services.audit).handlers(),
        *ModelWordViews(services.model_words, services.apply).handlers(),
        *UserTokens(services.gateway, services.sign_in).handlers(),
    ]
