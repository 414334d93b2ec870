"""What the management views work on."""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from pointsman.accounting.cashier import Cashier
from pointsman.accounting.ledger_service import LedgerService
from pointsman.api.omniroute.resilience import Apply
from pointsman.gateway import Gateway
from pointsman.identity.agents import AgentService
from pointsman.identity.audit_trail import AuditTrail
from pointsman.identity.keys import KeyService
from pointsman.identity.sign_in import SignIn
from pointsman.policy.aliases import AliasService
from pointsman.policy.budget_service import BudgetService
from pointsman.policy.combos import ComboService
from pointsman.policy.guardrail_service import GuardrailService
from pointsman.policy.guards import GuardService
from pointsman.policy.health_sharing import HealthSharing
from pointsman.policy.ip_filter import IpFilterService
from pointsman.policy.key_codes import KeyCodes
from pointsman.policy.presets import PresetService
from pointsman.policy.resilience import ResilienceService
from pointsman.policy.router_keys import RouterKeys
from pointsman.storage.accounts import AccountRepository
from pointsman.storage.cache_clearings import CacheClearings
from pointsman.storage.combo_figures import ComboFigureRepository
from pointsman.storage.database import Database
from pointsman.storage.requests import RequestRepository
from pointsman.storage.users import UserRepository
from pointsman.upstream.connections import ConnectionService
from pointsman.upstream.engines import EngineService
from pointsman.upstream.model_words import ModelWords
from pointsman.upstream.open_id import OpenIdProvider
from pointsman.upstream.provider_nodes import ProviderNodeService


class ManagementServices(msgspec.Struct, frozen=True, kw_only=True):
    """The services of one server, for its views."""

    gateway: Gateway
    requests: RequestRepository
    aliases: AliasService
    combos: ComboService
    combo_figures: ComboFigureRepository
    budgets: BudgetService
    guardrails: GuardrailService
    ledger: LedgerService
    database: Database
    journal: Path
    router_keys: RouterKeys
    key_codes: KeyCodes
    accounts: AccountRepository
    model_words: ModelWords
    engines: EngineService
    presets: PresetService
    guards: GuardService
    clearings: CacheClearings
    connections: ConnectionService
    provider_nodes: ProviderNodeService
    resilience: ResilienceService
    sign_in: SignIn
    keys: KeyService
    users: UserRepository
    agents: AgentService
    ip_filter: IpFilterService
    cashier: Cashier | None  # takes payments by x402
    audit: AuditTrail
    providers: Mapping[str, OpenIdProvider]  # at which people can sign in, by name
    sharing: HealthSharing
    apply: Apply  # waits until every server works with a revision
    checks: Callable[[], Mapping[str, str]]
    security_contact: str | None = None  # a URL or mailto: address, for reports of security problems
