"""OpenRouter's views."""

from typing import Any

from pointsman.api.openrouter.activity import ActivityView
from pointsman.api.openrouter.codes import CodeViews
from pointsman.api.openrouter.consent import ConsentPage
from pointsman.api.openrouter.consent_sign_in import ConsentSignIn
from pointsman.api.openrouter.credits import CreditViews
from pointsman.api.openrouter.generations import GenerationView
from pointsman.api.openrouter.guardrails import AssignmentViews, GuardrailViews
from pointsman.api.openrouter.keys import KeyViews
from pointsman.api.openrouter.members import MemberView
from pointsman.api.openrouter.own_key import OwnKeyView
from pointsman.api.openrouter.presets import PresetViews
from pointsman.api.services import ManagementServices
from pointsman.storage.activity import ActivityRepository


def views(services: ManagementServices) -> list[Any]:
    """All of them."""
    gateway, keys, ledger = services.gateway, services.router_keys, services.ledger.repository
    sign_in = ConsentSignIn(services.sign_in, services.providers, services.apply)
    return [
        *KeyViews(keys, gateway.clock, services.apply).handlers(),
        OwnKeyView(gateway, keys, services.budgets, services.accounts, ledger).handler(),
        *CreditViews(ledger).handlers(),
        GenerationView(gateway, services.requests).handler(),
        ActivityView(gateway, ActivityRepository(services.database), keys).handler(),
        *CodeViews(services.key_codes, services.apply).handlers(),
        *ConsentPage(services.key_codes, sign_in).handlers(),
        MemberView(services.accounts).handler(),
        *GuardrailViews(services.guardrails, gateway.clock, services.apply).handlers(),
        *AssignmentViews(services.guardrails, services.apply, "key").handlers(),
        *AssignmentViews(services.guardrails, services.apply, "member").handlers(),
        *PresetViews(services.presets, services.apply).handlers(),
    ]
