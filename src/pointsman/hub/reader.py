"""Watches a streamed answer go by, and writes it anew for the client where its API is another."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    Ended,
    Failed,
    OpaqueSet,
    PartDelta,
    PartStarted,
    Started,
    SummaryDelta,
    TranscriptDelta,
    UsageReported,
)
from pointsman.canonical.halves import StreamParser, StreamRenderer
from pointsman.canonical.parts import ReasoningPart, TextPart
from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError, let_go


class PassageReader(ABC):
    """The same members as the raw lane's reader (providers/openai.py), over any two halves.

    ``error`` is how the answer broke. The client has been told of it in the bytes that `feed` or `finish` gave, unless
    nothing at all had been given before: then they raise it.
    """

    def __init__(self, parser: StreamParser) -> None:
        self._parser = parser
        self._given = False
        self.done = False
        self.failed = False
        self.error: GatewayError | None = None
        self.events = 1
        self.begun = False  # by something else than a delta
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.usage: TokenUsage | None = None
        self.observe: Callable[[AnyEvent], None] | None = None

    @property
    def over(self) -> bool:
        """True when nothing that still comes belongs to the answer."""
        return self.done or self.failed

    def has_content(self, events: bytes) -> bool:
        """Whether anything of the answer itself has come, beyond the news that it begins."""
        return self.events > 1 or self.begun or self.finish_reason is not None or self.done

    def feed(self, data: bytes) -> bytes:
        """The bytes for the client that ``data`` gives."""
        return self._pass(self._parser.feed(data), data, last=False)

    def finish(self) -> bytes:
        """The upstream closed cleanly: whether its answer is whole is the parser's to say."""
        return self._pass(self._parser.finish(), b"", last=True)

    @abstractmethod
    def fail(self, error: GatewayError) -> bytes:
        """The connection broke: the error as the client's API has it in a stream."""

    @abstractmethod
    def _write(self, events: list[AnyEvent], data: bytes, *, last: bool) -> bytes:
        """The bytes for the client; ``events`` are those that ``data`` completed."""

    def _pass(self, events: list[AnyEvent], data: bytes, *, last: bool) -> bytes:
        for event in events:
            self._watch(event)
        given = self._write(events, data, last=last)
        if self.error is not None and not self._given and isinstance(events[0], Failed):
            raise self.error
        self._given = self._given or bool(given)
        return given

    def _watch(self, event: AnyEvent) -> None:
        if self.observe is not None:
            self.observe(event)
        match event:
            case PartDelta():
                self.events += 1
            case PartStarted():
                self.begun = (
                    self.begun or not isinstance(event.part, TextPart | ReasoningPart) or _is_filled(event.part)
                )
            case SummaryDelta() | TranscriptDelta() | OpaqueSet():
                self.begun = True
            case Started():
                self.model = event.model or self.model
            case ChoiceEnded():
                self.finish_reason = self.finish_reason or event.finish_reason.value
            case UsageReported():
                self.usage = event.usage
            case Failed():
                self.failed = True
                self.error = event.error
                let_go(event.error)
            case Ended():
                self.done = True


def _is_filled(part: TextPart | ReasoningPart) -> bool:
    """Whether a part brings something with its start."""
    return bool(part.text) or (isinstance(part, ReasoningPart) and part.opaque is not None)


class TranslatingReader(PassageReader):
    """Writes each event anew with the client's renderer."""

    def __init__(self, parser: StreamParser, renderer: StreamRenderer) -> None:
        super().__init__(parser)
        self._renderer = renderer

    def fail(self, error: GatewayError) -> bytes:
        """The renderer's own error, which closes what the client has open."""
        self.failed = True
        self.error = error
        return self._renderer.feed(Failed(error))

    def _write(self, events: list[AnyEvent], data: bytes, *, last: bool) -> bytes:
        feed = self._renderer.feed
        return b"".join([feed(event) for event in events])


class CarryingReader(PassageReader):
    """Hands the upstream's bytes on, in whole frames, so that an error event may follow at any time.

    ``secret`` is starred out wherever the upstream repeats it.
    """

    def __init__(
        self,
        parser: StreamParser,
        render_error: Callable[[GatewayError], bytes],
        end_of_frames: Callable[[bytes], int],
        secret: bytes | None,
    ) -> None:
        super().__init__(parser)
        self._render_error = render_error
        self._end_of_frames = end_of_frames
        self._secret = secret
        self._rest = b""

    def fail(self, error: GatewayError) -> bytes:
        """An error event of the client's API."""
        self.failed = True
        self.error = error
        return self._render_error(error)

    def _write(self, events: list[AnyEvent], data: bytes, *, last: bool) -> bytes:
        rest = self._rest + data if self._rest else data
        if last:
            self._rest = b""
            given = rest if self.done else b""
            return given if self.error is None else given + self._render_error(self.error)
        end = self._end_of_frames(rest)
        given, self._rest = rest[:end], rest[end:]
        if self._secret is not None and self._secret in given:
            given = given.replace(self._secret, b"*" * len(self._secret))
        return given
