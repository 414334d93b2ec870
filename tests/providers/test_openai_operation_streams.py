"""Streams of pictures, sound and transcripts on their way through: whole events, usage, and the truth about the end."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.dialects import openai_media
from pointsman.errors import GatewayError, Kind
from pointsman.providers.openai_operations import MEDIA, EventWatcher

TRANSCRIPT = (
    b'data: {"type":"transcript.text.delta","delta":"a"}\n\n'
    b'data: {"type":"transcript.text.delta","delta":" b"}\r\n\r\n'
    b'data: {"type":"transcript.text.done","text":"a b","usage":{"type":"tokens","input_tokens":10,"output_tokens":2,'
    b'"total_tokens":12,"input_token_details":{"audio_tokens":9,"text_tokens":1}}}\n\n'
)


def watch(stream: bytes, cuts: list[int], results: int = 1) -> tuple[EventWatcher, bytes]:
    watcher = EventWatcher(results)
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    given = b"".join(watcher.feed(stream[start:end]) for start, end in itertools.pairwise(places))
    return watcher, given + watcher.finish()


@given(st.lists(st.integers(min_value=0, max_value=1000), max_size=12))
def test_any_split_gives_the_same_bytes_and_readings(cuts: list[int]) -> None:
    watcher, given_on = watch(TRANSCRIPT, cuts)
    assert given_on == TRANSCRIPT
    assert watcher.done
    assert watcher.usage is not None
    assert (watcher.usage.input_tokens, watcher.usage.output_tokens, watcher.usage.input_audio_tokens) == (10, 2, 9)
    assert watcher.events == 3


@given(st.integers(min_value=1, max_value=len(TRANSCRIPT) - 1))
def test_a_cut_stream_is_never_a_success(place: int) -> None:
    watcher = EventWatcher()
    watcher.feed(TRANSCRIPT[:place])
    if TRANSCRIPT[place:].strip():
        with pytest.raises(GatewayError):
            watcher.finish()
    else:
        watcher.finish()


def test_several_pictures_end_with_the_last_one_and_add_up() -> None:
    one = (
        b"event: image_generation.completed\n"
        b'data: {"type":"image_generation.completed","b64_json":"AA==","usage":{"input_tokens":3,"output_tokens":5,'
        b'"total_tokens":8}}\n\n'
    )
    watcher = EventWatcher(results=2)
    watcher.feed(one)
    assert not watcher.done
    watcher.feed(one)
    assert watcher.done
    assert watcher.usage is not None
    assert (watcher.usage.input_tokens, watcher.usage.output_tokens) == (6, 10)


@pytest.mark.parametrize(
    "event", [b'data: {"error":{"message":"x"}}\n\n', b'event: error\ndata: {"type":"error","code":"x"}\n\n']
)
def test_an_error_event_fails_the_stream_and_goes_on_to_the_client(event: bytes) -> None:
    watcher = EventWatcher()
    assert watcher.feed(event) == event
    assert watcher.failed
    assert watcher.finish() == b""


def test_an_error_event_with_the_credential_is_kept_back() -> None:
    with pytest.raises(GatewayError):
        EventWatcher(secret="sk-secret-0123").feed(b'data: {"error":{"message":"key sk-secret-0123"}}\n\n')


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 4, "output_tokens": 6, "output_tokens_details": {"image_tokens": 5}}, (4, 6, 5)),
        ({"prompt_tokens": 4, "total_tokens": 4}, (4, 0, 0)),
        ({"total_tokens": 9}, (9, 0, 0)),
        ({"type": "duration", "seconds": 3}, None),
        ({"input_tokens": -1, "output_tokens": 6}, None),
        ({"input_tokens": "x"}, None),
    ],
)
def test_usage_is_read_under_all_its_names(usage: dict[str, Any], expected: tuple[int, int, int] | None) -> None:
    request = openai_media.MODERATIONS.read_request(b'{"input":"x"}', ClientCall())
    answer = MEDIA["moderations"].read_answer(json.dumps({"usage": usage, "model": "m"}).encode(), request)
    found = answer.usage
    assert (None if found is None else (found.input_tokens, found.output_tokens, found.output_image_tokens)) == expected


def test_a_200_with_an_error_inside_is_an_error() -> None:
    request = openai_media.MODERATIONS.read_request(b'{"input":"x"}', ClientCall())
    with pytest.raises(GatewayError):
        MEDIA["moderations"].read_answer(b'{"error":{"message":"no"}}', request)
    with pytest.raises(GatewayError):
        MEDIA["moderations"].read_answer(b'{"results":[', request)


def test_a_json_body_keeps_every_member_but_the_model() -> None:
    body = b'{"model":"sim/gpt-image-2","prompt":"a \\u00e9","n": 2,"odd":[1 ,2]}'
    request = openai_media.IMAGE_GENERATIONS.read_request(body, ClientCall())
    built = MEDIA["images.generations"].patch_request(body, request, Upstream(model="gpt-image-2"))
    assert built.body == b'{"model":"gpt-image-2","prompt":"a \\u00e9","n":2,"odd":[1 ,2]}'
    assert (built.path, request.results) == ("/images/generations", 2)


@pytest.mark.parametrize(
    ("dialect", "body", "param"),
    [
        (openai_media.IMAGE_GENERATIONS, b'{"model":"m"}', "prompt"),
        (openai_media.IMAGE_GENERATIONS, b'{"prompt":"x"}', "model"),
        (openai_media.SPEECH, b'{"model":"m"}', "input"),
        (openai_media.SPEECH, b'{"model":7,"input":"x"}', "model"),
        (openai_media.MODERATIONS, b'{"input":null}', "input"),
        (openai_media.TRANSCRIPTIONS, b"{}", "content-type"),
    ],
)
def test_wrong_requests_name_their_field(dialect: openai_media.MediaDialect, body: bytes, param: str) -> None:
    with pytest.raises(GatewayError) as refused:
        dialect.read_request(body, ClientCall())
    assert (refused.value.kind, refused.value.param) == (Kind.INVALID_REQUEST, param)


@given(st.binary(max_size=200))
def test_only_our_errors_come_out(body: bytes) -> None:
    dialects = (openai_media.SPEECH, openai_media.MODERATIONS, openai_media.IMAGE_GENERATIONS)
    for dialect in dialects:
        try:
            dialect.read_request(body, ClientCall())
        except GatewayError:
            pass
