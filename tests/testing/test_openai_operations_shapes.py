"""The official OpenAI SDK reads what the simulator of OpenAI's other operations answers."""

import base64
import json
import math
from collections.abc import Iterator

import openai
import pytest

from pointsman.testing import Behaviour, OpenAIOperations, RunningSimulator, running_simulator
from pointsman.testing.forms import parse_form

KEY = "sk-operations-0000"
WAV = ("speech.wav", b"some spoken words", "audio/wav")


@pytest.fixture(scope="module")
def upstream() -> Iterator[RunningSimulator]:
    with running_simulator(OpenAIOperations(api_key=KEY)) as running:
        yield running


@pytest.fixture(scope="module")
def client(upstream: RunningSimulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=upstream.base_url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


def test_embeddings_come_as_floats_and_as_base64_with_the_same_values(client: openai.OpenAI) -> None:
    floats = client.embeddings.create(model="sim-embed", input=["one", "two"], encoding_format="float")
    packed = client.embeddings.create(model="sim-embed", input=["one", "two"])  # the SDK asks for base64
    assert [row.embedding for row in floats.data] == [row.embedding for row in packed.data]
    assert [row.index for row in floats.data] == [0, 1]
    assert math.isclose(sum(value * value for value in floats.data[0].embedding), 1.0, rel_tol=1e-5)
    assert floats.usage.prompt_tokens == floats.usage.total_tokens == 2


def test_embeddings_take_token_arrays_and_dimensions(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="text-embedding-3-small", input=[[1, 2], [3]], dimensions=8)
    assert [len(row.embedding) for row in answer.data] == [8, 8]


@pytest.mark.parametrize(
    ("extra", "param"),
    [({"input": ""}, None), ({"input": []}, None), ({"dimensions": 0}, "dimensions"), ({"nonsense": 1}, "nonsense")],
)
def test_wrong_embedding_requests_are_refused(client: openai.OpenAI, extra: dict[str, object], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="sim-embed", input="text", extra_body=extra)
    assert refused.value.param == param


def test_ada_has_fixed_dimensions(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="does not support specifying dimensions"):
        client.embeddings.create(model="text-embedding-ada-002", input="text", dimensions=8)


def test_a_wrong_key_is_refused(upstream: RunningSimulator) -> None:
    with (
        openai.OpenAI(base_url=upstream.base_url, api_key="sk-wrong-key-0000", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.embeddings.create(model="sim-embed", input="text")


def test_moderations_flag_words(client: openai.OpenAI) -> None:
    answer = client.moderations.create(input=["I will kill you", "hello"])
    assert [result.flagged for result in answer.results] == [True, False]
    assert answer.results[0].categories.violence
    assert answer.model == "omni-moderation-latest"


def test_moderations_take_pictures(client: openai.OpenAI) -> None:
    parts = [
        {"type": "text", "text": "fine"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]
    [result] = client.moderations.create(model="omni-moderation-latest", input=parts).results  # type: ignore[arg-type]
    assert result.category_applied_input_types.violence == ["text", "image"]


def test_images_come_whole_and_streamed_alike(client: openai.OpenAI) -> None:
    whole = client.images.generate(model="gpt-image-2", prompt="a cat", n=1)
    events = list(client.images.generate(model="gpt-image-2", prompt="a cat", stream=True, partial_images=2))
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert whole.data is not None
    assert events[-1].b64_json == whole.data[0].b64_json
    assert base64.b64decode(events[-1].b64_json).startswith(b"\x89PNG")
    assert whole.usage is not None
    assert whole.usage.output_tokens == events[-1].usage.output_tokens  # type: ignore[union-attr]


def test_images_are_edited_from_several_files(client: openai.OpenAI) -> None:
    files = [("one.png", b"\x89PNG one", "image/png"), ("two.png", b"\x89PNG two", "image/png")]
    answer = client.images.edit(model="gpt-image-2", image=files, prompt="join them", n=2)
    assert answer.data is not None
    assert len(answer.data) == 2
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == 600


def test_an_image_of_a_wrong_type_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="unsupported mimetype"):
        client.images.edit(model="gpt-image-2", image=("a.txt", b"text", "text/plain"), prompt="x")


def test_gpt_images_refuse_response_format(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(model="gpt-image-2", prompt="x", response_format="url")
    assert refused.value.param == "response_format"


def test_speech_is_binary_and_streamed(client: openai.OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input="hello") as answer:
        assert answer.headers["content-type"] == "audio/mpeg"
        assert len(b"".join(answer.iter_bytes())) == 5 * 2400


def test_a_wav_has_its_header(client: openai.OpenAI) -> None:
    sound = client.audio.speech.create(model="tts-1", voice="alloy", input="hello", response_format="wav").content
    assert (sound[:4], sound[8:12], len(sound)) == (b"RIFF", b"WAVE", 44 + 5 * 2400)


def test_speech_events_hold_the_same_sound(client: openai.OpenAI) -> None:
    binary = client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="hi", response_format="pcm")
    events = client.audio.speech.create(
        model="gpt-4o-mini-tts", voice="alloy", input="hi", response_format="pcm", stream_format="sse"
    )
    lines = [line[6:] for line in events.text.splitlines() if line.startswith("data: ")]
    parts = [json.loads(line) for line in lines]
    assert b"".join(base64.b64decode(part["audio"]) for part in parts[:-1]) == binary.content
    assert parts[-1]["usage"]["total_tokens"] == 21


def test_a_transcript_comes_in_every_form(client: openai.OpenAI) -> None:
    plain = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=WAV)
    assert plain.text == "heard: some spoken words"
    assert plain.usage is not None
    assert plain.usage.type == "tokens"
    assert client.audio.transcriptions.create(model="whisper-1", file=WAV, response_format="text").strip() == plain.text
    assert "-->" in client.audio.transcriptions.create(model="whisper-1", file=WAV, response_format="srt")
    verbose = client.audio.transcriptions.create(model="whisper-1", file=WAV, response_format="verbose_json")
    assert verbose.segments is not None
    assert verbose.segments[0].text == plain.text


def test_a_streamed_transcript_adds_up(client: openai.OpenAI) -> None:
    events = list(client.audio.transcriptions.create(model="gpt-4o-transcribe", file=WAV, stream=True))
    text = "".join(event.delta for event in events if event.type == "transcript.text.delta")
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == text == "heard: some spoken words"
    assert events[-1].usage is not None


def test_binary_files_arrive_byte_for_byte(client: openai.OpenAI, upstream: RunningSimulator) -> None:
    content = bytes(range(256)) * 3 + b"\r\n--\r\n\r\r\n\n"
    client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.mp3", content, "audio/mpeg"))
    received = upstream.requests[-1]
    form = parse_form(received.header("content-type") or "", received.body)
    assert form is not None
    assert form.files("file")[0].content == content


@pytest.mark.filterwarnings("ignore:deprecated")
def test_a_translation_is_english(client: openai.OpenAI) -> None:
    answer = client.audio.translations.create(model="whisper-1", file=WAV)
    assert answer.text == "in English: some spoken words"


def test_transcripts_refuse_a_missing_model_and_odd_files(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="model"):
        client.audio.transcriptions.create(model="", file=WAV)
    with pytest.raises(openai.BadRequestError, match="Invalid file format"):
        client.audio.transcriptions.create(model="whisper-1", file=("a.txt", b"x"))


def test_faults_have_openai_shapes(upstream: RunningSimulator) -> None:
    with (
        openai.OpenAI(base_url=upstream.base_url, api_key=KEY, max_retries=0) as client,
        pytest.raises(openai.RateLimitError) as refused,
    ):
        client.embeddings.create(model="sim#fault=rate_limit,retry_after=3", input="x")
    assert refused.value.response.headers["retry-after"] == "3"


def test_usage_can_be_left_out() -> None:
    with (
        running_simulator(OpenAIOperations(), Behaviour(usage="none")) as running,
        openai.OpenAI(base_url=running.base_url, api_key="x", max_retries=0) as client,
    ):
        assert client.embeddings.create(model="sim", input="x").usage is None
        assert client.chat.completions.create(model="sim", messages=[{"role": "user", "content": "x"}]).usage is None
