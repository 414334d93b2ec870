"""Who may do what with which credential, and that nobody gives more than it has."""

from typing import Any

import pytest

from pointsman.errors import GatewayError
from pointsman.identity.keys import Key, NewKey
from pointsman.policy.authorization import (
    ACCOUNT,
    ADMIN,
    AGENT,
    HIGH,
    INFERENCE,
    PUBLIC,
    USER,
    Rule,
    check_subset,
    is_permitted,
)


def key(**fields: Any) -> Key:
    """A credential."""
    scopes = frozenset(fields.pop("scopes", ()))
    return Key(**{"id": "k", "name": "k", "role": "inference", "workspace_id": "default", "scopes": scopes, **fields})


@pytest.mark.parametrize(
    ("scope", "rule", "method", "permitted"),
    [
        ("read", ADMIN, "GET", True),
        ("read", ADMIN, "POST", False),
        ("read", HIGH, "GET", False),
        ("write", ADMIN, "GET", True),
        ("write", ADMIN, "DELETE", True),
        ("write", HIGH, "POST", False),
        ("admin", ADMIN, "PUT", True),
        ("admin", HIGH, "POST", True),
        ("admin", INFERENCE, "POST", False),
        ("admin", ACCOUNT, "GET", False),
        ("manage", ADMIN, "GET", False),
        ("everything", ADMIN, "GET", False),
    ],
)
def test_tokens_of_the_command_line_reach_as_far_as_their_scope(
    scope: str, rule: Rule, method: str, permitted: bool
) -> None:
    assert is_permitted(rule, key(kind="omniroute_cli", role="management", scopes=(scope,)), method) is permitted


def test_scopes_are_rights_in_the_installations_own_account_alone() -> None:
    for kind, scope in (("omniroute", "manage"), ("omniroute_cli", "admin")):
        own = key(kind=kind, role="management", scopes=(scope,))
        assert is_permitted(HIGH, own, "POST")
        assert not is_permitted(HIGH, key(kind=kind, role="management", scopes=(scope,), account_id="acc_1"), "POST")
        assert not is_permitted(HIGH, key(kind=kind, role="management"), "POST")


def test_a_scope_makes_no_administrator_of_another_kind() -> None:
    for kind in ("plain", "openrouter", "hardcarrx", "crosscompute", "crosscompute_agent", "session", "jwt"):
        assert not is_permitted(ADMIN, key(kind=kind, scopes=("manage", "admin", "write", "read")), "GET")


def test_the_rules_of_accounts_users_and_agents() -> None:
    assert is_permitted(ACCOUNT, key(kind="openrouter", role="management"), "POST")
    assert not is_permitted(ACCOUNT, key(kind="openrouter"), "GET")
    assert is_permitted(USER, key(kind="jwt"), "GET")
    assert not is_permitted(USER, key(kind="crosscompute"), "GET")
    assert is_permitted(AGENT, key(kind="crosscompute_agent"), "GET")
    assert not is_permitted(AGENT, key(role="admin"), "GET")
    assert not is_permitted(PUBLIC, key(role="admin"), "GET")  # who needs no credential is asked for none


ADMINISTRATOR = key(role="admin")
MANAGER = key(kind="openrouter", role="management", account_id="acc_1")


@pytest.mark.parametrize(
    ("creator", "new", "given"),
    [
        (ADMINISTRATOR, {"role": "admin"}, True),
        (ADMINISTRATOR, {"account_id": "acc_2", "scopes": ("admin",)}, True),
        (MANAGER, {"account_id": "acc_1"}, True),
        (MANAGER, {"account_id": "acc_1", "role": "management"}, True),
        (MANAGER, {"account_id": "acc_1", "role": "admin"}, False),
        (MANAGER, {"account_id": "acc_2"}, False),
        (MANAGER, {}, False),
        (key(kind="jwt", account_id="acc_1"), {"account_id": "acc_1"}, True),
        (key(kind="jwt", account_id="acc_1"), {"account_id": "acc_1", "role": "management"}, False),
        (key(kind="omniroute", scopes=("manage",)), {"scopes": ("admin",)}, False),
        (key(kind="omniroute_cli", role="management", scopes=("write",)), {"scopes": ("read",)}, True),
        (key(kind="omniroute_cli", role="management", scopes=("write",)), {"scopes": ("admin",)}, False),
    ],
)
def test_nobody_gives_more_than_it_has(creator: Key, new: dict[str, Any], given: bool) -> None:
    if given:
        check_subset(creator, NewKey(name="x", **new))
    else:
        with pytest.raises(GatewayError, match="can't be given"):
            check_subset(creator, NewKey(name="x", **new))
