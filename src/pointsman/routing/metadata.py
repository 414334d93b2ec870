"""What OpenRouter's clients are told of how their request was routed, when they ask for it: ``openrouter_metadata``."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from pointsman.routing.plan import Route, RoutePlan
from pointsman.routing.strategies.openrouter import OWN, OWN_LAST
from pointsman.routing.targets import Connection, Target

NAME: Final = b"x-openrouter-metadata"
OLDER_NAME: Final = b"x-openrouter-experimental-metadata"
MAX_SHOWN: Final = 50  # endpoints and attempts
OK: Final = 200


class Attempt(NamedTuple):
    """One attempt: where, and the HTTP status that it ended with."""

    target: Target
    status: int


class Told(NamedTuple):
    """What is known of a request: the model that was asked for, what was planned, who was tried and who answered.

    ``fallbacks``: it named other models to fall back to.
    """

    requested: str
    fallbacks: bool
    route: Route | None
    plan: RoutePlan | None
    failed: Sequence[Attempt]
    answered: Target | None
    generation_ms: int | None


def wanted(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a client asks for it."""
    if NAME not in headers and OLDER_NAME not in headers:
        return False
    return any(headers.get(name, b"").strip().lower() == b"enabled" for name in (NAME, OLDER_NAME))


def router_metadata(told: Told, name: "Namer") -> dict[str, Any]:
    """The object; ``name`` gives a connection's provider in words for people."""
    order = told.plan.order if told.plan is not None else (told.answered,) if told.answered is not None else ()
    available = [target for target in order if target is not None]
    total = len(told.route.steps) if told.route is not None else len(available)
    answered = told.answered
    attempts = [*told.failed, *((Attempt(answered, OK),) if answered is not None else ())]
    out: dict[str, Any] = {
        "requested": told.requested,
        "strategy": _strategy(told),
        "region": None,
        "summary": f"available={len(available)}"
        + (f", selected={name(answered.connection)}" if answered is not None else ""),
        "attempt": len(attempts),
        "is_byok": answered is not None and not answered.connection.tags.isdisjoint((OWN, OWN_LAST)),
        "endpoints": {
            "total": total,
            "available": [
                {"provider": name(target.connection), "model": model_of(target), "selected": target is answered}
                for target in available[:MAX_SHOWN]
            ],
        },
    }
    if attempts:
        out["attempts"] = [
            {"provider": name(one.target.connection), "model": model_of(one.target), "status": one.status}
            for one in attempts[:MAX_SHOWN]
        ]
    if told.generation_ms is not None:
        out["generation_time"] = told.generation_ms
    return out


def model_of(target: Target) -> str:
    """A model's name that is the same wherever it is served, where that is known."""
    return target.facts.slug or target.model


def _strategy(told: Told) -> str:
    if told.fallbacks:
        return "fallback"
    kind = told.route.kind if told.route is not None else "model"
    return {"model": "direct", "auto": "auto", "profile": "auto", "combo": "fallback"}.get(kind, "direct")


class Namer:
    """Names the provider behind a connection."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        """``titles``: of kinds of connections."""
        self._titles = titles

    def __call__(self, connection: Connection) -> str:
        """The operator's word for it, the vendor's name, or the connection's own."""
        return connection.provider or self._titles.get(connection.kind) or connection.id
