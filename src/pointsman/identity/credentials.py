"""Kinds of credentials: what each looks like, how a new one is made, and what people recognise it by.

The prefixes are those that clients of each API know. A prefix only says where a credential came from; what it may do
stands in its row.
"""

import hashlib
import re
import secrets
from typing import Final

from pointsman.keyring import MasterKey, Secret
from pointsman.storage.keys import CredentialKind

COOKIE: Final = b"auth_token"  # OmniRoute's name for the cookie of its dashboard
# Longer ones before the shorter ones that they begin with. ``hxv_`` is an older name of Hardcarrx' own.
_PREFIXES: Final[tuple[tuple[str, CredentialKind], ...]] = (
    ("sk-pm-", "plain"),
    ("sk-or-v1-", "openrouter"),
    ("cc_agent_", "crosscompute_agent"),
    ("cc_live_", "crosscompute"),
    ("hmpk_", "hardcarrx"),
    ("hxv_", "hardcarrx"),
    ("oma_", "omniroute_cli"),
    ("pms_", "session"),
)
_OMNIROUTE: Final = re.compile(r"sk-[0-9a-f]{16}-[0-9a-f]+-[0-9a-f]{8}")
_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")  # JWS compact form (RFC 7515 7.1)
MACHINE_PURPOSE: Final = "machine-id"
CHECK_PURPOSE: Final = "omniroute-key-check"
MAX_TOKEN_CHARACTERS: Final = 8192


def kind_of(presented: str) -> CredentialKind | None:
    """The kind that a credential looks like; None for a form that nobody here makes, such as an operator's own key."""
    for prefix, kind in _PREFIXES:
        if presented.startswith(prefix):
            return kind
    if _OMNIROUTE.fullmatch(presented):
        return "omniroute"
    return "jwt" if is_token(presented) else None


def is_token(presented: str) -> bool:
    """Whether it has the form of a signed JSON Web Token."""
    return len(presented) <= MAX_TOKEN_CHARACTERS and _TOKEN.fullmatch(presented) is not None


def new_secret(kind: CredentialKind, master: MasterKey) -> Secret:
    """A new credential of 256 random bits (OmniRoute's key: 128) in the form that clients know."""
    match kind:
        case "openrouter":
            return Secret("sk-or-v1-" + secrets.token_hex(32))
        case "omniroute":
            return _omniroute_key(master)
        case "omniroute_cli":
            return Secret("oma_live_" + secrets.token_urlsafe(32))
        case "jwt":
            raise ValueError("a token is signed, not drawn")
    prefix = next(prefix for prefix, known in _PREFIXES if known == kind)
    return Secret(prefix + secrets.token_urlsafe(32))


def _omniroute_key(master: MasterKey) -> Secret:
    """``sk-<machine>-<random>-<check>``: the check tells a mistyped key from an unknown one."""
    body = f"{master.mark(MACHINE_PURPOSE, '')}-{secrets.token_hex(16)}"
    return Secret(f"sk-{body}-{master.mark(CHECK_PURPOSE, body)[:8]}")


def hint_of(kind: CredentialKind, secret: Secret) -> str:
    """Enough to recognise a credential by, never enough to guess it, as its API shows it."""
    text = secret.reveal()
    if kind == "openrouter":
        return f"{text[:12]}...{text[-3:]}"
    if kind == "omniroute":
        return f"{text[:8]}****{text[-4:]}"
    prefix = next((prefix for prefix, _ in _PREFIXES if text.startswith(prefix)), text[:6])
    return f"{prefix}…{text[-4:]}"


def fingerprint_of(kind: CredentialKind, secret: Secret) -> str | None:
    """The SHA-256 in hex by which OpenRouter's API names a key; None for other kinds, whose APIs have ids."""
    return hashlib.sha256(secret.reveal().encode()).hexdigest() if kind == "openrouter" else None
