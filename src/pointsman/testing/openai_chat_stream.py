"""A streamed chat completion: its events, made one at a time as they are sent."""

import base64
from collections.abc import Iterator, Mapping
from typing import Final

from .openai_azure import FIRST_EVENT, filter_results
from .openai_completion import Completion
from .openai_flavours import DETAILS_FORMAT, Flavour, signature_of
from .openai_message import (
    AUDIO_LIFETIME_S,
    FINGERPRINT,
    annotation,
    audio_id,
    call_id,
    call_object,
    encode,
    logprobs,
    thinking_part,
    tier,
    wants_usage,
)
from .openai_request import Json, object_in
from .reply import Event, EventKind

EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
DONE: Final = Event(EventKind.DONE, b"data: [DONE]\n\n")
# OpenAI pads events to hide the length of tokens from who watches the network.
_PADDING: Final = "aQ7mZx2LkT9bVw4R"


class ChatStream:
    """The events of one streamed answer."""

    def __init__(
        self,
        identity: Mapping[str, object],
        body: Json,
        made: list[Completion],
        used: Json | None,
        flavour: Flavour,
        *,
        filtered: bool = False,
    ) -> None:
        self._identity = identity
        self._body = body
        self._made = made
        self._flavour = flavour
        self._filtered = filtered
        asked = wants_usage(body)
        self._usage = used if asked or flavour.usage_in != "own_event" else None
        self._padded = flavour.padded and object_in(body, "stream_options").get("include_obfuscation") is not False
        self._usage_member = b',"usage":null' if asked and flavour.usage_in == "own_event" else b""
        head = {
            "id": identity["id"],
            "object": "chat.completion.chunk",
            "created": identity["created"],
            "model": identity["model"],
            "service_tier": tier(body),
            "system_fingerprint": FINGERPRINT,
        }
        self._head = b'data: %b,"choices":[' % encode(head)[:-1]

    def events(self) -> Iterator[Event]:
        """All events: the choices in turn, then usage when it was asked for, then ``[DONE]``."""
        if self._filtered:
            yield FIRST_EVENT
        choices = [self._choice(index, one) for index, one in enumerate(self._made)]
        while choices:
            for choice in tuple(choices):
                event = next(choice, None)
                if event is None:
                    choices.remove(choice)
                else:
                    yield event
        if self._usage is not None and self._flavour.usage_in == "own_event":
            yield Event(
                EventKind.USAGE, b'%b],"usage":%b%b}\n\n' % (self._head, encode(self._usage), self._padding(b""))
            )
        yield DONE

    def _choice(self, index: int, made: Completion) -> Iterator[Event]:
        if made.reasoning and self._flavour.reasoning != "hidden":
            yield from self._reasoning(index, made)
        if made.calls:
            yield from self._calls(index, made)
        elif made.refusal is not None:
            yield self._event(index, {"role": "assistant", "content": None, "refusal": ""}, EventKind.START)
            for word in made.refusal.split(" "):
                yield self._event(index, {"refusal": word if word == made.refusal.split(" ")[0] else f" {word}"})
        elif made.spoken:
            yield from self._speech(index, made)
        else:
            yield from self._words(index, made)
        yield self._finish(index, made)

    def _words(self, index: int, made: Completion) -> Iterator[Event]:
        yield self._event(index, {"role": "assistant", "content": "", "refusal": None}, EventKind.START)
        for token in made.words:
            yield self._event(index, {"content": token}, logged=logprobs(self._body, (token,)))
        if made.cited:
            yield self._event(index, {"annotations": [annotation("".join(made.words))]})

    def _speech(self, index: int, made: Completion) -> Iterator[Event]:
        """The sound's name, its transcript and data by turns, and when it will be forgotten."""
        name = audio_id(self._identity)
        yield self._event(index, {"role": "assistant", "refusal": None, "audio": {"id": name}}, EventKind.START)
        words = list(made.words)
        sound = base64.b64encode("".join(words).encode()).decode()
        for token in words:
            yield self._event(index, {"audio": {"transcript": token}})
        for start in range(0, len(sound), 16):
            yield self._event(index, {"audio": {"data": sound[start : start + 16]}})
        expires = int(str(self._identity["created"])) + AUDIO_LIFETIME_S
        yield self._event(index, {"audio": {"expires_at": expires}})

    def _reasoning(self, index: int, made: Completion) -> Iterator[Event]:
        kind = self._flavour.reasoning
        start: Json = {"role": "assistant", "content": ""}
        yield self._event(index, start, EventKind.START)
        if kind == "think_tags":
            yield self._event(index, {"content": "<think>\n"})
        for token in made.reasoning:
            yield self._event(index, _thought(kind, token))
        if kind == "think_tags":
            yield self._event(index, {"content": "\n</think>\n\n"})
        elif kind == "reasoning_details":
            signed = {"signature": signature_of("".join(made.reasoning)), "format": DETAILS_FORMAT, "index": 0}
            yield self._event(index, {"reasoning_details": [{"type": "reasoning.text", **signed}]})

    def _calls(self, index: int, made: Completion) -> Iterator[Event]:
        role: Json = {"role": "assistant", "content": None}
        if len(made.calls) > 1:
            yield self._event(index, role, EventKind.START)
            role = {}
        for position, call in enumerate(made.calls):
            name = call_id(str(self._identity["id"]), index, position, self._flavour)
            start = {"index": position, "id": name, **call_object(call, "")}
            opening = {**role, "tool_calls": [start]}
            if role:
                opening["refusal"] = None
            yield self._event(index, opening, EventKind.START if role else EventKind.DELTA)
            member = "input" if call.kind == "custom" else "arguments"
            for fragment in call.fragments():
                yield self._event(index, {"tool_calls": [{"index": position, call.kind: {member: fragment}}]})
            role = {}

    def _finish(self, index: int, made: Completion) -> Event:
        extra = b""
        last = index == len(self._made) - 1
        if last and self._usage is not None and self._flavour.usage_in == "finish_event":
            extra = b',"usage":%b' % encode(self._usage)
        elif last and self._usage is not None and self._flavour.usage_in == "x_groq":
            told: Json = {"id": f"req_{self._identity['id']}", "usage": self._usage}
            extra = b',"x_groq":%b' % encode(told)
            if wants_usage(self._body):
                extra += b',"usage":%b' % encode(self._usage)
        return self._event(index, {}, EventKind.FINISH, made.finish_reason, extra=extra)

    def _event(
        self,
        index: int,
        delta: Json,
        kind: EventKind = EventKind.DELTA,
        finish_reason: str | None = None,
        *,
        logged: Json | None = None,
        extra: bytes = b"",
    ) -> Event:
        choice = b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b%b}' % (
            index,
            encoded := encode(delta),
            b"null" if logged is None else encode(logged),
            b"null" if finish_reason is None else b'"%b"' % finish_reason.encode(),
            filter_results() if self._filtered else b"",
        )
        rest = extra or self._usage_member
        return Event(kind, b"%b%b]%b%b}\n\n" % (self._head, choice, rest, self._padding(encoded)))

    def _padding(self, delta: bytes) -> bytes:
        if not self._padded:
            return b""
        return b',"obfuscation":"%b"' % _PADDING[len(delta) % len(_PADDING) :].encode()


def _thought(kind: str, token: str) -> Json:
    if kind == "reasoning_details":
        detail = {"type": "reasoning.text", "text": token, "format": DETAILS_FORMAT, "index": 0}
        return {"reasoning": token, "reasoning_details": [detail]}
    if kind == "parts":
        return {"content": [thinking_part(token)]}
    return {"content": token} if kind == "think_tags" else {kind: token}
