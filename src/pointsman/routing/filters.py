"""What takes a target out of a plan. Each filter is made for one request; one that has nothing to say is not made."""

from collections.abc import Callable
from typing import Final

from pointsman.routing.targets import Target
from pointsman.routing.wants import Wants

Keep = Callable[[Target], bool]


def active(wants: Wants, now: int) -> list[tuple[str, Keep]]:
    """The filters that apply to a request, by name, in the order in which they are applied."""
    found = []
    for name, make in _FILTERS:
        keep = make(wants, now)
        if keep is not None:
            found.append((name, keep))
    return found


def _context(wants: Wants, now: int) -> Keep | None:
    needed = wants.input_tokens + wants.max_output_tokens
    if not needed:
        return None

    def keep(target: Target) -> bool:
        window, most = target.facts.context_tokens, target.facts.max_output_tokens
        return (window is None or needed <= window) and (most is None or wants.max_output_tokens <= most)

    return keep


def _inputs(wants: Wants, now: int) -> Keep | None:
    asked = wants.inputs
    if not asked:
        return None
    return lambda target: target.facts.inputs is None or asked <= target.facts.inputs


def _outputs(wants: Wants, now: int) -> Keep | None:
    asked = wants.outputs
    if not asked:
        return None
    return lambda target: target.facts.outputs is None or asked <= target.facts.outputs


def _tools(wants: Wants, now: int) -> Keep | None:
    if not wants.tools:
        return None
    return lambda target: target.facts.parameters is None or "tools" in target.facts.parameters


_FILTERS: Final[tuple[tuple[str, Callable[[Wants, int], Keep | None]], ...]] = (
    ("context", _context),
    ("input_modalities", _inputs),
    ("output_modalities", _outputs),
    ("tools", _tools),
)
