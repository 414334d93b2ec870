"""How OmniRoute's clients steer a request by headers: a mode, a budget, an account. What means nothing is ignored.

A combo with `auto` has a budget of its own, too (``budgetCap``, ``budgetFallback``); the smaller one counts. What kind
of work a request is, is judged for `auto` only, from its last messages.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pointsman.canonical.request import Request
from pointsman.errors import GatewayError
from pointsman.routing.strategies.auto_weights import MODES, PACKS

if TYPE_CHECKING:
    from pointsman.routing.complexity import Complexity

MODE: Final = b"x-omniroute-mode"
BUDGET: Final = b"x-omniroute-budget"
BUDGET_FALLBACK: Final = b"x-omniroute-budget-fallback"
CONNECTION: Final = b"x-omniroute-connection"
BALANCED: Final = "balanced"  # the mode of the default weights
PICO: Final = 10**12
MAX_NAME: Final = 100
READ: Final = 8  # messages that are looked at: the last ones
AUTO: Final = "auto"
_USD: Final = re.compile(r"\d{1,9}(?:\.\d{1,12})?")
_CODE: Final = ("code", "source")  # signals of the complexity scorer
_CODE_FROM: Final = 0.5
_DIFFICULTY: Final = {"SIMPLE": "free", "MEDIUM": "cheap", "COMPLEX": "premium", "REASONING": "premium"}


def steering(headers: Mapping[bytes, bytes], strategy: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The members of `Wants` that headers and a route's settings give."""
    found: dict[str, Any] = {}
    name = headers.get(CONNECTION)
    if name:
        found["connection"] = name[:MAX_NAME].decode("latin-1").strip()
    budgets = [_pico(headers[BUDGET].decode("latin-1").strip())] if BUDGET in headers else []
    fallback = headers.get(BUDGET_FALLBACK, b"").decode("latin-1").strip().lower()
    if strategy == AUTO:
        mode = headers.get(MODE, b"").decode("latin-1").strip().lower()
        if mode in MODES or mode in PACKS or mode == BALANCED:
            found["mode"] = mode
        if settings.get("budgetCap") is not None:
            budgets.append(int(Decimal(str(settings["budgetCap"])) * PICO))
            fallback = fallback or settings.get("budgetFallback") or ""
    known = [budget for budget in budgets if budget is not None]
    if known:
        found["budget"] = min(known)
        found["budget_strict"] = fallback == "strict"
    return found


def _pico(text: str) -> int | None:
    """US dollars in pico-USD."""
    return int(Decimal(text) * PICO) if _USD.fullmatch(text) else None


def judged(request: Any, fields: Mapping[str, msgspec.Raw] | None) -> dict[str, Any]:
    """``task`` and ``difficulty`` of a request, read already or still as its members; nothing when it can't be read."""
    from pointsman.routing.complexity import score  # with its lists of words: only where somebody asks

    if not isinstance(request, Request):
        request = _last(fields)
    if request is None:
        return {}
    found = score(request)
    return {"task": _task(found), "difficulty": _DIFFICULTY[found.tier]}


def _last(fields: Mapping[str, msgspec.Raw] | None) -> Request | None:
    from pointsman.canonical.halves import ClientCall
    from pointsman.dialects import openai_chat

    if fields is None or "messages" not in fields:
        return None
    try:
        messages = msgspec.json.decode(fields["messages"], type=list[msgspec.Raw])[-READ:]
        return openai_chat.read_request(msgspec.json.encode({"model": "any", "messages": messages}), ClientCall())
    except (GatewayError, msgspec.DecodeError, RecursionError):
        return None


def _task(found: "Complexity") -> str:
    if sum(signal.strength for signal in found.signals if signal.name in _CODE) >= _CODE_FROM:
        return "code"
    if found.tier == "REASONING":
        return "reasoning"
    return "simple" if found.tier == "SIMPLE" else "medium"
