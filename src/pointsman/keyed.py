"""A request that brings its provider's key: one call to one target, and nothing of the key stays behind.

It is asked once and of nobody else: no fallback, no hedge, no cache, no shared answer. What it finds is held against no
connection: the key may be wrong, and the account is the caller's own.
"""

import msgspec

from pointsman.caching import keep_out
from pointsman.calling import call_target
from pointsman.entry import Entry
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Gateway
from pointsman.pursuit import Pursuit, asked_within, problem_of
from pointsman.routing.explain import unavailable
from pointsman.routing.plan import Memory, plan
from pointsman.routing.wishes import SECRET
from pointsman.upstream.keyed_endpoints import EndpointTable

REFUSED: tuple[int, ...] = (401, 403)  # an upstream's statuses for a key that it does not take


async def pursue_keyed(gateway: Gateway, entry: Entry, pursuit: Pursuit) -> None:
    """Ask the pinned provider with the request's own key. Raises GatewayError."""
    dialect, call, snapshot, route, wishes, _, _ = pursuit
    assert wishes is not None
    assert wishes.secret is not None
    assert wishes.pin is not None
    problem = problem_of(gateway, asked_within(entry, pursuit), route, entry.record.workspace_id)
    # How the stored account does says nothing of the caller's.
    problem = msgspec.structs.replace(problem, conditions={}, memory=Memory())
    chosen = plan(problem)
    if not chosen.order:
        raise unavailable(problem, chosen)
    target, table = chosen.order[0], snapshot.endpoints
    assert isinstance(table, EndpointTable)
    endpoint = table.keyed(target, wishes.pin, wishes.secret)
    snapshot = msgspec.structs.replace(snapshot, endpoints={target.endpoint: endpoint}, limits=None)
    entry.target = target  # not in the record: nothing is learned of the target
    keep_out(entry)
    try:
        await call_target(gateway, dialect, entry, call, snapshot, target)
    except GatewayError as error:
        raise _told(error, wishes.pin) from error


def _told(error: GatewayError, provider: str) -> GatewayError:
    """A refused key is the caller's mistake, and not one in the key for this gateway."""
    if error.refusal is None or error.refusal.status not in REFUSED:
        return error
    message = f"the provider '{provider[:100]}' does not take the key in '{SECRET}'"
    return GatewayError(Kind.INVALID_REQUEST, message, param=SECRET)
