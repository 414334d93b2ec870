"""OpenAI's operations beside chat as upstreams speak them: bodies with the model's name changed, usage read, streams
watched.

Source: the API reference at platform.openai.com/docs/api-reference, as of 2026-11.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pointsman.canonical.embeddings import EmbeddingRequest, Embeddings
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.passed import PassedAnswer, PassedRequest
from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError, Kind
from pointsman.framing.sse import ServerSentEvent, SseSplitter, end_of_events
from pointsman.providers import openai
from pointsman.providers.operations import JSON_HEADERS, MAX_TOKENS, encode, note_unsent, usage_of, vector_rows
from pointsman.wire.bodies import with_model
from pointsman.wire.members import read_answer
from pointsman.wire.multipart import content_type_of, with_field, write_form

MAX_EVENT_BYTES: Final = 64 * 1024 * 1024  # a picture of 4K in base64 is some 30 MB
# The event that ends each kind of stream, or one of its results.
ENDS: Final = frozenset(
    {"image_generation.completed", "image_edit.completed", "speech.audio.done", "transcript.text.done"}
)


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: Any = None
    audio_tokens: Any = None
    image_tokens: Any = None


class _Usage(msgspec.Struct, frozen=True):
    """Every name that usage has in these operations."""

    prompt_tokens: Any = None
    input_tokens: Any = None
    output_tokens: Any = None
    total_tokens: Any = None
    input_tokens_details: _Details | None = None
    input_token_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Head(msgspec.Struct, frozen=True):
    """What is read of an answer or an event: neither vectors nor pictures."""

    type: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: Any = None


_head: Final = msgspec.json.Decoder(_Head)


class OpenAIEmbeddings:
    """``POST /embeddings``."""

    WIRE: str | None = "openai.embeddings"
    most_inputs: int | None = None
    parse_error = staticmethod(openai.parse_error)

    def build_request(self, request: EmbeddingRequest, upstream: Upstream, fidelity: Fidelity) -> Built:
        """For clients of another API."""
        body: dict[str, Any] = {"model": upstream.model, "input": request.inputs}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        body["encoding_format"] = request.encoding or "float"
        if request.user is not None:
            body["user"] = request.user
        note_unsent(request, fidelity, "OpenAI", ("user", "dimensions"))
        return Built(path="/embeddings", body=encode(body), headers=JSON_HEADERS)

    def patch_request(self, body: bytes, request: EmbeddingRequest, upstream: Upstream) -> Built:
        """The client's own body with nothing changed but the model. Raises GatewayError when it is no JSON object."""
        return Built(path="/embeddings", body=with_model(body, upstream.model), headers=JSON_HEADERS)

    def parse_response(self, body: bytes, request: EmbeddingRequest) -> Embeddings:
        """The vectors by their index."""
        members = read_answer(body, "list of embeddings")
        usage = members.object("usage")
        return Embeddings(
            vectors=vector_rows(members, "data", len(request.inputs)),
            model=members.string("model"),
            usage=usage_of(usage.raw("prompt_tokens")) if usage is not None else None,
        )

    def read_answer(self, body: bytes, request: EmbeddingRequest) -> PassedAnswer:
        """What an answer that is passed on tells of itself. Raises GatewayError(UPSTREAM_ERROR) when it isn't whole."""
        return _read_json(body, "list of embeddings")


class OpenAIMedia:
    """Pictures, sound and moderations: everything that is only passed on."""

    most_inputs: int | None = None
    parse_error = staticmethod(openai.parse_error)

    def __init__(self, wire: str, *, texts: bool = False) -> None:
        """``texts``: answers may be plain text or subtitles."""
        self.WIRE: str | None = wire
        self._texts = texts

    def patch_request(self, body: bytes, request: PassedRequest, upstream: Upstream) -> Built:
        """The client's members or form with nothing changed but the model."""
        if request.form is not None:
            form = with_field(request.form, "model", upstream.model)
            headers = (("content-type", content_type_of(form)),)
            return Built(path=request.path, body=write_form(form), headers=headers)
        fields = (request.fields or {}) | {"model": msgspec.Raw(encode(upstream.model))}
        return Built(path=request.path, body=encode(fields), headers=JSON_HEADERS)

    def read_answer(self, body: bytes, request: PassedRequest) -> PassedAnswer:
        """What a JSON answer tells of itself; texts and subtitles tell nothing. Raises GatewayError(UPSTREAM_ERROR)."""
        if self._texts and body[:1] != b"{":
            return PassedAnswer()
        return _read_json(body, "JSON answer")


class EventWatcher:
    """Watches a stream of OpenAI's events go by: gives whole events on unchanged, and knows when it is complete.

    The same protocol as the chat stream's reader (`pointsman.providers.openai.StreamReader`).
    """

    def __init__(self, results: int = 1, secret: str | None = None) -> None:
        """``results`` ending events make a stream complete; an error event that holds ``secret`` is kept back."""
        self._missing = results
        self._secret = secret
        self._splitter = SseSplitter(MAX_EVENT_BYTES)
        self._held: list[bytes] = []
        self._seam = b""
        self.done = False
        self.failed = False
        self.error: GatewayError | None = None
        self.events = 0
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.usage: TokenUsage | None = None

    def feed(self, data: bytes) -> bytes:
        """Take a chunk in, give the whole events back that it completes. Raises GatewayError(UPSTREAM_ERROR)."""
        for event in self._splitter.feed(data):
            self._read(event)
        seam = self._seam
        cut = end_of_events(seam + data) - len(seam)
        if cut <= 0:
            self._held.append(data)
            self._seam = (seam + data)[-3:]
            return b""
        whole = b"".join((*self._held, data[:cut]))
        rest = data[cut:]
        self._held = [rest] if rest else []
        self._seam = rest[-3:]
        return whole

    def has_content(self, events: bytes) -> bool:
        """Each event of these streams is a part of the result."""
        return True

    def finish(self) -> bytes:
        """The body ended cleanly. Raises GatewayError(UPSTREAM_ERROR) when the stream was truncated."""
        if self._splitter.pending:
            rest = b"".join(self._held)
            for event in self._splitter.feed(b"\n\n"):
                self._read(event)
            self._held = []
            if not self.done and not self.failed:
                raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's stream ended in the middle of an event")
            return rest + b"\n\n"
        if self.done or self.failed:
            return b""
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's stream ended before the answer was complete")

    def _read(self, event: ServerSentEvent) -> None:
        self.events += 1
        if self.done:
            return  # the call is settled
        if event.data.strip() == b"[DONE]":
            self.done = True
            return
        try:
            head = _head.decode(event.data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return  # passed on as it is: the client's parser will say so
        if head.error is not None or head.type == "error" or event.name == "error":
            if self._secret and self._secret.encode() in event.data:
                raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream reported an error in its stream")
            self.failed = True
            return
        self.model = head.model or self.model
        if head.usage is not None:
            self.usage = _token_usage(head.usage, self.usage)
        if head.type in ENDS:
            self._missing -= 1
            self.done = self._missing <= 0


class SoundWatcher:
    """Watches sound go by: whatever comes goes on, and the end of the body is the end of the sound."""

    finish_reason: str | None = None
    model: str | None = None
    usage: TokenUsage | None = None
    failed = False
    error: GatewayError | None = None

    def __init__(self) -> None:
        self.done = False
        self.events = 0

    def feed(self, data: bytes) -> bytes:
        """Take a chunk in, give it back."""
        self.events += 1
        return data

    def has_content(self, events: bytes) -> bool:
        """All of it is."""
        return True

    def finish(self) -> bytes:
        """The body is whole: HTTP says so."""
        self.done = True
        return b""


EMBEDDINGS: Final = OpenAIEmbeddings()
MEDIA: Final[Mapping[str, OpenAIMedia]] = {
    name: OpenAIMedia(f"openai.{name}", texts=name in ("audio.transcriptions", "audio.translations"))
    for name in (
        "images.generations",
        "images.edits",
        "audio.speech",
        "audio.transcriptions",
        "audio.translations",
        "moderations",
    )
}


def _read_json(body: bytes, what: str) -> PassedAnswer:
    try:
        head = _head.decode(body)
    except msgspec.ValidationError:
        head = _Head()  # odd figures cost the figures, not the answer
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise GatewayError(Kind.UPSTREAM_ERROR, f"the upstream's answer is not a whole {what}") from None
    if head.error is not None:
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream answered with status 200 and an error inside")
    usage = _token_usage(head.usage, None) if head.usage is not None else None
    return PassedAnswer(model=head.model, usage=usage)


def _token_usage(usage: _Usage, before: TokenUsage | None) -> TokenUsage | None:
    """Usage in our own words, the sum with that of results ``before``; None when it tells no tokens (seconds)."""
    if usage.prompt_tokens is None and usage.input_tokens is None and usage.total_tokens is None:
        return before
    given = usage.input_tokens if usage.input_tokens is not None else usage.prompt_tokens
    read, made = _count(given if given is not None else usage.total_tokens), _count(usage.output_tokens)
    if read is None or made is None:
        return before
    input_details = usage.input_tokens_details or usage.input_token_details or _Details()
    output_details = usage.output_tokens_details or _Details()
    found = TokenUsage(
        input_tokens=read,
        output_tokens=made,
        cache_read_tokens=min(_count(input_details.cached_tokens) or 0, read),
        input_audio_tokens=min(_count(input_details.audio_tokens) or 0, read),
        output_image_tokens=min(_count(output_details.image_tokens) or 0, made),
    )
    if before is None:
        return found
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "input_audio_tokens", "output_image_tokens")
    return TokenUsage(**{name: getattr(found, name) + getattr(before, name) for name in names})


def _count(value: Any) -> int | None:
    """A count of tokens, 0 for none; None for what can't be one."""
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None
