"""OpenRouter's management of keys, credits, generations and activity, as its own SDK drives it."""

import datetime
import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import openrouter
import pytest
from openrouter import errors

from gateway import KEY, RunningGateway, wait_until
from pointsman.accounting.ledger_service import Movement
from pointsman.canonical.record import Outcome, RequestRecord
from pointsman.storage.key_usage import KeyUsageRepository
from pointsman.storage.usage_sums import UsageSums
from router_accounts import ACCOUNTS, HELLO, chat, client_of, member_of, raw, router_gateway, secret_of

pytestmark = pytest.mark.filterwarnings("ignore:.*DEPRECATED:DeprecationWarning")  # the SDK warns of its own fields
DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with router_gateway(tmp_path_factory.mktemp("router")) as running:
        yield running


def test_a_key_lives_from_its_making_to_its_end(gateway: RunningGateway, manager: openrouter.OpenRouter) -> None:
    expires = datetime.datetime(2099, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    made = manager.api_keys.create(name="laptop", limit=0.5, limit_reset="weekly", expires_at=expires)
    assert made.key.startswith("sk-or-v1-")
    assert len(made.key) == 73
    assert made.data.hash == hashlib.sha256(made.key.encode()).hexdigest()
    assert (made.data.limit, made.data.limit_remaining, made.data.limit_reset) == (0.5, 0.5, "weekly")
    assert made.data.expires_at == expires
    assert made.data.label == f"{made.key[:12]}...{made.key[-3:]}"
    assert made.data.workspace_id == ACCOUNTS[0]
    assert made.data.updated_at is None
    assert chat(gateway, made.key).choices
    wait_until(lambda: manager.api_keys.get(hash=made.data.hash).data.usage > 0, "usage")
    found = manager.api_keys.get(hash=made.data.hash).data
    assert (found.usage, found.usage_daily, found.usage_weekly, found.usage_monthly) == (0.01,) * 4
    assert found.limit_remaining == 0.49
    assert found.last_used_at is not None
    assert found.byok_usage == 0
    changed = manager.api_keys.update(hash=made.data.hash, name="desk", limit=None, limit_reset="monthly").data
    assert (changed.name, changed.limit, changed.limit_reset) == ("desk", None, "monthly")
    assert manager.api_keys.update(hash=made.data.hash, limit=0.02).data.limit_remaining == 0.01
    assert manager.api_keys.get(hash=made.data.hash).data.limit_reset == "monthly"
    assert manager.api_keys.delete(hash=made.data.hash).DELETED is True
    with pytest.raises(errors.UnauthorizedResponseError):
        chat(gateway, made.key)
    with pytest.raises(errors.NotFoundResponseError):
        manager.api_keys.get(hash=made.data.hash)


def test_a_limit_refuses_the_call_that_goes_beyond_it(gateway: RunningGateway, manager: openrouter.OpenRouter) -> None:
    made = manager.api_keys.create(name="small", limit=0.015, limit_reset="daily")
    assert chat(gateway, made.key).choices
    with pytest.raises(errors.PaymentRequiredResponseError):
        chat(gateway, made.key)
    manager.api_keys.update(hash=made.data.hash, limit=0.1, limit_reset=None)
    assert chat(gateway, made.key).choices
    manager.api_keys.update(hash=made.data.hash, limit=0)
    with pytest.raises(errors.PaymentRequiredResponseError):
        chat(gateway, made.key)
    manager.api_keys.update(hash=made.data.hash, limit=None)
    assert chat(gateway, made.key).choices
    budgets = gateway.call(gateway.installation.budgets.list_page(100, scope="key"))
    assert [row for row in budgets if row.limit_nano_usd in (15_000_000, 100_000_000, 0)] == []


def test_disabled_and_expired_keys_are_listed_when_asked_for(
    gateway: RunningGateway, manager: openrouter.OpenRouter
) -> None:
    off = manager.api_keys.create(name="off")
    manager.api_keys.update(hash=off.data.hash, disabled=True)
    old = manager.api_keys.create(name="old", expires_at=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))

    def listed(**asked: Any) -> set[str]:
        return {key.name for key in manager.api_keys.list(**asked).data}

    assert not {"off", "old"} & listed()
    assert "off" in listed(include_disabled=True)
    assert "old" not in listed(include_disabled=True)
    assert {"off", "old"} <= listed(include_disabled=True, include_expired=True)
    assert listed(offset=1000) == set()
    assert listed(workspace_id="elsewhere") == set()
    assert "made" not in listed(include_disabled=True), "management keys are in no list"
    for made in (off, old):
        with pytest.raises(errors.UnauthorizedResponseError):
            chat(gateway, made.key)


def test_another_account_s_key_is_not_found(
    gateway: RunningGateway, manager: openrouter.OpenRouter, stranger: openrouter.OpenRouter
) -> None:
    made = manager.api_keys.create(name="own").data
    assert made.hash not in {key.hash for key in stranger.api_keys.list(include_disabled=True).data}
    for ask in (
        lambda: stranger.api_keys.get(hash=made.hash),
        lambda: stranger.api_keys.update(hash=made.hash, name="mine"),
        lambda: stranger.api_keys.delete(hash=made.hash),
        lambda: stranger.analytics.get_user_activity(request={"api_key_hash": made.hash}),
    ):
        with pytest.raises(errors.NotFoundResponseError):
            ask()
    assert manager.api_keys.get(hash=made.hash).data.name == "own"


def test_management_and_calls_need_keys_of_their_own(gateway: RunningGateway, manager: openrouter.OpenRouter) -> None:
    secret = manager.api_keys.create(name="calls").key
    for method, path in (("GET", "/keys"), ("POST", "/keys"), ("GET", "/credits"), ("GET", "/activity")):
        refused = raw(gateway, secret, method, path, {} if method == "POST" else None)
        assert refused.status_code == 403
        assert refused.json()["error"]["message"] == "Only management keys can perform this operation"
        assert raw(gateway, "sk-or-v1-" + "0" * 64, method, path).status_code == 401
    management = secret_of(gateway, ACCOUNTS[0], role="management")
    assert raw(gateway, management, "GET", "/generation?id=x").status_code == 403
    with pytest.raises(errors.ForbiddenResponseError):
        chat(gateway, management)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"), ({"name": ""}, "name"), ({"name": "a\nb"}, "name"), ({"name": "n", "limit": -1}, "limit"),
        ({"name": "n", "limit": 1e-10}, "limit"), ({"name": "n", "limit": "5"}, "limit"),
        ({"name": "n", "limit_reset": "yearly"}, "limit_reset"), ({"name": "n", "limit": 1e30}, "limit"),
        ({"name": "n", "expires_at": "2030-01-01T00:00Z"}, "expires_at"),
        ({"name": "n", "expires_at": "2030-01-01T00:00:00+02:00"}, "expires_at"),
        ({"name": "n", "expires_at": "2030-13-01T00:00:00Z"}, "expires_at"),
        ({"name": "n", "workspace_id": "acc_two"}, "workspace_id"),
        ({"name": "n", "creator_user_id": "usr_nobody"}, "creator_user_id"),
        ({"name": "n", "external": {"user": "u", "api_key": "k" * 32}}, "external.api_key"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(gateway: RunningGateway, body: dict[str, Any], field: str) -> None:
    secret = secret_of(gateway, ACCOUNTS[0], role="management")
    refused = raw(gateway, secret, "POST", "/keys", body)
    assert refused.status_code == 400, refused.text
    assert field in refused.text


def test_a_key_is_told_of_itself(gateway: RunningGateway, manager: openrouter.OpenRouter) -> None:
    made = manager.api_keys.create(name="self", limit=2, limit_reset="daily", external={"user": "customer-7"})
    assert made.data.external_user == "customer-7"
    with client_of(gateway, made.key) as client:
        own = client.api_keys.get_current_key_metadata().data
    assert (own.label, own.limit, own.limit_remaining, own.limit_reset) == (made.data.label, 2, 2, "daily")
    assert not own.is_management_key
    assert own.organization_id == ACCOUNTS[0]
    [budget] = own.budgets
    assert own.effective_budget == budget
    assert (budget.scope, budget.reset_interval, budget.remaining_usd) == ("key_limit", "daily", 2)
    assert manager.api_keys.get_current_key_metadata().data.is_management_key
    with client_of(gateway, KEY) as administrator:
        assert administrator.api_keys.get_current_key_metadata().data.limit is None


def test_what_a_provider_bills_the_caller_itself_is_told_apart(
    gateway: RunningGateway, manager: openrouter.OpenRouter
) -> None:
    made = manager.api_keys.create(name="byok", limit=1)
    chat(gateway, made.key, "mine/sim-model")
    wait_until(lambda: manager.api_keys.get(hash=made.data.hash).data.byok_usage > 0, "usage")
    found = manager.api_keys.get(hash=made.data.hash).data
    assert (found.byok_usage, found.byok_usage_monthly, found.usage) == (0.01, 0.01, 0.0005)
    assert found.limit_remaining == 0.9995


def test_a_limit_counts_what_providers_bill_the_caller_where_it_is_to(
    gateway: RunningGateway, manager: openrouter.OpenRouter
) -> None:
    made = manager.api_keys.create(name="within", limit=0.025, include_byok_in_limit=True)
    for _ in range(2):
        assert chat(gateway, made.key, "mine/sim-model").choices
    with pytest.raises(errors.PaymentRequiredResponseError):
        chat(gateway, made.key, "mine/sim-model")
    wait_until(lambda: manager.api_keys.get(hash=made.data.hash).data.limit_remaining == 0.004, "usage")
    with client_of(gateway, made.key) as client:
        [budget] = client.api_keys.get_current_key_metadata().data.budgets
    assert (budget.remaining_usd, budget.include_byok) == (0.004, True)
    manager.api_keys.update(hash=made.data.hash, include_byok_in_limit=False)
    assert manager.api_keys.get(hash=made.data.hash).data.limit_remaining == 0.024
    assert chat(gateway, made.key, "mine/sim-model").choices
    manager.api_keys.update(hash=made.data.hash, include_byok_in_limit=True)
    with pytest.raises(errors.PaymentRequiredResponseError):
        chat(gateway, made.key, "mine/sim-model")


def test_credits_are_what_was_paid_in_and_what_calls_took(gateway: RunningGateway) -> None:
    account = ACCOUNTS[1]
    with client_of(gateway, secret_of(gateway, account, role="management")) as client:
        before = client.credits.get_credits().data
        assert client.api_keys.get_current_key_metadata().data.is_free_tier
        gateway.call(
            gateway.installation.ledger.top_up(
                Movement(account_id=account, nano_usd=5_000_000_000, key="payment-1", source="test")
            )
        )
        chat(gateway, secret_of(gateway, account))
        wait_until(lambda: client.credits.get_credits().data.total_usage > before.total_usage, "usage")
        after = client.credits.get_credits().data
        assert after.total_credits - before.total_credits == 5
        assert round(after.total_usage - before.total_usage, 9) == 0.01
        assert not client.api_keys.get_current_key_metadata().data.is_free_tier


def test_the_people_of_an_organization_are_listed(
    gateway: RunningGateway, manager: openrouter.OpenRouter, stranger: openrouter.OpenRouter
) -> None:
    ids = [
        member_of(gateway, ACCOUNTS[0], "org:admin" if name == "ada" else "org:member", f"{name}@example.org")
        for name in ("ada", "bob", "cyd")
    ]
    page = manager.organization.list_members(limit=2)
    assert page is not None
    assert [(row.id, row.role) for row in page.result.data] == [(ids[0], "org:admin"), (ids[1], "org:member")]
    assert page.result.total_count == 3
    rest = page.next()
    assert rest is not None
    assert [row.email for row in rest.result.data] == ["cyd@example.org"]
    made = manager.api_keys.create(name="of ada", creator_user_id=ids[0])
    assert made.data.creator_user_id == ids[0]
    empty = stranger.organization.list_members()
    assert empty is not None
    assert empty.result.data == []
    assert raw(gateway, KEY, "GET", "/organization/members").status_code == 404


def test_coinbase_is_gone_for_everybody(gateway: RunningGateway) -> None:
    answer = httpx.post(f"{gateway.address}/api/v1/credits/coinbase", json={})
    assert answer.status_code == 410
    assert answer.json()["error"]["code"] == 410


def test_a_generation_is_found_by_the_id_of_its_answer(gateway: RunningGateway) -> None:
    secret, other = secret_of(gateway, ACCOUNTS[0]), secret_of(gateway, ACCOUNTS[1])
    answered = chat(gateway, secret)
    assert answered.id.startswith("gen-")
    with client_of(gateway, secret) as client:

        def find() -> Any:
            try:
                return client.generations.get_generation(id=answered.id).data
            except errors.NotFoundResponseError:
                return None

        found = wait_until(find, "generation")
        streamed = client.chat.send(model="sim/sim-model", messages=HELLO, stream=True)
        with streamed as chunks:
            ids = {chunk.id for chunk in chunks}
    assert len(ids) == 1
    assert ids.pop().startswith("gen-")
    assert (found.id, found.model, found.total_cost, found.is_byok) == (answered.id, "sim/sim-model", 0.01, False)
    assert (found.provider_name, found.api_type, found.streamed) == ("OpenAI", "completions", False)
    assert found.native_tokens_prompt == answered.usage.prompt_tokens
    assert found.finish_reason == "stop"
    assert found.latency >= 0
    assert found.cancelled is False
    assert len(found.provider_responses) == 1
    assert raw(gateway, other, "GET", f"/generation?id={answered.id}").status_code == 404
    assert raw(gateway, secret, "GET", f"/generation?id={answered.id.removeprefix('gen-')}").status_code == 200
    assert raw(gateway, secret, "GET", "/generation").status_code == 400


def past(number: int, day: int, now: int, **more: Any) -> RequestRecord:
    """A request of an earlier day."""
    usual: dict[str, Any] = {"target": "sim/old", "account_id": ACCOUNTS[0], "workspace_id": ACCOUNTS[0]}
    return RequestRecord(
        request_id=f"req_past{number}", created_at=now - day * DAY_US, operation="chat", route="/", dialect="d",
        connection_id="sim", provider="openai", input_tokens=10, output_tokens=5, cost_nano_usd=2_000_000,
        outcome=Outcome.SUCCESS, key_id=f"key_{number}", **{**usual, **more},
    )  # fmt: skip


def test_activity_is_summed_by_day_and_model_of_whole_days(
    gateway: RunningGateway, manager: openrouter.OpenRouter, stranger: openrouter.OpenRouter
) -> None:
    work = gateway.installation
    now = work.clock.now_us()
    records = [
        past(1, 1, now), past(2, 1, now), past(3, 2, now), past(4, 2, now, target="sim/other", workspace_id="acc_x"),
        past(5, 31, now), past(6, 0, now), past(7, 1, now, account_id="acc_other"),
        past(8, 30, now, byok=True, upstream_cost_nano_usd=40_000_000),
    ]  # fmt: skip

    async def store() -> None:
        async with work.database.write() as connection:
            await work.requests.insert_many(connection, records)
            await KeyUsageRepository(work.database).add(connection, records)
            await UsageSums(work.database).add(connection, records)

    gateway.call(store())
    day = datetime.datetime.fromtimestamp(now / 1e6, tz=datetime.UTC).date() - datetime.timedelta(days=1)
    rows = manager.analytics.get_user_activity().data
    assert [(row.model, row.requests, row.usage) for row in rows] == [
        ("sim/old", 2, 0.004), ("sim/old", 1, 0.002), ("sim/other", 1, 0.002), ("sim/old", 1, 0.002),
    ]  # fmt: skip
    assert rows[-1].byok_usage_inference == 0.04
    first = rows[0]
    assert (first.date_, first.prompt_tokens, first.completion_tokens) == (day.isoformat(), 20, 10)
    assert (first.provider_name, first.endpoint_id) == ("OpenAI", "sim/sim/old")
    assert [row.requests for row in manager.analytics.get_user_activity(request={"date": day.isoformat()}).data] == [2]
    grouped = manager.analytics.get_user_activity(request={"group_by": "workspace"}).data
    assert {row.workspace_id for row in grouped} == {ACCOUNTS[0], "acc_x"}
    assert manager.analytics.get_user_activity(request={"user_id": "usr_nobody"}).data == []
    assert stranger.analytics.get_user_activity().data == []
    secret = secret_of(gateway, ACCOUNTS[0], role="management")
    today = day + datetime.timedelta(days=1)
    for wrong in ("yesterday", "20260101", today.isoformat(), (day - datetime.timedelta(days=30)).isoformat()):
        assert raw(gateway, secret, "GET", f"/activity?date={wrong}").status_code == 400, wrong
