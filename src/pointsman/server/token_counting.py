"""Counts of a prompt's tokens, before a call: Anthropic's ``count_tokens`` and Gemini's ``countTokens``."""

from typing import Any

from pointsman.accounting.estimation import estimate_tokens
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.request import Request
from pointsman.errors import GatewayError
from pointsman.gateway import Gateway
from pointsman.hub.file_places import FilePlaces
from pointsman.policy.authentication import authenticate
from pointsman.policy.key_conditions import check_target
from pointsman.policy.key_habits import refuse_unguarded
from pointsman.routing.wishes import refuse_secret
from pointsman.runner import in_task
from pointsman.server.exchange import Exchange, refuse
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.endpoints import Endpoint
from pointsman.wire.file_references import may_name_files


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
                await in_task()
                tokens = await self._ask(endpoint, endpoint.hub, request, target.model)
        except GatewayError as error:
            refuse(exchange, dialect, error)
            return
        exchange.respond(200, dialect.write_count_response(tokens))

    async def _ask(self, endpoint: Endpoint, counter: Any, request: Request, model: str) -> int:
        access = await endpoint.acquire()
        try:
            built = counter.build_count_request(request, endpoint.upstream(model), Fidelity())
            answer = CollectedAnswer()
            await self._gateway.client.send(access.origin, endpoint.message(access, built), answer)
        finally:
            endpoint.release()
        if answer.status != 200:
            raise endpoint.hub.parse_error(answer.status, answer.headers, answer.body, access.reveal())
        tokens: int = counter.parse_count_response(answer.body)
        return tokens
