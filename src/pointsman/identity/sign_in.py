"""Coming in by password. A try is counted before it is looked at, so that many at once are no way around the limit."""

from typing import Final

from pointsman.clock import Clock
from pointsman.identity.lockout import Lockout
from pointsman.identity.tokens import Tokens
from pointsman.identity.users import UserService
from pointsman.identity_settings import IdentitySettings
from pointsman.keyring import Secret
from pointsman.storage.accounts import DEFAULT, AccountRepository
from pointsman.storage.users import UserRow

NO_LOGIN_REQUIRED: Final = "noLoginRequired"  # in the settings of the installation's own account


class LockedError(Exception):
    """Too many wrong passwords; ``seconds`` until more are looked at."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class SignIn:
    """Lets people in, and says who has to sign in at all."""

    def __init__(
        self,
        users: UserService,
        tokens: Tokens,
        accounts: AccountRepository,
        settings: IdentitySettings,
        clock: Clock,
        lockout: Lockout,
    ) -> None:
        self.users = users
        self.tokens = tokens
        self.settings = settings
        self.clock = clock
        self.lockout = lockout
        self._accounts = accounts

    async def by_password(self, email: str | None, password: Secret, address: str) -> UserRow | None:
        """The person with this address (None: the administrator) and password; None when there is none.

        ``address`` is where the request comes from. Raises LockedError.
        """
        person = email.lower()[:300] if email is not None else ""
        wait = await self.lockout.wait_seconds(address, person) or await self.lockout.try_once(address, person)
        if wait > 0:
            raise LockedError(wait)
        user = await self.users.check_password(email, password)
        if user is not None:
            await self.lockout.note_success(address, person)
        return user

    async def has_password(self) -> bool:
        """Whether the administrator can sign in by password."""
        administrator = await self.users.administrator()
        return administrator is not None and administrator.password is not None

    async def login_required(self) -> bool:
        """Whether management needs a credential also from those who come from this machine itself."""
        account = await self._accounts.find(DEFAULT)
        return account is None or account.settings.get(NO_LOGIN_REQUIRED) is not True

    async def set_login_required(self, required: bool) -> None:
        """Change that."""
        await self._accounts.change_settings(
            DEFAULT, lambda settings: {**settings, NO_LOGIN_REQUIRED: not required}, self.clock.now_us()
        )
