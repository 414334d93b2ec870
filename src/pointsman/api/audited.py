"""The management plane with a row in the audit log for each operation that changes something, done or refused.

One place for all views: the row is made of the request, its answer and what the guard found (api/access.py), and is
written before the answer goes out. No body, name or value that a caller sent gets into it, see canonical/audit.py.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from pointsman.api.audited_operations import SIGN_INS, Operation, operation_of
from pointsman.canonical.audit import Entry, Outcome, field_names, plain
from pointsman.errors import GatewayError
from pointsman.gateway import Gateway
from pointsman.identity.audit_trail import AuditTrail
from pointsman.identity.credentials import COOKIE
from pointsman.identity.keys import Key
from pointsman.identity.users import ADMINISTRATOR
from pointsman.policy.authorization import READING
from pointsman.storage.database import StorageError
from pointsman.storage.users import UserRepository

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
MOST_BODY: Final = 1024 * 1024  # of a body that is looked into
ABANDONED: Final = 499  # the client left before the answer; no status of HTTP's own
_CALLBACK: Final = "/api/auth/oidc/"
_REFUSALS: Final = frozenset((400, 401, 402, 403, 404, 405, 409, 410, 413, 422, 429))
# Names of what objects are, in queries and bodies; free text such as a name is none.
_NAMED_BY: Final = ("id", "alias", "slug", "model", "account_id", "budget_id")
# Of the IP filter: whom an operation shuts out or lets in.
_ADDRESSES: Final = ("addBlacklist", "addWhitelist", "removeBlacklist", "removeWhitelist", "removeBan")
_ENDINGS: Final = {401: "failed", 403: "refused", 429: "locked"}


class AuditedPlane:
    """An ASGI application around the one of the views."""

    def __init__(self, app: App, trail: AuditTrail, gateway: Gateway, users: UserRepository) -> None:
        self.app: Final = app
        self.trail: Final = trail
        self._gateway = gateway
        self._users = users

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request. Those that read are handed on as they are."""
        reads = scope.get("method") in READING and not scope["path"].startswith(_CALLBACK)
        if scope["type"] != "http" or reads:
            await self.app(scope, receive, send)
            return
        await _Call(self, scope, receive, send).run(self.app)

    async def note(self, call: "_Call", status: int) -> None:
        """Write the row of a request that is answered with ``status``."""
        operation = operation_of(call.scope["method"], call.scope.get("path_template", call.scope["path"]))
        if operation is None:
            return
        entry = await self._entry(call, operation, status)
        changed = entry.outcome == "success" and (entry.object_id is not None or entry.credential_id is not None)
        if not changed:
            await self.trail.note_unchanged(entry)
        else:
            await self.trail.note(entry)

    async def _entry(self, call: "_Call", operation: Operation, status: int) -> Entry:
        outcome, scope, body = outcome_of(status), call.scope, call.asked()
        signs_in = (scope["method"], scope.get("path_template")) in SIGN_INS
        caller: Key | None = scope["state"].get("identity") or await self._made_session(call)
        action, object_id = operation.action, await self._object_id(call, succeeded=outcome == "success")
        if signs_in:
            action = f"{action}.{'success' if outcome == 'success' else _ENDINGS.get(status, 'error')}"
            object_id = caller.user_id if caller is not None else await self._person(body)
        client = scope.get("client")
        return Entry(
            at=self.trail.now_us(),
            source="api",
            action=action,
            outcome=outcome,
            status=status,
            object_kind=operation.object_kind,
            object_id=object_id,
            account_id=plain(caller.account_id) if caller is not None else None,
            user_id=plain(caller.user_id) if caller is not None else None,
            credential_id=plain(caller.id) if caller is not None else None,
            credential_kind=caller.kind if caller is not None else None,
            address=plain(client[0]) if client else None,
            request_id=plain(scope["state"].get("request_id")),
            fields=field_names(body),
            digest=self.trail.digest(body) if body else None,
        )

    async def _made_session(self, call: "_Call") -> Key | None:
        """The session that the answer's cookie holds: who signs in has no other credential yet."""
        for name, value in call.headers:
            if name.lower() != b"set-cookie" or not value.startswith(COOKIE + b"="):
                continue
            try:
                cookie = SimpleCookie(value.decode("latin-1"))[COOKIE.decode()].value
            except (CookieError, KeyError):
                return None
            return await self._just_made(cookie.encode("latin-1"))
        return None

    async def _just_made(self, secret: bytes) -> Key | None:
        """The key that an answer holds; where not all are in memory, this process may have to look it up."""
        keys, late = self._gateway.snapshot.keys, self._gateway.late_keys
        found = keys.find_any(secret)
        if found is None and late is not None and not keys.whole:
            try:
                await late.learn(secret)
            except GatewayError:
                return None
            found = keys.find_any(secret)
        return found

    async def _person(self, body: Any) -> str | None:
        """Whom somebody said to be, if there is such a person: never the words themselves."""
        email = body.get("email") if isinstance(body, dict) else None
        if not isinstance(email, str):
            return ADMINISTRATOR if isinstance(body, dict) and "password" in body and email is None else None
        try:
            found = await self._users.find_by_email(email[:254].lower()) if "\0" not in email else None
        except StorageError:
            return None  # the answer tells it; the row is still written if it can be
        return found.id if found is not None else None

    async def _object_id(self, call: "_Call", *, succeeded: bool) -> str | None:
        """What was changed. A caller's own word is believed when the operation succeeded, else it is but marked."""
        asked = call.word()
        found = asked or (await self._made(call.answered()) if succeeded else None)
        return self.trail.object_name(found, known=succeeded) if found is not None else None

    async def _made(self, answer: Any) -> str | None:
        """What was made: by the id that the answer tells, else by the credential in it."""
        found = _answered_id(answer)
        secret = answer.get("key") if isinstance(answer, dict) else None
        if found is None and isinstance(secret, str):
            key = await self._just_made(secret.encode("utf-8", "replace"))
            found = key.id if key is not None else None
        return found


class _Call:
    """One request on its way, with as much of its body and answer as a row is made of."""

    def __init__(self, plane: AuditedPlane, scope: Message, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.headers: list[tuple[bytes, bytes]] = []
        self._plane = plane
        self._receive = receive
        self._send = send
        self._body = b""
        self._answer = b""
        self._start: Message | None = None
        self._noted = False

    async def run(self, app: App) -> None:
        """Serve it, and have its row written however it ends."""
        try:
            await app(self.scope, self._read, self._write)
        finally:
            await self._note(ABANDONED)  # the client left and the call was cancelled, or it failed without an answer

    def asked(self) -> Any:
        """The body that was sent, if it is JSON or a form; None for others."""
        if not self._body or len(self._body) > MOST_BODY:
            return None
        try:
            return msgspec.json.decode(self._body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return dict(_form(self._body))

    def answered(self) -> Any:
        """The answer's body, if it is JSON."""
        try:
            return msgspec.json.decode(self._answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def word(self) -> str | None:
        """What the request calls the object: in its path, query or body."""
        places = [*self.scope.get("path_params", {}).values()]
        query, body = dict(_form(self.scope.get("query_string", b""))), self.asked()
        ban = body.get("tempBan") if isinstance(body, dict) else None
        places += [ban["ip"]] if isinstance(ban, dict) and "ip" in ban else []
        for source in (query, body if isinstance(body, dict) else {}):
            places += [source[name] for name in (*_NAMED_BY, *_ADDRESSES) if name in source]
        return next((place[:1000] for place in places if isinstance(place, str) and place), None)

    async def _read(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and len(self._body) <= MOST_BODY:
            self._body += message.get("body", b"")
        return message

    async def _write(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            self.headers = list(message.get("headers", ()))
            return
        if message["type"] == "http.response.body":
            if len(self._answer) <= MOST_BODY:
                self._answer += message.get("body", b"")
            if self._start is not None:
                start, self._start = self._start, None
                await self._note(start["status"])
                await self._send(start)
        await self._send(message)

    async def _note(self, status: int) -> None:
        """Have the row written, once, also when the client leaves meanwhile."""
        if not self._noted:
            self._noted = True
            await asyncio.shield(self._plane.trail.keep(self._plane.note(self, status)))


def outcome_of(status: int) -> Outcome:
    """What a status says."""
    if status < 400:
        return "success"
    return "refused" if status in _REFUSALS else "failed"


def _answered_id(answer: Any) -> str | None:
    """The id of what was made, at the places where the five contracts write it."""
    if not isinstance(answer, dict):
        return None
    for source in (answer, *(one for one in answer.values() if isinstance(one, dict))):
        for name in ("id", "hash", "keyId", "key_id"):
            found = source.get(name)
            if isinstance(found, str) and found:
                return found[:1000]
    return None


def _form(data: bytes) -> list[tuple[str, str]]:
    try:
        pairs = parse_qs(data[:MOST_BODY].decode("latin-1"), max_num_fields=100)
    except ValueError:
        return []
    return [(name, values[0]) for name, values in pairs.items()]
