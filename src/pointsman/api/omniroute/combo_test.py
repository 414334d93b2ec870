"""``/api/combos/test``: a tiny prompt to every target of a combo, each by itself.

The calls are real ones: they are counted and recorded for the administrator's key, with this path.
"""

import asyncio
import datetime
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any, Final

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.management import ManagementError, admit, invalid, read_object
from pointsman.canonical.halves import ClientCall
from pointsman.flow import ask_target, serve
from pointsman.gateway import Gateway
from pointsman.hub.kept_exchange import KeptExchange
from pointsman.hub.own_calls import OwnDialect
from pointsman.identity.keys import Key
from pointsman.routing.plan import Step

TEST_SECONDS: Final = 20.0
AT_ONCE: Final = 10
MAX_TARGETS: Final = 100
PROMPT: Final = "Reply with OK only."
MAX_SHOWN: Final = 500
PATH: Final = b"/api/combos/test"


class ComboTest:
    """The view."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @post(PATH.decode(), status_code=200)
        async def test_combo(request: HttpRequest) -> Response[bytes]:
            key = admit(request)
            name = (await read_object(request)).get("comboName")
            if not isinstance(name, str) or not name:
                raise invalid([("comboName", "is missing")])
            return answer(await self._test(name, key))

        return [test_combo]

    async def _test(self, name: str, key: Key) -> dict[str, Any]:
        catalogue = self._gateway.snapshot.catalogue
        combo = catalogue.combos.get(name)
        if combo is None:
            raise ManagementError(404, "Combo not found")
        steps = catalogue.combo_steps(name)[:MAX_TARGETS]
        places = asyncio.Semaphore(AT_ONCE)

        async def one(step: Step) -> dict[str, Any]:
            async with places:
                return await self._ask(step, key)

        results = await asyncio.gather(*(one(step) for step in steps))
        first = next((result for result in results if result["status"] == "ok"), None)
        now = datetime.datetime.fromtimestamp(self._gateway.clock.now_us() / 1e6, tz=datetime.UTC)
        return {
            "comboName": name,
            "strategy": combo.strategy,
            "resolvedBy": first["model"] if first is not None else None,
            "resolvedByExecutionKey": first["executionKey"] if first is not None else None,
            "resolvedByTarget": first,
            "results": results,
            "testedAt": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }

    async def _ask(self, step: Step, key: Key) -> dict[str, Any]:
        clock, target = self._gateway.clock, step.target
        began = clock.monotonic()
        embeds = "embed" in target.model.lower()
        exchange = KeptExchange(
            clock.new_id("req"), _body(target.id, embeds=embeds), PATH, {}, (clock.monotonic(), clock.now_us())
        )
        dialect: Any = OwnDialect(import_module(f"pointsman.dialects.{_dialect(embeds=embeds)}"), ClientCall())
        try:
            async with asyncio.timeout(TEST_SECONDS):
                work: Any = partial(ask_target, key=key, target=target)
                await serve(self._gateway, dialect, exchange, work)
        except TimeoutError:
            exchange.status, exchange.answer = 504, b""
        result = {
            "model": target.id,
            "provider": target.connection.vendor,
            "stepId": step.id,
            "executionKey": f"{step.id}>{target.id}",
            "connectionId": target.connection.id,
            "label": target.id,
            "latencyMs": round((clock.monotonic() - began) * 1000),
        }
        return {**result, **_verdict(exchange.status, exchange.answer, embeds=embeds)}


def _dialect(*, embeds: bool) -> str:
    return "openai_embeddings" if embeds else "openai_chat"


def _body(model: str, *, embeds: bool) -> bytes:
    if embeds:
        return msgspec.json.encode({"model": model, "input": PROMPT})
    messages = [{"role": "user", "content": PROMPT}]
    return msgspec.json.encode({"model": model, "messages": messages, "max_tokens": 16, "stream": False})


def _verdict(status: int, body: bytes, *, embeds: bool) -> dict[str, Any]:
    """How a test went. An answer without a text is an error."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if status != 200:
        error = found.get("error") if isinstance(found, Mapping) else None
        message = error.get("message") if isinstance(error, Mapping) else None
        waited = f"no answer within {TEST_SECONDS:g} s" if status == 504 and message is None else None
        return {"status": "error", "statusCode": status, "error": message or waited or "the call failed"}
    text = _text(found, embeds=embeds)
    if not text:
        return {"status": "error", "statusCode": status, "error": "the answer holds no text"}
    return {"status": "ok", "statusCode": status, "responseText": text[:MAX_SHOWN]}


def _text(found: Any, *, embeds: bool) -> str:
    try:
        if embeds:
            return f"{len(found['data'])} embedding" if found["data"] else ""
        message = found["choices"][0]["message"]
        return str(message.get("content") or message.get("reasoning_content") or message.get("reasoning") or "")
    except (KeyError, IndexError, TypeError, AttributeError):
        return ""
