"""A request that may be answered from the response cache: looked up, and kept when an upstream answers it."""

from functools import partial
from typing import Any

from pointsman.canonical.identity import Costs, Identity
from pointsman.canonical.record import CacheOutcome, Outcome
from pointsman.canonical.request import Request
from pointsman.canonical.response import Response
from pointsman.entry import Entry
from pointsman.gateway import Gateway
from pointsman.hub.cached_answers import CachingDialect, written
from pointsman.hub.operation_lane import OPERATIONS
from pointsman.hub.own_calls import OwnCall, judged
from pointsman.policy.cache_headers import Told, bypass_lines, cache_lines
from pointsman.policy.cache_names import CacheName, asker_of, name_of
from pointsman.policy.cache_wishes import MODE, CacheWish, cache_wish, is_forbidden
from pointsman.policy.response_cache import Found, ResponseCache, cached_answer
from pointsman.policy.semantic_cache import Question, is_askable, question_asked
from pointsman.pursuit import Pursuit, check_key, pursue
from pointsman.routing.targets import target_of


async def pursue_cached(gateway: Gateway, entry: Entry, pursuit: Pursuit) -> None:
    """Answer from the cache, else pursue the request, and keep what comes."""
    cache, told = gateway.cache, _said(entry, pursuit)
    assert cache is not None
    wish = cache_wish(cache.settings, entry.exchange.headers, pursuit.key.settings, told)
    request = None
    if wish is not None and pursuit.dialect.OPERATION not in OPERATIONS and not entry.unlogged:
        request = pursuit.dialect.as_request(pursuit.call, entry.exchange.body)
    if wish is None or request is None or not is_fit(request):
        if is_forbidden(entry.exchange.headers, told) or pursuit.key.settings.get(MODE) == "bypass":
            keep_out(entry)
        await pursue(gateway, entry, pursuit)
        return
    steering = (pursuit.route, pursuit.wishes)
    snapshot, key = pursuit.snapshot, pursuit.key
    bound = snapshot.guards.of(key) if snapshot.guards is not None else None
    who = (key, bound.identity if bound is not None else b"", check_key(entry, pursuit))
    asker = asker_of(who, cache.settings.scope == "key", steering, entry.exchange.headers)
    name = name_of(request, pursuit.call.model, asker, cache.secret)
    found, outcome = None if wish.refresh else await cache.find(name), CacheOutcome.HIT
    question: Question | None = None
    if found is None and wish.semantic and gateway.vectors is not None:
        semantic, asked = cache.settings.semantic, (pursuit.call.model, asker, cache.secret)
        if is_askable(request, semantic.max_temperature):
            question = await question_asked(gateway.vectors, request, asked, semantic.max_characters)
        if question is not None and not wish.refresh and (near := cache.meanings.nearest(question)) is not None:
            found, outcome = await cache.find(near), CacheOutcome.SEMANTIC
    if found is not None:
        await _give(gateway, entry, pursuit, request, (found, outcome, name))
        return
    await _miss(gateway, entry, pursuit, request, (cache, wish, name, question))


def _said(entry: Entry, pursuit: Pursuit) -> dict[str, Any]:
    """What the request's body and its preset say of the cache."""
    preset, wishes = entry.preset, pursuit.wishes
    told: dict[str, Any] = {}
    if preset is not None:
        told = {"cache_enabled": preset.cache_enabled, "cache_ttl_seconds": preset.cache_ttl_seconds}
    if wishes is not None and wishes.cache is not None:
        told["cache_enabled"] = wishes.cache
    return told


def keep_out(entry: Entry) -> None:
    """The caller wants nothing of the cache; it is told that this was heeded."""
    entry.record.cache = CacheOutcome.BYPASS
    entry.exchange.api_head += bypass_lines(entry.exchange, entry.dialect.NAME)


def is_fit(request: Request) -> bool:
    """Whether an answer may be given twice: none that is made by a service's own tools, or spoken."""
    return request.web_search is None and request.audio is None and all(tool.kind != "native" for tool in request.tools)


async def _miss(
    gateway: Gateway,
    entry: Entry,
    pursuit: Pursuit,
    request: Request,
    kept: tuple[ResponseCache, CacheWish, CacheName, Question | None],
) -> None:
    cache, wish, name, _ = kept
    entry.record.cache = CacheOutcome.MISS
    cache.counts["miss"] += 1
    entry.exchange.api_head += cache_lines(
        entry.exchange, entry.dialect.NAME, Told(name, CacheOutcome.MISS, wish.seconds)
    )
    call = OwnCall.like(pursuit.call, request)
    dialect: Any = CachingDialect(pursuit.dialect, call, partial(_keep, gateway, entry, kept))
    await pursue(gateway, entry, pursuit._replace(dialect=dialect, call=call))


def _keep(
    gateway: Gateway,
    entry: Entry,
    kept: tuple[ResponseCache, CacheWish, CacheName, Question | None],
    response: Response,
) -> None:
    cache, wish, name, question = kept
    record = entry.record
    answer = cached_answer(response, gateway.clock.now_us(), record.request_id, record.connection_id, wish.seconds)
    if answer is None:
        cache.counts["unfit"] += 1
    elif cache.keep(name, answer) and question is not None:
        cache.meanings.add(question, name, wish.seconds)


async def _give(
    gateway: Gateway, entry: Entry, pursuit: Pursuit, request: Request, given: tuple[Found, CacheOutcome, CacheName]
) -> None:
    """Answer with what was kept, after the asker's guards have looked at it as at any other. It costs nothing, and the
    record says whose answer it is.
    """
    found, outcome, name = given
    answer, record, exchange, dialect = found.answer, entry.record, entry.exchange, pursuit.dialect
    assert gateway.cache is not None
    gateway.cache.counts[outcome.value] += 1
    connection = gateway.snapshot.catalogue.connections.get(answer.connection_id or "")
    aside = {"provider": gateway.planner.namer(connection)} if connection is not None else {}
    identity = Identity(
        request_id=exchange.request_id,
        created=exchange.started_at // 1_000_000,
        aside=lambda: dict(aside),
        costs=lambda _: Costs(0, 0),
    )
    response = answer.response()
    if connection is not None and response.model is not None:
        entry.target = target_of(connection, response.model)  # who answered then; nobody is asked now
    record.cache, record.cache_source, record.cost_nano_usd = outcome, answer.source_id, 0
    await judged(dialect, response)
    body = written(dialect, response, request, identity)
    record.response_model, record.finish_reason = response.model, response.finish_reason
    age = (gateway.clock.now_us() - answer.made_at) // 1_000_000
    told = Told(name, outcome, int(found.seconds), max(0, age), answer.source_id)
    exchange.api_head += cache_lines(exchange, dialect.NAME, told)
    if not request.stream:
        record.bytes_out = 0
        entry.settle(200, Outcome.SUCCESS)
        exchange.respond(200, body)
        return
    record.bytes_out = len(body)
    entry.settle(200, Outcome.SUCCESS)
    exchange.start(200, dialect.STREAM_TYPE, b"cache-control: no-cache\r\n")
    exchange.write(body)
    exchange.finish()
