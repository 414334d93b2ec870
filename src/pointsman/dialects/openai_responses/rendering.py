"""An answer as the client gets it: a stream of events with numbers, or the response object that they add up to."""

from typing import Final

import msgspec

from pointsman.canonical.collect import replay
from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    CitationAdded,
    Ended,
    Failed,
    LogprobsAdded,
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
from pointsman.canonical.identity import METADATA, Identity
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    Extra,
    ImagePart,
    NativePart,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
)
from pointsman.canonical.request import Request
from pointsman.canonical.response import FinishReason, Response
from pointsman.canonical.sequence import Sequencer
from pointsman.dialects.openai_responses.open_items import Emit, OpenCall, OpenMessage, OpenReasoning
from pointsman.dialects.openai_responses.responses import (
    FAILURE_CODES,
    begin_response,
    end_response,
    fail_response,
)
from pointsman.errors import GatewayError
from pointsman.framing.sse import encode_event
from pointsman.wire.openai_responses import RESPONSE_MEMBERS, WIRE, own_id
from pointsman.wire.openai_responses.usage import USAGE_MEMBERS, write_usage

# The events between the beginning and the end of items that OpenAI's own tools make.
_STEPS: Final = {
    "web_search_call": ("in_progress", "searching", "completed"),
    "file_search_call": ("in_progress", "searching", "completed"),
    "code_interpreter_call": ("in_progress", "interpreting", "completed"),
    "image_generation_call": ("in_progress", "generating", "completed"),
    "mcp_call": ("in_progress", "completed"),
    "mcp_list_tools": ("in_progress", "completed"),
}
_OUR_WORDS: Final = frozenset(("usage", "output", "status", "id", "object", "model", "error"))
_END: Final = {"incomplete": "response.incomplete", "failed": "response.failed"}
_encode: Final = msgspec.json.Encoder().encode


def _tell_nobody(name: str, members: Extra) -> None:
    """What happens on the way, where only the whole response is wanted."""


class ResponseBuilder:
    """Adds up a stream to a response object; ``emit`` is told what happens on the way: an event's name and members."""

    def __init__(self, request: Request, identity: Identity, fidelity: Fidelity, emit: Emit = _tell_nobody) -> None:
        self._emit = emit
        self.response = begin_response(request)
        self.response["id"] = identity.derive("resp_")
        self.response["created_at"] = identity.created
        self._identity = identity
        self._fidelity = fidelity
        options = request.reasoning
        self._summarised = options is not None and options.summary is not None
        self._sealed = options is not None and bool(options.encrypted)
        self._told = bool(request.logprobs)
        self._tools = {tool.name: tool for tool in request.tools}
        self._sequencer = Sequencer()
        self._output: list[Extra] = self.response["output"]
        self._message: OpenMessage | None = None
        self._spoken: OpenMessage | None = None  # the last message with text, for log probabilities that come late
        self._call: OpenCall | None = None
        self._reasoning: OpenReasoning | None = None
        self._finish: FinishReason | None = None
        self._usage_told: Extra = {}  # beyond our words, until there is a usage to put it in
        self._mute = False  # the open part's main text can't be shown
        self._begun = self.over = False

    def feed(self, event: AnyEvent) -> None:
        """Take in one event. After the end, nothing."""
        for one in self._sequencer.feed(event):
            if not self.over:
                self._feed(one)

    def _feed(self, event: AnyEvent) -> None:
        match event:
            case PartDelta() if event.choice == 0:
                if not self._mute:
                    self._delta(event.text)
            case TranscriptDelta() if event.choice == 0:
                self._delta(event.text)
            case SummaryDelta() if event.choice == 0 and self._reasoning is not None:
                self._reasoning.summary(event.section, event.text)
            case PartStarted():
                self._begin()
                if event.choice == 0:
                    self._start(event.part)
                else:
                    self._fidelity.dropped(f"choices[{event.choice}]", "a response has one answer")
            case PartEnded() if event.choice == 0:
                self._end_part()
            case CitationAdded() if event.choice == 0:
                if self._message is not None and not self._message.cite(event.citation):
                    self._fidelity.dropped("output[].annotations", "a source without an address")
            case OpaqueSet() if event.choice == 0 and self._reasoning is not None:
                self._reasoning.part.opaque = event.opaque
            case LogprobsAdded() if event.choice == 0 and self._spoken is not None:
                self._spoken.logprobs(event.tokens)
            case _:
                self._feed_whole(event)

    def _feed_whole(self, event: AnyEvent) -> None:
        """Events about the answer as a whole."""
        match event:
            case Started():
                self._take(event)
                self._begin()
            case ChoiceEnded() if event.choice == 0:
                self._finish = event.finish_reason
                self._close_all(self._status_of_last())
            case UsageReported():
                self.response["usage"] = write_usage(event.usage)
                self.response["service_tier"] = event.service_tier or self.response["service_tier"]
                self._merge(event.extra)
                self._merge_usage(self.response["usage"])
            case Ended():
                self._begin()
                self._close_all(self._status_of_last())
                refused = any(part["type"] == "refusal" for part in self._parts())
                end_response(self.response, self._finish, refused=refused)
                self._finish_response()
            case Failed():
                self._begin()
                self._close_all("incomplete")
                fail_response(self.response, event.error)
                self._finish_response()

    def _take(self, event: Started) -> None:
        if event.id is not None and event.id.startswith("resp_"):
            self.response["id"] = event.id
        self.response["model"] = event.model or self.response["model"]
        self.response["created_at"] = event.created or self.response["created_at"]
        self.response["service_tier"] = event.service_tier or self.response["service_tier"]
        self._merge(event.extra)

    def _merge(self, extra: Extra | None) -> None:
        """What an upstream says beyond our words: members that a response has, unless we have words for them."""
        for name, value in (extra or {}).items():
            if name == "usage" and isinstance(value, dict):
                self._usage_told.update(value)
            elif name in RESPONSE_MEMBERS or (name in self.response and name not in _OUR_WORDS):
                self.response[name] = value
            else:
                self._fidelity.unplaced(f"response.{name}", value, "a response has no such member")

    def _merge_usage(self, usage: Extra) -> None:
        told, self._usage_told = self._usage_told, {}
        for name, value in told.items():
            if name not in USAGE_MEMBERS:
                self._fidelity.unplaced(f"response.usage.{name}", value, "a response's usage has no such member")
            elif isinstance(value, dict):
                usage[name] = {**usage.get(name, {}), **value}
            else:
                usage[name] = value

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            snapshot = {**self.response, "output": []}
            self._emit("response.created", {"response": snapshot})
            self._emit("response.in_progress", {"response": snapshot})

    def _finish_response(self) -> None:
        self._merge_usage(self.response["usage"] or {})
        self.over = True
        told = self._identity.told()
        if told:
            self.response[METADATA] = told[METADATA]
        self._emit(_END.get(self.response["status"], "response.completed"), {"response": self.response})

    def _start(self, part: AnyPart) -> None:
        self._mute = not isinstance(part, TextPart | RefusalPart | ToolCallPart | ReasoningPart)
        match part:
            case TextPart() | RefusalPart():
                self._start_text(part)
            case ToolCallPart():
                self._close_message()
                self._start_call(part)
            case ReasoningPart():
                self._close_message()
                identity = part.item_id or self._name("rs")
                self._reasoning = OpenReasoning(
                    self._emit, len(self._output), identity, summarised=self._summarised, sealed=self._sealed
                )
                self._reasoning.begin(msgspec.structs.replace(part))
            case AudioPart():
                self._fidelity.approximated("output[].audio", "a response has no sound: what it says is text")
                self._start_text(TextPart(text=part.transcript or ""))
            case ImagePart() if part.source.data is not None:
                self._close_message()
                image = {"type": "image_generation_call", "status": "completed", "result": part.source.data}
                self._whole({"id": self._name("ig"), **image})
            case NativePart() if part.wire == WIRE:
                self._close_message()
                self._whole(dict(part.value))
            case _:
                name = part.type if isinstance(part, NativePart) else type(part).__name__
                self._fidelity.dropped(f"output[].{name}", "a response has no such item")

    def _start_text(self, part: TextPart | RefusalPart) -> None:
        if self._message is None or part.item_id is not None:
            self._close_message()
            phase = (part.extra or {}).get("phase")
            identity = part.item_id or self._name("msg")
            self._message = OpenMessage(self._emit, len(self._output), identity, phase, self._told)
            self._output.append(self._message.item)
        self._spoken = self._message
        self._message.begin(part)

    def _start_call(self, part: ToolCallPart) -> None:
        tool = self._tools.get(part.name)
        custom = part.kind == "custom" or (tool is not None and tool.kind == "custom")
        if part.namespace is None and tool is not None and tool.namespace is not None:
            part = msgspec.structs.replace(part, namespace=tool.namespace)
        identity = part.item_id or self._name("ctc" if custom else "fc")
        self._call = OpenCall(self._emit, len(self._output), identity, part, custom=custom)
        self._output.append(self._call.item)

    def _whole(self, item: Extra) -> None:
        index = len(self._output)
        self._output.append(item)
        begun = {**item, "status": "in_progress"} if "status" in item else item
        self._emit("response.output_item.added", {"output_index": index, "item": begun})
        for step in _STEPS.get(str(item.get("type")), ()):
            place = {"output_index": index, "item_id": item.get("id")}
            self._emit(f"response.{item['type']}.{step}", place)
        self._emit("response.output_item.done", {"output_index": index, "item": item})

    def _delta(self, text: str) -> None:
        if self._call is not None:
            self._call.delta(text)
        elif self._reasoning is not None:
            self._reasoning.delta(text)
        elif self._message is not None:
            self._message.delta(text)

    def _end_part(self) -> None:
        if self._call is not None:
            self._call.close()
            self._call = None
        elif self._reasoning is not None:
            self._close_reasoning()
        elif self._message is not None:
            self._message.end()

    def _close_reasoning(self) -> None:
        reasoning, self._reasoning = self._reasoning, None
        if reasoning is None:
            return
        reasoning.close()
        if reasoning.shown:
            self._output.append(reasoning.item)
        if reasoning.borrowed:
            self._fidelity.mapped("reasoning.summary", "the model's reasoning itself is shown as its summary")

    def _close_message(self, status: str = "completed") -> None:
        if self._message is not None:
            self._message.close(status)
            self._message = None

    def _close_all(self, status: str) -> None:
        if self._call is not None:
            self._call.close(status)
            self._call = None
        self._close_reasoning()
        self._close_message(status)

    def _status_of_last(self) -> str:
        """An answer that was cut leaves its last item incomplete."""
        cut = (FinishReason.LENGTH, FinishReason.CONTEXT_LENGTH, FinishReason.CONTENT_FILTER)
        return "incomplete" if self._finish in cut else "completed"

    def _parts(self) -> list[Extra]:
        return [part for item in self._output if item.get("type") == "message" for part in item["content"]]

    def _name(self, prefix: str) -> str:
        return self._identity.derive(own_id(prefix), len(self._output))


class _Frames:
    """Frames that were written and not taken yet, their events numbered from 0."""

    def __init__(self) -> None:
        self._number = 0
        self._written: list[bytes] = []

    def write(self, name: str, members: Extra) -> None:
        """One event."""
        event = {"type": name, "sequence_number": self._number, **members}
        self._number += 1
        self._written.append(encode_event(_encode(event), name))

    def take(self) -> bytes:
        """What was written since the last time."""
        frames = b"".join(self._written)
        self._written.clear()
        return frames


class StreamRenderer:
    """Writes a streamed answer as server-sent events."""

    def __init__(self, request: Request, identity: Identity, fidelity: Fidelity) -> None:
        self._frames = _Frames()  # apart: open items, the builder's own, write here, too, and would make a ring with it
        self._builder = ResponseBuilder(request, identity, fidelity, self._frames.write)

    def feed(self, event: AnyEvent) -> bytes:
        """The bytes of whole frames that an event gives; often none."""
        self._builder.feed(event)
        return self._frames.take()


def write_response(response: Response, request: Request, identity: Identity, fidelity: Fidelity) -> bytes:
    """A whole answer: the response object that its stream would end with."""
    builder = ResponseBuilder(request, identity, fidelity)
    for event in replay(response):
        builder.feed(event)
    return _encode(builder.response)


def render_stream_error(error: GatewayError, request_id: str, sequence_number: int = 0) -> bytes:
    """The error as the last event of a stream that is not ours (raw lane); ``sequence_number`` is the next event's."""
    event = {
        "type": "error",
        "sequence_number": sequence_number,
        "code": FAILURE_CODES[error.kind],
        "message": error.message,
        "param": error.param,
    }
    return encode_event(_encode(event), "error")
