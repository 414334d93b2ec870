"""NotDiamond as a simulator answers it: which of some models suits a prompt, by rules that a test can foresee."""

import uuid
from collections.abc import Mapping
from itertools import pairwise

from .behaviour import Behaviour
from .openai_request import Json
from .retrieval import Handler, ListedApi, Refused

MEMBERS = frozenset(
    (
        "llm_providers", "messages", "type", "cost_quality_tradeoff", "hash_content", "max_model_depth", "metric",
        "preference_id", "previous_session", "tools", "tradeoff",
    )
)  # fmt: skip
MOST_TRADEOFF = 10


class NotDiamond(ListedApi):
    """``POST /v2/modelRouter/modelSelect``. A user's text that says ``choose NAME`` gets that model if it is among
    the candidates, any other the last candidate. A session that is named again goes on. Wrong requests get 422.
    """

    def handlers(self) -> Mapping[str, Handler]:
        """The one operation."""
        return {"/v2/modelRouter/modelSelect": self._select}

    def error(self, status: int, message: str) -> Json:
        """NotDiamond's error object."""
        return {"detail": message}

    def _select(self, body: Json, behaviour: Behaviour) -> Json:
        unknown = next((name for name in body if name not in MEMBERS), None)
        if unknown is not None:
            raise Refused(422, f"{unknown}: extra inputs are not permitted")
        candidates = body.get("llm_providers")
        if not isinstance(candidates, list) or not candidates:
            raise Refused(422, "llm_providers: at least one is needed")
        if body.get("tradeoff") is not None and body.get("cost_quality_tradeoff") is not None:
            raise Refused(422, "tradeoff and cost_quality_tradeoff exclude each other")
        weight = body.get("cost_quality_tradeoff")
        if weight is not None and not (isinstance(weight, int) and 0 <= weight <= MOST_TRADEOFF):
            raise Refused(422, f"cost_quality_tradeoff: must be from 0 to {MOST_TRADEOFF}")
        names = [_name(candidate, body.get("type")) for candidate in candidates]
        words = _text(body.get("messages")).split()
        wished = [after for word, after in pairwise(words) if word == "choose"]
        chosen = next((name for name in wished if name in names), names[-1])
        provider, _, model = chosen.partition("/")
        found = {"provider": provider, "model": chosen if body.get("type") == "openrouter" else model}
        return {"providers": [found], "session_id": str(body.get("previous_session") or uuid.uuid4())}


def _name(candidate: object, kind: object) -> str:
    if not isinstance(candidate, dict) or not isinstance(candidate.get("model"), str):
        raise Refused(422, "llm_providers: each needs a model")
    model: str = candidate["model"]
    if kind == "openrouter":
        if "/" not in model:
            raise Refused(422, f"llm_providers: '{model}' is not provider/model")
        return model
    if not isinstance(candidate.get("provider"), str):
        raise Refused(422, "llm_providers: each needs a provider")
    return f"{candidate['provider']}/{model}"


def _text(messages: object) -> str:
    if isinstance(messages, str):
        return messages
    if not isinstance(messages, list) or not messages:
        raise Refused(422, "messages: at least one is needed")
    return " ".join(str(one.get("content")) for one in messages if isinstance(one, dict))
