"""Counts of a prompt's tokens, before a call: Anthropic's ``count_tokens`` and Gemini's ``countTokens``."""

from typing import Any, NamedTuple

from pointsman.accounting.estimation import estimate_tokens
from pointsman.calling import acquire, reserve_request
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.request import Request
from pointsman.errors import GatewayError
from pointsman.gateway import Gateway
from pointsman.hub.file_places import FilePlaces
from pointsman.identity.keys import Key
from pointsman.policy.authentication import authenticate
from pointsman.policy.key_conditions import check_target
from pointsman.policy.key_habits import refuse_unguarded
from pointsman.routing.wishes import refuse_secret
from pointsman.runner import in_task
from pointsman.server.exchange import Exchange, refuse
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.endpoints import Endpoint
from pointsman.upstream.terms import TIMEOUT_HEADER, allowed_seconds
from pointsman.wire.file_references import may_name_files


class Asking(NamedTuple):
    """Who asks an upstream for a count, and of what."""

    exchange: Exchange
    dialect: Any
    key: Key
    endpoint: Endpoint
    request: Request
    model: str


class TokenCounting:
    """The upstream's own count where it speaks the client's API and counts; elsewhere an estimate (4 bytes a token)."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def count(self, exchange: Exchange, dialect: Any, call: ClientCall) -> None:
        """Answer a request for a count, in ``dialect``: a module with ``read_count_request``."""
        snapshot = self._gateway.snapshot
        try:
            key = authenticate(exchange.headers, snapshot.keys, exchange.started_at, exchange.path)
            refuse_secret(exchange.body)
            request: Request = dialect.read_count_request(exchange.body, call)
            files = self._gateway.files
            if files is not None and may_name_files(exchange.body):
                places = FilePlaces(files, snapshot, key.workspace_id)
                target = (await places.route(exchange.body, dialect.WIRE, request.model)).steps[0].target
            else:
                target = snapshot.catalogue.resolve(request.model)
            check_target(key, target, "chat", exchange.started_at)
            if snapshot.guards is None:
                refuse_unguarded(key.settings)
            else:
                request = await snapshot.guards.counted(exchange.request_id, key, request)
            endpoint = snapshot.endpoints[target.connection.id]
            tokens = estimate_tokens(exchange.body, 0)
            counts = endpoint.wire == dialect.WIRE and hasattr(endpoint.hub, "build_count_request")
            bound = snapshot.guardrails.of(key) if snapshot.guardrails is not None else None
            if counts and (bound is None or bound.permits(target)):
                tokens = await self._asked(Asking(exchange, dialect, key, endpoint, request, target.model))
        except GatewayError as error:
            refuse(exchange, dialect, error)
            return
        exchange.respond(200, dialect.write_count_response(tokens))

    async def _asked(self, asking: Asking) -> int:
        """The upstream's count, as a call among all others. Raises GatewayError."""
        admission, priority = self._gateway.admission, asking.key.priority
        await in_task()
        if not admission.try_enter(priority):
            await admission.enter(priority)
        try:
            return await self._counted(asking)
        finally:
            admission.leave()

    async def _counted(self, asking: Asking) -> int:
        """A request more in the limits of its key and of the connection, unless it never gets there."""
        gateway, limits, answer = self._gateway, self._gateway.snapshot.limits, CollectedAnswer()
        reserved = []
        try:
            if limits is not None:
                for rules in (limits.caller_rules(asking.key), limits.connection_rules(asking.endpoint.connection_id)):
                    reserved.append(await reserve_request(gateway, asking.dialect, asking.exchange, rules))
            return await self._send(asking, answer)
        finally:
            for reservation in reserved:
                if reservation is not None:
                    reservation.settle(0 if answer.connection is not None else None)

    async def _send(self, asking: Asking, answer: CollectedAnswer) -> int:
        gateway, endpoint, headers = self._gateway, asking.endpoint, asking.exchange.headers
        seconds = gateway.attempts.timeout_seconds
        if TIMEOUT_HEADER in headers:
            seconds = allowed_seconds(headers[TIMEOUT_HEADER], seconds)
        deadline = gateway.client.ticker.now + seconds
        counter: Any = endpoint.hub
        access = await acquire(gateway, endpoint, deadline)
        try:
            built = counter.build_count_request(asking.request, endpoint.upstream(asking.model), Fidelity())
            message = endpoint.message(access, built)
            await gateway.client.send(access.origin, message, answer, asking.key.id, deadline)
        finally:
            endpoint.release()
        if answer.status != 200:
            raise counter.parse_error(answer.status, answer.headers, answer.body, access.reveal())
        tokens: int = counter.parse_count_response(answer.body)
        return tokens
