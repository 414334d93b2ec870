"""Every management operation of OpenRouter's own SDK, parsed strictly; one that is new there is noticed here."""

import base64
import hashlib
import importlib
from collections.abc import Iterator
from typing import Any

import httpx
import openrouter
import pytest
from openrouter import errors

from gateway import KEY, RunningGateway, wait_until
from router_accounts import ACCOUNTS, chat, client_of, member_of, router_gateway, secret_of

pytestmark = pytest.mark.filterwarnings("ignore:.*DEPRECATED:DeprecationWarning")  # the SDK warns of its own fields
# Calls of models: tests/flow and tests/translation make them.
INFERENCE = {
    "chat.send", "responses.send", "embeddings.generate", "rerank.rerank", "images.generate", "tts.create_speech",
    "stt.create_transcription", "stt.create_transcription_multipart",
}  # fmt: skip
# What the contract that is served here does not have: OpenRouter's other services, whole groups of them, ...
OTHER_GROUPS = {
    "batch", "benchmarks", "byok", "classifications", "containers", "datasets", "external_users", "files",
    "observability", "private_endpoints", "scim", "system_one", "tools", "vault", "video_generation", "workspaces",
}  # fmt: skip
# ... and single operations. Presets are made here by PUT, and have no versions.
OTHERS = {
    "analytics.get_analytics_meta", "analytics.query_analytics", "o_auth.list_oauth_jwks",
    "o_auth.create_oauth_token", "generations.list_generation_content", "generations.submit_feedback",
    "images.list_models", "images.list_model_endpoints", "organization.get_settings", "organization.update_settings",
    "presets.create_presets_chat_completions", "presets.create_presets_messages", "presets.create_presets_responses",
    "presets.list_versions", "presets.get_version",
}  # fmt: skip
CALLED = {
    "analytics.get_user_activity", "api_keys.create", "api_keys.delete", "api_keys.get",
    "api_keys.get_current_key_metadata", "api_keys.list", "api_keys.update", "credits.get_credits",
    "embeddings.list_models", "endpoints.list", "endpoints.list_zdr_endpoints", "generations.get_generation",
    "guardrails.bulk_assign_keys", "guardrails.bulk_assign_members", "guardrails.bulk_unassign_keys",
    "guardrails.bulk_unassign_members", "guardrails.create", "guardrails.delete", "guardrails.get", "guardrails.list",
    "guardrails.list_guardrail_key_assignments", "guardrails.list_guardrail_member_assignments",
    "guardrails.list_key_assignments", "guardrails.list_member_assignments", "guardrails.update", "models.count",
    "models.get", "models.list", "models.list_for_user", "o_auth.create_auth_code",
    "o_auth.exchange_auth_code_for_api_key", "organization.list_members", "presets.get", "presets.list",
    "providers.list",
}  # fmt: skip


class Noting:
    """An SDK's client, or a group of it, that notes which operations are called."""

    def __init__(self, of: Any, seen: set[str], name: str = "") -> None:
        self._of, self._seen, self._name = of, seen, name

    def __getattr__(self, name: str) -> Any:
        found, path = getattr(self._of, name), f"{self._name}.{name}".removeprefix(".")
        if not callable(found):
            return Noting(found, self._seen, path)
        self._seen.add(path)
        return found


def operations(kind: Any, path: str = "") -> set[str]:
    """The operations of a class of the SDK and of the groups in it, without their twins for asyncio."""
    found = {f"{path}{name}" for name, value in vars(kind).items() if callable(value) and not _is_aside(name)}
    for name, (module, group) in getattr(kind, "_sub_sdk_map", {}).items():
        found |= operations(getattr(importlib.import_module(module), group), f"{path}{name}.")
    return found


def _is_aside(name: str) -> bool:
    return name.startswith("_") or name.endswith("_async") or name == "dynamic_import"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with router_gateway(tmp_path_factory.mktemp("sdk")) as running:
        yield running


@pytest.fixture
def seen() -> set[str]:
    return set()


@pytest.fixture
def manager(gateway: RunningGateway, seen: set[str]) -> Iterator[Any]:
    """The SDK with a management key."""
    with client_of(gateway, secret_of(gateway, ACCOUNTS[0], role="management")) as client:
        yield Noting(client, seen)


@pytest.fixture
def caller(gateway: RunningGateway, seen: set[str]) -> Iterator[Any]:
    """The SDK with a key for calls."""
    with client_of(gateway, secret_of(gateway, ACCOUNTS[0])) as client:
        yield Noting(client, seen)


def test_every_operation_of_the_sdk_is_called_or_named_as_another_service_s() -> None:
    found = operations(openrouter.OpenRouter)
    groups = {name for name in found if name.partition(".")[0] in OTHER_GROUPS}
    assert found - groups == CALLED | INFERENCE | OTHERS
    assert {name.partition(".")[0] for name in groups} == OTHER_GROUPS


def test_every_management_operation_is_answered_as_the_sdk_demands(
    gateway: RunningGateway, manager: Any, caller: Any, seen: set[str]
) -> None:
    _keys(manager)
    _guardrails(gateway, manager)
    _account(gateway, manager, caller)
    _models(gateway, caller, _programs(caller))
    assert seen >= CALLED
    assert seen <= CALLED | INFERENCE


def _keys(manager: Any) -> None:
    made = manager.api_keys.create(name="made", limit=5, limit_reset="monthly").data
    assert manager.api_keys.get(hash=made.hash).data.name == "made"
    assert made.hash in [row.hash for row in manager.api_keys.list().data]
    assert manager.api_keys.update(hash=made.hash, disabled=True).data.disabled
    assert manager.api_keys.delete(hash=made.hash).DELETED is True
    assert manager.api_keys.get_current_key_metadata().data.is_management_key


def _guardrails(gateway: RunningGateway, manager: Any) -> None:
    rules, key = manager.guardrails, manager.api_keys.create(name="bound").data
    person = member_of(gateway, ACCOUNTS[0], "org:admin", "ada@example.org")
    made = rules.create(name="rule", limit_usd=1, reset_interval="daily").data
    assert rules.get(id=made.id).data == made
    assert rules.update(id=made.id, name="other").data.name == "other"
    assert [row.id for row in rules.list().result.data] == [made.id]
    assert rules.bulk_assign_keys(id=made.id, key_hashes=[key.hash]).assigned_count == 1
    assert rules.bulk_assign_members(id=made.id, member_user_ids=[person]).assigned_count == 1
    for page in (rules.list_guardrail_key_assignments(id=made.id), rules.list_key_assignments()):
        assert [row.key_hash for row in page.result.data] == [key.hash]
    for page in (rules.list_guardrail_member_assignments(id=made.id), rules.list_member_assignments()):
        assert [row.user_id for row in page.result.data] == [person]
    assert rules.bulk_unassign_keys(id=made.id, key_hashes=[key.hash]).unassigned_count == 1
    assert rules.bulk_unassign_members(id=made.id, member_user_ids=[person]).unassigned_count == 1
    assert rules.delete(id=made.id).DELETED is True


def _account(gateway: RunningGateway, manager: Any, caller: Any) -> None:
    assert [row.email for row in manager.organization.list_members().result.data] == ["ada@example.org"]
    assert manager.credits.get_credits().data.total_credits == 0
    assert manager.analytics.get_user_activity().data == []
    answered = chat(gateway, secret_of(gateway, ACCOUNTS[0]))

    def find() -> Any:
        try:
            return caller.generations.get_generation(id=answered.id).data
        except errors.NotFoundResponseError:
            return None

    assert wait_until(find, "generation").id == answered.id


def _programs(caller: Any) -> str:
    """The key that a program got."""
    verifier = "v" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    wish = {"callback_url": "https://app.example/back", "code_challenge": challenge, "code_challenge_method": "S256"}
    code = caller.o_auth.create_auth_code(**wish).data.id
    exchange = {"code": code, "code_verifier": verifier, "code_challenge_method": "S256"}
    secret: str = caller.o_auth.exchange_auth_code_for_api_key(**exchange).key
    return secret


def _models(gateway: RunningGateway, caller: Any, secret: str) -> None:
    assert caller.models.count().data.count > 0
    listed = caller.models.list().result.data
    name = next(row.id for row in listed if "/" in row.id)
    author, _, slug = name.partition("/")
    assert caller.models.get(author=author, slug=slug).data.id == name
    assert name in [row.id for row in caller.models.list_for_user(security={"bearer": secret}).result.data]
    assert caller.endpoints.list(author=author, slug=slug).data.endpoints
    assert caller.endpoints.list_zdr_endpoints().data is not None
    assert caller.embeddings.list_models().result.data is not None
    assert caller.providers.list().data
    headers = {"authorization": f"Bearer {KEY}"}
    made = httpx.put(f"{gateway.address}/api/v1/presets/terse", json={"model": name}, headers=headers, timeout=20)
    assert made.status_code == 200
    with client_of(gateway, KEY) as client:  # presets are the installation's: administrators see them
        administrator = Noting(client, caller._seen)
        assert [row.slug for row in administrator.presets.list().result.data] == ["terse"]
        assert administrator.presets.get(slug="terse").data.name == "terse"
