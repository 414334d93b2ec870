"""Embeddings, pictures, sound, moderations and rankings through the gateway, judged by the official SDKs."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import cohere
import ollama
import openai
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import (
    Api,
    CohereRetrieval,
    GeminiEmbeddings,
    JinaRetrieval,
    MistralEmbeddings,
    Ollama,
    OpenAIOperations,
    RunningSimulator,
    VoyageRetrieval,
    running_simulator,
)

WAV = ("speech.wav", b"some spoken words", "audio/wav")
UPSTREAMS: dict[str, tuple[Api, str]] = {
    "openai": (OpenAIOperations(api_key=UPSTREAM_KEY), "/v1"),
    "cohere": (CohereRetrieval(api_key=UPSTREAM_KEY), ""),
    "voyage": (VoyageRetrieval(api_key=UPSTREAM_KEY), "/v1"),
    "jina": (JinaRetrieval(api_key=UPSTREAM_KEY), "/v1"),
    "mistral": (MistralEmbeddings(api_key=UPSTREAM_KEY), "/v1"),
    "gemini": (GeminiEmbeddings(api_key=UPSTREAM_KEY), ""),
    "ollama": (Ollama(api_key=UPSTREAM_KEY), ""),
}
KINDS = {"openai": "openai-compatible"}


@pytest.fixture(scope="module")
def simulators() -> Iterator[dict[str, RunningSimulator]]:
    managers = {name: running_simulator(api) for name, (api, _) in UPSTREAMS.items()}
    running = {name: manager.__enter__() for name, manager in managers.items()}
    yield running
    for manager in managers.values():
        manager.__exit__(None, None, None)


@pytest.fixture(scope="module")
def gateway(
    simulators: dict[str, RunningSimulator], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """A gateway with one connection per upstream."""
    connections = [
        {
            "id": name,
            "kind": KINDS.get(name, name),
            "base_url": simulators[name].origin + UPSTREAMS[name][1],
            "api_key": UPSTREAM_KEY,
        }
        for name in UPSTREAMS
    ]
    with running_gateway(tmp_path_factory.mktemp("gateway"), {"connections": connections}) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.address}/v1", api_key=KEY, max_retries=0, timeout=10) as client:
        yield client


def post(gateway: RunningGateway, path: str, body: object, **headers: str) -> tuple[int, Any, dict[str, str]]:
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    try:
        connection.request("POST", path, json.dumps(body), {"authorization": f"Bearer {KEY}", **headers})
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, json.loads(answer.read()), told
    finally:
        connection.close()


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_come_from_every_format(
    client: openai.OpenAI, gateway: RunningGateway, upstream: str, encoding: Any
) -> None:
    raw = client.embeddings.with_raw_response.create(
        model=f"{upstream}/sim-embed", input=["one", "two words"], encoding_format=encoding
    )
    answer = raw.parse()
    assert [row.index for row in answer.data] == [0, 1]
    assert all(row.embedding for row in answer.data)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 4
    record = gateway.journal.the(raw.headers["x-request-id"])
    assert (record.operation, record.input_tokens, record.output_tokens) == ("embeddings", 4, 0)
    assert (record.connection_id, record.status, record.usage_estimated) == (upstream, 200, False)


@pytest.mark.parametrize("upstream", ["openai", "jina", "mistral", "gemini", "ollama"])
def test_dimensions_are_carried(client: openai.OpenAI, upstream: str) -> None:
    answer = client.embeddings.create(model=f"{upstream}/sim-embed", input="one", dimensions=32)
    assert len(answer.data[0].embedding) == 32


def test_more_inputs_than_one_call_takes_go_in_several(
    client: openai.OpenAI, gateway: RunningGateway, simulators: dict[str, RunningSimulator]
) -> None:
    simulators["gemini"].log.clear()
    texts = [f"text {number}" for number in range(250)]
    raw = client.embeddings.with_raw_response.create(model="gemini/sim-embed", input=texts, dimensions=8)
    answer = raw.parse()
    assert [row.index for row in answer.data] == list(range(250))
    assert len(simulators["gemini"].requests) == 3
    single = client.embeddings.create(model="gemini/sim-embed", input=texts[207], dimensions=8)
    assert answer.data[207].embedding == single.data[0].embedding
    assert gateway.journal.the(raw.headers["x-request-id"]).input_tokens == answer.usage.prompt_tokens


def test_what_a_format_lacks_is_told_or_refused(gateway: RunningGateway) -> None:
    body = {"model": "cohere/sim-embed", "input": "x", "user": "me"}
    status, _, headers = post(gateway, "/v1/embeddings", body)
    assert status == 200
    assert headers["x-pointsman-fidelity"] == "synthesised=1; dropped=1; fields=user"
    status, answer, _ = post(gateway, "/v1/embeddings", body, **{"x-pointsman-strict": "1"})
    assert (status, answer["error"]["param"]) == (400, "user")


def test_an_openai_upstream_gets_the_body_as_it_came(
    gateway: RunningGateway, simulators: dict[str, RunningSimulator]
) -> None:
    body = {"model": "openai/sim-embed", "input": ["a", "b"], "user": "me"}
    status, _, headers = post(gateway, "/api/v1/embeddings", body)
    assert status == 200
    assert "x-pointsman-fidelity" not in headers
    assert json.loads(simulators["openai"].requests[-1].body) == body | {"model": "sim-embed"}


@pytest.mark.parametrize("upstream", ["cohere", "voyage", "jina"])
def test_rankings_come_from_every_format(gateway: RunningGateway, upstream: str) -> None:
    documents = ["bananas are yellow", "the capital of France is Paris", "Paris is a city in France"]
    body = {"model": f"{upstream}/sim-rerank", "query": "capital of France", "documents": documents, "top_n": 2}
    status, answer, headers = post(gateway, "/v1/rerank", body)
    assert status == 200
    assert [row["index"] for row in answer["results"]] == [1, 2]
    assert answer["results"][0]["document"] == {"text": documents[1]}
    assert gateway.journal.the(headers["x-request-id"]).operation == "rerank"


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_refused_account_is_the_operators_business(gateway: RunningGateway, upstream: str) -> None:
    model = f"{upstream}/sim#fault=unauthorized"
    status, answer, _ = post(gateway, "/v1/embeddings", {"model": model, "input": "x"})
    assert (status, answer["error"]["code"]) == (502, "upstream_rejected")


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_rate_limits_and_mistakes_of_upstreams_have_openai_shapes(client: openai.OpenAI, upstream: str) -> None:
    with pytest.raises(openai.RateLimitError) as limited:
        client.embeddings.create(model=f"{upstream}/sim#fault=rate_limit,retry_after=2", input="x")
    assert limited.value.response.headers["retry-after"] == "2"
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=f"{upstream}/sim#fault=bad_request", input="x")
    with pytest.raises(openai.InternalServerError):
        client.embeddings.create(model=f"{upstream}/sim#fault=cut_mid_stream", input="x")


def test_a_connection_without_the_operation_says_so(gateway: RunningGateway) -> None:
    status, answer, _ = post(gateway, "/v1/moderations", {"model": "cohere/x", "input": "x"})
    assert (status, answer["error"]["code"]) == (400, "unsupported")
    body = {"model": "voyage/x", "messages": [{"role": "user", "content": "x"}]}
    status, answer, _ = post(gateway, "/v1/chat/completions", body)
    assert (status, answer["error"]["code"]) == (400, "unsupported")


def test_the_path_may_name_the_connection(gateway: RunningGateway) -> None:
    status, answer, _ = post(gateway, "/api/v1/providers/mistral/embeddings", {"model": "sim-embed", "input": "x"})
    assert (status, answer["model"]) == (200, "sim-embed")
    status, answer, _ = post(gateway, "/api/v1/providers/nobody/embeddings", {"model": "sim-embed", "input": "x"})
    assert (status, answer["error"]["param"]) == (400, "provider")


def test_pictures_come_whole_and_streamed(client: openai.OpenAI, gateway: RunningGateway) -> None:
    raw = client.images.with_raw_response.generate(model="openai/gpt-image-2", prompt="a cat")
    whole = raw.parse()
    assert whole.data is not None
    record = gateway.journal.the(raw.headers["x-request-id"])
    assert (record.operation, record.output_tokens, record.cost_nano_usd) == ("images.generations", 1056, None)
    events = list(client.images.generate(model="openai/gpt-image-2", prompt="a cat", stream=True, partial_images=1))
    assert events[-1].type == "image_generation.completed"
    assert events[-1].b64_json == whole.data[0].b64_json


def test_pictures_are_edited(client: openai.OpenAI, simulators: dict[str, RunningSimulator]) -> None:
    content = bytes(range(256))
    answer = client.images.edit(
        model="openai/gpt-image-2", image=[("a.png", content, "image/png")] * 2, prompt="join", n=2
    )
    assert answer.data is not None
    assert len(answer.data) == 2
    assert simulators["openai"].requests[-1].body.count(content) == 2


def test_a_stream_of_pictures_that_breaks_off_ends_in_an_error(client: openai.OpenAI, gateway: RunningGateway) -> None:
    with pytest.raises(openai.APIError):
        list(
            client.images.generate(
                model="openai/gpt-image-2#fault=missing_terminator", prompt="a", stream=True, partial_images=2
            )
        )


def test_sound_is_streamed_as_it_comes(client: openai.OpenAI, gateway: RunningGateway) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="openai/tts-1", voice="alloy", input="hello"
    ) as answer:
        assert answer.headers["content-type"] == "audio/mpeg"
        sound = b"".join(answer.iter_bytes())
        request_id = answer.headers["x-request-id"]
    assert len(sound) == 5 * 2400
    record = gateway.journal.the(request_id)
    assert (record.operation, record.status, record.bytes_out) == ("audio.speech", 200, 5 * 2400)
    assert (record.usage_estimated, record.cost_nano_usd) == (True, None)


def test_sound_that_breaks_off_breaks_the_connection(client: openai.OpenAI, gateway: RunningGateway) -> None:
    with (
        pytest.raises(Exception, match=r"incomplete|closed"),
        client.audio.speech.with_streaming_response.create(
            model="openai/tts-1#fault=cut_mid_stream", voice="alloy", input="hello"
        ) as answer,
    ):
        b"".join(answer.iter_bytes())


def test_speech_events_end_with_their_usage(client: openai.OpenAI, gateway: RunningGateway) -> None:
    answer = client.audio.speech.create(model="openai/gpt-4o-mini-tts", voice="alloy", input="hi", stream_format="sse")
    assert answer.text.rstrip().endswith('"usage":{"input_tokens":1,"output_tokens":20,"total_tokens":21}}')
    record = gateway.journal.the(answer.response.headers["x-request-id"])
    assert (record.input_tokens, record.output_tokens, record.usage_estimated) == (1, 20, False)


def test_transcripts_come_in_every_form(client: openai.OpenAI, gateway: RunningGateway) -> None:
    raw = client.audio.transcriptions.with_raw_response.create(model="openai/gpt-4o-transcribe", file=WAV)
    assert raw.parse().text == "heard: some spoken words"
    record = gateway.journal.the(raw.headers["x-request-id"])
    assert (record.input_tokens, record.usage_estimated, record.response_model) == (10, False, None)
    text = client.audio.transcriptions.create(model="openai/whisper-1", file=WAV, response_format="srt")
    assert "-->" in text
    events = list(client.audio.transcriptions.create(model="openai/gpt-4o-transcribe", file=WAV, stream=True))
    assert events[-1].type == "transcript.text.done"


@pytest.mark.filterwarnings("ignore:deprecated")
def test_translations_pass(client: openai.OpenAI) -> None:
    answer = client.audio.translations.create(model="openai/whisper-1", file=WAV)
    assert answer.text == "in English: some spoken words"


def test_a_large_recording_is_no_million_tokens(client: openai.OpenAI, gateway: RunningGateway) -> None:
    sound = ("a.mp3", b"\x00" * 3_000_000, "audio/mpeg")
    raw = client.audio.transcriptions.with_raw_response.create(model="openai/whisper-1", file=sound)
    record = gateway.journal.the(raw.headers["x-request-id"])
    assert (record.input_tokens, record.usage_estimated, record.cost_nano_usd) == (1000, True, None)


def test_moderations_pass(client: openai.OpenAI) -> None:
    answer = client.moderations.create(model="openai/omni-moderation-latest", input=["I will kill you", "hello"])
    assert [result.flagged for result in answer.results] == [True, False]


def test_mistakes_are_told_before_any_upstream_is_called(
    gateway: RunningGateway, simulators: dict[str, RunningSimulator]
) -> None:
    simulators["openai"].log.clear()
    for path, body, param in (
        ("/v1/embeddings", {"model": "openai/x"}, "input"),
        ("/v1/images/generations", {"model": "openai/x"}, "prompt"),
        ("/v1/audio/transcriptions", {}, "content-type"),
        ("/v1/rerank", {"model": "openai/x", "query": "q"}, "documents"),
    ):
        status, answer, _ = post(gateway, path, body)
        assert (status, answer["error"]["param"]) == (400, param)
    assert simulators["openai"].requests == ()


def test_a_stranger_gets_nothing(gateway: RunningGateway) -> None:
    with (
        openai.OpenAI(base_url=f"{gateway.address}/v1", api_key="sk-pm-wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.embeddings.create(model="openai/x", input="x")


@pytest.mark.parametrize("upstream", ["openai", "ollama", "cohere"])
def test_the_ollama_sdk_gets_its_own_shape(gateway: RunningGateway, upstream: str) -> None:
    client = ollama.Client(host=gateway.address, headers={"authorization": f"Bearer {KEY}"})
    try:
        answer = client.embed(model=f"{upstream}/sim-embed", input=["one", "two"], keep_alive="5m")
        assert len(answer.embeddings) == 2
        assert answer.prompt_eval_count == 2
    finally:
        client._client.close()


def test_the_cohere_sdk_reads_a_ranking(gateway: RunningGateway) -> None:
    """Its address is Cohere's v1: the answers of all services have the members that it reads."""
    _, answer, _ = post(gateway, "/v1/rerank", {"model": "voyage/x", "query": "a", "documents": ["b a", "c"]})
    read = cohere.V2RerankResponse(**answer)
    assert [row.index for row in read.results] == [0, 1]
    assert read.meta is not None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": "x"}),
        ("/v1/images/generations", {"prompt": "x"}),
        ("/v1/moderations", {"input": "x"}),
    ],
)
@pytest.mark.parametrize("fault", ["html", "malformed_json", "error_event", "reset"])
def test_what_is_no_answer_is_the_upstreams_error(
    gateway: RunningGateway, path: str, body: dict[str, str], fault: str
) -> None:
    status, answer, headers = post(gateway, path, {"model": f"openai/sim#fault={fault}", **body})
    assert (status, answer["error"]["type"]) == (502, "upstream_error")
    [record] = gateway.journal.of(headers["x-request-id"])
    assert (record.status, record.outcome) == (502, "error")
