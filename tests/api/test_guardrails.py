"""OpenRouter's guardrails: objects and assignments as its own SDK drives them, and what they do to calls."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openrouter
import pytest
from openrouter import errors

from gateway import KEY, RunningGateway, wait_until
from router_accounts import ACCOUNTS, HELLO, MODEL, chat, client_of, member_of, raw, router_gateway, secret_of

pytestmark = pytest.mark.filterwarnings("ignore:.*DEPRECATED:DeprecationWarning")  # the SDK warns of its own fields
PLACES = ("sim", "quiet")
COMBO = {"name": "both", "models": [f"{place}/{MODEL}" for place in PLACES], "strategy": "priority"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with router_gateway(tmp_path_factory.mktemp("guardrails")) as running:
        headers = {"authorization": f"Bearer {KEY}"}
        assert httpx.post(f"{running.address}/api/combos", json=COMBO, headers=headers, timeout=30).status_code == 201
        yield running


class Bound:
    """A key with a guardrail of its own."""

    def __init__(self, gateway: RunningGateway, manager: openrouter.OpenRouter, **rules: Any) -> None:
        self.gateway, self.manager = gateway, manager
        made = manager.api_keys.create(name="bound")
        self.secret, self.hash = made.key, made.data.hash
        self.id = manager.guardrails.create(name="rule", **rules).data.id
        assert manager.guardrails.bulk_assign_keys(id=self.id, key_hashes=[self.hash]).assigned_count == 1

    def chat(self, model: str = "both", **more: Any) -> Any:
        return chat(self.gateway, self.secret, model, **more)

    def place(self, model: str = "both", **more: Any) -> str:
        """The connection that answered."""
        answered, work = self.chat(model, **more), self.gateway.installation
        record = self.gateway.journal.the(answered.id.removeprefix("gen-"))
        assert work is not None
        return str(record.connection_id)


def test_a_guardrail_lives_from_its_making_to_its_end(manager: openrouter.OpenRouter) -> None:
    made = manager.guardrails.create(
        name="Production", description="what may be spent", limit_usd=100, reset_interval="monthly",
        allowed_providers=["openai"], ignored_providers=["azure"], allowed_models=["openai/gpt-4.1"],
        ignored_models=["openai/gpt-4o"], enforce_zdr=True, enforce_zdr_google=False, include_byok_in_budgets=True,
        content_filters=[{"pattern": "TICKET-[0-9]+", "action": "redact", "label": "[TICKET]"}],
        content_filter_builtins=[{"slug": "credit-card", "action": "block"}],
        allowed_data_regions=["europe", "global"], enable_paid_model_training=False,
    ).data  # fmt: skip
    assert uuid.UUID(made.id)
    assert (made.limit_usd, made.reset_interval, made.updated_at) == (100, "monthly", None)
    assert (made.enforce_zdr, made.enforce_zdr_openai, made.enforce_zdr_google) == (True, True, False)
    assert (made.allowed_providers, made.ignored_models) == (["openai"], ["openai/gpt-4o"])
    assert made.content_filter_builtins[0].label == "[CREDIT_CARD]"
    assert made.workspace_id == ACCOUNTS[0]
    assert manager.guardrails.get(id=made.id).data == made
    changed = manager.guardrails.update(id=made.id, name="Less", limit_usd=None, allowed_models=None).data
    assert (changed.name, changed.limit_usd, changed.allowed_models) == ("Less", None, None)
    assert (changed.reset_interval, changed.allowed_providers) == ("monthly", ["openai"])
    assert changed.updated_at is not None
    assert made.id in [row.id for row in manager.guardrails.list().result.data]
    assert manager.guardrails.delete(id=made.id).DELETED is True
    with pytest.raises(errors.NotFoundResponseError):
        manager.guardrails.get(id=made.id)


def test_lists_have_pages(manager: openrouter.OpenRouter) -> None:
    ids = [manager.guardrails.create(name=f"page {number}").data.id for number in range(3)]
    first = manager.guardrails.list(limit=2)
    assert [row.id for row in first.result.data] == [ids[2], ids[1]]
    assert first.result.total_count >= 3
    assert first.next().result.data[0].id == ids[0]
    assert manager.guardrails.list(workspace_id="elsewhere").result.total_count == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"), ({"name": ""}, "name"), ({"name": "n" * 201}, "name"),
        ({"name": "n", "limit_usd": 0}, "limit_usd"),
        ({"name": "n", "limit_usd": -1}, "limit_usd"), ({"name": "n", "limit_usd": "5"}, "limit_usd"),
        ({"name": "n", "reset_interval": "yearly"}, "reset_interval"),
        ({"name": "n", "allowed_models": []}, "allowed_models"),
        ({"name": "n", "ignored_providers": [""]}, "ignored_providers[0]"),
        ({"name": "n", "allowed_data_regions": ["mars"]}, "allowed_data_regions"),
        ({"name": "n", "description": "d" * 1001}, "description"),
        ({"name": "n", "workspace_id": "acc_two"}, "workspace_id"),
        ({"name": "n", "content_filters": [{"pattern": "(?=a)", "action": "block"}]}, "content_filters[0].pattern"),
        ({"name": "n", "content_filters": [{"pattern": "a", "action": "melt"}]}, "content_filters"),
        (
            {"name": "n", "content_filters": [{"pattern": r"(\pL{1,100}){1,9}", "action": "flag"}]},  # 100 MB compiled
            "content_filters[0].pattern",
        ),
        ({"name": "n", "content_filter_builtins": [{"slug": "mood", "action": "flag"}]}, "content_filter_builtins"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(gateway: RunningGateway, body: dict[str, Any], field: str) -> None:
    secret = secret_of(gateway, ACCOUNTS[0], role="management")
    refused = raw(gateway, secret, "POST", "/guardrails", body)
    assert refused.status_code == 400, refused.text
    assert field in refused.text


def test_another_account_s_guardrail_is_not_found(
    manager: openrouter.OpenRouter, stranger: openrouter.OpenRouter
) -> None:
    own = manager.guardrails.create(name="own").data
    theirs = stranger.api_keys.create(name="theirs").data
    assert own.id not in [row.id for row in stranger.guardrails.list(limit=100).result.data]
    for ask in (
        lambda: stranger.guardrails.get(id=own.id),
        lambda: stranger.guardrails.update(id=own.id, name="mine"),
        lambda: stranger.guardrails.delete(id=own.id),
        lambda: stranger.guardrails.bulk_assign_keys(id=own.id, key_hashes=[theirs.hash]),
        lambda: stranger.guardrails.bulk_unassign_keys(id=own.id, key_hashes=[theirs.hash]),
        lambda: stranger.guardrails.list_guardrail_key_assignments(id=own.id),
        lambda: stranger.guardrails.list_guardrail_member_assignments(id=own.id),
    ):
        with pytest.raises(errors.NotFoundResponseError):
            ask()
    assert manager.guardrails.bulk_assign_keys(id=own.id, key_hashes=[theirs.hash]).assigned_count == 0


def test_keys_are_assigned_to_one_guardrail_at_a_time(manager: openrouter.OpenRouter) -> None:
    keys = [manager.api_keys.create(name=f"assigned {number}").data for number in range(2)]
    hashes = [key.hash for key in keys]
    first, second = (manager.guardrails.create(name=name).data.id for name in ("first", "second"))
    assert manager.guardrails.bulk_assign_keys(id=first, key_hashes=[*hashes, "0" * 64]).assigned_count == 2
    assert manager.guardrails.bulk_assign_keys(id=first, key_hashes=hashes).assigned_count == 0
    assert manager.guardrails.bulk_assign_keys(id=second, key_hashes=hashes[:1]).assigned_count == 1
    [row] = manager.guardrails.list_guardrail_key_assignments(id=first).result.data
    assert (row.key_hash, row.key_name, row.key_label) == (hashes[1], "assigned 1", keys[1].label)
    listed = {row.key_hash: row.guardrail_id for row in manager.guardrails.list_key_assignments().result.data}
    assert listed.items() >= {hashes[0]: second, hashes[1]: first}.items()
    assert manager.guardrails.bulk_unassign_keys(id=first, key_hashes=hashes).unassigned_count == 1
    manager.api_keys.delete(hash=hashes[0])
    assert manager.guardrails.list_guardrail_key_assignments(id=second).result.total_count == 0


def test_members_are_assigned_and_strangers_are_not(gateway: RunningGateway, manager: openrouter.OpenRouter) -> None:
    person, other = member_of(gateway), member_of(gateway, ACCOUNTS[1])
    rule = manager.guardrails.create(name="people").data.id
    assert manager.guardrails.bulk_assign_members(id=rule, member_user_ids=[person, other]).assigned_count == 1
    [row] = manager.guardrails.list_guardrail_member_assignments(id=rule).result.data
    assert (row.user_id, row.organization_id, row.guardrail_id) == (person, ACCOUNTS[0], rule)
    assert person in [row.user_id for row in manager.guardrails.list_member_assignments().result.data]
    assert manager.guardrails.bulk_unassign_members(id=rule, member_user_ids=[person]).unassigned_count == 1
    assert manager.guardrails.list_guardrail_member_assignments(id=rule).result.total_count == 0


@pytest.mark.parametrize("path", ["keys", "members", "keys/remove", "members/remove"])
def test_malformed_assignments_are_refused(gateway: RunningGateway, path: str) -> None:
    secret = secret_of(gateway, ACCOUNTS[0], role="management")
    rule = raw(gateway, secret, "POST", "/guardrails", {"name": "m"}).json()["data"]["id"]
    member = "key_hashes" if path.startswith("keys") else "member_user_ids"
    for names in ([], [""], None, "x"):
        refused = raw(gateway, secret, "POST", f"/guardrails/{rule}/assignments/{path}", {member: names})
        assert refused.status_code == 400, refused.text
        assert member in refused.text
    assert raw(gateway, secret, "GET", "/guardrails?limit=0").status_code == 400
    assert raw(gateway, secret, "GET", "/guardrails?limit=101").status_code == 400
    assert raw(gateway, secret, "GET", "/guardrails/no-uuid").status_code == 404


def test_keys_for_calls_manage_no_guardrails(gateway: RunningGateway) -> None:
    refused = raw(gateway, secret_of(gateway, ACCOUNTS[0]), "GET", "/guardrails")
    assert refused.status_code == 403
    assert refused.json()["error"]["message"] == "Only management keys can perform this operation"


def refused(call: Callable[[], Any]) -> int:
    """The status of the refusal."""
    with pytest.raises(errors.OpenRouterError) as caught:
        call()
    return int(caught.value.status_code)


@pytest.mark.parametrize(
    ("rules", "place"),
    [
        ({}, "sim"),
        ({"allowed_providers": ["quiet"]}, "quiet"),
        ({"ignored_providers": ["sim"]}, "quiet"),
        ({"allowed_models": [f"QUIET/{MODEL}"]}, "quiet"),
        ({"ignored_models": [f"sim/{MODEL}"]}, "quiet"),
        ({"enforce_zdr": True}, "quiet"),
        ({"enforce_zdr_openai": True}, "quiet"),
        ({"enforce_zdr_anthropic": True}, "sim"),
        ({"enable_paid_model_training": False}, "quiet"),
        ({"enable_free_model_training": False}, "sim"),
    ],
)
def test_a_guardrail_leaves_what_it_allows(
    gateway: RunningGateway, manager: openrouter.OpenRouter, rules: dict[str, Any], place: str
) -> None:
    assert Bound(gateway, manager, **rules).place() == place


def test_a_call_that_no_target_is_left_for_is_not_found(
    gateway: RunningGateway, manager: openrouter.OpenRouter
) -> None:
    bound = Bound(gateway, manager, allowed_models=["openai/gpt-none"])
    assert refused(bound.chat) == 404
    assert refused(lambda: bound.chat(f"sim/{MODEL}")) == 404
    assert refused(lambda: bound.chat(provider={"only": ["sim"]})) == 404
    told = raw(gateway, bound.secret, "POST", "/chat/completions", {"model": "both", "messages": HELLO}).json()
    assert told["error"]["metadata"]["error_type"] == "not_found"
    manager.guardrails.bulk_unassign_keys(id=bound.id, key_hashes=[bound.hash])
    assert bound.chat().choices


def test_a_request_can_t_widen_its_guardrail(gateway: RunningGateway, manager: openrouter.OpenRouter) -> None:
    bound = Bound(gateway, manager, allowed_providers=["quiet"], enforce_zdr=True)
    assert bound.place(provider={"order": ["sim"], "zdr": False}) == "quiet"
    assert refused(lambda: bound.chat(provider={"only": ["sim"]})) == 404
    assert refused(lambda: bound.chat(f"sim/{MODEL}")) == 404


def test_lists_of_several_guardrails_intersect_and_unite(
    gateway: RunningGateway, manager: openrouter.OpenRouter
) -> None:
    person = member_of(gateway)
    made = manager.api_keys.create(name="owned", creator_user_id=person)
    of_person = manager.guardrails.create(
        name="person", allowed_providers=["sim", "quiet"], ignored_models=["x/y"]
    ).data
    of_key = manager.guardrails.create(name="key", allowed_providers=["quiet", "mine"]).data
    manager.guardrails.bulk_assign_members(id=of_person.id, member_user_ids=[person])
    manager.guardrails.bulk_assign_keys(id=of_key.id, key_hashes=[made.data.hash])
    assert chat(gateway, made.key, "both").choices
    assert refused(lambda: chat(gateway, made.key, f"sim/{MODEL}")) == 404
    assert refused(lambda: chat(gateway, made.key, f"mine/{MODEL}")) == 404
    manager.guardrails.update(id=of_person.id, ignored_providers=["quiet"])
    assert refused(lambda: chat(gateway, made.key, "both")) == 404


def test_a_region_that_is_not_allowed_is_refused(gateway: RunningGateway, manager: openrouter.OpenRouter) -> None:
    bound = Bound(gateway, manager, allowed_data_regions=["europe"])
    assert refused(bound.chat) == 403
    manager.guardrails.update(id=bound.id, allowed_data_regions=["global"])
    assert bound.chat().choices


def test_models_of_the_user_are_those_that_are_left(gateway: RunningGateway, manager: openrouter.OpenRouter) -> None:
    bound = Bound(gateway, manager, allowed_models=["openai/gpt-none"])
    assert raw(gateway, bound.secret, "GET", "/models/user").status_code == 404
    manager.guardrails.update(id=bound.id, allowed_models=None, allowed_providers=["quiet"])
    listed = [row["id"] for row in raw(gateway, bound.secret, "GET", "/models/user").json()["data"]]
    assert f"quiet/{MODEL}" in listed
    assert f"sim/{MODEL}" not in listed


def test_a_key_s_budget_is_its_own_and_403(gateway: RunningGateway, manager: openrouter.OpenRouter) -> None:
    one = Bound(gateway, manager, limit_usd=0.015, reset_interval="daily")
    other = manager.api_keys.create(name="beside")
    manager.guardrails.bulk_assign_keys(id=one.id, key_hashes=[other.data.hash])
    assert one.chat().choices
    assert refused(one.chat) == 403
    assert chat(gateway, other.key, "both").choices
    with client_of(gateway, one.secret) as client:
        wait_until(lambda: client.api_keys.get_current_key_metadata().data.effective_budget.spend_usd, "spending")
        [budget] = client.api_keys.get_current_key_metadata().data.budgets
    assert (budget.scope, budget.guardrail_id, budget.reset_interval) == ("api_key", one.id, "daily")
    assert (budget.limit_usd, budget.spend_usd, budget.remaining_usd) == (0.015, 0.01, 0.005)
    manager.guardrails.update(id=one.id, limit_usd=0.025)
    assert one.chat().choices
    manager.guardrails.update(id=one.id, limit_usd=None)
    assert one.chat().choices


def test_a_member_s_budget_counts_all_keys_of_the_member(
    gateway: RunningGateway, manager: openrouter.OpenRouter
) -> None:
    person = member_of(gateway)
    first, second = (manager.api_keys.create(name=name, creator_user_id=person) for name in ("first", "second"))
    rule = manager.guardrails.create(name="people", limit_usd=0.015, reset_interval="weekly").data.id
    manager.guardrails.bulk_assign_members(id=rule, member_user_ids=[person])
    assert chat(gateway, first.key).choices
    assert refused(lambda: chat(gateway, second.key)) == 403
    with client_of(gateway, second.key) as client:
        [budget] = client.api_keys.get_current_key_metadata().data.budgets
    assert (budget.scope, budget.guardrail_id) == ("member", rule)


def test_a_default_binds_every_call_of_its_workspace(gateway: RunningGateway, stranger: openrouter.OpenRouter) -> None:
    person = member_of(gateway, ACCOUNTS[1])
    made = stranger.api_keys.create(name="default", creator_user_id=person)
    rule = stranger.guardrails.create(name="default", limit_usd=0.015, allowed_providers=["sim"]).data.id
    secret = secret_of(gateway, ACCOUNTS[1], role="management")
    path = f"{gateway.address}/api/pointsman/guardrails/defaults"

    def put(body: dict[str, Any]) -> httpx.Response:
        return httpx.put(path, json=body, headers={"authorization": f"Bearer {secret}"}, timeout=20)

    assert put({"workspace_id": "acc_one", "guardrail_id": rule}).status_code == 400
    assert put({"guardrail_id": str(uuid.uuid4())}).status_code == 404
    [row] = put({"workspace_id": ACCOUNTS[1], "guardrail_id": rule}).json()["data"]
    assert (row["workspace_id"], row["guardrail_id"]) == (ACCOUNTS[1], rule)
    assert refused(lambda: chat(gateway, made.key, f"quiet/{MODEL}")) == 404
    assert chat(gateway, made.key).choices
    with client_of(gateway, made.key) as client:
        scopes = [row.scope for row in client.api_keys.get_current_key_metadata().data.budgets]
    assert scopes == ["workspace_default_member", "workspace_default_key"]
    assert refused(lambda: chat(gateway, made.key)) == 403
    assert put({"workspace_id": ACCOUNTS[1], "guardrail_id": None}).json()["data"] == []
    assert chat(gateway, made.key, f"quiet/{MODEL}").choices


def test_what_providers_bill_callers_counts_where_it_is_to(
    gateway: RunningGateway, manager: openrouter.OpenRouter
) -> None:
    mine = f"mine/{MODEL}"
    without = Bound(gateway, manager, limit_usd=0.015)
    assert without.chat(mine).choices
    assert without.chat(mine).choices
    within = Bound(gateway, manager, limit_usd=0.015, include_byok_in_budgets=True)
    assert within.chat(mine).choices
    assert refused(lambda: within.chat(mine)) == 403


def test_a_bound_key_can_t_let_others_have_keys(gateway: RunningGateway, manager: openrouter.OpenRouter) -> None:
    bound = Bound(gateway, manager, allowed_providers=["quiet"])
    grant = raw(gateway, bound.secret, "POST", "/auth/keys/code", {"callback_url": "https://app.example/back"})
    assert grant.status_code == 403, grant.text


def test_content_filters_look_at_what_bound_keys_say(gateway: RunningGateway, manager: openrouter.OpenRouter) -> None:
    builtins = [{"slug": "email", "action": "redact"}, {"slug": "secrets", "action": "flag"}]
    filters = [{"pattern": "TICKET-[0-9]+", "action": "block"}]
    bound = Bound(gateway, manager, content_filter_builtins=builtins, content_filters=filters)

    def say(words: str, secret: str = bound.secret) -> httpx.Response:
        messages = [{"role": "user", "content": words}]
        return raw(gateway, secret, "POST", "/chat/completions", {"model": "both", "messages": messages})

    answered = say("write to ada@example.org")
    assert answered.status_code == 200, answered.text
    record = gateway.journal.the(answered.headers["x-generation-id"].removeprefix("gen-"))
    assert record.guards == f'[["guardrail-{bound.id}.email","redact",1]]'
    blocked = say("what of TICKET-42?")
    assert blocked.status_code == 403
    assert blocked.json()["error"]["metadata"]["patterns"] == [f"guardrail-{bound.id}.filter-1"]
    assert say("what of TICKET-42?", secret_of(gateway, ACCOUNTS[0])).status_code == 200
    manager.guardrails.update(id=bound.id, content_filters=None)
    assert say("what of TICKET-42?").status_code == 200


def test_filters_that_nothing_here_can_find_are_refused(gateway: RunningGateway) -> None:
    secret = secret_of(gateway, ACCOUNTS[0], role="management")
    body = {"name": "n", "content_filter_builtins": [{"slug": "person-name", "action": "block"}]}
    refused = raw(gateway, secret, "POST", "/guardrails", body)
    assert refused.status_code == 400
    assert "content_filter_builtins[0].slug" in refused.text


def test_an_end_takes_the_spending_along(gateway: RunningGateway, manager: openrouter.OpenRouter) -> None:
    bound = Bound(gateway, manager, limit_usd=0.015)
    assert bound.chat().choices
    assert refused(bound.chat) == 403
    manager.guardrails.delete(id=bound.id)
    assert bound.chat().choices
    assert manager.guardrails.list_key_assignments(limit=100).result.total_count == len(
        manager.guardrails.list_key_assignments(limit=100).result.data
    )
