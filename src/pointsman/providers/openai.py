"""The OpenAI Chat Completions format as upstreams speak it: builds requests, reads answers, streams and errors."""

import re
from typing import Final

import msgspec

from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError, Kind
from pointsman.providers.openai_chat_errors import error_inside, kind_of_mistake
from pointsman.wire.long_strings import shorten
from pointsman.wire.openai_chat import (
    ABSENT,
    ChatResponse,
    Fields,
    OddUsage,
    Opening,
    SoundResponse,
    Usage,
    is_given,
)

CHAT_PATH: Final = "/chat/completions"
MODELS_PATH: Final = "/models"
LARGE_BYTES: Final = 64 * 1024  # of messages: from here on copying costs more than a few more steps
MAX_EVENT_BYTES: Final = 8 * 1024 * 1024

_encode: Final = msgspec.json.Encoder().encode
_response: Final = msgspec.json.Decoder(ChatResponse)
_opening: Final = msgspec.json.Decoder(Opening)
_any: Final = msgspec.json.Decoder()
_sound: Final = msgspec.json.Decoder(SoundResponse)
_usage: Final = msgspec.json.Decoder(Usage)
_odd_usage: Final = msgspec.json.Decoder(OddUsage)
_fields: Final = msgspec.json.Decoder(Fields)
_ASKING: Final = msgspec.Raw(b'{"include_usage":true}')
_TRUE: Final = msgspec.Raw(b"true")
_NULL: Final = msgspec.Raw(b"null")
# Azure's member for answers out of one's own documents; beside it, it refuses `stream_options`.
_NO_OPTIONS_WITH: Final = "data_sources"
_SECONDS: Final = re.compile(rb"^\d{1,9}(\.\d+)?$")
_EVENT: Final = re.compile(rb".*?\n\r?\n|.+", re.DOTALL)  # one event of a stream, its blank line included
# Statuses that say the account or its key is at fault: the gateway's business, not the caller's.
ACCOUNT_STATUSES: Final = frozenset((401, 402, 403, 407))


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an answer told about itself. ``usage`` is None when the upstream gave none."""

    model: str | None = None
    finish_reason: str | None = None
    usage: TokenUsage | None = None


def build_head(path_prefix: str, host: bytes, secret: str | None) -> bytes:
    """Everything of a chat request's head that doesn't change, up to the value of content-length."""
    lines = [f"POST {path_prefix}{CHAT_PATH} HTTP/1.1", f"host: {host.decode('ascii')}"]
    if secret is not None:
        lines.append(f"authorization: Bearer {secret}")
    lines += [
        "content-type: application/json",
        "accept-encoding: identity",
        "user-agent: pointsman",
        "content-length: ",
    ]
    return "\r\n".join(lines).encode("latin-1")


def build_request(head: bytes, fields: Fields, model: msgspec.Raw, ask_usage: bool = False) -> bytes:
    """The whole HTTP request: ``fields`` with ``model`` put in its place, every other value as it came.

    ``ask_usage``: the stream is to end with its usage, for which the client did not ask.
    """
    fields["model"] = model
    if ask_usage:
        fields = asking_for_usage(fields)
    if len(fields.get("messages", b"")) > LARGE_BYTES:
        return _build_large(head, fields)
    body = _encode(fields)
    return b"%b%d\r\n\r\n%b" % (head, len(body), body)


def _build_large(head: bytes, fields: Fields) -> bytes:
    """The same in one pass: the encoder would put a large body together once, and the request once more."""
    parts: list[bytes | msgspec.Raw] = []
    for name, value in fields.items():
        parts += (b"," if parts else b"{", _encode(name), b":", value)
    parts.append(b"}")
    return b"".join((head, b"%d\r\n\r\n" % sum(map(len, parts)), *parts))


def asking_for_usage(fields: Fields) -> Fields:
    """``fields`` with ``include_usage`` in their ``stream_options``, whose other members stay. A copy: the next
    upstream that is tried may refuse the member.
    """
    options = fields.get("stream_options")
    if options is None or options == _NULL:
        return fields if _NO_OPTIONS_WITH in fields else fields | {"stream_options": _ASKING}
    return fields | {"stream_options": msgspec.Raw(_encode(_fields.decode(options) | {"include_usage": _TRUE}))}


def parse_response(body: bytes) -> Answer:
    """Read a buffered answer; raises GatewayError(UPSTREAM_ERROR) when it isn't a whole chat completion."""
    response: SoundResponse | ChatResponse
    try:
        response = _sound.decode(body) if len(body) < LARGE_BYTES else _decode_large(body)
        usage = response.usage.to_token_usage() if response.usage is not None else None
    except msgspec.ValidationError:
        response = _read(body)
        usage = _read_usage(response.usage)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _not_whole() from None
    if response.error is not ABSENT and is_given(response.error):
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream answered with status 200 and an error inside")
    choices = response.choices
    if choices is None:
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer is not a chat completion: it has no 'choices'")
    return Answer(model=response.model, finish_reason=choices[0].finish_reason if choices else None, usage=usage)


def _decode_large(body: bytes) -> SoundResponse:
    """A large answer's figures, stepping over its long strings where that shows nothing odd."""
    short = shorten(body)
    if short is not None:
        try:
            return _sound.decode(short.text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    return _sound.decode(body)


def _read(body: bytes) -> ChatResponse:
    try:
        return _response.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _not_whole() from None


def _not_whole() -> GatewayError:
    return GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer is not a whole JSON chat completion")


def _read_usage(raw: msgspec.Raw) -> TokenUsage | None:
    """The usage object, read apart from the answer: one odd figure must not cost a good answer, only its figures."""
    if not is_given(raw):
        return None
    try:
        return _usage.decode(raw).to_token_usage()
    except msgspec.ValidationError:
        pass
    try:
        return _odd_usage.decode(raw).to_usage().to_token_usage()
    except (msgspec.DecodeError, ValueError, OverflowError):
        return None


def parse_error(status: int, headers: dict[bytes, bytes], body: bytes, secret: str | None) -> GatewayError:
    """What an answer that isn't 200 means to the client.

    The caller's own mistakes (400, 404, 413, 422 ...) and 429 keep the upstream's status and JSON body, unless that
    holds the credential. Refused credentials and the upstream's own failures are told without its body.
    """
    retry_after = _retry_after(headers)
    if status in ACCOUNT_STATUSES:
        return GatewayError(
            Kind.UPSTREAM_REJECTED,
            f"the upstream refused the gateway's account (HTTP {status}); the operator has to check this connection",
        )
    if 400 <= status < 500:
        kind = kind_of_mistake(status, body)
        passed = body if _is_error_object(body) and not _leaks(body, secret) else None
        message = f"the upstream refused the request (HTTP {status})"
        return GatewayError(kind, message, status=status, retry_after_seconds=retry_after, upstream_body=passed)
    message = f"the upstream failed (HTTP {status})"
    shown = status if status in (503, 504) else 502
    return GatewayError(Kind.UPSTREAM_ERROR, message, status=shown, retry_after_seconds=retry_after)


def _retry_after(headers: dict[bytes, bytes]) -> float | None:
    value = headers.get(b"retry-after", b"")
    return float(value) if _SECONDS.match(value) else None


def _is_error_object(body: bytes) -> bool:
    try:
        error = _response.decode(body).error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return bytes(error)[:1] == b"{"


def _leaks(body: bytes, secret: str | None) -> bool:
    """True when the body holds the credential or a tell-tale part of it (upstreams echo its ends)."""
    if not secret:
        return False
    parts = {secret} if len(secret) < 16 else {secret[:8], secret[-4:]}  # OpenAI's own mask shows four
    try:
        plain = _encode(_any.decode(body))  # without escapes that would hide it
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return True  # what can't be read can't be cleared
    return any(part.encode() in text for part in parts for text in (body, plain))


class StreamReader:
    """Watches a stream of chat completion chunks go by, without parsing every one.

    `feed` gives back what may be forwarded: whole events only, so that an error can always follow in an event of its
    own. The bytes are never changed, but for usage that the client did not ask for. Any chunking of the same bytes
    gives the same readings and the same bytes.
    """

    __slots__ = (
        "_choices",
        "_ended",
        "_held",
        "_pieces",
        "_seam",
        "_secret",
        "_unasked",
        "_unread",
        "done",
        "error",
        "events",
        "failed",
        "finish_reason",
        "model",
        "usage",
    )

    def __init__(self, choices: int = 1, secret: str | None = None, unasked: bool = False) -> None:
        """``choices`` is how many answers were asked for (``n``); an error event that holds ``secret`` is kept back.

        ``unasked``: usage was asked for by the gateway alone (`asking_for_usage`). What an upstream adds for that is
        left out of what is given back: the event of usage without a choice, and ``"usage":null`` in those before it.
        """
        self._unasked = unasked
        self._choices = choices
        self._secret = secret
        self._ended: set[int] = set()
        self._pieces: list[bytes] = []  # the beginning of an event, not yet whole
        self._held = 0
        self._seam = b""
        self._unread = True
        self.done = False
        self.failed = False
        self.error: GatewayError | None = None
        self.events = 0
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.usage: TokenUsage | None = None

    def feed(self, data: bytes) -> bytes:
        """Take a chunk in, give the whole events back that it completes.

        Raises GatewayError(UPSTREAM_ERROR) when an event grows beyond 8 MiB.
        """
        if self._pieces or not data.endswith(b"\n\n"):
            data = self._take_events(data)
        if data:
            self.events += data.count(b"\ndata:") + data.startswith(b"data:")  # a JSON text has no raw line feed
            told = data.count(b'"usage"')
            if told and self._unasked:
                # Outside of a JSON text, and only there, these bytes are a member; inside, quotes have a backslash.
                data = data.replace(b',"usage":null', b"").replace(b', "usage": null', b"")
                told = data.count(b'"usage"')
            if told:
                told -= data.count(b'"usage":null') + data.count(b'"usage": null')
            if told or self._unread or b"[DONE]" in data or b'"error"' in data or _ends(data):
                self._read(data)
                if told and self._unasked:
                    data = _without_usage(data)
        return data

    def _take_events(self, data: bytes) -> bytes:
        """The whole events in what is held and ``data``; the rest is held. Linear in the bytes, however cut."""
        pieces = self._pieces
        seam = self._seam  # the last bytes held, in case a blank line is cut in two
        cut = _end_of_events(seam + data) - len(seam)
        if cut <= 0:
            pieces.append(data)
            self._held += len(data)
            self._seam = (seam + data)[-3:]
            if self._held > MAX_EVENT_BYTES:
                raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream sent an event larger than the limit")
            return b""
        pieces.append(data[:cut])
        whole = b"".join(pieces)
        rest = data[cut:]
        self._pieces = [rest] if rest else []
        self._held = len(rest)
        self._seam = rest[-3:]
        return whole

    def has_content(self, events: bytes) -> bool:
        """Whether whole events hold anything of the answer itself, beyond the news that it begins.

        Raises GatewayError(UPSTREAM_ERROR) when one is not JSON.
        """
        for line in events.splitlines():
            if not line.startswith(b"data:"):
                continue
            value = line[5:].strip()
            if value == b"[DONE]":
                return True
            try:
                event = _opening.decode(value)
            except msgspec.ValidationError:
                return True  # it may be anything: not ours to hold back
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's stream begins with broken JSON") from None
            if any(choice.has_content() for choice in event.choices or ()):
                return True
            if is_given(event.error):
                return False  # what follows an error is not looked at, however it was cut
        return False

    def finish(self) -> bytes:
        """The body ended cleanly: what is still to be sent, the ``[DONE]`` event when the upstream left it out.

        Raises GatewayError(UPSTREAM_ERROR) when the stream was truncated: no ``[DONE]``, and a choice without its end.
        """
        rest = b"".join(self._pieces)
        self._pieces = []
        if rest.strip():
            self._read(rest + b"\n\n")  # a last event without its blank line
            if self.done:
                return rest + b"\n\n"
            raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's stream ended in the middle of an event")
        if self.done or self.failed:
            return b""
        if len(self._ended) >= self._choices:
            self.done = True
            return b"data: [DONE]\n\n"
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's stream ended before the answer was complete")

    def _read(self, data: bytes) -> None:
        """What events tell, up to [DONE]: with that the call is settled, and no later read could change it either."""
        if self.done:
            return
        for line in data.splitlines():
            if not line.startswith(b"data:"):
                continue
            value = line[5:].strip()
            if value == b"[DONE]":
                self.done = True
                return
            try:
                event = _response.decode(value)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                continue  # passed on as it is: the client's parser will say so
            if self._unread:
                # Some hosts begin with an event of no model and no choices; later ones are not worth a look.
                self.model = event.model or None
                self._unread = self.model is None and not event.choices
            if is_given(event.error):
                if _leaks(value, self._secret):
                    raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream reported an error in its stream")
                if not self.failed:
                    self.error = _error_of(event.error)
                self.failed = True
            if is_given(event.usage):
                self.usage = _read_usage(event.usage) or self.usage
            for choice in event.choices or ():
                if choice.finish_reason:  # some hosts say "" as long as there is none
                    self._ended.add(choice.index or 0)
                    self.finish_reason = choice.finish_reason


def _error_of(error: msgspec.Raw) -> GatewayError:
    try:
        return error_inside(_any.decode(error))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return error_inside(None)  # the words can't be read; that it is an error can


def _ends(data: bytes) -> bool:
    """True when an event may hold a finish reason: the member is there and not null."""
    return data.count(b'"finish_reason"') != data.count(b'"finish_reason":null') + data.count(b'"finish_reason": null')


def _without_usage(data: bytes) -> bytes:
    """Whole events without those that tell usage and hold no choice."""
    return b"".join([event for event in _EVENT.findall(data) if not _is_usage(event)])


def _is_usage(event: bytes) -> bool:
    for line in event.splitlines():
        if line.startswith(b"data:") and b'"usage"' in line:
            try:
                told = _response.decode(line[5:])
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                return False
            return told.choices == [] and is_given(told.usage) and not is_given(told.error)
    return False


def _end_of_events(data: bytes) -> int:
    """Where the last whole event of ``data`` ends: after a blank line, with LF or CRLF; 0 when there is none."""
    return max(data.rfind(b"\n\n") + 2, data.rfind(b"\n\r\n") + 3, 2) if b"\n\n" in data or b"\n\r\n" in data else 0
