"""Why a plan is as it is, in words: for people, for `X-Pointsman-Explain`, and for the error of a plan that is empty.

Made from the problem alone, and only when someone asks: a request that nobody asks about pays nothing for it.
"""

import datetime
from collections.abc import Callable
from typing import Any, Final

import msgspec

from pointsman.errors import GatewayError, Kind
from pointsman.routing.plan import Condition, Problem, RoutePlan, Step, plan
from pointsman.routing.strategies import why
from pointsman.routing.targets import Target

MAX_NAMED: Final = 5  # targets that an error names one by one
MAX_SHOWN: Final = 100  # characters of a name
MAX_HEADER: Final = 1500  # characters of the answer's header
# The word of each filter in OpenRouter's availability object, where it has one; our own name otherwise.
EXCLUDED_BY: Final = {
    "data_collection": "data_policy:training", "zdr": "data_policy:zdr", "context": "context_length",
    "parameters": "require_parameters", "quantizations": "quantization", "only": "allowed_providers",
    "ignore": "allowed_providers", "allowed_providers": "allowed_providers", "guardrail_data": "data_policy:zdr",
}  # fmt: skip
# (availability code, kind, status) of an error by the filter that left nothing; the last line is for all others.
_CODES: Final = {
    "operation": ("wrong_endpoint", Kind.INVALID_REQUEST, 400),
    "deprecated": ("model_deprecated", Kind.MODEL_NOT_FOUND, 404),
    "data_collection": ("privacy_restricted", Kind.MODEL_NOT_FOUND, 404),
    "zdr": ("privacy_restricted", Kind.MODEL_NOT_FOUND, 404),
    "guardrail_data": ("privacy_restricted", Kind.MODEL_NOT_FOUND, 404),
    "context": ("constraint_filtered", Kind.CONTEXT_LENGTH, 400),
    "budget": ("constraint_filtered", Kind.PAYMENT_REQUIRED, 402),
    "allowed_models": ("no_endpoints", Kind.PERMISSION_DENIED, 403),
    "allowed_providers": ("no_endpoints", Kind.PERMISSION_DENIED, 403),
}
_OTHER: Final = ("constraint_filtered", Kind.MODEL_NOT_FOUND, 404)


def explain(problem: Problem, made: RoutePlan) -> dict[str, Any]:
    """The plan and its reasons as plain data for JSON."""
    by_id: dict[str, Step] = {}
    for step in problem.route.steps:
        by_id.setdefault(step.target.id, step)
    wants = problem.wants
    first = "the last resort: everything is amiss, and it recovers first" if made.last_resort else ""
    order = [
        {"target": target.id, "reason": (first if not place else "") or why(by_id[target.id], problem)}
        | _standing(problem.conditions.get(target.id))
        for place, target in enumerate(made.order)
    ]
    excluded = [
        {"target": name, "filter": rule, "reason": reason(rule, by_id[name].target, problem)}
        for name, rule in made.excluded
    ]
    return {
        "model": wants.model,
        "route": problem.route.name,
        "kind": problem.route.kind,
        "strategy": problem.route.strategy,
        "order": order,
        "excluded": excluded,
        "emptied_by": made.emptied_by,
        "last_resort": made.last_resort,
        "panel": made.panel,
        "judged": msgspec.structs.asdict(wants.judged) if wants.judged is not None else None,
        "wants": {
            "operation": wants.operation,
            "input_tokens": wants.input_tokens,
            "max_output_tokens": wants.max_output_tokens,
            "inputs": sorted(wants.inputs),
            "outputs": sorted(wants.outputs),
            "parameters": sorted(wants.parameters),
            "tools": wants.tools,
        },
        "now": _instant(problem.now),
        "seed": str(problem.seed),
    }


def explained(problem: Problem) -> dict[str, Any]:
    """A problem's plan and its reasons; with the error that a caller would be told when nothing can serve it."""
    made = plan(problem)
    told = explain(problem, made)
    if not made.order:
        error = unavailable(problem, made)
        told["error"] = {"status": error.status, "message": error.message, "availability": error.availability}
    return told


def header(problem: Problem, made: RoutePlan) -> bytes:
    """One header line, ended by CRLF: the order and what was excluded by what, cut at MAX_HEADER characters."""
    parts = [f"strategy={problem.route.strategy}", "order=" + ",".join(map(_token, (one.id for one in made.order)))]
    judged = problem.wants.judged
    if judged is not None:
        parts.append(f"judged={judged.profile}/{judged.budget}/{judged.tier}/{judged.engine}")
    if made.excluded:
        parts.append("excluded=" + ",".join(f"{_token(name)}:{rule}" for name, rule in made.excluded))
    if made.last_resort:
        parts.append("last-resort")
    text = "; ".join(parts)
    if len(text) > MAX_HEADER:
        text = text[:MAX_HEADER] + "..."
    return b"x-pointsman-plan: " + text.encode("ascii", "replace") + b"\r\n"


def unavailable(problem: Problem, made: RoutePlan) -> GatewayError:
    """The error of a plan without a target: what excluded what. ``availability`` is OpenRouter's object."""
    rule = made.emptied_by or "no_endpoints"
    code, kind, status = _CODES.get(rule, _OTHER)
    by_id = {step.target.id: step.target for step in problem.route.steps}
    named = "; ".join(
        f"{_shown(name)}: {reason(what, by_id[name], problem)}" for name, what in made.excluded[-MAX_NAMED:][::-1]
    )
    more = f"; and {len(made.excluded) - MAX_NAMED} more" if len(made.excluded) > MAX_NAMED else ""
    name = _shown(problem.route.name)
    message = f"no target of '{name}' can serve this request, excluded by {rule}: {named}{more}"
    error = GatewayError(kind, message, param="model", status=status)
    rules = list(dict.fromkeys(EXCLUDED_BY.get(what, what) for _, what in made.excluded))
    vendors = dict.fromkeys(by_id[target].connection.vendor for target, _ in made.excluded)
    error.availability = {
        "code": code,
        "retryable": False,
        "requested_models": [problem.wants.model, *problem.wants.models],
        "affected_providers": list(vendors)[:20],
        "excluded_by": rules,
        "constraint": {"field": rule, "detail": reason(rule, by_id[made.excluded[-1][0]], problem)},
    }
    return error


def reason(rule: str, target: Target, problem: Problem) -> str:
    """Why a filter took a target out; its name when there are no words for it."""
    tell = _REASONS.get(rule)
    return rule if tell is None else tell(target, problem)


def _data_policy(target: Target, problem: Problem) -> str:
    return "trains on what it is sent" if target.facts.trains else "not known to leave its input unused"


def _retention(target: Target, problem: Problem) -> str:
    return "keeps what it is sent" if target.facts.zdr is False else "not known to keep nothing"


def _quantization(target: Target, problem: Problem) -> str:
    asked = _words(problem.wants.preferences.quantizations)
    return f"quantisation {target.facts.quantization or 'unknown'} is not among {asked}"


def _dear(target: Target, problem: Problem) -> str:
    if target.facts.price is None:
        return "unpriced"
    most = problem.wants.preferences.max_price
    return f"dearer than the price cap on {_words(most)}" if most else "dearer than the budget of this request"


def _too_small(target: Target, problem: Problem) -> str:
    facts, wants = target.facts, problem.wants
    most = facts.max_output_tokens
    if most is not None and wants.max_output_tokens > most:
        return f"writes at most {most:,} tokens, {wants.max_output_tokens:,} are asked for"
    needed = wants.input_tokens + wants.max_output_tokens
    return f"a window of {facts.context_tokens or 0:,} tokens, about {needed:,} are needed"


def _ill(condition: Condition | None, now: int) -> str:
    if condition is None:
        return "not in good health"
    what = condition.reason or "not in good health"
    wait = max(0, condition.until - now) / 1e6
    return f"{what}, left alone for another {wait:.0f} s" if wait else what


def _standing(condition: Condition | None) -> dict[str, Any]:
    """What is noteworthy of how a target does."""
    if condition is None:
        return {}
    words = [word for word in ("probing", "unstable", "quota_spent") if getattr(condition, word)]
    if condition.breaker != "closed":
        words.append(f"breaker {condition.breaker}")
    return {"health": ", ".join(words)} if words else {}


def _words(names: Any) -> str:
    return ", ".join(sorted(map(str, names or ()))) or "anything known"


def _instant(micros: int) -> str:
    return datetime.datetime.fromtimestamp(micros / 1e6, tz=datetime.UTC).isoformat(timespec="milliseconds")


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MAX_SHOWN])


def _token(text: str) -> str:
    """A name as a part of a header: the separators of our own list are escaped."""
    return "".join(letter if "!" <= letter <= "~" and letter not in ",;" else "?" for letter in text[:MAX_SHOWN])


_REASONS: Final[dict[str, Callable[[Target, Problem], str]]] = {
    "health": lambda target, problem: _ill(problem.conditions.get(target.id), problem.now),
    "operation": lambda target, problem: (
        f"gives {_words(target.facts.outputs)}, not what {problem.wants.operation} is for"
    ),
    "deprecated": lambda target, problem: f"retired on {_instant(target.facts.deprecated_at or 0)[:10]}",
    "allowed_models": lambda target, problem: "the key may not use this model",
    "allowed_providers": lambda target, problem: f"the key may not use the provider {target.connection.vendor}",
    "guardrail": lambda target, problem: "a guardrail does not allow this model or its provider",
    "guardrail_data": lambda target, problem: "not known to keep and learn as little as a guardrail demands",
    "connection": lambda target, problem: (
        f"not at the connection that the request names, {_shown(problem.wants.connection or '')}"
    ),
    "only": lambda target, problem: f"{target.connection.vendor} is not among {_words(problem.wants.preferences.only)}",
    "ignore": lambda target, problem: f"{target.connection.vendor} is to be ignored",
    "data_collection": _data_policy,
    "zdr": _retention,
    "distillable": lambda target, problem: "its output must not be used for training, or that isn't known",
    "context": _too_small,
    "input_modalities": lambda target, problem: (
        f"takes no {_words(problem.wants.inputs - (target.facts.inputs or frozenset()))}"
    ),
    "output_modalities": lambda target, problem: (
        f"gives no {_words(problem.wants.outputs - (target.facts.outputs or frozenset()))}"
    ),
    "tools": lambda target, problem: "supports no tools",
    "parameters": lambda target, problem: (
        f"doesn't know {_words(problem.wants.parameters - (target.facts.parameters or frozenset()))}"
    ),
    "quantizations": _quantization,
    "max_price": _dear,
    "budget": _dear,
    "service_tier": lambda target, problem: f"an endpoint of the tier {target.facts.service_tier or 'default'}",
}
