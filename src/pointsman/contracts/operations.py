"""What an operation of a contract is: a row that says who serves it and who may call it.

Rows are data. Which of them are served is said once, here; tests hold the running program to it, and the OpenAPI
documents (documents.py) show those and no others. Authorisation is by operation: whoever comes over a mount or a host
of another contract meets the same row.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import cache, lru_cache
from importlib import import_module
from types import MappingProxyType
from typing import Final, NamedTuple


class Contract(StrEnum):
    """The APIs whose operations are served. The values are mount prefixes and names of modules here."""

    OPENROUTER = "openrouter"
    OMNIROUTE = "omniroute"
    CROSSCOMPUTE = "crosscompute"
    HARDCARRX = "hardcarrx"
    HYBRID = "hybrid"


# The first segment of a path below which one contract is served, at its native paths.
MOUNTS: Final = MappingProxyType({contract.encode(): contract for contract in Contract})
# Where each contract's paths begin.
BASES: Final = MappingProxyType(
    {
        Contract.OPENROUTER: (b"/api/v1/",),
        Contract.OMNIROUTE: (b"/api/", b"/v1/"),
        Contract.CROSSCOMPUTE: (b"/v1/", b"/health"),
        Contract.HARDCARRX: (b"/v1/", b"/memory/"),
        Contract.HYBRID: (b"/v1/",),
    }
)


class Plane(StrEnum):
    """Who answers: the edge's own handlers, or the views of the management plane."""

    EDGE = "edge"
    VIEWS = "views"


class Credential(StrEnum):
    """The kinds of credentials."""

    PLAIN = "plain"  # a key of this gateway
    OPENROUTER = "openrouter"  # sk-or-v1-
    HARDCARRX = "hardcarrx"  # hmpk_, hxv_
    CROSSCOMPUTE = "crosscompute"  # cc_live_
    CROSSCOMPUTE_AGENT = "crosscompute_agent"  # cc_agent_
    OMNIROUTE = "omniroute"  # sk- and a machine's 16 hex digits
    OMNIROUTE_CLI = "omniroute_cli"  # oma_
    JWT = "jwt"  # of a user
    SESSION = "session"  # the dashboard's cookie


EDGE: Final = Plane.EDGE
VIEWS: Final = Plane.VIEWS
# Who may call: groups of credentials, as rows name them. What a kind may do beyond that its role and scopes decide.
PUBLIC: Final = frozenset[Credential]()
KEYS: Final = frozenset(
    (Credential.PLAIN, Credential.OPENROUTER, Credential.HARDCARRX, Credential.CROSSCOMPUTE, Credential.OMNIROUTE)
)
INFERENCE: Final = KEYS | {Credential.CROSSCOMPUTE_AGENT, Credential.JWT, Credential.SESSION}
ACCOUNT: Final = frozenset((Credential.PLAIN, Credential.OPENROUTER, Credential.SESSION))
ADMIN: Final = frozenset((Credential.PLAIN, Credential.OMNIROUTE, Credential.OMNIROUTE_CLI, Credential.SESSION))
USER: Final = frozenset((Credential.PLAIN, Credential.JWT, Credential.SESSION))
AGENT: Final = frozenset((Credential.CROSSCOMPUTE_AGENT,))
_TAILS: Final = frozenset(("{model_id}", "{path}"))
Row = tuple[str, str, Plane | None, frozenset[Credential], int]


class Operation(NamedTuple):
    """One operation. ``path`` is native, with ``{name}`` for a parameter; ``plane`` is None while nobody serves it.

    ``credentials``: the kinds that are taken; none means that anybody may call. ``status`` is that of a success.
    """

    contract: Contract
    method: str
    path: str
    plane: Plane | None
    credentials: frozenset[Credential]
    status: int


def list_operations(contract: Contract, *rows: Row) -> tuple[Operation, ...]:
    """A contract's rows as operations."""
    return tuple(Operation(contract, *row) for row in rows)


@cache
def operations_of(contract: Contract) -> tuple[Operation, ...]:
    """Every operation of a contract, also those that are not served yet."""
    found: tuple[Operation, ...] = import_module(f"pointsman.contracts.{contract}").OPERATIONS
    return found


def all_operations() -> Iterable[Operation]:
    """Every operation of every contract."""
    return (operation for contract in Contract for operation in operations_of(contract))


@cache
def _pattern(contract: Contract) -> re.Pattern[str]:
    # A last parameter that names a model takes all that follows: such names hold slashes.
    more: tuple[str, ...] = getattr(import_module(f"pointsman.contracts.{contract}"), "MORE_PATHS", ())
    return re.compile("|".join({_expression(path) for path in (*(row.path for row in operations_of(contract)), *more)}))


def _expression(path: str) -> str:
    *parts, last = path.split("/")
    middle = "".join(f"{'[^/]+' if part.startswith('{') else re.escape(part)}/" for part in parts)
    return f"(?:{middle}{_last(last)})"


def _last(part: str) -> str:
    if part in _TAILS:
        return ".+"
    return "[^/]+" if part.startswith("{") else re.escape(part)


def is_path_of(contract: Contract, path: bytes) -> bool:
    """True when a raw path is one of the contract's, whatever the method."""
    return _pattern(contract).fullmatch(path.decode("latin-1")) is not None


@lru_cache(1024)
def owner_of(path: bytes) -> Contract | None:
    """The one contract that a path belongs to; None when it is several contracts', or nobody's."""
    owners = [contract for contract in Contract if is_path_of(contract, path)]
    return owners[0] if len(owners) == 1 else None
