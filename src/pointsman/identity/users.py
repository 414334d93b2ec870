"""People: made, changed, and let in by their password."""

import re
from typing import Any, Final

import msgspec

from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.identity.keys import KeyChange, KeyService, NewKey
from pointsman.identity.passwords import Passwords
from pointsman.identity.tokens import account_of
from pointsman.keyring import Secret
from pointsman.storage.accounts import DEFAULT, AccountRow, WorkspaceRow
from pointsman.storage.database import AlreadyExistsError
from pointsman.storage.keys import KeyRepository, KeyRow
from pointsman.storage.users import UserRepository, UserRole, UserRow

ADMINISTRATOR: Final = "usr_admin"  # the person of every installation, whom a password alone means
MAX_SESSIONS: Final = 20  # of one person; the oldest end
MAX_EMAIL: Final = 254  # RFC 5321 4.5.3.1.3, less the angle brackets
_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+")


class NewUser(msgspec.Struct, frozen=True, kw_only=True):
    """What a new person is to be. An administrator works for the installation, others have an account of their own."""

    email: str
    role: UserRole = "user"
    first_name: str | None = None
    last_name: str | None = None
    user_id: str | None = None  # of a person whom another issuer vouches for


class UserService:
    """Makes, changes and lets in."""

    def __init__(self, users: UserRepository, keys: KeyService, sessions: KeyRepository, clock: Clock) -> None:
        self._users = users
        self._keys = keys
        self._sessions = sessions
        self._clock = clock
        self.passwords = Passwords()

    async def create(self, new: NewUser, password: Secret | None = None) -> UserRow:
        """Store a new person. Raises ConfigError for an address that is none or is taken, or a bad password."""
        email = check_email(new.email)
        hashed = await self.passwords.hash(password) if password is not None else None
        now = self._clock.now_us()
        user_id = new.user_id or self._clock.new_id("usr")
        account_id = DEFAULT if new.role == "admin" else account_of(user_id)
        user = UserRow(
            id=user_id,
            account_id=account_id,
            email=email,
            first_name=new.first_name,
            last_name=new.last_name,
            role=new.role,
            password=hashed,
            created_at=now,
            updated_at=now,
        )
        account = AccountRow(id=account_id, kind="user", name=email, created_at=now, updated_at=now)
        workspace = WorkspaceRow(
            id=account_id, account_id=account_id, slug=DEFAULT, name="Default", created_at=now, updated_at=now
        )
        try:
            if new.role == "admin":
                await self._users.add(user)
            else:
                await self._users.add(user, account, workspace)
        except AlreadyExistsError:
            raise ConfigError(f"there is a user with the address {email} already") from None
        return user

    async def ensure_administrator(self, password: Secret | None) -> None:
        """Make the administrator if it is missing, and give it ``password`` if it has none yet. Raises ConfigError."""
        found = await self._users.find(ADMINISTRATOR)
        if found is None:
            now = self._clock.now_us()
            row = UserRow(id=ADMINISTRATOR, account_id=DEFAULT, role="admin", created_at=now, updated_at=now)
            try:
                await self._users.add(row)
            except AlreadyExistsError:
                pass  # another node that starts at the same time was first
            found = await self._users.find(ADMINISTRATOR)
        if password is not None and found is not None and found.password is None:
            await self.set_password(ADMINISTRATOR, password)

    async def administrator(self) -> UserRow | None:
        """The person whom a password alone means."""
        return await self._users.find(ADMINISTRATOR)

    async def find(self, reference: str) -> UserRow:
        """The person that an operator means: by id or address. Raises ConfigError when there is none."""
        found = await self._users.find(reference) or await self._users.find_by_email(reference.lower())
        if found is None:
            raise ConfigError(f"there is no user {reference[:100]!r}; pointsman users list shows them")
        return found

    async def list_page(self, limit: int, offset: int = 0) -> tuple[UserRow, ...]:
        """Up to ``limit`` people, oldest first."""
        return await self._users.list_page(limit, offset)

    async def set_password(self, user_id: str, password: Secret | None) -> None:
        """Give a person this password, or none; all its sessions and tokens end. Raises ConfigError for a bad one."""
        hashed = await self.passwords.hash(password) if password is not None else None
        await self._change(user_id, {"password": hashed})

    async def set_role(self, user_id: str, role: UserRole) -> None:
        """What a person may do; all its sessions and tokens end."""
        await self._change(user_id, {"role": role})

    async def set_disabled(self, user_id: str, disabled: bool) -> None:
        """Keep a person, its keys, sessions and tokens out, or let them in again."""
        await self._change(user_id, {"disabled": disabled})

    async def _change(self, user_id: str, values: dict[str, Any]) -> None:
        now = self._clock.now_us()
        await self._users.change(user_id, {**values, "updated_at": now, "tokens_from": now})
        await self._sessions.end_sessions(user_id, now)

    async def check_password(self, email: str | None, password: Secret) -> UserRow | None:
        """The person who has this address (None: the administrator) and this password.

        It takes as long for an unknown address and for somebody without a password.
        """
        if email is None:
            user = await self._users.find(ADMINISTRATOR)
        else:
            user = await self._users.find_by_email(email.lower()) if len(email) <= MAX_EMAIL else None
        right = await self.passwords.check(user.password if user is not None else None, password)
        if user is None or not right or user.disabled:
            return None
        await self.note_sign_in(user)
        if user.password is not None and self.passwords.is_outdated(user.password):
            await self._users.change(user.id, {"password": await self.passwords.hash(password)})
        return user

    async def note_sign_in(self, user: UserRow) -> None:
        """A person came in now."""
        await self._users.change(user.id, {"last_login_at": self._clock.now_us()})

    async def person_of(self, issuer: str, subject: str) -> UserRow | None:
        """The person whom an issuer calls ``subject``."""
        return await self._users.find_login(issuer, subject)

    async def person_with(self, email: str) -> UserRow | None:
        """The person with an address."""
        return await self._users.find_by_email(email.lower())

    async def add_login(self, issuer: str, subject: str, user_id: str) -> None:
        """Note who a person is at another issuer. Raises AlreadyExistsError."""
        await self._users.add_login(issuer, subject, user_id, self._clock.now_us())

    async def open_session(self, user: UserRow, days: int) -> tuple[KeyRow, Secret]:
        """A new session, always with a new secret: none that somebody planted before can become one."""
        now = self._clock.now_us()
        await self._sessions.end_sessions(user.id, now, keep=MAX_SESSIONS - 1)
        wanted = NewKey(
            name="session",
            kind="session",
            role="admin" if user.role == "admin" else "inference",
            account_id=user.account_id,
            workspace_id=user.account_id,
            user_id=user.id,
            expires_at=now + days * 86_400_000_000,
        )
        return await self._keys.issue(wanted)

    async def renew_session(self, key_id: str, days: int) -> int:
        """Have a session last ``days`` from now; gives its end (us)."""
        expires_at = self._clock.now_us() + days * 86_400_000_000
        await self._keys.change(key_id, KeyChange(expires_at=expires_at))
        return expires_at

    async def revision(self) -> int:
        """The configuration's revision, which counts every change of people and sessions."""
        return await self._sessions.revision()

    async def close_session(self, key_id: str) -> None:
        """End one session."""
        await self._sessions.end_session(key_id, self._clock.now_us())


def check_email(text: str) -> str:
    """An address in lower case. Raises ConfigError when it is none."""
    email = text.strip().lower()
    if len(email) > MAX_EMAIL or not email.isprintable() or _EMAIL.fullmatch(email) is None:
        raise ConfigError("the address must be like name@example.org")
    return email
