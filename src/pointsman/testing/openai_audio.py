"""OpenAI's ``/v1/audio/speech``, ``/transcriptions`` and ``/translations`` as a simulator answers them."""

import base64
import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from .behaviour import MODEL_MARK, Behaviour
from .forms import Form, FormPart
from .openai_embeddings import check_arguments
from .openai_request import InvalidRequest, Json
from .reply import Event, EventKind

MAX_SPEECH_CHARACTERS: Final = 4096
SAMPLE_RATE: Final = 24_000
PIECE_BYTES: Final = 2400  # 50 ms of 16-bit mono
CONTENT_TYPES: Final = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
_SPEECH_ARGUMENTS: Final = frozenset(
    {"input", "model", "voice", "instructions", "response_format", "speed", "stream_format"}
)
_FORMATS: Final = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
_AUDIO_NAMES: Final = ("flac", "mp3", "mp4", "mpeg", "mpga", "m4a", "ogg", "oga", "wav", "webm")
_FIELDS: Final = frozenset(
    {
        "model", "language", "languages", "prompt", "response_format", "temperature", "stream", "include",
        "chunking_strategy", "timestamp_granularities", "known_speaker_names", "known_speaker_references", "keywords",
    }
)  # fmt: skip


class SpeechOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A checked speech request."""

    model: str
    text: str
    format: str
    as_events: bool


class TranscriptOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A checked transcription or translation request; ``text`` is what was "heard"."""

    task: str
    model: str
    format: str
    stream: bool
    audio: FormPart
    text: str
    with_logprobs: bool
    language: str


def order_speech(request: Json) -> SpeechOrder:
    """What a speech request asks for; InvalidRequest as OpenAI refuses."""
    check_arguments(request, _SPEECH_ARGUMENTS, ("input", "model", "voice"))
    text = request["input"]
    if not isinstance(text, str) or not 1 <= len(text) <= MAX_SPEECH_CHARACTERS:
        limit = f"Expected a string with 1 to {MAX_SPEECH_CHARACTERS} characters."
        raise InvalidRequest(f"Invalid 'input': {limit}", "input", "string_above_max_length")
    wanted = request.get("response_format") or "mp3"
    if wanted not in CONTENT_TYPES:
        raise InvalidRequest(f"Invalid value: '{wanted}'.", "response_format", "invalid_value")
    speed = request.get("speed")
    if speed is not None and not (isinstance(speed, int | float) and 0.25 <= speed <= 4):
        raise InvalidRequest("Invalid 'speed': expected a value from 0.25 to 4.", "speed", "decimal_out_of_range")
    model = str(request["model"]).partition(MODEL_MARK)[0]
    as_events = request.get("stream_format") == "sse"
    if as_events and model.startswith("tts-1"):
        raise InvalidRequest("'stream_format' 'sse' is not supported by this model.", "stream_format")
    return SpeechOrder(model=model, text=text, format=wanted, as_events=as_events)


def speech_pieces(order: SpeechOrder, behaviour: Behaviour) -> Iterator[Event]:
    """The audio as it is made: binary pieces, or events that hold them."""
    pieces = _sound(order, behaviour)
    if not order.as_events:
        for position, piece in enumerate(pieces):
            yield Event(EventKind.DELTA if position else EventKind.START, piece)
        return
    for position, piece in enumerate(pieces):
        body = {"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()}
        yield _event(EventKind.DELTA if position else EventKind.START, body)
    tokens = -(-len(order.text) // 4)
    done: Json = {"type": "speech.audio.done"}
    if behaviour.usage != "none":
        done["usage"] = {"input_tokens": tokens, "output_tokens": 20, "total_tokens": tokens + 20}
    yield _event(EventKind.FINISH, done)


def order_transcript(form: Form, task: str) -> TranscriptOrder:
    """What a transcription form asks for; InvalidRequest as OpenAI refuses. The audio's bytes are what is heard."""
    files = form.files("file")
    if not files:
        raise InvalidRequest("Missing required parameter: 'file'.", "file", "missing_required_parameter")
    model = form.text("model")
    if not model:
        raise InvalidRequest("you must provide a model parameter")
    for part in form.parts:
        if part.filename is None and part.name.partition("[")[0] not in _FIELDS:
            raise InvalidRequest(f"Unknown parameter: '{part.name}'.", part.name, "unknown_parameter")
    if (files[0].filename or "").rpartition(".")[2].lower() not in _AUDIO_NAMES:
        raise InvalidRequest(f"Invalid file format. Supported formats: {list(_AUDIO_NAMES)}")
    model = model.partition(MODEL_MARK)[0]
    wanted = form.text("response_format") or "json"
    if wanted not in _FORMATS or (model.startswith("gpt-4o") and wanted not in ("json", "text", "diarized_json")):
        message = f"response_format '{wanted}' is not compatible with model '{model}'. Use 'json' or 'text' instead."
        raise InvalidRequest(message, "response_format", "unsupported_value")
    heard = files[0].content.decode("utf-8", "replace") if files[0].content.isascii() else "a sound"
    return TranscriptOrder(
        task=task,
        model=model,
        format=wanted,
        stream=form.text("stream") == "true" and model != "whisper-1" and task == "transcribe",
        audio=files[0],
        text=f"heard: {heard}" if task == "transcribe" else f"in English: {heard}",
        with_logprobs="logprobs" in form.all("include"),
        language="english" if task == "translate" else form.text("language") or "english",
    )


def transcript(order: TranscriptOrder, behaviour: Behaviour) -> tuple[str, bytes]:
    """The content type and body of a buffered answer."""
    seconds = _seconds(order)
    if order.format == "text":
        return "text/plain; charset=utf-8", f"{order.text}\n".encode()
    if order.format == "srt":
        return "text/plain; charset=utf-8", f"1\n00:00:00,000 --> 00:00:01,000\n{order.text}\n\n\n".encode()
    if order.format == "vtt":
        return "text/plain; charset=utf-8", f"WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n{order.text}\n\n".encode()
    answer: Json = {"text": order.text}
    if order.format == "verbose_json":
        answer = {
            "task": order.task, "language": order.language, "duration": seconds, "text": order.text,
            "segments": [_segment(order, seconds)],
        }  # fmt: skip
    elif order.format == "diarized_json":
        answer = {"task": order.task, "duration": seconds, "text": order.text, "segments": [_speaker(order, seconds)]}
    elif order.with_logprobs:
        answer["logprobs"] = [_logprob(order.text)]
    if behaviour.usage != "none" and order.task == "transcribe":
        answer["usage"] = usage_of(order)
    return "application/json", msgspec.json.encode(answer)


def transcript_events(order: TranscriptOrder, behaviour: Behaviour) -> Iterator[Event]:
    """The streamed answer: the words, then the whole text with the usage."""
    words = order.text.split(" ")
    for position, word in enumerate(words):
        delta = {"type": "transcript.text.delta", "delta": word if position == 0 else f" {word}"}
        yield _event(EventKind.START if position == 0 else EventKind.DELTA, delta)
    done: Json = {"type": "transcript.text.done", "text": order.text}
    if behaviour.usage != "none":
        done["usage"] = usage_of(order)
    yield _event(EventKind.FINISH, done)


def usage_of(order: TranscriptOrder) -> Json:
    """Tokens, or for whisper the seconds."""
    if order.model == "whisper-1":
        return {"type": "duration", "seconds": _seconds(order)}
    heard, said = 10 * _seconds(order), -(-len(order.text) // 4)
    return {
        "type": "tokens",
        "input_tokens": heard,
        "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
        "output_tokens": said,
        "total_tokens": heard + said,
    }


def _seconds(order: TranscriptOrder) -> int:
    return -(-len(order.audio.content) // (2 * SAMPLE_RATE)) or 1


def _segment(order: TranscriptOrder, seconds: int) -> Json:
    return {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": float(seconds),
        "text": order.text,
        "tokens": [50364, 50414],
        "temperature": 0.0,
        "avg_logprob": -0.21,
        "compression_ratio": 1.1,
        "no_speech_prob": 0.01,
    }


def _speaker(order: TranscriptOrder, seconds: int) -> Json:
    return {
        "type": "transcript.text.segment",
        "id": "seg_0",
        "start": 0.0,
        "end": float(seconds),
        "text": order.text,
        "speaker": "A",
    }


def _logprob(text: str) -> Json:
    return {"token": text, "logprob": -0.05, "bytes": list(text.encode())}


def _sound(order: SpeechOrder, behaviour: Behaviour) -> Iterator[bytes]:
    """A tone per character, or `Behaviour.tokens` pieces of it; a WAV begins with its header."""
    pieces = len(order.text) if behaviour.tokens is None else behaviour.tokens
    if order.format == "wav":
        length = pieces * PIECE_BYTES
        yield (
            b"RIFF"
            + struct.pack("<I", 36 + length)
            + b"WAVEfmt "
            + struct.pack("<IHHIIHH", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
            + b"data"
            + struct.pack("<I", length)
        )
    for position in range(pieces):
        yield bytes([ord(order.text[position % len(order.text)]) & 0xFF]) * PIECE_BYTES


def _event(kind: EventKind, body: Json) -> Event:
    return Event(kind, b"data: %b\n\n" % msgspec.json.encode(body))
