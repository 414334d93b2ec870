"""``/api/pointsman/model-facts``: the operator's words on models, for those who may manage the gateway."""

from typing import Any, Final

from litestar import Response, delete, get, patch, put
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer, decoded, number, wrong
from pointsman.api.omniroute.resilience import Apply
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.fact_settings import MAX_NAME, FactSettings
from pointsman.upstream.model_words import ModelWords, UnknownWordsError, WordsOfFileError

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200


class ModelWordViews:
    """The views."""

    def __init__(self, words: ModelWords, apply: Apply) -> None:
        self._words = words
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/pointsman/model-facts")
        async def list_words(request: HttpRequest) -> Response[bytes]:
            return answer(await self._page(request))

        @put("/api/pointsman/model-facts", status_code=200)
        async def put_words(request: HttpRequest) -> Response[bytes]:
            return answer(await self._set(await request.body(), replace=True))

        @patch("/api/pointsman/model-facts", status_code=200)
        async def patch_words(request: HttpRequest) -> Response[bytes]:
            return answer(await self._set(await request.body(), replace=False))

        @delete("/api/pointsman/model-facts", status_code=200)
        async def delete_words(request: HttpRequest) -> Response[bytes]:
            model = _name(request.query_params.get("model"))
            try:
                await self._apply(await self._words.unset(model))
            except ConfigError as error:
                raise _refusal(error) from error
            return answer({"deleted": True, "model": model})

        return [list_words, put_words, patch_words, delete_words]

    async def _set(self, body: bytes, *, replace: bool) -> FactSettings:
        words = decoded(body, dict[str, Any])
        model = _name(words.pop("model", None))
        try:
            row, revision = await self._words.set(model, words, replace=replace)
        except ConfigError as error:
            raise _refusal(error) from error
        await self._apply(revision)
        return row

    async def _page(self, request: HttpRequest) -> dict[str, Any]:
        limit, after = number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT)), request.query_params.get("after", "")
        rows = await self._words.page(limit + 1, _name(after) if after else "")
        following = rows[limit - 1].model if len(rows) > limit else None
        return {"data": rows[:limit], "next": following, "declared": self._words.declared[:MAX_LIMIT]}


def _refusal(error: ConfigError) -> GatewayError:
    """404: there is nothing; 409: the file's; 400, with the field, for the rest."""
    if isinstance(error, UnknownWordsError):
        return GatewayError(Kind.NOT_FOUND, str(error), param="model")
    if isinstance(error, WordsOfFileError):
        return GatewayError(Kind.INVALID_REQUEST, str(error), param="model", status=409)
    field = str(error).partition(":")[0].partition(".")[2]
    return GatewayError(Kind.INVALID_REQUEST, str(error), param=field or None)


def _name(model: Any) -> str:
    if not isinstance(model, str) or not 0 < len(model) <= MAX_NAME:
        raise wrong("model", f"must be a name or pattern of 1 to {MAX_NAME} characters")
    return model
