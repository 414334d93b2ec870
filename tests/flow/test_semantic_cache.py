"""Questions that mean the same, through the gateway, with the embedder on this machine."""

from collections.abc import Iterator

import pytest

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.canonical.record import CacheOutcome
from pointsman.identity.keys import NewKey
from pointsman.testing import OpenAIChat, running_simulator
from raw_client import Answer, ask, chat

WISH = "x-pointsman-cache: semantic"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as simulator:
        row = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
        semantic = {"enabled": True, "timeout_seconds": 5.0}
        settings = {"connections": [row], "local": {"enabled": True}, "cache": {"semantic": semantic}}
        with running_gateway(tmp_path_factory.mktemp("gateway"), settings) as running:
            wait_until(lambda: questions(running, "Are we ready?"), "vector", 30)
            yield running


def questions(gateway: RunningGateway, text: str) -> int:
    """How many are known, once this one was asked."""
    asked(gateway, text)
    return gateway.read(lambda: len(gateway.server.gateway.cache.meanings))  # type: ignore[union-attr]


def asked(gateway: RunningGateway, text: str, *headers: str, **members: object) -> Answer:
    return ask(gateway.port, chat("", *(headers or (WISH,)), text=text, **members))  # type: ignore[arg-type]


def outcome(answer: Answer) -> str:
    return answer.headers["x-pointsman-cache"]


def test_a_question_in_other_words_gets_the_answer_of_the_first(gateway: RunningGateway) -> None:
    first = asked(gateway, "What is the meaning of HTTP status 404?")
    again = asked(gateway, "what is the meaning of the HTTP status 404")
    assert (outcome(first), outcome(again)) == ("miss", "semantic")
    assert again.text == first.text
    record = gateway.journal.the(again.request_id)
    assert (record.cache, record.cache_source) == (CacheOutcome.SEMANTIC, first.request_id)
    assert record.cost_nano_usd == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What does error 403 mean?", "What does error 404 mean?"),
        ("Which foods contain gluten?", "Which foods do not contain gluten?"),
        ("How much does Alice owe Bob?", "How much does Bob owe Alice?"),
    ],
)
def test_another_question_does_not(gateway: RunningGateway, one: str, other: str) -> None:
    assert [outcome(asked(gateway, text)) for text in (one, other)] == ["miss", "miss"]


def test_another_wish_beside_the_question_does_not(gateway: RunningGateway) -> None:
    one, other = "What is the way to sort a list?", "what is the way to sort a list"
    assert outcome(asked(gateway, one)) == "miss"
    assert outcome(asked(gateway, other, max_tokens=99)) == "miss"
    assert outcome(asked(gateway, other, temperature=0.9)) == "miss"
    assert outcome(asked(gateway, other, "x-pointsman-cache: on")) == "miss"


def test_another_tenant_does_not(gateway: RunningGateway) -> None:
    async def make() -> str:
        installation = gateway.installation
        _, secret = await installation.keys.issue(NewKey(name="another", workspace_id="ws-other"))
        assert await installation.await_revision(await installation.configuration.revision())
        return secret.reveal()

    key = gateway.call(make())
    assert outcome(asked(gateway, "What is the secret of this tenant?")) == "miss"
    assert outcome(asked(gateway, "what is the secret of this  tenant", key=key)) == "miss"
