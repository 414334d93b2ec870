"""Programs get keys by a code that somebody granted them: OAuth 2.0's code flow with PKCE (RFC 7636).

A code is used once, within ten minutes. Its key belongs to the account that granted it.
"""

import base64
import hashlib
import hmac
import re
import secrets
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.identity.keys import Key, NewKey
from pointsman.keyring import Secret
from pointsman.policy.guardrail_service import GuardrailService
from pointsman.policy.router_keys import KeyLimit, RouterKeys
from pointsman.storage.authorization_codes import CodeRepository, CodeRow

LIFETIME_US: Final = 600 * 1_000_000
PREFIX: Final = "auth_code_"
MAX_URL: Final = 2000
_LOCAL: Final = ("localhost", "127.0.0.1")
_HOST: Final = re.compile(r"[a-z0-9.-]+")
_PLAIN: Final = "plain"
S256: Final = "S256"
_SHORTEST, _LONGEST = 43, 128  # of challenges and verifiers (RFC 7636 4.1, 4.2)


class CodeWish(msgspec.Struct, frozen=True, kw_only=True):
    """What a program asks for: where to be told the code, its challenge, and the key. ``nano_usd`` is its limit.

    Without a ``callback_url`` the person is shown the code; then it must have a challenge.
    """

    callback_url: str | None
    label: str | None = None
    challenge: str | None = None
    method: str | None = None
    nano_usd: int | None = None
    reset: str | None = None
    expires_at: int | None = None
    workspace_id: str | None = None


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A code that was granted; ``app_id`` is a number for the program that will be told. ``created_at`` in us."""

    code: str
    app_id: int
    created_at: int


class KeyCodes:
    """Grants codes and exchanges them."""

    def __init__(self, codes: CodeRepository, keys: RouterKeys, guardrails: GuardrailService, clock: Clock) -> None:
        self._codes = codes
        self._keys = keys
        self._guardrails = guardrails
        self._clock = clock

    async def grant(self, caller: Key, wish: CodeWish) -> Grant:
        """A code for a key of the caller's account. Raises GatewayError: INVALID_REQUEST naming the field,
        PERMISSION_DENIED for a key whose own limits a new key would not have.
        """
        origin = check_wish(wish)
        workspace = wish.workspace_id or caller.workspace_id
        if not manages(caller):
            await self._check_unlimited(caller, workspace)
        await self._keys.check_workspace(caller, workspace)
        now, code = self._clock.now_us(), PREFIX + secrets.token_urlsafe(32)
        key = {
            "name": wish.label or origin.partition("://")[2][:100] or "program",
            "nano_usd": wish.nano_usd,
            "reset": wish.reset,
            "expires_at": wish.expires_at,
        }
        row = CodeRow(
            digest=_digest(code),
            account_id=caller.account_id,
            workspace_id=workspace,
            user_id=caller.user_id,
            challenge=wish.challenge,
            method=(wish.method or _PLAIN) if wish.challenge is not None else None,
            key=key,
            created_at=now,
            expires_at=now + LIFETIME_US,
        )
        await self._codes.add(row)
        return Grant(code=code, app_id=_number(origin), created_at=now)

    async def exchange(self, code: str, verifier: str | None, method: str | None) -> tuple[Secret, str | None, int]:
        """The new key, whose person it acts for, and the configuration revision in which it works.

        Raises GatewayError: INVALID_REQUEST for another method than the code's, PERMISSION_DENIED for a code that is
        unknown, used or too old, and for a wrong verifier, after which the code is worth nothing.
        """
        row = await self._codes.find(_digest(code))
        if row is None or row.expires_at <= self._clock.now_us():
            raise _refused()
        if method is not None and method != row.method:
            message = "'code_challenge_method' is not the one of the code"
            raise GatewayError(Kind.INVALID_REQUEST, message, param="code_challenge_method")
        if not await self._codes.take(row.digest) or not _is_verified(row, verifier):
            raise _refused()
        return await self._make(row)

    async def _make(self, row: CodeRow) -> tuple[Secret, str | None, int]:
        wanted: dict[str, Any] = dict(row.key)
        new = NewKey(
            name=wanted["name"],
            kind="openrouter",
            account_id=row.account_id,
            workspace_id=row.workspace_id,
            user_id=row.user_id,
            creator_user_id=row.user_id,
            expires_at=wanted["expires_at"],
        )
        _, secret, revision = await self._keys.issue(new, KeyLimit(wanted["nano_usd"], wanted["reset"]))
        return secret, row.user_id, revision

    async def _check_unlimited(self, caller: Key, workspace: str) -> None:
        """A key that may only call models gives away no more than it has: nothing that it is limited in."""
        own = await self._keys.own(caller)
        limited = caller.limits is not None or caller.restricted or caller.expires_at is not None
        limited = limited or await self._keys.has_budget(caller) or await self._guardrails.binds(caller)
        if own is None or limited or workspace != caller.workspace_id:
            raise GatewayError(Kind.PERMISSION_DENIED, "a key that is limited itself can't let others have keys")


def manages(caller: Key) -> bool:
    """Whether a credential may make any key of its account: those for management, and people's sessions."""
    return caller.role in ("admin", "management") or caller.kind == "session"


def check_wish(wish: CodeWish) -> str:
    """The origin that is told the code; empty where a person is.

    Raises GatewayError(INVALID_REQUEST) naming the field.
    """
    if wish.method is not None and wish.challenge is None:
        raise _wrong("code_challenge", "is missing")
    if wish.challenge is not None and not _SHORTEST <= len(wish.challenge) <= _LONGEST:
        raise _wrong("code_challenge", f"must have {_SHORTEST} to {_LONGEST} characters")
    if wish.label is not None and not (1 <= len(wish.label) <= 100 and wish.label.isprintable() and wish.label.strip()):
        raise _wrong("key_label", "must be 1 to 100 printable characters")
    if wish.callback_url is None:
        if wish.challenge is None:
            raise _wrong("code_challenge", "is missing, and so is 'callback_url'")
        return ""
    return _origin(wish.callback_url)


def _origin(address: str) -> str:
    """Where an address leads to: a host in letters, digits and what a policy of browsers can hold."""
    try:
        url = urlsplit(address)
        host, port = url.hostname or "", url.port
    except ValueError:
        host, port = "", None
    odd = any(not "!" <= character <= "~" or character in '<>"\\' for character in address)
    if not _HOST.fullmatch(host) or odd or len(address) > MAX_URL or "@" in url.netloc:
        raise _wrong("callback_url", "must be an address")
    if url.scheme != "https" and not (url.scheme == "http" and host in _LOCAL):
        raise _wrong("callback_url", "must begin with https, or with http on localhost")
    return f"{url.scheme}://{host}" if port is None else f"{url.scheme}://{host}:{port}"


def _is_verified(row: CodeRow, verifier: str | None) -> bool:
    if row.challenge is None or verifier is None:
        # A verifier that nobody announced: somebody has taken the challenge out.
        return row.challenge is None and verifier is None
    shown = verifier
    if row.method == S256:
        shown = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode()
        # Some clients write plain base64, or leave the padding.
        wanted = row.challenge.replace("+", "-").replace("/", "_").rstrip("=")
        return hmac.compare_digest(shown.rstrip("=").encode(), wanted.encode())
    return hmac.compare_digest(shown.encode(), row.challenge.encode())


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()  # 256 random bits need no slow digest


def _number(origin: str) -> int:
    return int.from_bytes(hashlib.sha256(origin.encode()).digest()[:4], "big") >> 1


def _refused() -> GatewayError:
    return GatewayError(Kind.PERMISSION_DENIED, "Invalid code or code_verifier")


def _wrong(name: str, what: str) -> GatewayError:
    return GatewayError(Kind.INVALID_REQUEST, f"'{name}' {what}", param=name)
