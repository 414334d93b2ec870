"""Gemini answers in our own words. A whole answer is read as a stream of one chunk, so that both say the same."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from pointsman.canonical.collect import collect
from pointsman.canonical.events import AnyEvent, ChoiceEnded, Ended, Failed, Started, UsageReported
from pointsman.canonical.identity import Identity
from pointsman.canonical.response import FinishReason, Response
from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError, Kind
from pointsman.framing.sse import SseSplitter
from pointsman.providers.gemini.candidates import CandidateReader
from pointsman.providers.gemini.errors import error_of_event
from pointsman.wire.gemini import AUDIO, IMAGE, WIRE
from pointsman.wire.members import Members, read_answer

_DONE: Final = b"[DONE]"  # no word of Google's, but of some who imitate it
_COUNTED: Final = ("candidatesTokenCount", "totalTokenCount", "cachedContentTokenCount", "thoughtsTokenCount")
_MOST_TOKENS: Final = 2**40
_MOST_CHOICES: Final = 128
_NO_END: Final = "the upstream's stream ended before its answer was whole"


def parse_response(body: bytes, identity: Identity) -> Response:
    """A whole answer. Raises GatewayError(UPSTREAM_ERROR) when it isn't whole or holds an error."""
    reader = AnswerReader(identity)
    events = reader.feed(read_answer(body, "Gemini answer"))
    return collect([*events, *reader.finish()], WIRE)


class StreamParser:
    """Reads server-sent events. Any split of the same bytes gives the same events."""

    def __init__(self, identity: Identity) -> None:
        self._splitter = SseSplitter()
        self._reader = AnswerReader(identity)
        self._over = False

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events that ``data`` completes. Never raises: what can't be read becomes `Failed`."""
        events: list[AnyEvent] = []
        if self._over:
            return events
        try:
            for event in self._splitter.feed(data):
                if event.data.strip() != _DONE:
                    events += self._reader.feed(read_answer(event.data, "Gemini event"))
        except GatewayError as error:
            events += self._fail(error)
        return events

    def finish(self) -> list[AnyEvent]:
        """The upstream closed cleanly: `Ended` after a finish reason, else `Failed`; nothing after either."""
        if self._over:
            return []
        if self._splitter.pending:
            return self._fail(GatewayError(Kind.UPSTREAM_ERROR, _NO_END))
        self._over = True
        return self._reader.finish()

    def _fail(self, error: GatewayError) -> list[AnyEvent]:
        self._over = True
        return [Failed(error)]


class AnswerReader:
    """Reads chunks, each an answer of its own kind, and puts their candidates, usage and remarks together."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._candidates: dict[int, CandidateReader] = {}
        self._started = False
        self._usage: UsageReported | None = None
        self._counts: dict[str, Any] | None = None
        self._extra: dict[str, Any] = {}
        self._block: dict[str, Any] | None = None

    def feed(self, chunk: Members) -> list[AnyEvent]:
        """The events of one chunk. Raises GatewayError for an error in it, or what can't be read."""
        if "error" in chunk:
            raise error_of_event(chunk.raw("error"))
        events: list[AnyEvent] = []
        if not self._started:
            self._started = True
            events.append(_started(chunk))
        else:
            chunk.ignore("responseId", "modelVersion")
        for candidate in chunk.objects("candidates"):
            index = candidate.integer("index", least=0, most=_MOST_CHOICES) or 0
            events += self._candidate(index).feed(candidate)
        events += self._read_rest(chunk)
        return events

    def finish(self) -> list[AnyEvent]:
        """What a clean end gives: the candidates' ends, the usage again with all remarks, and `Ended`."""
        if self._block is not None and not self._candidates:
            reason = self._block.get("blockReason")
            extra = {"promptFeedback": self._block}
            native = reason if isinstance(reason, str) else None
            events: list[AnyEvent] = [ChoiceEnded(0, FinishReason.CONTENT_FILTER, native, None, extra)]
            return [*events, *self._last_usage(), Ended()]
        if not self._candidates or any(one.finish_reason is None for one in self._candidates.values()):
            return [Failed(GatewayError(Kind.UPSTREAM_ERROR, _NO_END))]
        events = []
        for number, one in enumerate(self._candidates.values()):
            events += one.finish(self._extra if self._usage is None and number == 0 else {})
        return [*events, *self._last_usage(), Ended()]

    def _candidate(self, index: int) -> CandidateReader:
        reader = self._candidates.get(index)
        if reader is None:
            reader = self._candidates[index] = CandidateReader(index, self._identity)
        return reader

    def _read_rest(self, chunk: Members) -> Iterable[AnyEvent]:
        feedback = chunk.mapping("promptFeedback")
        if feedback is not None and "blockReason" in feedback:
            self._block = feedback
        elif feedback is not None:
            self._extra["promptFeedback"] = feedback
        counts = chunk.object("usageMetadata")
        self._extra.update(chunk.rest() or {})
        if counts is None or counts.value == self._counts:
            return  # most chunks of a stream repeat the counts
        self._counts = counts.value
        reported = _usage(counts)
        if self._usage is None or reported.usage != self._usage.usage:
            yield UsageReported(reported.usage)
        self._usage = reported

    def _last_usage(self) -> list[AnyEvent]:
        """The last count, with everything said beyond our words."""
        if self._usage is None:
            return []  # the first candidate has the remarks
        extra = {**self._extra, **(self._usage.extra or {})}
        return [UsageReported(self._usage.usage, extra or None)]


def _started(chunk: Members) -> Started:
    chunk_time = chunk.value.get("createTime")
    created: int | None = None
    if isinstance(chunk_time, str):
        try:
            created = int(datetime.fromisoformat(chunk_time).timestamp())
        except ValueError:
            pass
    return Started(id=chunk.string("responseId"), model=chunk.string("modelVersion"), created=created)


def _usage(counts: Members) -> UsageReported:
    """Google counts thoughts beside the answer, and the prompts of its own tools beside the prompt: both are added."""
    prompt = _count(counts, "promptTokenCount")
    candidates, total, cached, thoughts = (_count(counts, name) for name in _COUNTED)
    tool_prompt = _count(counts, "toolUsePromptTokenCount")
    if not candidates and total > prompt + thoughts + tool_prompt:
        candidates = total - prompt - thoughts - tool_prompt  # some models give the sum alone
    usage = TokenUsage(
        input_tokens=prompt + tool_prompt,
        output_tokens=candidates + thoughts,
        cache_read_tokens=min(cached, prompt),
        reasoning_tokens=thoughts,
        input_audio_tokens=_of_kind(counts, "promptTokensDetails", AUDIO),
        output_audio_tokens=_of_kind(counts, "candidatesTokensDetails", AUDIO),
        output_image_tokens=_of_kind(counts, "candidatesTokensDetails", IMAGE),
    )
    kept = {name: counts.value[name] for name in counts.value if name not in ("promptTokenCount", *_COUNTED)}
    return UsageReported(usage, {"usageMetadata": kept} if kept else None)


def _count(counts: Members, name: str) -> int:
    return counts.integer(name, least=0, most=_MOST_TOKENS) or 0


def _of_kind(counts: Members, name: str, kind: str) -> int:
    return sum(_count(one, "tokenCount") for one in counts.objects(name) if one.string("modality") == kind)


def parse_count_response(body: bytes) -> int:
    """The tokens that countTokens counted. Raises GatewayError(UPSTREAM_ERROR)."""
    counted = read_answer(body, "count of tokens").integer("totalTokens", least=0, most=_MOST_TOKENS)
    if counted is None:
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer is no count of tokens")
    return counted


def parse_models(body: bytes) -> tuple[str, ...]:
    """The names of a list of models that generate content. Raises GatewayError(UPSTREAM_ERROR)."""
    page = read_answer(body, "list of models")
    names: list[str] = []
    for model in [*page.objects("models"), *page.objects("publisherModels")]:
        methods = model.strings("supportedGenerationMethods")
        if methods is None or "generateContent" in methods:
            names.append(model.text("name").rpartition("/")[2])
    return tuple(names)
