"""Authorisation: which kinds of credentials each route takes, with which role and scopes. All else is denied.

A route names one of the rules below. Which objects a credential reaches is the views' to ask, by its account and
workspace; what holds for all of them is that somebody else's object is not found.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from pointsman.errors import GatewayError, Kind
from pointsman.identity.keys import Key, NewKey
from pointsman.storage.accounts import DEFAULT
from pointsman.storage.keys import CredentialKind, Role

READING: Final = ("GET", "HEAD", "OPTIONS")
# Of OmniRoute's tokens each scope contains the next one.
CLI_SCOPES: Final = ("admin", "write", "read")
_MANAGE: Final = frozenset(("manage", "admin"))
_ANY: Final[frozenset[Role]] = frozenset(("admin", "management", "inference"))
_ADMIN: Final[frozenset[Role]] = frozenset(("admin",))
_MANAGEMENT: Final[frozenset[Role]] = frozenset(("admin", "management"))
_CALLS: Final[frozenset[Role]] = frozenset(("admin", "inference"))


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Who may use a route: of each kind the roles. A kind that is missing may not.

    ``scoped``: OmniRoute's keys need the scope "manage" or "admin", its tokens of the command line one that fits the
    method: "read" or "write"; where ``high``, "admin".
    """

    kinds: Mapping[CredentialKind, frozenset[Role]]
    public: bool = False
    scoped: bool = False
    high: bool = False

    @property
    def credentials(self) -> frozenset[CredentialKind]:
        """The kinds that may."""
        return frozenset(self.kinds)


def _rule(*, scoped: bool = False, high: bool = False, **kinds: frozenset[Role]) -> Rule:
    return Rule(kinds=MappingProxyType(kinds), scoped=scoped, high=high)  # type: ignore[arg-type]  # names are kinds


PUBLIC: Final = Rule(kinds=MappingProxyType({}), public=True)
# Who may call models, and see what came of it.
INFERENCE: Final = _rule(
    plain=_CALLS,
    openrouter=_CALLS,
    hardcarrx=_CALLS,
    crosscompute=_CALLS,
    crosscompute_agent=_CALLS,
    omniroute=_CALLS,
    session=_CALLS,
    jwt=_CALLS,
)
# Who works for the whole installation.
ADMIN: Final = _rule(scoped=True, plain=_ADMIN, session=_ADMIN, omniroute=_ANY, omniroute_cli=_ANY)
HIGH: Final = _rule(scoped=True, high=True, plain=_ADMIN, session=_ADMIN, omniroute=_ANY, omniroute_cli=_ANY)
# Who manages its own account.
ACCOUNT: Final = _rule(plain=_MANAGEMENT, openrouter=_MANAGEMENT, session=_CALLS)
# Whoever calls models or manages an account: what a credential may ask of itself.
OWN: Final = _rule(
    plain=_ANY,
    openrouter=_ANY,
    hardcarrx=_ANY,
    crosscompute=_ANY,
    crosscompute_agent=_ANY,
    omniroute=_ANY,
    session=_ANY,
    jwt=_ANY,
)
# Who may let a program have a key of its account; what of an inference key, is its own limits' to say.
GRANT: Final = _rule(plain=_ANY, openrouter=_ANY, session=_ANY)
USER: Final = _rule(plain=_ADMIN, session=_CALLS, jwt=_CALLS)
# Where keys of two contracts stand at one path: OmniRoute's administrators, and people with a token, each its own.
KEYS: Final = _rule(scoped=True, plain=_ADMIN, session=_ADMIN, omniroute=_ANY, omniroute_cli=_ANY, jwt=_CALLS)
NEW_KEYS: Final = _rule(
    scoped=True, high=True, plain=_ADMIN, session=_ADMIN, omniroute=_ANY, omniroute_cli=_ANY, jwt=_CALLS
)
AGENT: Final = _rule(crosscompute_agent=_CALLS)


# Which kinds a base path takes at all, whatever its routes take beside; the longest base that fits counts. Keys of all
# contracts come to both bases of models; a person's token is Hybrid Thinking's on /v1 and CrossCompute's on /api, and
# nobody's on the base that OpenRouter and OmniRoute share.
_ALL: Final[frozenset[CredentialKind]] = OWN.credentials | ADMIN.credentials
TAKEN: Final[tuple[tuple[bytes, frozenset[CredentialKind]], ...]] = (
    (b"/api/v1/", _ALL - {"jwt"}),
    (b"/api/", _ALL),
    (b"/v1/", _ALL),
)


def is_taken(path: bytes, kind: CredentialKind) -> bool:
    """Whether credentials of this kind are any at this path. Calls with a key don't ask: every base takes those."""
    return next((kind in kinds for base, kinds in TAKEN if path.startswith(base)), True)


def is_permitted(rule: Rule, key: Key, method: str) -> bool:
    """Whether a credential that was found good may use a route with this method."""
    roles = rule.kinds.get(key.kind)
    if roles is None or key.role not in roles:
        return False
    if not rule.scoped:
        return True
    if key.kind == "omniroute":
        return key.account_id == DEFAULT and not _MANAGE.isdisjoint(key.scopes)
    if key.kind == "omniroute_cli":
        return key.account_id == DEFAULT and _needed_scope(rule, method) in _contained(key.scopes)
    return True


def check_subset(creator: Key, new: NewKey) -> None:
    """Nobody gives more than it has. Raises GatewayError(PERMISSION_DENIED) for a credential that may do more.

    The creator's account, or an administrator of the installation, may make it; a role is not above the creator's.
    """
    if creator.role == "admin":
        return
    own = creator.account_id == new.account_id
    if not own or new.role == "admin" or (new.role == "management" and creator.role != "management"):
        raise GatewayError(Kind.PERMISSION_DENIED, "a credential can't be given more rights than its maker has")
    # Scopes are rights in the default account alone, and there nobody but an administrator gives them.
    if new.account_id == DEFAULT and not _contained(frozenset(new.scopes)) <= _contained(creator.scopes):
        raise GatewayError(Kind.PERMISSION_DENIED, "a credential can't be given scopes that its maker has not")


def _needed_scope(rule: Rule, method: str) -> str:
    if rule.high:
        return "admin"
    return "read" if method in READING else "write"


def _contained(scopes: frozenset[str]) -> frozenset[str]:
    """The scopes with those that they contain."""
    highest = next((place for place, scope in enumerate(CLI_SCOPES) if scope in scopes), len(CLI_SCOPES))
    return scopes | frozenset(CLI_SCOPES[highest:])
