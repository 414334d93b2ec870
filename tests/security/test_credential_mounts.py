"""Which credential is whose, and which is none, on each base path: the whole table, with real requests."""

from collections.abc import Iterator
from typing import Any, get_args

import httpx
import pytest

from gateway import RunningGateway, running_gateway
from pointsman.identity.keys import NewKey
from pointsman.identity.users import NewUser
from pointsman.keyring import Secret
from pointsman.policy.authorization import INFERENCE, TAKEN, is_taken
from pointsman.storage.accounts import AccountRow
from pointsman.storage.keys import CredentialKind

BODY = {"model": "nobody/has-it", "messages": [{"role": "user", "content": "hello"}]}
# Each kind of credential: in whose words /v1 answers it, in whose /api/v1, and what /api's management says.
# None: the credential is none there (401). On /api keys are as good as their rights there: these have none.
TABLE: dict[str, tuple[str | None, str | None, int]] = {
    "hardcarrx": ("hardcarrx", "openrouter", 403),
    "crosscompute": ("openai", "openrouter", 403),
    "crosscompute_agent": ("openai", "openrouter", 403),
    "jwt": ("openai", None, 403),
    "openrouter": ("openrouter", "openrouter", 403),
    "omniroute": ("openai", "openai", 403),
    "omniroute_cli": (None, None, 200),
    "session": ("openai", "openai", 200),
    "plain": ("openai", "openai", 403),
    "none": (None, None, 401),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with nothing behind it."""
    with running_gateway(tmp_path_factory.mktemp("mounts"), {"limits": {}}) as started:
        yield started


@pytest.fixture(scope="module")
def presented(gateway: RunningGateway) -> dict[str, dict[str, str]]:
    """The headers of each kind."""
    work, found = gateway.installation, {"none": dict[str, str]()}

    async def make() -> None:
        agent = AccountRow(id="acc_1", kind="agent", name="a", external_id="agent-1", created_at=1, updated_at=1)
        await work.accounts.add(agent)
        more: dict[str, dict[str, Any]] = {
            "crosscompute_agent": {"account_id": "acc_1", "workspace_id": "acc_1"},
            "omniroute_cli": {"role": "management", "scopes": ("read",)},
        }
        for kind in ("plain", "openrouter", "hardcarrx", "crosscompute", "omniroute", *more):
            _, secret = await work.keys.issue(NewKey(name=kind, kind=kind, **more.get(kind, {})))  # type: ignore[arg-type]
            found[kind] = {"authorization": f"Bearer {secret.reveal()}"}
        user = await work.users.create(NewUser(email="ada@example.org", role="admin"), Secret("a password"))
        _, session = await work.users.open_session(user, 1)
        found["session"] = {"cookie": f"auth_token={session.reveal()}"}
        token, _ = work.tokens.issue(user, work.clock.now_us())
        found["jwt"] = {"authorization": f"Bearer {token.reveal()}"}
        assert await work.await_revision(await work.configuration.revision())

    gateway.call(make())
    return found


def words_of(answer: httpx.Response) -> str:
    """In whose words an error is told."""
    error = answer.json()["error"]
    if "error_type" in error.get("metadata", {}):
        return "openrouter"
    return "hardcarrx" if isinstance(error["code"], int) else "openai"


def test_the_table_names_every_kind_of_credential() -> None:
    assert set(TABLE) == {*get_args(CredentialKind), "none"}


@pytest.mark.parametrize("kind", sorted(TABLE))
def test_a_base_of_models_takes_the_credentials_of_its_column(
    gateway: RunningGateway, presented: dict[str, dict[str, str]], kind: str
) -> None:
    for base, words in zip(("/v1", "/api/v1"), TABLE[kind][:2], strict=True):
        answer = httpx.post(f"{gateway.address}{base}/chat/completions", json=BODY, headers=presented[kind], timeout=20)
        if kind == "omniroute_cli":
            assert answer.status_code == 403, "good, but for management alone"
        elif words is None:
            assert answer.status_code == 401, (base, answer.text)
        else:
            assert answer.status_code in (400, 404), (base, answer.text)
            assert words_of(answer) == words, (base, answer.text)


@pytest.mark.parametrize("kind", sorted(TABLE))
def test_management_below_api_takes_whose_rights_reach_there(
    gateway: RunningGateway, presented: dict[str, dict[str, str]], kind: str
) -> None:
    answer = httpx.get(f"{gateway.address}/api/combos", headers=presented[kind], timeout=20)
    assert answer.status_code == TABLE[kind][2], answer.text


def test_a_person_s_token_is_nobody_s_anywhere_below_the_shared_base(
    gateway: RunningGateway, presented: dict[str, dict[str, str]]
) -> None:
    for method, path in (
        ("GET", "/models"), ("GET", "/models/user"), ("GET", "/key"), ("GET", "/generation?id=x"),
        ("POST", "/responses"),
        ("POST", "/messages"), ("POST", "/embeddings"), ("GET", "/keys"),
    ):  # fmt: skip
        answer = httpx.request(method, f"{gateway.address}/api/v1{path}", headers=presented["jwt"], json={}, timeout=20)
        assert answer.status_code == 401, (path, answer.text)
    assert httpx.get(f"{gateway.address}/api/me", headers=presented["jwt"], timeout=20).status_code == 200
    assert httpx.get(f"{gateway.address}/v1/models", headers=presented["jwt"], timeout=20).status_code == 200


def test_every_base_takes_keys_so_that_calls_with_one_need_not_ask() -> None:
    for base, kinds in TAKEN:
        assert kinds | {"jwt", "omniroute_cli"} >= INFERENCE.credentials, base
    assert not is_taken(b"/api/v1/chat/completions", "jwt")
    assert is_taken(b"/v1/chat/completions", "jwt")
    assert is_taken(b"/api/keys", "jwt")
