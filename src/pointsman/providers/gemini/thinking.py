"""How much a Gemini model thinks: levels for Gemini 3 and later, budgets for the families before."""

from typing import Any, Final

from pointsman.canonical.effort import budget_of
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.request import ReasoningOptions, Request
from pointsman.providers.gemini.target import Target
from pointsman.wire.gemini import WIRE

Json = dict[str, Any]
# What every model of the older families takes. Source: ai.google.dev, "Gemini thinking", 2.5 Flash's largest budget.
_LARGEST_BUDGET: Final = 24_576
_SMALLEST_PRO_BUDGET: Final = 128  # 2.5 Pro can't be kept from thinking
_LEVELS: Final = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
_DYNAMIC: Final = -1


def thinking_of(request: Request, target: Target, fidelity: Fidelity) -> Json | None:
    """thinkingConfig; None when the client said nothing of thinking."""
    options = request.reasoning
    if options is None:
        return None
    path = request.path("reasoning")
    made: Json = {}
    if options.enabled is False or options.effort == "none":
        _off(made, request, target, fidelity)
    else:
        _amount(made, options, request, target, fidelity)
        made["includeThoughts"] = options.exclude is not True
    if options.enabled:
        fidelity.mapped(f"{path}.enabled", "Gemini thinks and shows it")
    _note_rest(options, path, fidelity)
    return made


def _off(made: Json, request: Request, target: Target, fidelity: Fidelity) -> None:
    path = request.path("reasoning")
    least = "this model always thinks; it was told to think as little as it can"
    if request.wire == WIRE or (target.older and not target.pro):
        made["thinkingBudget"] = 0
        fidelity.mapped(path, "a thinking budget of 0")
        return
    fidelity.approximated(path, least)
    if target.older:
        made["thinkingBudget"] = _SMALLEST_PRO_BUDGET
    else:
        made["thinkingLevel"] = "LOW" if target.pro else "MINIMAL"


def _amount(made: Json, options: ReasoningOptions, request: Request, target: Target, fidelity: Fidelity) -> None:
    path = request.path("reasoning")
    if options.max_tokens is not None:
        made["thinkingBudget"] = options.max_tokens
        if options.effort is not None:
            fidelity.dropped(_effort_path(request), "the budget in tokens was sent; Gemini takes one of the two")
    elif options.effort is not None and target.older:
        _budget(made, options.effort, request, fidelity)
    elif options.effort is not None:
        _level(made, options.effort, request, target, fidelity)
    elif options.adaptive or (options.enabled and target.older):
        made["thinkingBudget"] = _DYNAMIC
        if options.adaptive:
            fidelity.mapped(f"{path}.adaptive", "a thinking budget of -1")
        return
    if options.adaptive:
        fidelity.mapped(f"{path}.adaptive", "Gemini takes what is said as a limit and decides below it")


def _effort_path(request: Request) -> str:
    """The client's name of the effort, which some APIs have without an object around it."""
    path = request.path("reasoning")
    return path if path.endswith("effort") else f"{path}.effort"


def _budget(made: Json, effort: str, request: Request, fidelity: Fidelity) -> None:
    wanted = budget_of(effort, request.max_output_tokens)
    made["thinkingBudget"] = budget = min(wanted, _LARGEST_BUDGET)
    path = _effort_path(request)
    if wanted > budget:
        fidelity.approximated(path, f"{effort} is a budget of {wanted} tokens; the most that this model takes was sent")
    else:
        fidelity.mapped(path, f"{effort} to a budget of {budget} tokens")


def _level(made: Json, effort: str, request: Request, target: Target, fidelity: Fidelity) -> None:
    level = _LEVELS.get(effort)
    path = _effort_path(request)
    if request.wire == WIRE:
        level = effort.upper()
    elif level is None:
        fidelity.approximated(path, f"{effort} to HIGH, the most that it takes")
    elif level == "MINIMAL" and target.pro:
        level = "LOW"
        fidelity.approximated(path, "minimal to LOW, the least that it takes")
    else:
        fidelity.mapped(path, f"{effort} to {level}")
    made["thinkingLevel"] = level or "HIGH"


def _note_rest(options: ReasoningOptions, path: str, fidelity: Fidelity) -> None:
    if options.exclude is not None:
        fidelity.mapped(f"{path}.exclude", "includeThoughts")
    if options.summary in ("concise", "detailed"):
        fidelity.approximated(f"{path}.summary", "Gemini shows summaries of its own length")
    elif options.summary is not None:
        fidelity.mapped(f"{path}.summary", "includeThoughts")
    if options.encrypted is not None:
        fidelity.mapped(f"{path}.encrypted", "Gemini always gives thought signatures")
