"""What guardrails leave of the targets that a name stands for. Pure."""

from typing import Final

from pointsman.routing.providers import provider_matches
from pointsman.routing.targets import Target
from pointsman.routing.variants import split_variants
from pointsman.routing.wants import Bounds

OTHER: Final = "other"
# Whose models a guardrail has a rule of retention of its own for, by their authors and by the kinds of their own APIs.
GROUPS: Final = {
    "anthropic": "anthropic", "openai": "openai", "google": "google", "gemini": "google", "x-ai": "xai", "xai": "xai",
}  # fmt: skip
FREE: Final = "free"
PAID: Final = "paid"


def is_permitted(bounds: Bounds, target: Target) -> bool:
    """Whether a target is left, alone or among others."""
    return is_listed(bounds, target) and not keeps_data(bounds, target)


def is_listed(bounds: Bounds, target: Target) -> bool:
    """Whether every allow list has the target, and no ignore list."""
    names = model_names(target)
    if not names.isdisjoint(bounds.ignored_models) or _is_at(bounds.ignored_providers, target):
        return False
    return all([not names.isdisjoint(allowed) for allowed in bounds.allowed_models]) and all(
        [_is_at(allowed, target) for allowed in bounds.allowed_providers]
    )


def keeps_data(bounds: Bounds, target: Target) -> bool:
    """Whether the target may keep or learn what it must not; what nobody knows it may."""
    facts, price = target.facts, target.facts.price
    if facts.zdr is not True and group_of(target) in bounds.zdr:
        return True
    kind = FREE if price is not None and not (price.prompt or price.completion or price.request) else PAID
    return facts.trains is not False and kind in bounds.untrained


def group_of(target: Target) -> str:
    """The group of a target's model: by its author, and where nobody knows that by whose API it is."""
    author = target.facts.author or target.connection.vendor
    return GROUPS.get(author.lower(), OTHER)


def model_names(target: Target) -> set[str]:
    """What a guardrail may call a target's model: in small letters, with its variants and without."""
    names = {target.id.lower(), target.model.lower()}
    if target.facts.slug is not None:
        names.add(target.facts.slug.lower())
    return names | {split_variants(name)[0] for name in names}


def _is_at(slugs: tuple[str, ...], target: Target) -> bool:
    return any([provider_matches(slug, target) for slug in slugs])
