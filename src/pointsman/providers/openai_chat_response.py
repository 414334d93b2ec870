"""Reads what a Chat Completions host answers: whole or streamed."""

from typing import Any, Final

import msgspec

from pointsman.canonical.collect import Collector
from pointsman.canonical.events import AnyEvent, Ended, Failed, Started, UsageReported
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import TextPart
from pointsman.canonical.response import Choice, FinishReason, Response
from pointsman.errors import GatewayError, Kind
from pointsman.framing.sse import SseSplitter
from pointsman.providers.openai_chat_choice import ChoiceReader, holds_more
from pointsman.providers.openai_chat_errors import error_inside
from pointsman.providers.think_tags import may_begin_thinking
from pointsman.wire.members import Members, read_answer, wrong_answer
from pointsman.wire.openai_chat_parts import REASONS, WIRE, read_usage

_decode: Final = msgspec.json.Decoder().decode
_PLAIN: Final = frozenset(("index", "message", "finish_reason", "logprobs"))


def parse_response(body: bytes, identity: Identity) -> Response:
    """A whole answer. Raises GatewayError(UPSTREAM_ERROR) when it isn't one or holds an error."""
    top = read_answer(body, "chat completion")
    if top.value.get("error"):
        raise error_inside(top.value["error"])
    reader = _AnswerReader(identity, "message")
    collector = Collector(WIRE)
    if not isinstance(top.value.get("choices"), list):
        raise wrong_answer("choices", "is missing")
    plain = _plain_choice(top.value["choices"])
    for event in (*reader.read(top, without_choices=plain is not None), *reader.end()):
        collector.feed(event)
    if collector.error is not None:
        raise collector.error
    if plain is not None:
        collector.response.choices = [plain]
    return collector.response


def _plain_choice(choices: list[Any]) -> Choice | None:
    """The short way for what most answers are, one plain text; None when the only choice isn't that."""
    item = choices[0] if len(choices) == 1 else None
    if type(item) is not dict or not item.keys() <= _PLAIN or item.get("logprobs") is not None:
        return None
    message, reason = item.get("message"), item.get("finish_reason")
    if type(message) is not dict or type(reason) is not str or not reason or holds_more(message):
        return None
    text, number = message.get("content"), item.get("index", 0)
    if type(text) is not str or may_begin_thinking(text) or number != 0 or type(number) is not int:
        return None
    finished = REASONS.get(reason, FinishReason.STOP)
    return Choice(parts=[TextPart(text=text)], finish_reason=finished, native_finish_reason=reason)


class StreamParser:
    """Reads a streamed answer. Any split of the same bytes gives the same events."""

    def __init__(self, identity: Identity) -> None:
        self._splitter = SseSplitter()
        self._reader = _AnswerReader(identity, "delta")
        self._over = False

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events that ``data`` completes; what can't be read becomes `Failed`."""
        out: list[AnyEvent] = []
        if self._over:
            return out
        try:
            for frame in self._splitter.feed(data):
                self._read(frame.data, out)
        except GatewayError as error:
            self._fail(error, out)
        return out

    def finish(self) -> list[AnyEvent]:
        """The upstream closed cleanly."""
        out: list[AnyEvent] = []
        if self._over:
            return out
        if not self._splitter.pending and self._reader.whole:
            self._over = True
            out += self._reader.end()
        else:
            self._fail(_broken_off(), out)
        return out

    def _read(self, data: bytes, out: list[AnyEvent]) -> None:
        if self._over:
            return
        if data.strip() == b"[DONE]":
            if self._reader.begun:
                out += self._reader.end()
                self._over = True
            else:
                self._fail(_broken_off(), out)
            return
        try:
            value = _decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's stream holds an event that is no JSON") from None
        if type(value) is not dict:
            raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's stream holds an event that is no chunk")
        if value.get("error"):
            raise error_inside(value["error"])
        if self._reader.read_text(value, out):
            return
        out += self._reader.read(Members(value, "", wrong_answer))

    def _fail(self, error: GatewayError, out: list[AnyEvent]) -> None:
        self._over = True
        out.append(Failed(error))


def _broken_off() -> GatewayError:
    return GatewayError(Kind.UPSTREAM_ERROR, "the upstream's stream ended before the answer was complete")


class _AnswerReader:
    """Chunks, or one whole answer, to events. ``member`` is where a choice has its content."""

    def __init__(self, identity: Identity, member: str) -> None:
        self._identity = identity
        self._member = member
        self._choices: dict[int, ChoiceReader] = {}
        self._early: dict[str, Any] = {}  # said before the answer began (Azure's filter results)
        self.begun = False

    @property
    def whole(self) -> bool:
        """True when every choice has ended."""
        return bool(self._choices) and all(choice.ended for choice in self._choices.values())

    def read(self, top: Members, *, without_choices: bool = False) -> list[AnyEvent]:
        """The events of one chunk; ``without_choices``: those of what stands around them."""
        out: list[AnyEvent] = []
        choices = [] if without_choices else top.objects("choices")
        used = self._usage(top)
        if not self.begun:
            self._begin(top, bool(choices) or without_choices, out)
        for choice in choices:
            self._choice(choice, out)
        if used is not None:
            out.append(used)
        return out

    def read_text(self, chunk: dict[str, Any], out: list[AnyEvent]) -> bool:
        """The short way for what most chunks are: a little more text of one choice. False when it isn't that."""
        choices = chunk.get("choices")
        if not self.begun or type(choices) is not list or len(choices) != 1 or chunk.get("usage") is not None:
            return False
        item = choices[0]
        if type(item) is not dict or item.get("finish_reason") is not None or item.get("logprobs") is not None:
            return False
        choice, delta = self._choices.get(item.get("index", 0)), item.get("delta")
        if choice is None or type(delta) is not dict or len(delta) != 1 or "x_groq" in chunk:
            return False
        text = delta.get("content")
        return type(text) is str and choice.more_text(text, out)

    def end(self) -> list[AnyEvent]:
        """The answer is whole: choices that were given no reason end too."""
        out: list[AnyEvent] = []
        for choice in self._choices.values():
            if not choice.ended:
                out += choice.finish(None, None)
        out.append(Ended())
        return out

    def _begin(self, top: Members, certain: bool, out: list[AnyEvent]) -> None:
        model, identifier = top.string("model") or None, top.string("id") or None
        created, tier = top.integer("created"), top.string("service_tier")
        top.ignore("object", "choices", "usage", "x_groq", "obfuscation")
        self._early.update(top.rest() or {})
        if not (certain or model):
            return
        self.begun = True
        extra = self._early or None
        out.append(Started(id=identifier, model=model, created=created or None, service_tier=tier, extra=extra))

    def _usage(self, top: Members) -> UsageReported | None:
        found = top.value.get("usage")
        groq = top.value.get("x_groq")
        if not isinstance(found, dict) and isinstance(groq, dict):
            found = groq.get("usage")
        if not isinstance(found, dict):
            return None
        usage, rest = read_usage(found)
        return UsageReported(usage, {"usage": rest} if rest else None)

    def _choice(self, item: Members, out: list[AnyEvent]) -> None:
        number = item.integer("index", 0, 1000) or 0
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = ChoiceReader(number, self._identity)
        content = item.object(self._member)
        if choice.ended:
            return
        out += choice.feed(content or Members({}, item.path, wrong_answer), item)
        reason = item.raw("finish_reason")
        if (isinstance(reason, str) and reason) or self._member == "message":
            item.ignore("native_finish_reason", "logprobs")
            out += choice.finish(reason if isinstance(reason, str) else None, item.rest())
