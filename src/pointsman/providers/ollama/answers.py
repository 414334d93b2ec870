"""Ollama's answers: whole, as lines, and its refusals."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    Ended,
    Failed,
    LogprobsAdded,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    UsageReported,
)
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import AnyPart, ImagePart, ReasoningPart, Source, TextPart, ToolCallPart
from pointsman.canonical.response import Choice, Response
from pointsman.errors import GatewayError, Kind
from pointsman.framing.ndjson import NdjsonSplitter
from pointsman.providers.refusals import cleared, refusal
from pointsman.wire.members import Members, read_answer
from pointsman.wire.ollama import OWN_MEMBERS, WIRE, finish_reason, read_logprobs, read_time, read_usage

_CUT: Final = "the upstream's stream ended before the answer was complete"
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
# The beginnings of errors that Ollama sends with status 500 although the caller is at fault.
_CALLERS_FAULT: Final = ('option "', "invalid format:", "failed to process inputs")
_TOO_LONG: Final = ("context length", "context window", "prompt is too long")


class _Object:
    """One object of an answer: a line of a stream, or the whole."""

    __slots__ = ("calls", "images", "members", "text", "thinking")

    def __init__(self, members: Members, identity: Identity, first_call: int) -> None:
        if (error := members.raw("error")) is not None:
            raise _told(error)
        message = members.object("message")
        holder = members if message is None else message
        self.members = members
        self.text = holder.string("response" if message is None else "content") or ""
        self.thinking = holder.string("thinking") or ""
        self.images = [ImagePart(source=Source(data=data)) for data in _images(holder)]
        self.calls = [
            _call(call, identity, first_call + number) for number, call in enumerate(holder.objects("tool_calls"))
        ]


def parse_response(body: bytes, identity: Identity) -> Response:
    """A whole answer of chat or generate. Raises GatewayError(UPSTREAM_ERROR) when it isn't whole or holds an error."""
    members = read_answer(body, "answer")
    one = _Object(members, identity, 0)
    if members.boolean("done") is not True:
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer is not whole: it is not 'done'")
    parts: list[AnyPart] = []
    if one.thinking:
        parts.append(ReasoningPart(text=one.thinking))
    if one.text:
        parts.append(TextPart(text=one.text))
    parts += [*one.images, *one.calls]
    done = members.string("done_reason")
    usage = read_usage(members)
    choice = Choice(
        parts=parts,
        finish_reason=finish_reason(done, bool(one.calls)),
        native_finish_reason=done,
        logprobs=read_logprobs(members.raw("logprobs")),
    )
    return Response(
        wire=WIRE,
        model=members.string("model"),
        created=read_time(members.string("created_at")),
        choices=[choice],
        usage=usage,
        extra={} if usage is None else _own_members(members),
    )


class StreamParser:
    """Reads a streamed answer of chat or generate; every tool call comes whole in one line."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._splitter = NdjsonSplitter()
        self._started = False
        self._over = False
        self._parts = 0
        self._open: str | None = None  # "text" or "thinking": the part that deltas go to
        self._calls = 0

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events that ``data`` completes; what can't be read becomes `Failed`."""
        if self._over:
            return []
        events: list[AnyEvent] = []
        try:
            self._read(self._splitter.feed(data), events)
        except GatewayError as error:
            self._fail(error, events)
        return events

    def finish(self) -> list[AnyEvent]:
        """The upstream closed: a last line may lack its line feed; without a ``done`` the answer is cut."""
        if self._over:
            return []
        events: list[AnyEvent] = []
        try:
            self._read(self._splitter.finish(), events)
            if not self._over:
                raise GatewayError(Kind.UPSTREAM_ERROR, _CUT)
        except GatewayError as error:
            self._fail(error, events)
        return events

    def _read(self, lines: list[bytes], events: list[AnyEvent]) -> None:
        for line in lines:
            if self._over:
                return
            one = _Object(read_answer(line, "line of a stream"), self._identity, self._calls)
            if not self._started:
                self._started = True
                members = one.members
                created = read_time(members.string("created_at"))
                events.append(Started(model=members.string("model"), created=created))
            self._content(one, events)
            if one.members.boolean("done"):
                self._end(one.members, events)

    def _content(self, one: _Object, events: list[AnyEvent]) -> None:
        if one.thinking:
            self._delta("thinking", one.thinking, events)
        if one.text:
            self._delta("text", one.text, events)
        if (tokens := read_logprobs(one.members.raw("logprobs"))) is not None:
            events.append(LogprobsAdded(0, tokens))
        whole: list[AnyPart] = [*one.images, *one.calls]
        for part in whole:
            self._close(events)
            events += (PartStarted(0, self._parts, part), PartEnded(0, self._parts))
            self._parts += 1
        self._calls += len(one.calls)

    def _delta(self, kind: str, text: str, events: list[AnyEvent]) -> None:
        if self._open != kind:
            self._close(events)
            part = TextPart(text="") if kind == "text" else ReasoningPart()
            events.append(PartStarted(0, self._parts, part))
            self._open = kind
        events.append(PartDelta(0, self._parts, text))

    def _close(self, events: list[AnyEvent]) -> None:
        if self._open is not None:
            events.append(PartEnded(0, self._parts))
            self._parts += 1
            self._open = None

    def _end(self, members: Members, events: list[AnyEvent]) -> None:
        self._over = True
        self._close(events)
        done = members.string("done_reason")
        if (usage := read_usage(members)) is not None:
            events.append(UsageReported(usage, _own_members(members) or None))
        events += (ChoiceEnded(0, finish_reason(done, self._calls > 0), done), Ended())

    def _fail(self, error: GatewayError, events: list[AnyEvent]) -> None:
        self._over = True
        if not self._started:
            self._started = True
            events.append(Started())
        events.append(Failed(error))


def parse_error(status: int, headers: Mapping[bytes, bytes], body: bytes, secret: str | None) -> GatewayError:
    """What an answer that isn't 200 means to the client."""
    try:
        decoded = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        decoded = None
    told = decoded.get("error") if isinstance(decoded, dict) else None
    message = cleared(told, secret) if isinstance(told, str) else None
    kind = _kind_of(message or "", status)
    return refusal(status, headers, message, kind=kind, body=body)


def _kind_of(message: str, status: int) -> Kind | None:
    """What Ollama's words say beyond its status."""
    if status in (400, 500) and any(mark in message for mark in _TOO_LONG):
        return Kind.CONTEXT_LENGTH
    if status == 500 and message.startswith(_CALLERS_FAULT):
        return Kind.INVALID_REQUEST
    if status == 400 and "does not support" in message:
        return Kind.UNSUPPORTED
    return None


def _told(error: Any) -> GatewayError:
    """An error inside an answer with status 200: its words stay here."""
    text = error if isinstance(error, str) else ""
    if any(mark in text for mark in _TOO_LONG):
        return GatewayError(Kind.CONTEXT_LENGTH, "the prompt is longer than the model's context")
    return GatewayError(Kind.UPSTREAM_ERROR, "the upstream reported an error in its answer")


def _images(holder: Members) -> list[str]:
    one = holder.string("image")
    return [one] if one else holder.strings("images") or []


def _call(call: Members, identity: Identity, number: int) -> ToolCallPart:
    function = call.object("function")
    if function is None:
        raise call.wrong("function", "is missing")
    arguments = _encode(function.mapping("arguments") or {}).decode()
    return ToolCallPart(
        id=call.string("id") or identity.derive("call_", number), name=function.text("name"), arguments=arguments
    )


def _own_members(members: Members) -> dict[str, Any]:
    return {name: value for name in sorted(OWN_MEMBERS) if (value := members.raw(name)) is not None}
