"""What OpenRouter's clients say of a guardrail: checked, and made a row; and how a row is shown to them."""

from typing import Any, Final, Literal

import msgspec

from pointsman.api.exchange import wrong
from pointsman.api.openrouter.exchange import amount, usd, words_of
from pointsman.errors import ConfigError
from pointsman.policy.guardrail_contents import INJECTION, UNKNOWN, label_of
from pointsman.policy.guardrails import ZDR_GROUPS
from pointsman.policy.router_keys import RESETS
from pointsman.storage.guardrails import BuiltinFilter, ContentFilter, GuardrailRow, GuardrailRules, Region

MAX_NAME: Final = 200
MAX_DESCRIPTION: Final = 1000
MAX_LISTED: Final = 1000  # names in one list
MAX_LABEL: Final = 100
MAX_PATTERN: Final = 100_000  # characters; the figure is OpenRouter's
MAX_FILTERS: Final = 100
Reset = Literal["daily", "weekly", "monthly"]
_INTERVALS: Final = {kind: name for name, kind in RESETS.items()}
_LISTS: Final = ("allowed_providers", "ignored_providers", "allowed_models", "ignored_models", "allowed_data_regions")
_FILTERS: Final = ("content_filters", "content_filter_builtins")
UNSET: Final = msgspec.UNSET
Names = list[str] | msgspec.UnsetType | None
Flag = bool | msgspec.UnsetType | None


class BuiltinBody(BuiltinFilter, frozen=True, kw_only=True):
    """A filter by name; its ``label`` is ours to choose, and what a client says of it is not looked at."""

    label: Any = None


class GuardrailChangeBody(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be different; null takes a rule away. ``limit_usd`` in dollars."""

    name: str | msgspec.UnsetType = UNSET
    description: str | msgspec.UnsetType | None = UNSET
    limit_usd: float | int | msgspec.UnsetType | None = UNSET
    reset_interval: Reset | msgspec.UnsetType | None = UNSET
    allowed_providers: Names = UNSET
    ignored_providers: Names = UNSET
    allowed_models: Names = UNSET
    ignored_models: Names = UNSET
    enforce_zdr: Flag = UNSET
    enforce_zdr_anthropic: Flag = UNSET
    enforce_zdr_openai: Flag = UNSET
    enforce_zdr_google: Flag = UNSET
    enforce_zdr_xai: Flag = UNSET
    enforce_zdr_other: Flag = UNSET
    allow_safety_retention_google: Flag = UNSET
    allow_safety_retention_other: Flag = UNSET
    include_byok_in_budgets: bool | msgspec.UnsetType = UNSET
    enable_free_model_training: Flag = UNSET
    enable_paid_model_training: Flag = UNSET
    enable_free_model_publication: Flag = UNSET
    allowed_data_regions: list[Region] | msgspec.UnsetType | None = UNSET
    content_filters: list[ContentFilter] | msgspec.UnsetType | None = UNSET
    content_filter_builtins: list[BuiltinBody] | msgspec.UnsetType | None = UNSET


class NewGuardrailBody(GuardrailChangeBody, frozen=True, kw_only=True):
    """What a guardrail is to be."""

    name: str
    workspace_id: str | None = None


def check_body(body: GuardrailChangeBody) -> None:
    """Raises GatewayError(INVALID_REQUEST) that names the field at fault."""
    if body.name is not UNSET and not (1 <= len(body.name) <= MAX_NAME and body.name.isprintable()):
        raise wrong("name", f"must be 1 to {MAX_NAME} printable characters")
    if isinstance(body.description, str) and len(body.description) > MAX_DESCRIPTION:
        raise wrong("description", f"must have at most {MAX_DESCRIPTION} characters")
    if isinstance(body.limit_usd, float | int) and amount(body.limit_usd, "limit_usd") == 0:
        raise wrong("limit_usd", "must be above 0; null takes the limit away")
    for name in _LISTS:
        _check_names(getattr(body, name), name)
    for name in _FILTERS:
        _check_filters(getattr(body, name), name)


def changed_row(row: GuardrailRow, body: GuardrailChangeBody, now: int | None) -> GuardrailRow:
    """The row with what a checked body says; ``now`` is when it is changed (us), None when it is new."""
    values: dict[str, Any] = {"rules": _changed_rules(row.rules, body), "updated_at": now}
    if body.name is not UNSET:
        values["name"] = body.name
    if body.description is not UNSET:
        values["description"] = body.description
    if body.limit_usd is not UNSET:
        values["limit_nano_usd"] = amount(body.limit_usd, "limit_usd")
    if body.reset_interval is not UNSET:
        values["window_kind"] = "none" if body.reset_interval is None else RESETS[body.reset_interval]
    return msgspec.structs.replace(row, **values)


def shown(row: GuardrailRow) -> dict[str, Any]:
    """A guardrail as the API shows it."""
    rules = {name: getattr(row.rules, name) for name in GuardrailRules.__struct_fields__}
    builtins = rules.pop("content_filter_builtins")
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "limit_usd": None if row.limit_nano_usd is None else usd(row.limit_nano_usd),
        "reset_interval": _INTERVALS.get(row.window_kind),
        **rules,
        "content_filter_builtins": None if builtins is None else [_shown_builtin(one) for one in builtins],
        "workspace_id": row.workspace_id,
        "created_at": words_of(row.created_at),
        "updated_at": words_of(row.updated_at),
    }


def _shown_builtin(one: BuiltinFilter) -> dict[str, Any]:
    return {**msgspec.to_builtins(one), "label": f"[{label_of(one)}]"}


def _changed_rules(rules: GuardrailRules, body: GuardrailChangeBody) -> GuardrailRules:
    values = {name: getattr(body, name) for name in GuardrailRules.__struct_fields__}
    if body.enforce_zdr is not UNSET:  # the older member, which speaks for all groups that are not named
        for group in ZDR_GROUPS:
            if values[f"enforce_zdr_{group}"] is UNSET:
                values[f"enforce_zdr_{group}"] = body.enforce_zdr
    given = {name: value for name, value in values.items() if value is not UNSET}
    for name in (*_LISTS, "content_filters"):
        if given.get(name) is not None:
            given[name] = tuple(given[name])
    builtins = given.get("content_filter_builtins")
    if builtins is not None:
        given["content_filter_builtins"] = tuple(
            BuiltinFilter(slug=one.slug, action=one.action, scan_scope=one.scan_scope) for one in builtins
        )
    return msgspec.structs.replace(rules, **given)


def _check_names(names: Any, member: str) -> None:
    if names is UNSET or names is None:
        return
    if not 1 <= len(names) <= MAX_LISTED:
        raise wrong(member, f"must have 1 to {MAX_LISTED} entries; null takes the rule away")
    for index, name in enumerate(names):
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
            raise wrong(f"{member}[{index}]", f"must be 1 to {MAX_NAME} printable characters")


def _check_filters(filters: Any, member: str) -> None:
    if filters is UNSET or filters is None:
        return
    if not 1 <= len(filters) <= MAX_FILTERS:
        raise wrong(member, f"must have 1 to {MAX_FILTERS} entries; null takes the rule away")
    for index, one in enumerate(filters):
        if isinstance(one, ContentFilter):
            _check_pattern(one, f"{member}[{index}]")
        elif one.slug in UNKNOWN:
            raise wrong(f"{member}[{index}].slug", f"can't be {one.slug}: these words are not found here")
        elif one.scan_scope is not None and one.slug != INJECTION:
            raise wrong(f"{member}[{index}].scan_scope", f"is for {INJECTION} only")


def _check_pattern(one: ContentFilter, place: str) -> None:
    from pointsman.guards.patterns import find_pattern  # half a megabyte that most gateways never need

    if one.label is not None and not (1 <= len(one.label) <= MAX_LABEL and one.label.isprintable()):
        raise wrong(f"{place}.label", f"must be 1 to {MAX_LABEL} printable characters")
    if not 1 <= len(one.pattern) <= MAX_PATTERN:
        raise wrong(f"{place}.pattern", f"must have 1 to {MAX_PATTERN} characters")
    try:
        find_pattern([one.pattern], "REDACTED", any_case=False)
    except ConfigError as error:
        raise wrong(f"{place}.pattern", f"is no pattern (invalid_regex_pattern): {error}") from None
