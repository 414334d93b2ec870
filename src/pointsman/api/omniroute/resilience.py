"""``/api/resilience``: how long failing upstreams are left alone; ``/api/resilience/reset`` forgets what they did."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from litestar import Response, get, patch, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.management import admit, invalid, read_object
from pointsman.gateway import Gateway
from pointsman.policy.health_sharing import HealthSharing
from pointsman.policy.resilience import ResilienceService
from pointsman.resilience import LOCAL_BREAKER, LOCAL_COOLDOWN, ResilienceSettings

Apply = Callable[[int], Awaitable[bool]]
_PLACE: Final = re.compile(r"(?P<what>.*?) - at `\$\.?(?P<place>[^`]*)`$", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>[^`]*)`(?: - at `\$\.?(?P<place>[^`]*)`)?$")


class ResilienceViews:
    """The views. ``apply`` waits until every server works with a configuration revision."""

    def __init__(self, gateway: Gateway, service: ResilienceService, sharing: HealthSharing, apply: Apply) -> None:
        self._gateway = gateway
        self._service = service
        self._sharing = sharing
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/resilience")
        async def show(request: HttpRequest) -> Response[bytes]:
            admit(request)
            return answer(shown((await self._service.current()).settings))

        @patch("/api/resilience")
        async def change(request: HttpRequest) -> Response[bytes]:
            admit(request)
            asked = await read_object(request)
            if not asked:
                raise invalid([("body", "Must provide resilience settings to update")])
            try:
                revision = await self._service.patch(snake(asked))
            except msgspec.ValidationError as error:
                raise invalid([fault(error)]) from None
            await self._apply(revision)
            return answer({"ok": True, **shown((await self._service.current()).settings)})

        @post("/api/resilience/reset", status_code=200)
        async def reset(request: HttpRequest) -> Response[bytes]:
            admit(request)
            count = await forget(self._gateway, self._sharing)
            return answer({"success": True, "message": "All breakers and cooldowns were reset", "resetCount": count})

        return [show, change, reset]


async def forget(gateway: Gateway, sharing: HealthSharing) -> int:
    """Forget what is held against upstreams, here at once and elsewhere in a moment; gives how much it was."""
    count = gateway.health.reset(gateway.clock.now_us())
    await sharing.step()
    return count


def shown(settings: ResilienceSettings) -> dict[str, Any]:
    """The settings in OmniRoute's words, with the profiles of its first versions."""
    document: dict[str, Any] = camel(msgspec.to_builtins(settings))
    profiles = {
        name: {**document["connectionCooldown"][name], **document["providerBreaker"][name]}
        for name in ("oauth", "apikey")
    }
    local = {**camel(msgspec.to_builtins(LOCAL_COOLDOWN)), **camel(msgspec.to_builtins(LOCAL_BREAKER))}
    document["legacy"] = {"profiles": {**profiles, "local": local}, "defaults": document["requestQueue"]}
    return document


def camel(value: Any) -> Any:
    """Names in the API's spelling: ``base_cooldown_ms`` is ``baseCooldownMs``."""
    if isinstance(value, Mapping):
        return {_camel(name): camel(inner) for name, inner in value.items()}
    return value


def snake(value: Any) -> Any:
    """Names in the file's spelling. One that is in it already is none of the API's, and stays unknown."""
    if isinstance(value, Mapping):
        return {_snake(name): snake(inner) for name, inner in value.items()}
    return value


def fault(error: msgspec.ValidationError) -> tuple[str, str]:
    """The field at fault in the API's spelling, and what is wrong with it."""
    text = str(error)
    unknown = _UNKNOWN.fullmatch(text)
    if unknown is not None:
        place = f"{unknown['place']}." if unknown["place"] else ""
        return _camel(place + unknown["name"]), "is not known"
    found = _PLACE.fullmatch(text)
    return (_camel(found["place"]) or "body", _camel(found["what"])) if found else ("body", text)


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def _snake(name: str) -> str:
    if "_" in name:
        return "?" + name
    return re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), name)
