"""``GET /api/v1/generation``: what became of one request, by the id of its answer or by its ``x-request-id``."""

from typing import Any, Final

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from pointsman.accounting.billing import upstream_price
from pointsman.api.exchange import HttpRequest, answer, line, wrong
from pointsman.api.openrouter.exchange import caller_of, provider_name, usd, words_of
from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.dialects.openrouter import GENERATION
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Gateway
from pointsman.identity.keys import Key
from pointsman.storage.requests import RequestRepository

# What OpenRouter calls the kinds of requests; others have no word there.
_API_TYPES: Final = {
    "chat": "completions",
    "text_completion": "completions",
    "embeddings": "embeddings",
    "rerank": "rerank",
    "speech": "tts",
    "transcription": "stt",
    "image": "image",
}
# What is not known of a request here: no moderation, no media counts, no search, no app, no tokenizer but the model's.
_UNKNOWN: Final = dict.fromkeys(
    (
        "upstream_id", "cache_discount", "moderation_latency", "native_tokens_completion_images", "num_media_prompt",
        "num_input_audio_prompt", "num_media_completion", "num_search_results", "num_fetches", "app_id",
        "external_user", "user_agent", "http_referer", "preset_id", "service_tier", "session_id", "web_search_engine",
        "response_cache_source_id",
    )
)  # fmt: skip


class GenerationView:
    """The view."""

    def __init__(self, gateway: Gateway, requests: RequestRepository) -> None:
        self._gateway = gateway
        self._requests = requests

    def handler(self) -> HTTPRouteHandler:
        """The route for Litestar."""

        @get("/api/v1/generation")
        async def show_generation(request: HttpRequest) -> Response[bytes]:
            wanted = line(request, "id")
            if wanted is None:
                raise wrong("id", "is missing")
            record = await self._requests.find(wanted.removeprefix(GENERATION))
            if record is None or not _is_own(record, caller_of(request)):
                raise GatewayError(Kind.NOT_FOUND, "Generation not found")
            name = provider_name(self._gateway, record.connection_id, record.provider)
            return answer({"data": _shown(record, wanted, name)})

        return show_generation


def _is_own(record: RequestRecord, caller: Key) -> bool:
    return (record.account_id, record.workspace_id) == (caller.account_id, caller.workspace_id)


def _shown(record: RequestRecord, identifier: str, name: str | None) -> dict[str, Any]:
    first, charged = record.first_byte_us, usd(record.cost_nano_usd or 0)
    return {
        **_UNKNOWN,
        "id": identifier,
        "request_id": record.request_id,
        "model": record.target or record.request_model or "",
        "created_at": words_of(record.created_at),
        "total_cost": charged,
        "usage": charged,
        "upstream_inference_cost": usd(upstream_price(record)) if record.byok else None,
        "is_byok": record.byok,
        "streamed": record.stream,
        "cancelled": record.outcome is Outcome.CLIENT_CLOSED,
        "provider_name": name,
        "latency": (record.duration_us if first is None else first) / 1000,
        "generation_time": 0.0 if first is None else max(0, record.duration_us - first) / 1000,
        "finish_reason": record.finish_reason,
        "native_finish_reason": record.finish_reason,
        **_tokens(record),
        "origin": "",
        "api_type": _API_TYPES.get(record.operation),
        "router": record.combo,
        "provider_responses": _responses(record, name),
        "workspace_id": record.workspace_id,
        "data_region": "global",
    }


def _tokens(record: RequestRecord) -> dict[str, int]:
    """Counts of tokens: those that were billed, for no other tokenizer than the model's is asked."""
    return {
        "tokens_prompt": record.input_tokens,
        "tokens_completion": record.output_tokens,
        "native_tokens_prompt": record.input_tokens,
        "native_tokens_completion": record.output_tokens,
        "native_tokens_reasoning": record.reasoning_tokens,
        "native_tokens_cached": record.cache_read_tokens,
    }


def _responses(record: RequestRecord, name: str | None) -> list[dict[str, Any]]:
    """The targets that failed, and the one that answered, in their order."""
    found = []
    for target, _, status, micros in msgspec.json.decode(record.attempts or "[]"):
        if target != "replay of":
            connection, _, model = str(target).partition("/")
            found.append(_response(connection, model or None, int(status) or None, int(micros), byok=False))
    if record.connection_id is not None and record.outcome is Outcome.SUCCESS:
        last = _response(name, record.target, record.status, record.upstream_us or 0, byok=record.byok)
        found.append(last)
    return found


def _response(name: str | None, model: str | None, status: int | None, micros: int, *, byok: bool) -> dict[str, Any]:
    return {
        "provider_name": name,
        "model_permaslug": model,
        "status": status,
        "latency": micros / 1000,
        "is_byok": byok,
    }
