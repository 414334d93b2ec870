"""What takes a target out of a plan. Each filter is made for one request; one that has nothing to say is not made.

What isn't known of a target excludes nothing, except where the caller asked for a guarantee: retention, training,
quantisation and price have to be known then. The order is OpenRouter's; the filter that leaves nothing names the error.
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pointsman.routing.bounds import is_listed, keeps_data
from pointsman.routing.measures import cost_of, expected_tokens
from pointsman.routing.providers import provider_matches
from pointsman.routing.survey import survey_of
from pointsman.routing.targets import PriceTag, Target
from pointsman.routing.wants import NO_PREFERENCES

if TYPE_CHECKING:
    from pointsman.routing.plan import Problem, Step
    from pointsman.routing.wants import Wants

Sieve = Callable[["Sequence[Step]"], "list[Step]"]
# What the models of an operation give, in the words of lists of models.
OPERATION_OUTPUTS: Final = {
    "chat": frozenset(("text",)),
    "text_completion": frozenset(("text",)),
    "embeddings": frozenset(("embeddings", "embedding")),
    "rerank": frozenset(("rerank",)),
}
# A broad name that a client may ask for, and what it stands for beside itself (OpenRouter).
WIDER: Final = {"fp4": ("mxfp4", "nvfp4"), "fp8": ("mxfp8",)}
# Parameters for which targets that know them are preferred, when there are any.
PREFERRED: Final = ("response_format", "structured_outputs", "verbosity")
DOUBT: Final = 2  # an estimate of tokens may be too high by so much


def active(problem: "Problem") -> list[tuple[str, Sieve]]:
    """The filters that apply to a problem, by name, in the order in which they are applied."""
    rows = _rows(survey_of(problem.route.steps).known, problem.wants.preferences is NO_PREFERENCES)
    return [(name, sieve) for name, make in rows if (sieve := make(problem)) is not None]


@lru_cache(maxsize=1000)
def _rows(known: frozenset[str], plain: bool) -> "tuple[tuple[str, Callable[[Problem], Sieve | None]], ...]":
    """The filters that may apply to a route of whose targets these facts are known, without or with preferences."""
    return tuple(
        [
            (name, make)
            for name, facts, always, make in FILTERS
            if (always or not known.isdisjoint(facts)) and not (plain and name in PREFERENCES)
        ]
    )


def facts_read(problem: "Problem") -> set[str]:
    """The members of `ModelFacts` that the filters of this problem look at."""
    return {fact for _, facts, _, make in FILTERS if make(problem) is not None for fact in facts}


def _allowed_models(problem: "Problem") -> Sieve | None:
    allowed = problem.wants.allowed_models
    if allowed is None:
        return None
    match = _pattern(allowed).match

    def sieve(steps: "Sequence[Step]") -> "list[Step]":
        return [
            step
            for step in steps
            if match((target := step.target).id) or match(target.model) or match(target.facts.slug or "\n")
        ]

    return sieve


@lru_cache(maxsize=1000)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(name) for name in names) or r"(?!)")


def _allowed_providers(problem: "Problem") -> Sieve | None:
    allowed = problem.wants.allowed_providers
    return None if allowed is None else _among(allowed, problem)


def _guardrail(problem: "Problem") -> Sieve | None:
    bounds = problem.wants.bounds
    return None if bounds is None else lambda steps: [step for step in steps if is_listed(bounds, step.target)]


def _guardrail_data(problem: "Problem") -> Sieve | None:
    bounds = problem.wants.bounds
    if bounds is None or not (bounds.zdr or bounds.untrained):
        return None
    return lambda steps: [step for step in steps if not keeps_data(bounds, step.target)]


def _connection(problem: "Problem") -> Sieve | None:
    pinned = problem.wants.connection
    return None if pinned is None else lambda steps: [step for step in steps if step.target.connection.id == pinned]


def _only(problem: "Problem") -> Sieve | None:
    only = problem.wants.preferences.only
    return None if only is None else _among(only, problem)


def _among(slugs: tuple[str, ...], problem: "Problem") -> Sieve:
    ids = survey_of(problem.route.steps).accounts(slugs)
    if ids is not None:
        return lambda steps: [step for step in steps if step.target.connection.id in ids]
    named = _named(slugs)
    return lambda steps: [step for step in steps if named(step.target)]


def _ignore(problem: "Problem") -> Sieve | None:
    slugs = problem.wants.preferences.ignore
    if not slugs:
        return None
    ids = survey_of(problem.route.steps).accounts(slugs)
    if ids is not None:
        return lambda steps: [step for step in steps if step.target.connection.id not in ids]
    named = _named(slugs)
    return lambda steps: [step for step in steps if not named(step.target)]


def _named(slugs: tuple[str, ...]) -> Callable[[Target], bool]:
    """Whether a target is meant by one of the slugs; asked once for all targets that are alike in this."""
    known: dict[tuple[int, str | None, str | None], bool] = {}
    plain: dict[int, bool] = {}
    exact = any(["/" in slug for slug in slugs])

    def named(target: Target) -> bool:
        facts, connection = target.facts, target.connection
        if not exact and facts.service_tier is None:  # the connection alone decides
            found = plain.get(id(connection))
            if found is None:
                found = plain[id(connection)] = any([provider_matches(slug, target) for slug in slugs])
            return found
        key = (id(connection), facts.service_tier, facts.quantization)
        found = known.get(key)
        if found is None:
            found = known[key] = any([provider_matches(slug, target) for slug in slugs])
        return found

    return named


def _training(problem: "Problem") -> Sieve | None:
    if not problem.wants.preferences.deny_data_collection:
        return None
    return lambda steps: [step for step in steps if step.target.facts.trains is False]


def _zdr(problem: "Problem") -> Sieve | None:
    if not problem.wants.preferences.zdr:
        return None
    return lambda steps: [step for step in steps if step.target.facts.zdr is True]


def _distillable(problem: "Problem") -> Sieve | None:
    if not problem.wants.preferences.distillable:
        return None
    return lambda steps: [step for step in steps if step.target.facts.distillable is True]


def _deprecated(problem: "Problem") -> Sieve | None:
    now = problem.now

    def sieve(steps: "Sequence[Step]") -> "list[Step]":
        return [step for step in steps if (until := step.target.facts.deprecated_at) is None or until > now]

    return sieve if now else None


def _operation(problem: "Problem") -> Sieve | None:
    given = OPERATION_OUTPUTS.get(problem.wants.operation)
    if given is None or problem.wants.outputs:
        return None
    return lambda steps: [
        step for step in steps if (gives := step.target.facts.outputs) is None or not given.isdisjoint(gives)
    ]


def _context(problem: "Problem") -> Sieve | None:
    tokens_in, tokens_out = problem.wants.input_tokens, problem.wants.max_output_tokens
    if not tokens_in + tokens_out:
        return None

    def fits(steps: "Sequence[Step]", needed: int) -> "list[Step]":
        return [
            step
            for step in steps
            if ((window := (facts := step.target.facts).context_tokens) is None or needed <= window)
            and ((most := facts.max_output_tokens) is None or tokens_out <= most)
        ]

    def sieve(steps: "Sequence[Step]") -> "list[Step]":
        # Tokens are estimated. When nothing seems to hold the prompt, what may hold it all the same is tried: its own
        # answer is better than a refusal that may be wrong.
        return fits(steps, tokens_in + tokens_out) or fits(steps, tokens_in // DOUBT)

    return sieve


def _inputs(problem: "Problem") -> Sieve | None:
    asked = problem.wants.inputs
    if not asked:
        return None
    return lambda steps: [step for step in steps if (takes := step.target.facts.inputs) is None or asked <= takes]


def _outputs(problem: "Problem") -> Sieve | None:
    asked = problem.wants.outputs
    if not asked:
        return None
    return lambda steps: [step for step in steps if (gives := step.target.facts.outputs) is None or asked <= gives]


def _tools(problem: "Problem") -> Sieve | None:
    if not problem.wants.tools:
        return None
    return lambda steps: [step for step in steps if (known := step.target.facts.parameters) is None or "tools" in known]


def _parameters(problem: "Problem") -> Sieve | None:
    wants = problem.wants
    asked = wants.parameters
    if not asked:
        return None
    if wants.preferences.require_parameters:
        return lambda steps: [
            step for step in steps if (known := step.target.facts.parameters) is None or asked <= known
        ]
    preferred = asked.intersection(PREFERRED)
    if not preferred:
        return None

    def sieve(steps: "Sequence[Step]") -> "list[Step]":
        sure = [step for step in steps if (known := step.target.facts.parameters) is not None and preferred <= known]
        if not sure:
            return list(steps)  # nothing is known to have them: they are dropped where they don't fit
        return [step for step in steps if (known := step.target.facts.parameters) is None or preferred <= known]

    return sieve


def _quantizations(problem: "Problem") -> Sieve | None:
    asked = problem.wants.preferences.quantizations
    if not asked:
        return None
    allowed = {wide for name in asked for wide in (name, *WIDER.get(name, ()))}
    return lambda steps: [step for step in steps if (step.target.facts.quantization or "unknown") in allowed]


def _max_price(problem: "Problem") -> Sieve | None:
    most = problem.wants.preferences.max_price
    if not most:
        return None
    return lambda steps: [
        step for step in steps if (price := step.target.facts.price) is not None and _within(price, most)
    ]


def _within(price: PriceTag, most: dict[str, int]) -> bool:
    return all([getattr(price, unit, 0) <= limit for unit, limit in most.items()])


def _budget(problem: "Problem") -> Sieve | None:
    budget = problem.wants.budget
    if budget is None or not problem.wants.budget_strict:
        return None
    tokens = expected_tokens(problem.wants)
    return lambda steps: [step for step in steps if cost_of(step.target.facts.price, tokens) <= budget]


def _service_tier(problem: "Problem") -> Sieve | None:
    """Endpoints of a service tier are for those who ask for the tier, or name them."""
    wants = problem.wants
    tier, named = wants.service_tier, (*wants.preferences.order, *(wants.preferences.only or ()))

    def sieve(steps: "Sequence[Step]") -> "list[Step]":
        if all([step.target.facts.service_tier is None for step in steps]):
            return list(steps)
        if tier == "flex" and (flex := [step for step in steps if step.target.facts.service_tier == "flex"]):
            return flex
        return [step for step in steps if _has_tier(step.target, wants, named)]

    return sieve


def _has_tier(target: Target, wants: "Wants", named: tuple[str, ...]) -> bool:
    tier = target.facts.service_tier
    return tier is None or tier in wants.tiers or any(provider_matches(slug, target) for slug in named)


# name, what of `ModelFacts` it looks at, whether it may take out targets of which none of that is known, how it is made
Row = tuple[str, tuple[str, ...], bool, Callable[["Problem"], Sieve | None]]
FILTERS: Final[tuple[Row, ...]] = (
    ("operation", ("outputs",), False, _operation),
    ("deprecated", ("deprecated_at",), False, _deprecated),
    ("allowed_models", ("slug",), True, _allowed_models),
    ("allowed_providers", ("service_tier", "quantization"), True, _allowed_providers),
    ("guardrail", ("author", "slug", "service_tier", "quantization"), True, _guardrail),
    ("guardrail_data", ("author", "slug", "price", "trains", "zdr"), True, _guardrail_data),
    ("connection", (), True, _connection),
    ("only", ("service_tier", "quantization"), True, _only),
    ("ignore", ("service_tier", "quantization"), True, _ignore),
    ("data_collection", ("trains",), True, _training),
    ("zdr", ("zdr",), True, _zdr),
    ("distillable", ("distillable",), True, _distillable),
    ("context", ("context_tokens", "max_output_tokens"), False, _context),
    ("input_modalities", ("inputs",), False, _inputs),
    ("output_modalities", ("outputs",), False, _outputs),
    ("tools", ("parameters",), False, _tools),
    ("parameters", ("parameters",), False, _parameters),
    ("quantizations", ("quantization",), True, _quantizations),
    ("max_price", ("price",), True, _max_price),
    ("budget", ("price",), True, _budget),
    ("service_tier", ("service_tier", "quantization"), False, _service_tier),
)
# Those that are made for `Preferences` only.
PREFERENCES: Final = frozenset(
    ("only", "ignore", "data_collection", "zdr", "distillable", "quantizations", "max_price")
)
