"""What the audit log calls each operation of the management plane, and which of them it leaves out.

The names are OmniRoute's where it has one (``apikey.created``, ``auth.login.failed``); all others follow from the path.
"""

from types import MappingProxyType
from typing import Final

import msgspec

from pointsman.policy.authorization import READING

# Of methods that change something, those operations that change nothing.
UNCHANGING: Final = frozenset(
    (
        ("POST", "/api/translator/detect"),
        ("POST", "/api/translator/translate"),
        ("POST", "/api/pointsman/route/explain"),
        ("POST", "/api/pointsman/ledger/verify"),
        ("POST", "/api/pointsman/guards/test"),
    )
)
# Ways in: what became of a try is the end of the action's name.
SIGN_INS: Final = MappingProxyType(
    {
        ("POST", "/api/auth/login"): "auth.login",
        ("POST", "/api/pointsman/auth/token"): "auth.token",
        ("POST", "/api/cli/connect"): "auth.cli",
        ("GET", "/api/auth/oidc/{provider}/callback"): "auth.oidc",
        ("POST", "/api/auth/logout"): "auth.logout",
    }
)
# What a path's objects are called, by its beginning; the longest one holds.
_KINDS: Final = (
    ("/api/v1/keys", "apikey"),
    ("/api/keys", "apikey"),
    ("/api/bootstrap-account", "apikey"),
    ("/api/v1/auth/keys", "apikey"),
    ("/api/v1/auth/keys/code", "apikey.code"),
    ("/auth", "apikey.code"),
    ("/api/cli/tokens", "cli.token"),
    ("/api/providers", "provider.credentials"),
    ("/api/provider-nodes", "provider.node"),
    ("/api/settings", "settings"),
    ("/api/settings/ip-filter", "ipfilter"),
    ("/api/resilience", "settings.resilience"),
    ("/api/rate-limit", "settings.rate_limit"),
    ("/api/rate-limits", "settings.rate_limit"),
    ("/api/combos", "combo"),
    ("/api/models/alias", "alias"),
    ("/api/fallback/chains", "fallback.chain"),
    ("/api/agents", "agent"),
    ("/api/v1/presets", "preset"),
    ("/api/v1/guardrails", "guardrail"),
    ("/api/pointsman/guardrails/defaults", "guardrail.default"),
    ("/api/pointsman/budgets", "budget"),
    ("/api/pointsman/guards", "guard"),
    ("/api/pointsman/ledger", "ledger"),
    ("/api/pointsman/model-facts", "model.facts"),
    ("/api/pointsman/profiles/notdiamond", "profile.engine"),
)
_VERBS: Final = MappingProxyType({"POST": "created", "PUT": "updated", "PATCH": "updated", "DELETE": "deleted"})
# A kind whose objects are not deleted but made worthless.
_REVOKED: Final = frozenset(("apikey", "cli.token", "provider.credentials"))
# What OmniRoute's activity feed shows (``level=high``): beginnings of names.
NOTABLE: Final = (
    "auth.", "apikey.", "cli.token.", "provider.", "settings.", "ipfilter.", "combo.", "guard.", "secrets.", "user.",
    "ledger.",
)  # fmt: skip


class Operation(msgspec.Struct, frozen=True):
    """How a row names what was done, and to what kind of thing."""

    action: str
    object_kind: str


def operation_of(method: str, path: str) -> Operation | None:
    """What the log calls this method at this path, written as in the table of routes; None: it is left out."""
    sign_in = SIGN_INS.get((method, path))
    if sign_in is not None:
        return Operation(sign_in, "user")
    if method in READING or (method, path) in UNCHANGING:
        return None
    kind, rest = _kind(path)
    verb = _VERBS.get(method, method.lower())
    if method == "DELETE" and kind in _REVOKED:
        verb = "revoked"
    steps = [part for part in rest.split("/") if part and not part.startswith("{")]
    if method == "POST" and steps:  # what is posted below an object's path is a verb: .../test, .../deactivate
        return Operation(".".join((kind, *steps)), kind)
    return Operation(".".join((kind, *steps, verb)), kind)


def _kind(path: str) -> tuple[str, str]:
    """What the objects at a path are called, and the path's rest."""
    found = max((row for row in _KINDS if path == row[0] or path.startswith(f"{row[0]}/")), key=_length, default=None)
    if found is not None:
        return found[1], path[len(found[0]) :]
    parts = [part for part in path.split("/") if part and not part.startswith("{")]
    return ".".join(part for part in parts if part not in ("api", "v1", "pointsman")) or "gateway", ""


def _length(row: tuple[str, str]) -> int:
    return len(row[0])
