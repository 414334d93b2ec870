"""OmniRoute's views."""

from typing import Any

from pointsman.api.omniroute.agy_files import AgyFiles
from pointsman.api.omniroute.aliases import Aliases
from pointsman.api.omniroute.audit_log import AuditLog
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
from pointsman.api.omniroute.resilience import ResilienceViews
from pointsman.api.omniroute.sign_in import SignInViews
from pointsman.api.omniroute.translator import Translator
from pointsman.api.services import ManagementServices
from pointsman.storage.cache_figures import CacheFigures


def views(services: ManagementServices, their_keys: OmniRouteKeys) -> list[Any]:
    """All of them; ``their_keys`` also answer where CrossCompute's keys stand at the same path."""
    gateway, apply = services.gateway, services.apply
    return [
        OperationCatalogue().handler(),
        *Translator(gateway, services.requests).handlers(),
        *CacheViews(gateway, CacheFigures(services.database), services.clearings, apply).handlers(),
        *their_keys.handlers(),
        *_combos(services),
        *_connections(services),
        *_people(services),
        AuditLog(services.audit).handler(),
        *ResilienceViews(gateway, services.resilience, services.sharing, apply).handlers(),
        *RateLimits(gateway, services.resilience, apply).handlers(),
        *Monitoring(gateway, services.sharing, services.checks).handlers(),
    ]


def _combos(services: ManagementServices) -> list[Any]:
    return [
        *Aliases(services.aliases, services.apply).handlers(),
        *Combos(services.gateway, services.combos, services.apply).handlers(),
        *ComboOptions(services.gateway, services.combos, services.apply).handlers(),
        *ComboFigures(services.gateway, services.combo_figures).handlers(),
        *ComboTest(services.gateway).handlers(),
    ]


def _connections(services: ManagementServices) -> list[Any]:
    configured = Configured(services.gateway, services.connections, services.provider_nodes, services.apply)
    return [
        *Providers(configured).handlers(),
        *ProviderTests(configured).handlers(),
        *ProviderNodes(configured).handlers(),
        *AgyFiles(configured).handlers(),
    ]


def _people(services: ManagementServices) -> list[Any]:
    return [
        *SignInViews(services.gateway, services.sign_in, services.apply).handlers(),
        *OpenIdViews(services.sign_in, services.providers, services.apply).handlers(),
        *IpFilterViews(services.ip_filter, services.gateway.clock, services.apply).handlers(),
        *CliTokens(services.keys, services.sign_in, services.gateway.clock, services.apply).handlers(),
    ]
