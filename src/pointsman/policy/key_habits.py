"""What OmniRoute's keys say of all their calls, beside what they allow (key_conditions.py): a delay, a stream where
none was asked for, names that may mean several connections, and nothing kept of what was said.

Only keys that have settings pay for it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from pointsman.canonical.record import RequestRecord
from pointsman.errors import GatewayError, Kind
from pointsman.identity.keys import GUARDS
from pointsman.routing.catalogue import Catalogue
from pointsman.routing.plan import Route

NO_LOG: Final = "noLog"
THROTTLE: Final = "throttleDelayMs"
AUTO_RESOLVE: Final = "autoResolve"
STREAM_MODE: Final = "streamDefaultMode"
PUBLIC_ONLY: Final = "disableNonPublicModels"
# APIs whose requests say in the body whether they want a stream, and mean no when they don't say it.
_STREAM_IN_BODY: Final = frozenset(("openai.chat", "openai.responses", "openrouter", "anthropic", "openai.completions"))
_EVENTS: Final = b"text/event-stream"
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode: Final = msgspec.json.Encoder().encode


def delay_seconds(settings: Mapping[str, Any]) -> float:
    """How long a key's calls wait before anything is done for them."""
    delay = settings.get(THROTTLE)
    return delay / 1000 if isinstance(delay, int) and delay > 0 else 0.0


def with_stream(body: bytes, settings: Mapping[str, Any], headers: Mapping[bytes, bytes], wire: str) -> bytes:
    """A body that does not say whether a stream is wanted, as its key has it: with ``legacy``, whoever accepts a stream
    of events gets one. One that can't be read is left to its reader.
    """
    if settings.get(STREAM_MODE) != "legacy" or wire not in _STREAM_IN_BODY:
        return body
    if _EVENTS not in headers.get(b"accept", b"").lower():
        return body
    try:
        fields = _fields.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return body
    return body if "stream" in fields else _encode(fields | {"stream": msgspec.Raw(b"true")})


def missing_guard(name: str) -> GatewayError:
    """For a key that names a guard that there isn't: its calls must not go unguarded."""
    return GatewayError(Kind.PERMISSION_DENIED, f"this key is bound to a guard that there isn't: '{name}'")


def refuse_unguarded(settings: Mapping[str, Any]) -> None:
    """Where there are no guards at all: raises GatewayError(PERMISSION_DENIED) for a key that names one."""
    for name in settings.get(GUARDS) or ():
        raise missing_guard(name)


def finder(settings: Mapping[str, Any], catalogue: Catalogue) -> Callable[[str], Route]:
    """What gives the route of a model's name for a key with these settings. It raises GatewayError: MODEL_NOT_FOUND,
    and what `shown_only` raises.
    """
    find = catalogue.route_of_any if settings.get(AUTO_RESOLVE) is True else catalogue.route
    return lambda name: shown_only(settings, catalogue, find(name))


def shown_only(settings: Mapping[str, Any], catalogue: Catalogue, route: Route) -> Route:
    """A route without the targets that no list of models shows, where the key may use none of these.

    Raises GatewayError(PERMISSION_DENIED) when nothing is left.
    """
    if settings.get(PUBLIC_ONLY) is not True:
        return route
    steps = tuple(step for step in route.steps if catalogue.shows(step.target))
    if not steps:
        raise GatewayError(Kind.PERMISSION_DENIED, f'Model "{route.name[:100]}" is not allowed for this API key')
    return route if len(steps) == len(route.steps) else msgspec.structs.replace(route, steps=steps)


def bare(record: RequestRecord) -> RequestRecord:
    """What money needs of a record, and no word of the caller's: when, who pays, who was asked, tokens, amounts."""
    return RequestRecord(
        request_id=record.request_id,
        created_at=record.created_at,
        operation=record.operation,
        route="",
        dialect=record.dialect,
        workspace_id=record.workspace_id,
        account_id=record.account_id,
        key_id=record.key_id,
        connection_id=record.connection_id,
        provider=record.provider,
        request_model=record.target.partition("/")[2] if record.target is not None else None,
        response_model=record.response_model,
        status=record.status,
        outcome=record.outcome,
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        cache_read_tokens=record.cache_read_tokens,
        cache_write_tokens=record.cache_write_tokens,
        reasoning_tokens=record.reasoning_tokens,
        usage_estimated=record.usage_estimated,
        cost_nano_usd=record.cost_nano_usd,
        upstream_cost_nano_usd=record.upstream_cost_nano_usd,
        byok=record.byok,
        exemption=record.exemption,
        charges=record.charges,
        target=record.target,
    )
