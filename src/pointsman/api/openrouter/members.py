"""``GET /api/v1/organization/members``: the people of the organization that the caller's account is."""

from typing import Any, Final

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import MAX_OFFSET, HttpRequest, answer, number
from pointsman.api.openrouter.exchange import caller_of
from pointsman.errors import GatewayError, Kind
from pointsman.storage.accounts import AccountRepository, Member

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100


class MemberView:
    """The view."""

    def __init__(self, accounts: AccountRepository) -> None:
        self._accounts = accounts

    def handler(self) -> HTTPRouteHandler:
        """The route for Litestar."""

        @get("/api/v1/organization/members")
        async def list_members(request: HttpRequest) -> Response[bytes]:
            offset = number(request, "offset", 0, (0, MAX_OFFSET))
            limit = number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
            account = await self._accounts.find(caller_of(request).account_id)
            if account is None or account.kind != "organization":
                raise GatewayError(Kind.NOT_FOUND, "This account is not an organization")
            members, total = await self._accounts.list_members(account.id, limit, offset)
            return answer({"data": [_shown(member) for member in members], "total_count": total})

        return list_members


def _shown(member: Member) -> dict[str, Any]:
    return {
        "id": member.user_id,
        "email": member.email or "",
        "first_name": member.first_name,
        "last_name": member.last_name,
        "role": member.role,
    }
