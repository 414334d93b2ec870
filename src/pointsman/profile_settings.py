"""The settings of profiles: which models stand first for a budget, and who else may choose."""

from typing import Annotated

import msgspec

from pointsman.keyring import Secret


class PinSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[profiles.cheap]``, ``[profiles.medium]``, ``[profiles.premium]``: models that stand first for a budget.

    Names as clients give them, or patterns with ``*`` for full ids and ``author/name``.
    """

    models: list[str] = []
    simple: list[str] = []
    medium: list[str] = []
    complex: list[str] = []
    reasoning: list[str] = []
    only: bool = False


class NotDiamondSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[profiles.notdiamond]``: a service that chooses among a profile's models (docs/routing-profiles.md)."""

    api_key: Secret | None = None  # env:NAME, file:PATH or the key itself; without it nobody is asked
    base_url: str = "https://api.notdiamond.ai"
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)] = 300
    hash_content: bool = True
    preference_id: str | None = None


class StoredEngine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of the service over commands and the API; its key is kept apart, sealed."""

    base_url: str = "https://api.notdiamond.ai"
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)] = 300
    hash_content: bool = True
    preference_id: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    allow_private: bool = False


class ProfileSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[profiles]``: what `auto`, `cheap`, `medium` and `premium` choose among (docs/routing-profiles.md)."""

    exclude: list[str] = []
    cheap: PinSettings = PinSettings()
    medium: PinSettings = PinSettings()
    premium: PinSettings = PinSettings()
    notdiamond: NotDiamondSettings = NotDiamondSettings()
