"""``/api/translator``: which API a body is for, what it is in another's words, and which calls were translated.

``/api/translator/send`` makes a call and therefore stands with the inference routes (server/translator_send.py).
"""

import datetime
from typing import Any, Final

import msgspec
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer, decoded, number, wrong
from pointsman.api.omniroute.management import admit
from pointsman.canonical.record import RequestRecord
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Gateway, Snapshot
from pointsman.hub.translator import Format, detect, format_named, name_of, translate
from pointsman.storage.requests import RequestRepository
from pointsman.upstream.endpoints import Endpoint

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
MAX_SCANNED: Final = 2000  # newest calls among which translated ones are looked for
_HIDDEN: Final = "(hidden)"
# The wire APIs of dialects by their names in records; operations beside chat have none.
_WIRES: Final = {
    "openai.chat": "openai.chat", "openai.responses": "openai.responses", "anthropic.messages": "anthropic",
    "gemini.generate_content": "gemini", "ollama.chat": "ollama", "ollama.generate": "ollama",
    "openai.completions": "openai.completions",
}  # fmt: skip


class DetectRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``detect``."""

    body: dict[str, Any]


class TranslateRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The body of ``translate``: ``step`` 1 describes, 2 gives OpenAI's words, 3 the provider's, 4 the whole request;
    ``direct``, which is the default, goes straight from one API to another.
    """

    body: dict[str, Any]
    step: str | int = "direct"
    source_format: str | None = None
    target_format: str | None = None
    provider: str | None = None


class Translator:
    """The views."""

    def __init__(self, gateway: Gateway, requests: RequestRepository) -> None:
        self._gateway = gateway
        self._requests = requests

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @post("/api/translator/detect", status_code=200)
        async def detect_format(request: HttpRequest) -> Response[bytes]:
            asked = decoded(await request.body(), DetectRequest)
            return answer({"success": True, "format": detect(asked.body)})

        @post("/api/translator/translate", status_code=200)
        async def translate_request(request: HttpRequest) -> Response[bytes]:
            asked = decoded(await request.body(), TranslateRequest)
            return answer(self._translate(asked, self._gateway.clock.now_us()))

        @get("/api/translator/history")
        async def history(request: HttpRequest) -> Response[bytes]:
            key = admit(request)
            limit = number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
            ways = await self._requests.newest_ways(key.workspace_id, MAX_SCANNED)
            kinds = {way[1:] for way in ways}  # few: each is looked at once
            translating = {kind for kind in kinds if self._formats(*kind) is not None}
            translated = [way.request_id for way in ways if way[1:] in translating]
            records = await self._requests.load_many(translated[:limit]) if translated else ()
            events = [event for record in records if (event := self._event(record)) is not None]
            return answer({"success": True, "events": events, "total": len(translated)})

        return [detect_format, translate_request, history]

    def _translate(self, asked: TranslateRequest, now_us: int) -> dict[str, Any]:
        source_name = asked.source_format or detect(asked.body)
        source = format_named(source_name, "sourceFormat", client=True)
        match str(asked.step):
            case "1":
                return _step({"timestamp": _instant(now_us), "endpoint": "", "headers": {}, "body": asked.body,
                              "_detectedFormat": detect(asked.body)})  # fmt: skip
            case "2":
                return _step(self._direct(asked, source, format_named("openai", "targetFormat"))["result"])
            case "3":
                return _step(self._direct(asked, source, self._target(asked))["result"])
            case "4":
                return _step(self._whole_request(asked, source))
            case "direct":
                target = self._target(asked)
                done = self._direct(asked, source, target)
                return {"success": True, "sourceFormat": source_name, "targetFormat": name_of(target.wire), **done}
        raise wrong("step", "must be 1, 2, 3, 4 or direct")

    def _direct(self, asked: TranslateRequest, source: Format, target: Format) -> dict[str, Any]:
        endpoint = self._endpoint(asked.provider) if asked.provider is not None else None
        upstream = endpoint.upstream(str(asked.body.get("model", ""))) if endpoint is not None else None
        done = translate(asked.body, source, target, upstream)
        notes = [[note.path, note.action, note.detail] for note in done.notes]
        return {"result": done.body, "fidelity": notes}

    def _whole_request(self, asked: TranslateRequest, source: Format) -> dict[str, Any]:
        """Address, headers and body of the call; the credential's value is never shown."""
        if asked.provider is None:
            raise wrong("provider", "is missing")
        endpoint = self._endpoint(asked.provider)
        access = endpoint.access
        if access is None:
            raise GatewayError(
                Kind.INVALID_REQUEST, "this machine's own model has no address to show", param="provider"
            )
        target = Format(None, endpoint.wire)
        done = translate(asked.body, source, target, endpoint.upstream(str(asked.body.get("model", ""))))
        origin = access.origin
        return {
            "url": f"{origin.scheme}://{origin.host}:{origin.port}{access.prefix}{done.built.path}",
            "headers": {**_shown(access.lines), **dict(done.built.headers)},
            "body": done.body,
        }

    def _target(self, asked: TranslateRequest) -> Format:
        if asked.target_format is not None:
            return format_named(asked.target_format, "targetFormat")
        if asked.provider is not None:
            return Format(None, self._endpoint(asked.provider).wire)
        return format_named("openai", "targetFormat")

    def _endpoint(self, provider: str) -> Endpoint:
        snapshot: Snapshot = self._gateway.snapshot
        endpoint = snapshot.endpoints.get(provider)
        if endpoint is None:
            message = f"there is no active connection '{provider[:100]}'"
            raise GatewayError(Kind.INVALID_REQUEST, message, param="provider")
        return endpoint

    def _formats(self, connection_id: str | None, dialect: str) -> tuple[str, str] | None:
        """The names of the APIs between which a call is translated; None when there is nothing to translate."""
        endpoint, source = self._gateway.snapshot.endpoints.get(connection_id or ""), _WIRES.get(dialect)
        if endpoint is None or source is None or endpoint.wire == source:
            return None
        return name_of(source), name_of(endpoint.wire)

    def _event(self, record: RequestRecord) -> dict[str, Any] | None:
        """A call between two APIs, as the monitor shows it; None for one that needed no translation."""
        formats = self._formats(record.connection_id, record.dialect)
        if formats is None:
            return None
        return {
            "id": "evt_" + record.request_id.removeprefix("req_"),
            "timestamp": _instant(record.created_at),
            "provider": record.provider or record.connection_id,
            "model": record.request_model,
            "sourceFormat": formats[0],
            "targetFormat": formats[1],
            "status": record.outcome,
            "statusCode": record.status,
            "latency": record.duration_us // 1000,
            "endpoint": record.route,
        }


def _shown(lines: bytes) -> dict[str, str]:
    """Header lines for a person to see: who holds a secret keeps it."""
    plain = ("host", "accept-encoding", "user-agent", "anthropic-version", "content-type")
    pairs = (line.partition(": ") for line in lines.decode("latin-1").split("\r\n") if line)
    return {name: value if name in plain else _HIDDEN for name, _, value in pairs}


def _step(result: Any) -> dict[str, Any]:
    return {"success": True, "result": result}


def _instant(micros: int) -> str:
    return datetime.datetime.fromtimestamp(micros / 1e6, tz=datetime.UTC).isoformat(timespec="milliseconds")
