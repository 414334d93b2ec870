"""How much to think, as Anthropic is told it."""

from typing import Any, Final

from pointsman.canonical.effort import MIN_BUDGET, budget_of, effort_of
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.request import ReasoningOptions, Request
from pointsman.providers.anthropic.generations import Generation
from pointsman.wire.anthropic import WIRE

Json = dict[str, Any]

EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
# For a model whose largest answer is not known: what every Claude model takes.
DEFAULT_MAX_TOKENS: Final = 4096
_USUAL_EFFORT: Final = "medium"


def write_thinking(request: Request, body: Json, generation: Generation, fidelity: Fidelity) -> None:
    """Put ``thinking`` and ``output_config.effort`` into ``body``, whose ``max_tokens`` may have to grow."""
    options = request.reasoning
    if options is None:
        return
    path = request.path("reasoning")
    own = request.wire == WIRE
    if options.enabled is False or options.effort == "none":
        body["thinking"] = {"type": "disabled"}
    effort = _effort(options, path, fidelity)
    if own and effort is not None and not options.enabled:  # Anthropic's effort says nothing of thinking
        body.setdefault("output_config", {})["effort"] = effort
    if "thinking" in body or (own and options.enabled is None):
        return
    if _forced(request) and not own:
        fidelity.dropped(path, "Anthropic's models can't think when a tool is forced")
        return
    adaptive = generation.adaptive and (options.adaptive or not generation.budgets)
    if not own and not adaptive and _loop_lacks_thinking(body["messages"]):
        body.pop("output_config", None)
        fidelity.approximated(path, "not until the next turn: the calls of this one came without Anthropic's thinking")
        return
    if options.max_tokens is not None and generation.budgets:
        _write_budget(options.max_tokens, request, body, fidelity)
        if effort is not None:
            body.setdefault("output_config", {})["effort"] = effort
    elif adaptive:
        _write_adaptive(options, effort, body, request, fidelity)
    else:
        named = effort or _USUAL_EFFORT
        budget = budget_of(named, request.max_output_tokens)
        fidelity.mapped(path, f"effort {named} is a budget of {budget} tokens")
        _write_budget(budget, request, body, fidelity)
    _write_display(options, body["thinking"])


def _effort(options: ReasoningOptions, path: str, fidelity: Fidelity) -> str | None:
    if options.effort is None or options.effort in EFFORTS:
        return options.effort
    if options.effort == "none":
        return None
    nearest = "low" if options.effort == "minimal" else _USUAL_EFFORT
    fidelity.approximated(path, f"Anthropic's nearest effort is {nearest}")
    return nearest


def _write_adaptive(
    options: ReasoningOptions, effort: str | None, body: Json, request: Request, fidelity: Fidelity
) -> None:
    if options.max_tokens is not None:
        effort = effort or effort_of(options.max_tokens, EFFORTS)
        fidelity.approximated(request.path("reasoning"), f"this model takes no budget: effort {effort}")
    body["thinking"] = {"type": "adaptive"}
    if effort is not None:
        body.setdefault("output_config", {})["effort"] = effort


def _write_budget(budget: int, request: Request, body: Json, fidelity: Fidelity) -> None:
    """A budget that Anthropic takes: at least 1,024 tokens and less than the answer's limit, which grows for it."""
    if request.wire == WIRE and request.max_output_tokens is not None:
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
        return  # what Anthropic's own clients say is for Anthropic to judge
    if budget < MIN_BUDGET:
        fidelity.approximated(request.path("reasoning"), f"Anthropic's least budget is {MIN_BUDGET} tokens")
        budget = MIN_BUDGET
    limit = body["max_tokens"]
    if budget >= limit and request.max_output_tokens is None and limit == DEFAULT_MAX_TOKENS:
        body["max_tokens"] = budget + limit  # the limit is ours, not the client's
    elif budget >= limit > MIN_BUDGET:
        budget = max(MIN_BUDGET, limit // 2)
        fidelity.approximated(request.path("reasoning"), f"a budget of {budget} tokens, below the answer's limit")
    elif budget >= limit:
        body["max_tokens"] = budget + limit
        fidelity.approximated(
            request.path("max_output_tokens"), f"Anthropic counts thinking too: {budget + limit} tokens"
        )
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _write_display(options: ReasoningOptions, thinking: Json) -> None:
    if options.exclude:
        thinking["display"] = "omitted"
    elif options.summary is not None:
        thinking["display"] = "summarized"


def _loop_lacks_thinking(messages: list[Json]) -> bool:
    """True when tools' results come last and the calls before them don't begin with thinking: Anthropic refuses to
    think on then. So it is with calls that another maker's model has made, or whose thinking is kept no more.
    """
    for answered, called in zip(messages[::-2], messages[-2::-2], strict=False):
        results, said = answered["content"], called["content"]
        if answered["role"] != "user" or called["role"] != "assistant" or isinstance(results, str):
            return False
        if all(block["type"] != "tool_result" for block in results):
            return False
        if isinstance(said, str) or said[0]["type"] not in ("thinking", "redacted_thinking"):
            return True
        if any(block["type"] != "tool_result" for block in results):
            return False  # the user has spoken: what came before is another turn
    return False


def _forced(request: Request) -> bool:
    choice = request.tool_choice
    return choice is not None and choice.mode in ("required", "tool") and bool(request.tools)
