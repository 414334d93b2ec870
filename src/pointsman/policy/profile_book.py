"""The operator's words on profiles, from the configuration file."""

from pointsman.profile_settings import PinSettings, ProfileSettings
from pointsman.routing.profiles.book import EVERY_TIER, Pins, ProfileBook


def book_of(settings: ProfileSettings) -> ProfileBook:
    """``[profiles]`` as routing has it."""
    budgets = {"cheap": settings.cheap, "medium": settings.medium, "premium": settings.premium}
    return ProfileBook(
        budgets={name: _pins(row) for name, row in budgets.items() if row != PinSettings()},
        exclude=tuple(settings.exclude),
    )


def _pins(row: PinSettings) -> Pins:
    tiers = {"SIMPLE": row.simple, "MEDIUM": row.medium, "COMPLEX": row.complex, "REASONING": row.reasoning}
    names = {EVERY_TIER: tuple(row.models), **{tier: tuple(found) for tier, found in tiers.items()}}
    return Pins(names={tier: found for tier, found in names.items() if found}, only=row.only)
