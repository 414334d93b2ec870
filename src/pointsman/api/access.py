"""Who may use which route of the management plane. What is not in this table is refused to everybody.

The guard decides before a view runs, by the route that was matched on the raw path, and leaves the credential where
`caller_of` finds it.
"""

from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from pointsman.api.crosscompute.client import Refusals, is_its_client
from pointsman.api.omniroute.management import denied
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Gateway
from pointsman.identity.keys import Key
from pointsman.policy.authentication import identify, is_credential_sent, is_own_page
from pointsman.policy.authorization import (
    ACCOUNT,
    ADMIN,
    AGENT,
    GRANT,
    HIGH,
    INFERENCE,
    KEYS,
    NEW_KEYS,
    OWN,
    PUBLIC,
    USER,
    Rule,
    is_permitted,
)
from pointsman.policy.local_callers import is_of_this_machine

_ROWS: Final[tuple[tuple[str, str, Rule], ...]] = (
    ("GET", "/v1/request-logs", INFERENCE),
    ("POST", "/api/translator/detect", INFERENCE),
    ("POST", "/api/translator/translate", INFERENCE),
    ("GET", "/api/translator/history", INFERENCE),
    ("POST", "/api/pointsman/route/explain", ADMIN),
    ("GET", "/api/pointsman/route/replay", ADMIN),
    ("GET", "/api/pointsman/budgets", ADMIN),
    ("PUT", "/api/pointsman/budgets", ADMIN),
    ("GET", "/api/pointsman/budgets/{budget_id}", ADMIN),
    ("DELETE", "/api/pointsman/budgets/{budget_id}", ADMIN),
    ("GET", "/api/pointsman/guards", ADMIN),
    ("POST", "/api/pointsman/guards", HIGH),
    ("POST", "/api/pointsman/guards/test", ADMIN),
    ("GET", "/api/pointsman/guards/{name}", ADMIN),
    ("PATCH", "/api/pointsman/guards/{name}", HIGH),
    ("DELETE", "/api/pointsman/guards/{name}", HIGH),
    ("GET", "/api/v1/keys", ACCOUNT),
    ("POST", "/api/v1/keys", ACCOUNT),
    ("GET", "/api/v1/keys/{fingerprint}", ACCOUNT),
    ("PATCH", "/api/v1/keys/{fingerprint}", ACCOUNT),
    ("DELETE", "/api/v1/keys/{fingerprint}", ACCOUNT),
    ("GET", "/api/v1/key", OWN),
    ("GET", "/api/v1/credits", ACCOUNT),
    ("POST", "/api/v1/credits/coinbase", PUBLIC),
    ("GET", "/api/v1/generation", INFERENCE),
    ("GET", "/api/v1/activity", ACCOUNT),
    ("GET", "/api/v1/organization/members", ACCOUNT),
    ("GET", "/api/v1/guardrails", ACCOUNT),
    ("POST", "/api/v1/guardrails", ACCOUNT),
    ("GET", "/api/v1/guardrails/{guardrail_id}", ACCOUNT),
    ("PATCH", "/api/v1/guardrails/{guardrail_id}", ACCOUNT),
    ("DELETE", "/api/v1/guardrails/{guardrail_id}", ACCOUNT),
    ("GET", "/api/v1/guardrails/assignments/keys", ACCOUNT),
    ("GET", "/api/v1/guardrails/assignments/members", ACCOUNT),
    ("GET", "/api/v1/guardrails/{guardrail_id}/assignments/keys", ACCOUNT),
    ("POST", "/api/v1/guardrails/{guardrail_id}/assignments/keys", ACCOUNT),
    ("GET", "/api/v1/guardrails/{guardrail_id}/assignments/members", ACCOUNT),
    ("POST", "/api/v1/guardrails/{guardrail_id}/assignments/members", ACCOUNT),
    ("POST", "/api/v1/guardrails/{guardrail_id}/assignments/keys/remove", ACCOUNT),
    ("POST", "/api/v1/guardrails/{guardrail_id}/assignments/members/remove", ACCOUNT),
    ("GET", "/api/pointsman/guardrails/defaults", ACCOUNT),
    ("PUT", "/api/pointsman/guardrails/defaults", ACCOUNT),
    ("POST", "/api/v1/auth/keys/code", GRANT),
    ("POST", "/api/v1/auth/keys", PUBLIC),
    ("GET", "/auth", PUBLIC),  # a page without anything that is somebody's
    ("POST", "/auth", PUBLIC),  # its answer, which asks for a session itself
    ("GET", "/api/v1/presets", ADMIN),
    ("GET", "/api/v1/presets/{slug}", ADMIN),
    ("PUT", "/api/v1/presets/{slug}", ADMIN),
    ("DELETE", "/api/v1/presets/{slug}", ADMIN),
    ("GET", "/api/models/alias", ADMIN),
    ("PUT", "/api/models/alias", ADMIN),
    ("POST", "/api/models/alias", ADMIN),
    ("DELETE", "/api/models/alias", ADMIN),
    ("GET", "/api/pointsman/model-facts", ADMIN),
    ("PUT", "/api/pointsman/model-facts", ADMIN),
    ("PATCH", "/api/pointsman/model-facts", ADMIN),
    ("DELETE", "/api/pointsman/model-facts", ADMIN),
    ("GET", "/api/pointsman/profiles/notdiamond", ADMIN),
    ("PUT", "/api/pointsman/profiles/notdiamond", ADMIN),
    ("DELETE", "/api/pointsman/profiles/notdiamond", ADMIN),
    ("GET", "/api/pointsman/ledger/balances", ADMIN),
    ("GET", "/api/pointsman/ledger/credit", ADMIN),
    ("GET", "/api/pointsman/ledger/entries", ADMIN),
    ("POST", "/api/pointsman/ledger/top-ups", HIGH),
    ("POST", "/api/pointsman/ledger/verify", ADMIN),
    ("GET", "/api/pointsman/audit", ADMIN),
    ("GET", "/api/compliance/audit-log", ADMIN),
    ("POST", "/api/pointsman/auth/token", PUBLIC),
    ("GET", "/openapi/{name}", PUBLIC),
    ("GET", "/api/openapi/spec", PUBLIC),
    ("POST", "/api/auth/login", PUBLIC),
    ("POST", "/api/auth/logout", PUBLIC),
    ("GET", "/api/auth/status", PUBLIC),
    ("GET", "/api/auth/oidc/{provider}/login", PUBLIC),
    ("GET", "/api/auth/oidc/{provider}/callback", PUBLIC),
    ("GET", "/api/init", PUBLIC),
    ("GET", "/api/settings/require-login", PUBLIC),
    ("POST", "/api/settings/require-login", HIGH),
    ("GET", "/api/providers", ADMIN),
    ("POST", "/api/providers", HIGH),
    ("GET", "/api/providers/client", ADMIN),
    ("GET", "/api/providers/{connection_id}", ADMIN),
    ("PUT", "/api/providers/{connection_id}", HIGH),
    ("PATCH", "/api/providers/{connection_id}", HIGH),
    ("DELETE", "/api/providers/{connection_id}", HIGH),
    ("POST", "/api/providers/{connection_id}/test", HIGH),
    ("GET", "/api/providers/{connection_id}/models", ADMIN),
    ("POST", "/api/providers/test-batch", HIGH),
    ("POST", "/api/providers/validate", HIGH),
    ("POST", "/api/providers/agy-auth/import", HIGH),
    ("POST", "/api/providers/agy-auth/import-bulk", HIGH),
    ("POST", "/api/providers/agy-auth/zip-extract", HIGH),
    ("POST", "/api/providers/agy-auth/apply-local", HIGH),
    ("GET", "/api/provider-models", ADMIN),
    ("GET", "/api/provider-nodes", ADMIN),
    ("POST", "/api/provider-nodes", HIGH),
    ("PUT", "/api/provider-nodes/{node_id}", HIGH),
    ("PATCH", "/api/provider-nodes/{node_id}", HIGH),
    ("DELETE", "/api/provider-nodes/{node_id}", HIGH),
    ("POST", "/api/provider-nodes/validate", HIGH),
    ("GET", "/api/cache", ADMIN),
    ("DELETE", "/api/cache", ADMIN),
    ("GET", "/api/cache/stats", ADMIN),
    ("DELETE", "/api/cache/stats", ADMIN),
    ("GET", "/api/combos", ADMIN),
    ("POST", "/api/combos", ADMIN),
    ("GET", "/api/combos/{combo_id}", ADMIN),
    ("PUT", "/api/combos/{combo_id}", ADMIN),
    ("PATCH", "/api/combos/{combo_id}", ADMIN),
    ("DELETE", "/api/combos/{combo_id}", ADMIN),
    ("POST", "/api/combos/reorder", ADMIN),
    ("GET", "/api/combos/metrics", ADMIN),
    ("DELETE", "/api/combos/metrics", ADMIN),
    ("POST", "/api/combos/test", ADMIN),
    ("GET", "/api/settings/combo-defaults", ADMIN),
    ("PUT", "/api/settings/combo-defaults", ADMIN),
    ("PATCH", "/api/settings/combo-defaults", ADMIN),
    ("GET", "/api/fallback/chains", ADMIN),
    ("POST", "/api/fallback/chains", ADMIN),
    ("DELETE", "/api/fallback/chains", ADMIN),
    ("GET", "/api/resilience", ADMIN),
    ("PATCH", "/api/resilience", ADMIN),
    ("POST", "/api/resilience/reset", ADMIN),
    ("GET", "/api/rate-limits", ADMIN),
    ("POST", "/api/rate-limits", ADMIN),
    ("GET", "/api/rate-limit", ADMIN),
    ("POST", "/api/rate-limit", ADMIN),
    ("GET", "/api/monitoring/health", PUBLIC),  # administrators are shown more
    ("DELETE", "/api/monitoring/health", ADMIN),
    ("GET", "/api/sessions", ADMIN),
    ("GET", "/api/keys", KEYS),
    ("POST", "/api/keys", NEW_KEYS),
    ("GET", "/api/keys/{key_id}", ADMIN),
    ("PATCH", "/api/keys/{key_id}", HIGH),
    ("DELETE", "/api/keys/{key_id}", HIGH),
    ("GET", "/api/settings/ip-filter", ADMIN),
    ("PUT", "/api/settings/ip-filter", HIGH),
    ("POST", "/api/cli/connect", PUBLIC),
    ("GET", "/api/cli/whoami", ADMIN),
    ("GET", "/api/cli/tokens", HIGH),
    ("POST", "/api/cli/tokens", HIGH),
    ("DELETE", "/api/cli/tokens/{token_id}", HIGH),
    ("GET", "/api/config", PUBLIC),
    ("GET", "/api/me", USER),
    ("POST", "/api/bootstrap-account", USER),
    ("POST", "/api/keys/{key_id}/deactivate", USER),
    ("POST", "/api/agents/register", PUBLIC),
    ("GET", "/api/agents/me", AGENT),
    ("GET", "/api/agents/usage", AGENT),
    ("GET", "/api/agents/usage-models", AGENT),
    ("GET", "/api/agents/skill-md", AGENT),
    ("POST", "/api/agents/topup", AGENT),
    ("GET", "/robots.txt", PUBLIC),
    ("GET", "/llms.txt", PUBLIC),
    ("GET", "/openapi.json", PUBLIC),
    ("GET", "/api-parameters.md", PUBLIC),
    ("GET", "/agent-skill.md", PUBLIC),
    ("GET", "/.well-known/agent-trust-policy.json", PUBLIC),
    ("GET", "/.well-known/ai-plugin.json", PUBLIC),
    ("GET", "/.well-known/security.txt", PUBLIC),
)
# Where two contracts stand at one path: CrossCompute's clients reach their own account, for all others this rule holds.
SHARED: Final = MappingProxyType({("GET", "/api/keys"): ADMIN, ("POST", "/api/keys"): HIGH})
RULES: Final = MappingProxyType({(method, path): rule for method, path, rule in _ROWS})
# Protected also where nobody has to sign in: whoever may call these may change that.
ALWAYS_PROTECTED: Final = frozenset((("POST", "/api/settings/require-login"),))
LOCAL_HOSTS: Final = frozenset(("localhost", "127.0.0.1", "::1"))
# Who comes from this machine while nobody has to sign in.
LOCAL: Final = Key(id="local", name="local", role="admin", workspace_id="default", kind="session")


class Guard:
    """Runs before every view. Raises what the route's API writes as 401 or 403."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        """Let the request pass, or raise."""
        scope: Any = connection.scope
        method, path = scope["method"], scope["path_template"]
        headers: dict[bytes, bytes] = dict(scope["headers"])
        rule, its_client = RULES.get((method, path)), is_its_client(scope)
        if its_client:
            scope["state"]["errors"] = Refusals
        if (method, path) in SHARED:
            rule = USER if its_client else SHARED[method, path]
        scope["state"]["caller"] = scope["state"]["identity"] = None
        if method == "OPTIONS":
            return
        key: Key | None
        try:
            own_path = path.encode()
            key = identify(headers, self._gateway.snapshot.keys, self._gateway.clock.now_us(), own_path)
        except GatewayError as error:
            key = self._local(scope, headers, path)
            if key is None:
                sent = is_credential_sent(headers)
                if rule is None or not rule.public:
                    raise _refused(scope, error, sent=sent) from None
                # Public views leave out what is not the caller's, which tells a wrong credential from a right one.
                scope["state"]["wrong_credential"] = sent and error.kind is Kind.UNAUTHENTICATED
        scope["state"]["identity"] = key  # for the audit log: who it is, also one that may not come in
        if rule is None or not (rule.public or (key is not None and (key is LOCAL or is_permitted(rule, key, method)))):
            raise _refused(scope, GatewayError(Kind.PERMISSION_DENIED, _forbidden(rule)), sent=True)
        scope["state"]["caller"] = key

    def _local(self, scope: Any, headers: dict[bytes, bytes], path: str) -> Key | None:
        """Who comes from this machine itself, when the administrator wants no sign-in there."""
        if self._gateway.snapshot.login_required or (scope["method"], path) in ALWAYS_PROTECTED:
            return None
        client = scope["client"][0] if scope["client"] else ""
        near = is_of_this_machine(client, headers)
        # A page that had its name resolve to this machine has another host, and is its own page there.
        named = urlsplit(f"//{headers.get(b'host', b'').decode('latin-1')}").hostname in LOCAL_HOSTS
        return LOCAL if near and named and is_own_page(headers, None) and not is_credential_sent(headers) else None


def _forbidden(rule: Rule | None) -> str:
    if rule is None:
        return "this path is open to nobody"
    if rule is ACCOUNT:
        return "Only management keys can perform this operation"  # OpenRouter's words, which its clients may look for
    admin_only = all(roles == frozenset(("admin",)) for kind, roles in rule.kinds.items() if kind == "plain")
    return "this needs a key with the role admin" if admin_only else "this credential may not be used here"


def _refused(scope: Any, error: GatewayError, *, sent: bool) -> Exception:
    """The refusal as the API writes it that the path belongs to."""
    path = scope["path_template"]
    if scope["state"].get("errors") is Refusals:
        return error
    if not path.startswith("/api/") or path.startswith(("/api/v1/", "/api/pointsman/", "/api/translator/")):
        return error
    if error.kind is Kind.UNAUTHENTICATED and not sent:
        return denied(401, "Authentication required")
    return denied(error.status, "Invalid management token")
