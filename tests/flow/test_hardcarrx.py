"""Hardcarrx's clients: a key for one request, which leaves nothing behind; quotas, refusals, the cache, their logs."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.canonical.limits import Limits
from pointsman.canonical.windows import Window
from pointsman.identity.keys import NewKey
from pointsman.keyring import Secret
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator

OWN_KEY = "sk-CaNaRy0wn-0123456789abcdefghij"
WRONG_KEY = "sk-CaNaRyWrong-0123456789abcdefgh"
CHAT = "/v1/chat/completions"


class Place:
    """A gateway with two upstreams: ``sim``, whose credential is stored, and ``other``, where a wrong one is."""

    def __init__(self, gateway: RunningGateway, other: RunningSimulator, key: str) -> None:
        self.gateway = gateway
        self.other = other
        self.http = httpx.Client(base_url=gateway.address, timeout=20, headers={"authorization": f"Bearer {key}"})

    def key(self, **fields: Any) -> str:
        """A key of Hardcarrx's kind."""
        work = self.gateway.installation
        row, secret = self.gateway.call(work.keys.issue(NewKey(name="one", kind="hardcarrx", **fields)))
        assert self.gateway.call(work.await_revision(row.revision))
        return secret.reveal()

    def chat(self, *, headers: dict[str, str] | None = None, **members: Any) -> httpx.Response:
        """A call; its provider is ``other`` unless said otherwise."""
        messages = [{"role": "user", "content": "hello"}]
        body = {"provider": "other", "model": "sim-model", "messages": messages, **members}
        return self.http.post(CHAT, json=body, headers=headers)

    def logs(self, request_id: str) -> dict[str, Any]:
        """What the logs tell of a request, once it is there."""

        def find() -> dict[str, Any] | None:
            answer = self.http.get("/v1/request-logs", params={"limit": 100})
            assert answer.status_code == 200, answer.text
            rows = answer.json()["logs"]
            return next((row for row in rows if row["request_id"] == request_id), None)

        return wait_until(find, "row")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with (
        running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, strict=False)) as upstream,
        running_simulator(OpenAIChat(api_key=OWN_KEY, strict=False)) as other,
    ):
        rows = [
            {"id": "sim", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY},
            {"id": "other", "kind": "openai-compatible", "base_url": other.base_url, "api_key": "sk-stored-and-wrong",
             "headers": {"x-account": "ours-alone"}, "requests_per_minute": 1, "provider": "acme"},
        ]  # fmt: skip
        settings = {"connections": rows, "cache": {"mode": "on"}}
        with running_gateway(tmp_path_factory.mktemp("hardcarrx"), settings) as gateway:
            made = Place(gateway, other, KEY)
            made.http.headers["authorization"] = f"Bearer {made.key()}"
            with made.http:
                yield made


@pytest.fixture(autouse=True)
def _fresh(place: Place) -> None:
    place.other.log.clear()


def error_of(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]
    assert found["code"] == answer.status_code
    return found


def test_the_request_s_own_key_is_sent_and_nothing_of_the_stored_account(place: Place) -> None:
    for stream in (False, True, False):  # more often than the stored account may be called in a minute
        answer = place.chat(provider_key=OWN_KEY, stream=stream)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-hardcarrx"] == "route=acme:sim-model; cache=bypass; mem=skipped"
        assert answer.headers["x-cache-status"] == "BYPASS"
    for sent in place.other.log.requests:
        assert sent.header("authorization") == f"Bearer {OWN_KEY}"
        assert sent.header("x-account") is None
        assert not {"provider", "provider_key"} & set(json.loads(sent.body))
    row = place.logs(answer.headers["x-request-id"])
    assert {name: row[name] for name in ("status", "provider", "model", "cache_state", "memory_state", "route")} == {
        "status": "SUCCESS", "provider": "acme", "model": "sim-model", "cache_state": "BYPASS",
        "memory_state": "SKIPPED", "route": CHAT,
    }  # fmt: skip
    record = place.gateway.journal.the(answer.headers["x-request-id"])
    assert record.byok
    assert record.target is None


def test_a_key_that_the_provider_refuses_is_the_caller_s_mistake_and_held_against_nobody(place: Place) -> None:
    for stream in (False, True):
        answer = place.chat(provider_key=WRONG_KEY, stream=stream)
        assert answer.status_code == 400
        assert error_of(answer)["param"] == "provider_key"
        assert WRONG_KEY[:12] not in answer.text
    assert place.gateway.read(lambda: place.gateway.server.health.views(0)) == []
    assert place.chat(provider_key=OWN_KEY).status_code == 200


def test_an_upstream_s_fault_is_told_once_and_nobody_else_is_asked(place: Place) -> None:
    answer = place.chat(provider_key=OWN_KEY, model="sim-model#fault=http_500")
    assert answer.status_code == 500
    assert error_of(answer)["message"]
    assert len(place.other.log.requests) == 1
    assert place.gateway.read(lambda: place.gateway.server.health.views(0)) == []


def test_the_same_idempotency_key_asks_twice_and_no_answer_is_kept(place: Place) -> None:
    headers = {"idempotency-key": "one and the same"}
    told = [place.chat(provider_key=OWN_KEY, headers=headers, temperature=0) for _ in range(2)]
    assert [answer.status_code for answer in told] == [200, 200]
    assert len(place.other.log.requests) == 2
    assert all("x-pointsman-replay-of" not in answer.headers for answer in told)


@pytest.mark.parametrize("value", ["", "two words", "line\r\nbreak", "schlüssel", "x" * 4097, 5, True, ["a"], {}])
def test_what_can_be_no_key_is_refused_by_name_and_never_repeated(place: Place, value: Any) -> None:
    answer = place.chat(provider_key=value)
    assert answer.status_code == 400
    assert error_of(answer)["param"] == "provider_key"
    assert place.other.log.total == 0


def test_a_key_is_taken_nowhere_else(place: Place) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    said = [{"role": "user", "content": "hi"}]
    for path, body in (
        (CHAT, {"model": "other/sim-model", "messages": said}),
        (CHAT, {"model": "other/sim-model", "messages": said, "provider": {"only": ["other"]}}),
        ("/openrouter/api/v1/chat/completions", {"model": "other/sim-model", "messages": said, "provider": "other"}),
        ("/v1/messages", {"model": "other/sim-model", "messages": said, "max_tokens": 5}),
        ("/v1/messages/count_tokens", {"model": "other/sim-model", "messages": said}),
        ("/v1/responses", {"model": "other/sim-model", "input": "hi", "background": True}),
        ("/v1/embeddings", {"model": "other/sim-model", "input": "hi"}),
    ):
        answer = place.http.post(path, json={**body, "provider_key": WRONG_KEY}, headers=headers)
        assert answer.status_code == 400, (path, answer.text)
        assert "provider_key" in answer.text
        assert WRONG_KEY not in answer.text
    assert place.other.log.total == 0


def test_a_neutral_key_s_request_that_names_a_provider_may_bring_one(place: Place) -> None:
    answer = place.chat(provider_key=OWN_KEY, headers={"authorization": f"Bearer {KEY}"})
    assert answer.status_code == 200, answer.text
    assert place.other.log.requests[0].header("authorization") == f"Bearer {OWN_KEY}"


def test_a_vendor_s_key_goes_to_no_address_but_its_own(place: Place) -> None:
    answer = place.chat(provider="openai", provider_key=OWN_KEY)
    assert answer.status_code == 400
    assert "another address" in error_of(answer)["message"]
    assert place.chat(provider="local", provider_key=OWN_KEY).status_code == 400
    assert place.chat(provider="nobody", provider_key=OWN_KEY).status_code == 400


def test_a_provider_without_a_stored_credential_is_named(place: Place) -> None:
    answer = place.chat(provider="mistral", model="mistral-small-latest")
    assert answer.status_code == 400
    assert "'mistral'" in error_of(answer)["message"]
    assert error_of(answer)["param"] == "provider"


def test_a_restricted_key_reaches_no_further_with_a_provider_s_key(place: Place) -> None:
    for settings in ({"allowedModels": ["gpt-*"]}, {"allowedConnections": ["sim"]}, {"allowedEndpoints": ["rerank"]}):
        headers = {"authorization": f"Bearer {place.key(settings=settings)}"}
        assert place.chat(provider_key=OWN_KEY, headers=headers).status_code == 401, settings
    assert place.other.log.total == 0


def test_no_word_of_a_provider_s_key_is_left_anywhere(place: Place) -> None:
    escaped = json.dumps({"provider": "other", "model": "sim-model", "messages": [{"role": "user", "content": "hi"}]})
    spelt = escaped[:-1] + f', "provider\\u005fkey": "{OWN_KEY}"' + "}"
    seen = [place.http.post(CHAT, content=spelt), place.http.post(CHAT, content=spelt[:-1])]
    seen += [place.chat(provider_key=key, stream=stream) for key in (OWN_KEY, WRONG_KEY) for stream in (False, True)]
    seen += [place.chat(provider_key=OWN_KEY, headers={"x-pointsman-explain": "1", "idempotency-key": "k"})]
    seen += [place.chat(provider_key=OWN_KEY, model="sim-model#fault=cut_mid_stream", stream=True)]
    assert [answer.status_code for answer in seen[:3]] == [200, 400, 200]
    place.logs(seen[-1].headers["x-request-id"])
    admin = {"authorization": f"Bearer {KEY}"}
    seen += [place.http.get(path, headers=admin) for path in ("/metrics", "/api/cache/stats", "/v1/request-logs")]
    texts = [answer.text + str(answer.headers) for answer in seen]
    texts.append(place.gateway.log_text())
    files = [path.read_bytes() for path in place.gateway.data_dir.rglob("*") if path.is_file()]
    for canary in (OWN_KEY, WRONG_KEY):
        assert not any(canary in text for text in texts)
        assert not any(canary.encode() in data for data in files)
    assert any(b"sim-model" in data for data in files)  # they hold something


# quotas, limits, the cache, the logs


def test_a_quota_that_is_used_up_is_402_and_a_limit_429_with_a_time(place: Place) -> None:
    work = place.gateway.installation
    row, secret = place.gateway.call(work.keys.issue(NewKey(name="poor", kind="hardcarrx")))
    _, revision = place.gateway.call(work.budgets.set("key", row.id, 0, Window()))
    assert place.gateway.call(work.await_revision(revision))
    poor = place.chat(provider="sim", model="gpt-4.1-mini", headers={"authorization": f"Bearer {secret.reveal()}"})
    assert poor.status_code == 402
    assert set(error_of(poor)) >= {"code", "message"}
    assert place.logs(poor.headers["x-request-id"])["status"] == "QUOTA_EXCEEDED"
    slow = {"authorization": f"Bearer {place.key(limits=Limits(requests_per_minute=1))}"}
    answers = [place.chat(provider="sim", headers=slow, seed=number) for number in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert error_of(answers[1])["code"] == 429
    assert int(answers[1].headers["retry-after"]) >= 1
    assert place.logs(answers[1].headers["x-request-id"])["status"] == "RATE_LIMITED"


def test_every_refusal_has_a_status_of_the_contract_and_is_logged(place: Place) -> None:
    wrong = {"authorization": "Bearer hmpk_" + "0" * 40}
    assert error_of(place.chat(headers=wrong))["code"] == 401
    failed = place.chat(provider="other")  # the stored credential is wrong
    assert (failed.status_code, error_of(failed)["code"]) == (500, 500)
    assert place.logs(failed.headers["x-request-id"])["status"] == "ERROR"
    for members in ({"messages": []}, {"temperature": 2.5}, {"max_tokens": 0}, {"provider": 5}, {"model": ""}):
        answer = place.chat(**members)
        assert (answer.status_code, error_of(answer)["code"]) == (400, 400), members
    place.gateway.call(_reset(place))


def test_a_client_that_goes_away_is_logged_as_such(place: Place) -> None:
    messages = [{"role": "user", "content": "hello"}]
    body = {"provider": "sim", "model": "sim-model#fault=stall", "messages": messages, "stream": True, "cache": False}
    with place.http.stream("POST", CHAT, json=body) as answer:
        assert answer.status_code == 200
        next(answer.iter_bytes())
    assert place.logs(answer.headers["x-request-id"])["status"] == "CANCELLED"


async def _reset(place: Place) -> None:
    place.gateway.server.health.reset(0)


def test_the_cache_is_told_in_the_header_and_in_the_log(place: Place) -> None:
    body: dict[str, Any] = {"provider": "sim", "temperature": 0, "seed": 11}
    told = [place.chat(**body), place.chat(**body), place.chat(**body, cache=False), place.chat(**body, no_cache=True)]
    assert [answer.headers["x-cache-status"] for answer in told] == ["MISS", "HIT", "BYPASS", "BYPASS"]
    words = ["miss", "exact", "bypass", "bypass"]
    assert [answer.headers["x-hardcarrx"] for answer in told] == [
        f"route=openai:sim-model; cache={word}; mem=skipped" for word in words
    ]
    states = [place.logs(answer.headers["x-request-id"])["cache_state"] for answer in told]
    assert states == ["MISS", "HIT", "BYPASS", "BYPASS"]
    streamed = place.chat(**body, stream=True)
    assert streamed.headers["x-cache-status"] == "HIT"
    assert streamed.text.endswith("data: [DONE]\n\n")
    other = {"authorization": f"Bearer {place.key(workspace_id='another')}"}
    assert place.chat(**body, headers=other).headers["x-cache-status"] == "MISS"


def test_both_headers_take_the_key_and_both_prefixes_count(place: Place) -> None:
    secret = "hxv_" + "a1B2" * 10
    place.gateway.call(place.gateway.installation.keys.create("old", "inference", Secret(secret)))
    revision = place.gateway.call(place.gateway.installation.configuration.revision())
    place.gateway.call(place.gateway.installation.await_revision(revision))
    messages = [{"role": "user", "content": "hello"}]
    body = {"provider": "sim", "model": "sim-model", "messages": messages}
    for headers in ({"x-api-key": secret}, {"authorization": f"Bearer {secret}"}):
        answer = httpx.post(place.gateway.address + CHAT, json=body, headers=headers, timeout=20)
        assert answer.status_code == 200, answer.text
        assert "x-hardcarrx" in answer.headers
