"""A streamed answer as Anthropic's events: one content block at a time, in the order in which they began."""

from typing import Any, Final

import msgspec

from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    CitationAdded,
    Ended,
    Failed,
    OpaqueSet,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    SummaryDelta,
    TranscriptDelta,
    UsageReported,
)
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import Extra
from pointsman.canonical.request import Request
from pointsman.canonical.response import Choice, FinishReason
from pointsman.canonical.sequence import Sequencer
from pointsman.canonical.usage import TokenUsage
from pointsman.dialects.anthropic.answer import closing, opening, put_extra, usage_of
from pointsman.dialects.anthropic.errors import render_stream_error
from pointsman.dialects.anthropic.open_block import OpenBlock, open_block
from pointsman.errors import GatewayError
from pointsman.framing.sse import encode_event

PING: Final = encode_event(b'{"type":"ping"}', "ping")
_DELTA: Final = encode_event(b'{"type":"content_block_delta","index":%d,"delta":%b}', "content_block_delta")
_STOP: Final = encode_event(b'{"type":"message_stop"}', "message_stop")
# Members that end with the stream, not with its beginning; message_delta repeats these figures of usage and no others.
_LATE: Final = frozenset({"container", "context_management", "usage.server_tool_use", "usage.iterations"})
_SHOWN_LATE: Final = _LATE | {"usage.fallback_credit"}
_DELTA_USAGE: Final = frozenset(
    {
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "output_tokens",
        "output_tokens_details",
        "server_tool_use",
        "iterations",
        "fallback_credit",
    }
)

_encode: Final = msgspec.json.Encoder().encode


class StreamRenderer:
    """Writes a stream of our events as Anthropic's. After `Failed` or `Ended` was fed nothing more comes."""

    def __init__(self, request: Request, identity: Identity, fidelity: Fidelity) -> None:
        self._request = request
        self._identity = identity
        self._fidelity = fidelity
        self._sequencer = Sequencer()
        self._started: Started | None = None
        self._opened = False
        self._usage: TokenUsage | None = None
        self._extra: Extra = {}
        self._end: ChoiceEnded | None = None
        self._block: OpenBlock | None = None
        self._index = -1  # of the block that was begun last
        self._called = False
        self._over = False

    def feed(self, event: AnyEvent) -> bytes:
        """The bytes of whole frames that an event gives; often none."""
        if self._over:
            return b""
        return b"".join([self._write(one) for one in self._sequencer.feed(event)])

    def _write(self, event: AnyEvent) -> bytes:
        match event:
            case PartDelta() if not event.choice:
                pieces = self._block.text(event.text) if self._block is not None else []
                return self._opening() + self._emit(pieces)
            case Started():
                self._started = event
                self._extra.update(event.extra or {})
                return b""
            case UsageReported():
                self._usage = event.usage
                self._extra.update(event.extra or {})
                return b""  # opens the message when it comes first: known figures stand in message_start
            case Failed():
                return self._fail(event.error)
            case Ended():
                return self._finish()
            case _ if event.choice:
                self._note_choice(event)
                return b""
            case ChoiceEnded():
                self._end = event
                return self._opening()
            case _:
                return self._opening() + self._write_part(event)

    def _write_part(self, event: AnyEvent) -> bytes:
        match event:
            case PartStarted():
                path = f"content[{event.index}]"
                self._block = open_block(event.part, path, self._fidelity)
                self._called = self._called or (self._block is not None and self._block.calls)
            case PartEnded():
                return self._close()
        block = self._block
        if block is None:
            return b""
        match event:
            case PartStarted():
                return self._emit(block.begin())
            case SummaryDelta():
                return self._emit(block.summary(event.section, event.text))
            case TranscriptDelta():
                return self._emit(block.transcript(event.text))
            case OpaqueSet():
                block.opaque = event.opaque
            case CitationAdded():
                return self._emit(block.citation(event.citation))
        return b""

    def _emit(self, pieces: list[dict[str, Any]]) -> bytes:
        """The frames of what a block gave: its head when it begins to show, then deltas."""
        frames = b""
        for piece in pieces:
            head = piece.get("head")
            if head is None:
                frames += _DELTA % (self._index, _encode(piece))
                continue
            self._index += 1
            kind = "content_block_start"
            frames += encode_event(_encode({"type": kind, "index": self._index, "content_block": head}), kind)
            if self._index == 0:
                frames += PING
        return frames

    def _close(self) -> bytes:
        block, self._block = self._block, None
        if block is None:
            return b""
        frames = self._emit(block.end())
        if not block.shown:
            return frames
        data = b'{"type":"content_block_stop","index":%d}' % self._index
        return frames + encode_event(data, "content_block_stop")

    def _opening(self) -> bytes:
        """message_start, before the first thing that comes after it."""
        if self._opened:
            return b""
        self._opened = True
        started = self._started or Started()
        message = opening(started.id, started.model or self._request.model, self._identity)
        message |= {"stop_reason": None, "stop_sequence": None, "stop_details": None}
        message["usage"] = usage_of(self._usage, started.service_tier)
        if self._usage is None:
            del message["usage"]["cache_creation"]  # message_delta tells figures later, but not these
        put_extra(message, {name: self._extra[name] for name in self._extra if name not in _LATE}, self._fidelity)
        return encode_event(_encode({"type": "message_start", "message": message}), "message_start")

    def _finish(self) -> bytes:
        end = self._end or ChoiceEnded(0, FinishReason.STOP)
        choice = Choice(
            finish_reason=end.finish_reason,
            native_finish_reason=end.native,
            stop_sequence=end.stop_sequence,
            extra=end.extra,
        )
        frames = self._opening() + self._close()
        try:
            delta = closing(choice, called=self._called)
        except GatewayError as error:
            return frames + self._fail(error)
        self._over = True
        return frames + self._message_delta(delta) + self._stop()

    def _stop(self) -> bytes:
        """The last event; who asked how the request was routed, is told here."""
        told = self._identity.told()
        return encode_event(_encode({"type": "message_stop", **told}), "message_stop") if told else _STOP

    def _message_delta(self, delta: dict[str, Any]) -> bytes:
        if self._usage is None:
            self._fidelity.synthesised("usage", "the upstream reported none")
        whole: dict[str, Any] = {"usage": usage_of(self._usage, None)}
        put_extra(whole, {name: value for name, value in self._extra.items() if name in _SHOWN_LATE}, self._fidelity)
        if "container" in whole:
            delta["container"] = whole["container"]
        usage = {name: value for name, value in whole["usage"].items() if name in _DELTA_USAGE}
        closed = {"type": "message_delta", "delta": delta, "usage": usage}
        if "context_management" in whole:
            closed["context_management"] = whole["context_management"]
        return encode_event(_encode(closed), "message_delta")

    def _fail(self, error: GatewayError) -> bytes:
        self._over = True
        return render_stream_error(error, self._identity.request_id)

    def _note_choice(self, event: AnyEvent) -> None:
        if isinstance(event, PartStarted):
            self._fidelity.dropped(f"choices[{event.choice}]", "Anthropic's messages are one answer")
