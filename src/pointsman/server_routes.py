"""Every path of a server: its own handlers, and the management views behind them."""

from typing import TYPE_CHECKING, cast

from pointsman.policy.endpoint_figures import EndpointFiguresBook
from pointsman.server.chat_socket_routes import ChatSocketRoutes
from pointsman.server.contract_models import ContractModels
from pointsman.server.file_routes import FileRoutes
from pointsman.server.file_uploads import FileUploads
from pointsman.server.inference import InferenceRoutes
from pointsman.server.management import AsgiApp, ManagementMount, Plane, served_paths
from pointsman.server.openrouter_models import OpenRouterModels
from pointsman.server.operation_routes import OperationRoutes
from pointsman.server.operations import Operations
from pointsman.server.response_routes import ResponseRoutes
from pointsman.server.routes import Router, contract_hosts
from pointsman.server.translator_send import TranslatorSend
from pointsman.server.vendor_models import VendorModels
from pointsman.storage.combo_figures import ComboFigureRepository
from pointsman.storage.endpoint_figures import EndpointFigures

if TYPE_CHECKING:
    from pointsman.app import Server
    from pointsman.installation import Installation


def build_router(server: "Server", installation: "Installation") -> Router:
    """The routes of a server whose gateway is there; those that keep something stay with it (responses, files)."""
    gateway, settings, clock = server.gateway, installation.settings, installation.clock
    mount = ManagementMount(lambda: load_management(server, installation))
    operations = Operations(gateway, server.sums, server.checks, pays=server.payments is not None)
    router = Router(mount, contract_hosts(settings.server))
    others = OperationRoutes(gateway)
    InferenceRoutes(gateway, others.of_provider).add_to(router)
    server.responses = ResponseRoutes(gateway, installation.responses, clock, keep=settings.responses.keep)
    server.responses.add_to(router)
    others.add_to(router)
    server.files = FileRoutes(gateway, installation.files, max_bytes=settings.files.max_bytes)
    server.files.add_to(router)
    FileUploads(gateway, server.files, installation.master, clock).add_to(router)
    ChatSocketRoutes(gateway, router).add_to(router)
    router.add("POST", "/api/translator/send", TranslatorSend(gateway).send)
    _add_models(router, server, installation, operations, mount)
    router.add("GET", "/health", operations.health)
    router.add("GET", "/metrics", operations.metrics)
    return router


def _add_models(
    router: Router, server: "Server", installation: "Installation", operations: Operations, mount: ManagementMount
) -> None:
    """Lists of models, which at some paths depend on whose client asks."""
    gateway = server.gateway
    vendors = VendorModels(gateway)
    vendors.add_to(router)
    router.add("GET", "/", vendors.root(mount))
    listed = vendors.by_vendor(operations.models, vendors.anthropic_models, vendors.gemini_models)
    one = vendors.by_vendor(operations.model, vendors.anthropic_model, vendors.gemini_model)
    models = ContractModels(gateway, operations, listed, one)
    models.add_to(router)
    router.add("GET", "/api/v1/providers/*", models.of_provider)
    figures = EndpointFiguresBook(EndpointFigures(installation.database), installation.clock)
    OpenRouterModels(gateway, figures).add_to(router, models.models, models.model)


def load_management(server: "Server", installation: "Installation") -> Plane:
    """The management views, and the paths at which they stand."""
    from pointsman.api import build_management  # Litestar: imported when it is needed
    from pointsman.api.audited import AuditedPlane
    from pointsman.api.services import ManagementServices

    services = ManagementServices(
        gateway=server.gateway,
        requests=installation.requests,
        connections=installation.connections,
        provider_nodes=installation.provider_nodes,
        resilience=installation.resilience,
        sharing=server.sharing,
        apply=installation.await_revision,
        checks=server.checks,
        aliases=installation.aliases,
        presets=installation.presets,
        guards=installation.guards,
        combos=installation.combos,
        sign_in=installation.sign_in,
        providers=installation.open_id_providers(server.client),
        combo_figures=ComboFigureRepository(installation.database),
        budgets=installation.budgets,
        guardrails=installation.guardrails,
        ledger=installation.ledger,
        database=installation.database,
        journal=installation.data_dir / "journal",
        router_keys=installation.router_keys,
        key_codes=installation.key_codes,
        model_words=installation.model_words,
        engines=installation.engines,
        keys=installation.keys,
        users=installation.user_rows,
        accounts=installation.accounts,
        agents=installation.agents,
        ip_filter=installation.ip_filter,
        cashier=server.payments.cashier if server.payments is not None else None,
        clearings=installation.clearings,
        security_contact=installation.settings.identity.security_contact,
        audit=installation.audit,
    )
    application = build_management(services)
    audited = AuditedPlane(cast(AsgiApp, application), installation.audit, server.gateway, installation.user_rows)
    return audited, served_paths(route.path for route in application.routes)
