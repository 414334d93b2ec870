"""The lists that are measured with many keys and requests (benchmarks/scale.py), and as who they are asked for."""

from typing import Final, Literal, NamedTuple

# admin: the gateway's own account, a fifth of all. large: of the tenants the one with the most requests. small: one of
# the many with fifty keys and few requests.
Who = Literal["admin", "large", "small"]
Credential = Literal["admin", "management", "inference", "agent", "person"]


class List(NamedTuple):
    """One way to ask a list operation. ``{...}`` in the path is filled in by the measurement."""

    name: str
    path: str
    credential: Credential
    who: tuple[Who, ...]
    prefix: str = ""


_TENANTS: Final[tuple[Who, ...]] = ("large", "small")
_ALL: Final[tuple[Who, ...]] = ("admin", *_TENANTS)
LISTS: Final = (
    List("hardcarrx request logs", "/v1/request-logs?limit=100", "inference", _ALL),
    List("hardcarrx request logs, 100 pages on", "/v1/request-logs?limit=100&offset=10000", "inference", _ALL),
    List("hardcarrx request logs, the last page", "/v1/request-logs?limit=100&offset={deep}", "inference", _ALL),
    List("openrouter keys", "/api/v1/keys", "management", _ALL),
    List("openrouter keys, with disabled and expired", "/api/v1/keys?include_disabled=true&include_expired=true",
         "management", _ALL),
    List("openrouter keys of a workspace", "/api/v1/keys?workspace_id={account}", "management", _ALL),
    List("openrouter keys, 75,000 on", "/api/v1/keys?offset=75000", "management", ("admin",)),
    List("openrouter activity", "/api/v1/activity", "management", _ALL),
    List("openrouter activity by workspace", "/api/v1/activity?group_by=workspace", "management", _ALL),
    List("openrouter activity of a key", "/api/v1/activity?api_key_hash={fingerprint}", "management", _ALL),
    List("openrouter activity of a person", "/api/v1/activity?user_id={person}", "management", _TENANTS),
    List("openrouter generation", "/api/v1/generation?id={request}", "admin", ("admin",)),
    List("omniroute keys", "/api/keys?limit=100", "admin", ("admin",)),
    List("omniroute keys, 18,000 on", "/api/keys?limit=100&offset=18000", "admin", ("admin",)),
    List("omniroute CLI tokens", "/api/cli/tokens", "admin", ("admin",)),
    List("omniroute translator history", "/api/translator/history", "inference", _ALL),
    List("omniroute combo metrics", "/api/combos/metrics", "admin", ("admin",)),
    List("omniroute cache statistics", "/api/cache/stats", "admin", ("admin",)),
    List("crosscompute keys", "/api/keys?limit=100", "person", _TENANTS, "/crosscompute"),
    List("crosscompute me", "/api/me", "person", _TENANTS, "/crosscompute"),
    List("crosscompute usage-models", "/api/agents/usage-models", "agent", _TENANTS),
    List("budgets", "/api/pointsman/budgets?limit=50", "admin", ("admin",)),
    List("budgets, the longest page", "/api/pointsman/budgets?limit=200&after=bud_00100000", "admin", ("admin",)),
    List("budgets of a scope that has none", "/api/pointsman/budgets?scope=tag", "admin", ("admin",)),
    List("budgets of a key", "/api/pointsman/budgets?subject={key}", "admin", ("admin",)),
    List("ledger balances", "/api/pointsman/ledger/balances?limit=200&after=credit:acc_00009999", "admin", ("admin",)),
    List("ledger entries", "/api/pointsman/ledger/entries?account_id={account}&limit=200", "admin", _TENANTS),
)  # fmt: skip
