"""The management plane: ordinary web code on Litestar, one package per contract."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar, Request, Response
from litestar.config.app import AppConfig
from litestar.exceptions import HTTPException

from pointsman.accounting.ledger_service import LedgerService
from pointsman.api.access import Guard
from pointsman.api.crosscompute.agents import AgentViews
from pointsman.api.crosscompute.keys import CrossComputeKeys
from pointsman.api.crosscompute.users import UserViews
from pointsman.api.hardcarrx.request_logs import RequestLogs
from pointsman.api.omniroute import management
from pointsman.api.omniroute.agy_files import AgyFiles
from pointsman.api.omniroute.aliases import Aliases
from pointsman.api.omniroute.cache import CacheViews
from pointsman.api.omniroute.cli_tokens import CliTokens
from pointsman.api.omniroute.combo_figures import ComboFigures
from pointsman.api.omniroute.combo_test import ComboTest
from pointsman.api.omniroute.combos import ComboOptions, Combos
from pointsman.api.omniroute.configured import Configured
from pointsman.api.omniroute.ip_filter import IpFilterViews
from pointsman.api.omniroute.keys import OmniRouteKeys
from pointsman.api.omniroute.monitoring import Monitoring
from pointsman.api.omniroute.open_id import OpenIdViews
from pointsman.api.omniroute.operation_catalogue import OperationCatalogue
from pointsman.api.omniroute.provider_nodes import ProviderNodes
from pointsman.api.omniroute.provider_tests import ProviderTests
from pointsman.api.omniroute.providers import Providers
from pointsman.api.omniroute.rate_limits import RateLimits
from pointsman.api.omniroute.resilience import Apply, ResilienceViews
from pointsman.api.omniroute.sign_in import SignInViews
from pointsman.api.omniroute.translator import Translator
from pointsman.api.openrouter.activity import ActivityView
from pointsman.api.openrouter.codes import CodeViews
from pointsman.api.openrouter.consent import ConsentPage
from pointsman.api.openrouter.credits import CreditViews
from pointsman.api.openrouter.generations import GenerationView
from pointsman.api.openrouter.guardrails import AssignmentViews, GuardrailViews
from pointsman.api.openrouter.keys import KeyViews
from pointsman.api.openrouter.members import MemberView
from pointsman.api.openrouter.own_key import OwnKeyView
from pointsman.api.openrouter.presets import PresetViews
from pointsman.api.pointsman.budgets import BudgetViews
from pointsman.api.pointsman.documents import ContractDocuments
from pointsman.api.pointsman.engines import EngineViews
from pointsman.api.pointsman.guardrail_defaults import GuardrailDefaults
from pointsman.api.pointsman.ledger import LedgerViews
from pointsman.api.pointsman.model_words import ModelWordViews
from pointsman.api.pointsman.routes import RouteExplanations
from pointsman.api.pointsman.user_tokens import UserTokens
from pointsman.api.shared_keys import SharedKeys
from pointsman.dialects import openai_chat
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Gateway
from pointsman.identity.agents import AgentService
from pointsman.identity.keys import KeyService
from pointsman.identity.sign_in import SignIn
from pointsman.policy.aliases import AliasService
from pointsman.policy.budget_service import BudgetService
from pointsman.policy.combos import ComboService
from pointsman.policy.guardrail_service import GuardrailService
from pointsman.policy.health_sharing import HealthSharing
from pointsman.policy.ip_filter import IpFilterService
from pointsman.policy.key_codes import KeyCodes
from pointsman.policy.presets import PresetService
from pointsman.policy.resilience import ResilienceService
from pointsman.policy.router_keys import RouterKeys
from pointsman.storage.accounts import AccountRepository
from pointsman.storage.activity import ActivityRepository
from pointsman.storage.cache_clearings import CacheClearings
from pointsman.storage.cache_figures import CacheFigures
from pointsman.storage.combo_figures import ComboFigureRepository
from pointsman.storage.database import Database
from pointsman.storage.model_usage import ModelUsageRepository
from pointsman.storage.requests import RequestRepository
from pointsman.storage.users import UserRepository
from pointsman.upstream.connections import ConnectionService
from pointsman.upstream.engines import EngineService
from pointsman.upstream.model_words import ModelWords
from pointsman.upstream.open_id import OpenIdProvider
from pointsman.upstream.provider_nodes import ProviderNodeService


class ManagementServices(msgspec.Struct, frozen=True, kw_only=True):
    """What the views work on."""

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
    clearings: CacheClearings
    connections: ConnectionService
    provider_nodes: ProviderNodeService
    resilience: ResilienceService
    sign_in: SignIn
    keys: KeyService
    users: UserRepository
    agents: AgentService
    ip_filter: IpFilterService
    providers: Mapping[str, OpenIdProvider]  # at which people can sign in, by name
    sharing: HealthSharing
    apply: Apply  # waits until every server works with a revision
    checks: Callable[[], Mapping[str, str]]


def build_management(services: ManagementServices) -> Litestar:
    """The ASGI application of every management view."""
    request_logs = RequestLogs(services.gateway, services.requests)
    translator = Translator(services.gateway, services.requests)
    routes = RouteExplanations(services.gateway, services.requests)
    combos: list[Any] = [
        *Aliases(services.aliases, services.apply).handlers(),
        *Combos(services.gateway, services.combos, services.apply).handlers(),
        *ComboOptions(services.gateway, services.combos, services.apply).handlers(),
        *ComboFigures(services.gateway, services.combo_figures).handlers(),
        *ComboTest(services.gateway).handlers(),
    ]
    configured = Configured(services.gateway, services.connections, services.provider_nodes, services.apply)
    connections: list[Any] = [
        *Providers(configured).handlers(),
        *ProviderTests(configured).handlers(),
        *ProviderNodes(configured).handlers(),
        *AgyFiles(configured).handlers(),
    ]
    health: list[Any] = [
        *ResilienceViews(services.gateway, services.resilience, services.sharing, services.apply).handlers(),
        *RateLimits(services.gateway, services.resilience, services.apply).handlers(),
        *Monitoring(services.gateway, services.sharing, services.checks).handlers(),
    ]
    people: list[Any] = [
        *SignInViews(services.gateway, services.sign_in, services.apply).handlers(),
        *OpenIdViews(services.sign_in, services.providers, services.apply).handlers(),
        *IpFilterViews(services.ip_filter, services.gateway.clock, services.apply).handlers(),
        *CliTokens(services.keys, services.sign_in, services.gateway.clock, services.apply).handlers(),
        *UserTokens(services.gateway, services.sign_in).handlers(),
    ]
    own_keys = CrossComputeKeys(services.keys, services.budgets, services.apply)
    their_keys = OmniRouteKeys(services.keys, services.budgets, services.apply)
    usage = ModelUsageRepository(services.database)
    books, clock = services.ledger.repository, services.gateway.clock
    accounts: list[Any] = [
        *SharedKeys(their_keys, own_keys).handlers(),
        *their_keys.handlers(),
        *own_keys.handlers(),
        *UserViews(own_keys, services.accounts, services.users, books, clock).handlers(),
        *AgentViews(services.gateway, services.agents, services.keys, books, usage, services.apply).handlers(),
    ]
    figures = CacheFigures(services.database)
    return Litestar.from_config(
        AppConfig(
            guards=[Guard(services.gateway)],
            route_handlers=[
                request_logs.handler(),
                ContractDocuments().handler(),
                OperationCatalogue().handler(),
                *translator.handlers(),
                *routes.handlers(),
                *EngineViews(services.engines, services.apply).handlers(),
                *BudgetViews(services.budgets, services.apply).handlers(),
                *LedgerViews(services.ledger, services.database, services.journal).handlers(),
                *ModelWordViews(services.model_words, services.apply).handlers(),
                *_router(services),
                *PresetViews(services.presets, services.apply).handlers(),
                *CacheViews(services.gateway, figures, services.clearings, services.apply).handlers(),
                *connections,
                *combos,
                *health,
                *people,
                *accounts,
            ],
            exception_handlers={
                GatewayError: _gateway_error,
                HTTPException: _http_error,
                management.ManagementError: management.render,
            },
            openapi_config=None,
            logging_config=None,
            request_max_body_size=None,  # the edge has limits of its own
        )
    )


def _router(services: ManagementServices) -> list[Any]:
    """OpenRouter's views."""
    gateway, keys, ledger = services.gateway, services.router_keys, services.ledger.repository
    return [
        *KeyViews(keys, gateway.clock, services.apply).handlers(),
        OwnKeyView(gateway, keys, services.budgets, services.accounts, ledger).handler(),
        *CreditViews(ledger).handlers(),
        GenerationView(gateway, services.requests).handler(),
        ActivityView(gateway, ActivityRepository(services.database), keys).handler(),
        *CodeViews(services.key_codes, services.apply).handlers(),
        *ConsentPage(services.key_codes).handlers(),
        MemberView(services.accounts).handler(),
        *GuardrailViews(services.guardrails, gateway.clock, services.apply).handlers(),
        *AssignmentViews(services.guardrails, services.apply).handlers(),
        *GuardrailDefaults(services.guardrails, services.apply).handlers(),
        *PresetViews(services.presets, services.apply).handlers(),
    ]


def _gateway_error(request: Request[Any, Any, Any], error: GatewayError) -> Response[bytes]:
    """In the words of the contract that the path or the client belongs to; the mount of the views has found it out."""
    state = request.scope["state"]
    dialect: Any = state.get("errors", openai_chat)
    status = dialect.status_of(error) if hasattr(dialect, "status_of") else error.status
    body = dialect.render_error(error, str(state.get("request_id", "")))
    return Response(body, status_code=status, media_type="application/json")


def _http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    kinds = {404: Kind.NOT_FOUND, 405: Kind.METHOD_NOT_ALLOWED}
    kind = kinds.get(error.status_code, Kind.INVALID_REQUEST if error.status_code < 500 else Kind.INTERNAL)
    messages = {Kind.NOT_FOUND: "there is no such path here", Kind.METHOD_NOT_ALLOWED: "this path has no such method"}
    message = messages.get(
        kind, "the request is not valid" if error.status_code < 500 else "an internal error occurred"
    )
    return _gateway_error(request, GatewayError(kind, message, status=error.status_code))
