"""What guardrails amount to: combination rules, budgets, regions, and content filters as guards."""

from typing import Any

import msgspec
import pytest

from pointsman.canonical.windows import Window
from pointsman.errors import GatewayError
from pointsman.guard_settings import GuardRuleSettings, check_guards
from pointsman.hub.guarding import Guarding, Tally
from pointsman.identity.keys import Key
from pointsman.policy.budgets import BudgetTable, credit_of
from pointsman.policy.guardrail_contents import guards_of
from pointsman.policy.guardrails import GuardrailTable, region_of
from pointsman.routing.bounds import group_of, is_permitted
from pointsman.routing.targets import Connection, ModelFacts, PriceTag, Target, target_of
from pointsman.routing.wants import Bounds
from pointsman.storage.guardrails import (
    AssignmentRow,
    BuiltinFilter,
    ContentFilter,
    GuardrailRow,
    GuardrailRules,
)
from pointsman.upstream.guard_hook import GuardHook

KEY = Key(
    id="key_1", name="k", role="inference", workspace_id="ws", account_id="acc", kind="openrouter",
    creator_user_id="usr_1",
)  # fmt: skip
SUBJECTS = {"account": "acc", "workspace": "ws", "member": "usr_1", "key": "key_1"}


def row(name: str, *, limit: int | None = None, window: Any = "none", **rules: Any) -> GuardrailRow:
    return GuardrailRow(
        id=name, account_id="acc", workspace_id="ws", name=name, created_at=1, limit_nano_usd=limit,
        window_kind=window, rules=GuardrailRules(**rules),
    )  # fmt: skip


def table(**rows: GuardrailRow) -> GuardrailTable:
    """A guardrail for each scope that is named."""
    assigned = [
        AssignmentRow(
            id=scope, account_id="acc", scope=scope, subject=SUBJECTS[scope], guardrail_id=one.id, created_at=1
        )  # type: ignore[arg-type]
        for scope, one in rows.items()
    ]
    return GuardrailTable({one.id: one for one in rows.values()}, assigned)


def target(model: str = "m", kind: str = "openai", **facts: Any) -> Target:
    return target_of(Connection(id=f"at-{kind}", kind=kind), model, ModelFacts(**facts))


def bounds(**rows: GuardrailRow) -> Bounds:
    found = table(**rows).of(KEY)
    assert found is not None
    return found.bounds or Bounds()


def test_nobody_else_is_bound() -> None:
    found = table(key=row("a", enforce_zdr_openai=True))
    assert found.of(KEY) is not None
    for other in (
        Key(id="key_2", name="k", role="inference", workspace_id="ws", account_id="acc"),
        Key(id="key_1", name="k", role="inference", workspace_id="ws", account_id="other"),
    ):
        assert table(key=row("a")).of(other) is None
    assert (
        table(member=row("a")).of(Key(id="k", name="k", role="inference", workspace_id="x", account_id="acc")) is None
    )


def test_allow_lists_intersect_and_ignore_lists_unite() -> None:
    found = bounds(
        account=row("a", allowed_models=("x/one", "x/two"), ignored_providers=("azure",)),
        key=row("b", allowed_models=("X/Two", "x/three"), ignored_providers=("openai",)),
    )
    assert [name for name in ("one", "two", "three") if is_permitted(found, target(f"x/{name}", "mistral"))] == ["two"]
    assert not is_permitted(found, target("x/two", "azure"))
    assert not is_permitted(found, target("x/two", "openai"))


def test_a_guardrail_may_name_a_model_in_each_of_its_ways() -> None:
    one = target("gpt-x", slug="openai/gpt-x:free")
    for name in ("at-openai/gpt-x", "gpt-x", "openai/gpt-x:free", "openai/gpt-x", "OpenAI/GPT-X"):
        assert is_permitted(bounds(key=row("a", allowed_models=(name,))), one), name
        assert not is_permitted(bounds(key=row("a", ignored_models=(name,))), one), name
    assert not is_permitted(bounds(key=row("a", allowed_models=("openai/gpt",))), one)


@pytest.mark.parametrize(
    ("author", "kind", "group"),
    [
        ("anthropic", "bedrock", "anthropic"), ("x-ai", "openai", "xai"), ("google", "vertex", "google"),
        (None, "gemini", "google"), (None, "openai", "openai"), ("mistralai", "mistral", "other"),
        ("meta", "openai", "other"),
    ],
)  # fmt: skip
def test_a_model_is_of_its_author_s_group(author: str | None, kind: str, group: str) -> None:
    assert group_of(target(kind=kind, author=author)) == group


def test_retention_is_as_strict_as_the_strictest() -> None:
    found = bounds(
        account=row("a", enforce_zdr_openai=True), key=row("b", enforce_zdr_openai=False, enforce_zdr_xai=True)
    )
    assert found.zdr == {"openai", "xai"}
    assert not is_permitted(found, target(author="openai"))
    assert not is_permitted(found, target(author="openai", zdr=False))
    assert is_permitted(found, target(author="openai", zdr=True))
    assert is_permitted(found, target(author="google"))


def test_who_learns_is_asked_of_free_and_paid_endpoints_apart() -> None:
    free, paid = PriceTag(), PriceTag(prompt=1)
    no_paid, no_free = (
        bounds(key=row("a", enable_paid_model_training=False)),
        bounds(key=row("a", enable_free_model_publication=False)),
    )
    assert not is_permitted(no_paid, target(price=paid))
    assert not is_permitted(no_paid, target())
    assert is_permitted(no_paid, target(price=paid, trains=False))
    assert is_permitted(no_paid, target(price=free))
    assert not is_permitted(no_free, target(price=free))
    assert is_permitted(no_free, target(price=paid))


def test_a_default_gives_the_owner_and_the_key_budgets_of_their_own() -> None:
    found = table(
        workspace=row("w", limit=5, window="day"), member=row("m", limit=6), key=row("k", limit=7, window="month")
    ).of(KEY)
    assert found is not None
    assert [(one.source, one.limit_nano_usd, one.window, one.subject) for one in found.budgets] == [
        ("workspace_default_member", 5, Window("day"), "w/usr_1"),
        ("workspace_default_key", 5, Window("day"), "w/key_1"),
        ("member", 6, Window("none"), "m/usr_1"),
        ("api_key", 7, Window("month"), "k/key_1"),
    ]
    assert len({one.id for one in found.budgets}) == 4


def test_a_guardrail_that_comes_twice_is_one_budget_of_the_key() -> None:
    same = row("g", limit=5)
    found = table(workspace=same, key=same).of(KEY)
    assert found is not None
    assert [one.subject for one in found.budgets] == ["g/usr_1", "g/key_1"]
    assert found.ids == ("g",)


def test_budgets_of_guardrails_stand_beside_the_others() -> None:
    guardrails = table(key=row("g", limit=5, include_byok_in_budgets=True))
    bound = BudgetTable((), guardrails=guardrails).bound(KEY, {})
    assert bound is not None
    assert [name for name, _ in bound.hard] == ["guardrail:g:none:key_1"]
    assert bound.byok == {"guardrail:g:none:key_1"}
    assert BudgetTable((), guardrails=table(key=row("g"))).bound(KEY, {}) is None


def test_budgets_of_keys_alone_concern_no_other_key() -> None:
    assert not BudgetTable(()).general
    assert not BudgetTable((), guardrails=table(key=row("g"))).general
    assert BudgetTable((), guardrails=table(key=row("g", limit=5))).general
    assert BudgetTable((), credits=True).general
    assert BudgetTable([credit_of("default")]).general


@pytest.mark.parametrize(
    ("host", "region"),
    [(b"openrouter.example", "global"), (b"eu.openrouter.example", "europe"), (b"US.example:443", "us"),
     (b"eu", "global"),
     (b"", "global")],
)  # fmt: skip
def test_a_region_is_told_by_the_host(host: bytes, region: str) -> None:
    assert region_of(host) == region


def test_regions_intersect() -> None:
    found = table(
        account=row("a", allowed_data_regions=("europe", "us")), key=row("b", allowed_data_regions=("us", "global"))
    ).of(KEY)
    assert found is not None
    found.check_region(b"us.example.org")
    for host in (b"eu.example.org", b"example.org"):
        with pytest.raises(GatewayError, match="region"):
            found.check_region(host)


def test_content_filters_are_guards_that_any_configuration_could_hold() -> None:
    filters = (
        ContentFilter(pattern="TICKET-[0-9]+", action="redact", label="[Ticket no. 1]"),
        ContentFilter(pattern="x", action="flag"),
    )
    slugs: tuple[Any, ...] = ("email", "phone", "ssn", "credit-card", "ip-address", "secrets", "regex-prompt-injection")
    builtins = tuple(BuiltinFilter(slug=slug, action="block") for slug in slugs)
    one = row("0a1b", content_filters=filters, content_filter_builtins=builtins)
    guards = guards_of((one, row("none")), {"0a1b": (("key", "key_1"), ("workspace", "ws"), ("key", "key_0"))})
    check_guards(guards, "test")
    [guard] = guards
    assert (guard.name, guard.keys, guard.workspaces) == ("guardrail-0a1b", ["key_0", "key_1"], ["ws"])
    assert [rule.kind for rule in guard.rules] == ["regex", "regex", *["personal"] * 5, "secrets", "injection"]
    assert [rule.label for rule in guard.rules[:3]] == ["TICKET_NO", None, "EMAIL"]
    assert not any(rule.restore for rule in guard.rules)
    assert guards_of((one,), {}) == []


def test_filters_of_a_member_look_at_its_calls_with_any_credential_but_for_other_accounts() -> None:
    one = row("g", content_filters=(ContentFilter(pattern="x", action="block"),))
    [guard] = guards_of((one,), {"g": (("member", "usr_1"),)})

    def no_hook(name: str, rule: GuardRuleSettings) -> GuardHook:
        raise AssertionError(name)

    guarding = Guarding([guard], no_hook, Tally())
    token = Key(
        id="jwt_usr_1", name="usr_1", role="inference", workspace_id="acc", account_id="acc", kind="jwt",
        user_id="usr_1",
    )  # fmt: skip
    assert guarding.of(KEY) is not None
    assert guarding.of(token) is not None
    assert guarding.of(msgspec.structs.replace(token, account_id="other")) is None
    assert guarding.of(msgspec.structs.replace(token, user_id="usr_2")) is None
