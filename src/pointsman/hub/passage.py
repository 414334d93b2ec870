"""One call's passage: the client's request written for the upstream, and the answer written for the client.

A passage between two halves of one API carries bytes as they are (the raw lane of APIs other than OpenAI's, whose own
raw lane is in flow.py): the request's body with its model changed, the answer untouched, read only for its usage.
"""

from typing import Final

from pointsman.canonical.collect import replay
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Dialect, ProviderFormat, StreamParser, StreamRenderer, Upstream
from pointsman.canonical.identity import Identity
from pointsman.canonical.request import Request
from pointsman.canonical.response import Response
from pointsman.canonical.unsaid import NotingRenderer, Unsaid
from pointsman.errors import GatewayError
from pointsman.framing.sse import end_of_events
from pointsman.hub.answer import StreamHead
from pointsman.hub.own_calls import judged
from pointsman.hub.reader import CarryingReader, PassageReader, TranslatingReader

FIDELITY_HEADER: Final = b"x-pointsman-fidelity"


class Passage:
    """One call between two halves."""

    __slots__ = ("_dialect", "_format", "_identity", "_request", "_unsaid", "_upstream", "fidelity", "translated")

    def __init__(
        self,
        dialect: Dialect,
        provider_format: ProviderFormat,
        request: Request,
        upstream: Upstream,
        identity: Identity,
        fidelity: Fidelity | None = None,
    ) -> None:
        self._dialect = dialect
        self._format = provider_format
        self._request = request
        self._upstream = upstream
        self._identity = identity
        # Gemini's clients may want a stream as one JSON array, which no upstream is asked for.
        alike = not request.stream or dialect.STREAM_TYPE.startswith(provider_format.STREAM_TYPE)
        self.translated = dialect.WIRE != provider_format.WIRE or not alike
        self.fidelity = Fidelity(request.names) if fidelity is None else fidelity
        alike = dialect.WIRE == provider_format.WIRE
        self._unsaid = Unsaid(dialect.UNSAID, self.fidelity, alike=alike) if dialect.UNSAID else None

    def build(self, body: bytes, *, strict: bool) -> Built:
        """The request for the upstream. Raises GatewayError(UNSUPPORTED) for what can't be carried when ``strict``."""
        if not self.translated:
            return self._format.patch_request(body, self._request, self._upstream)
        built = self._format.build_request(self._request, self._upstream, self.fidelity)
        if strict:
            self.fidelity.refuse_drops()
        return built

    def asking(self, request: Request, fidelity: Fidelity | None) -> "Passage":
        """A passage like this one for another request; its notes go to ``fidelity``, or are read by nobody."""
        other = Passage(self._dialect, self._format, request, self._upstream, self._identity, fidelity)
        other.translated = self.translated
        return other

    def parse(self, body: bytes) -> Response:
        """A whole answer in our words."""
        return self._format.parse_response(body, self._identity)

    async def judge(self, response: Response) -> None:
        """Have a whole answer looked at before the client gets any of it. Raises GatewayError."""
        await judged(self._dialect, response)

    def write(self, response: Response) -> bytes:
        """An answer in our words, for the client."""
        if self._unsaid is not None:
            self._unsaid.look(response)
        return self._dialect.write_response(response, self._request, self._identity, self.fidelity)

    def parser(self) -> StreamParser:
        """What reads the upstream's stream."""
        return self._format.StreamParser(self._identity)

    def reader(self, secret: str | None) -> PassageReader:
        """For an answer that streams; ``secret`` is what the upstream must not repeat to the client."""
        parser = self.parser()
        if not self.translated:
            ends = end_of_events if self._dialect.STREAM_TYPE.startswith(b"text/event-stream") else end_of_lines
            return CarryingReader(parser, self.render_failure, ends, secret.encode() if secret is not None else None)
        return TranslatingReader(parser, self.renderer())

    def stream_of(self, response: Response) -> bytes:
        """A whole answer as the stream that the client asked for."""
        renderer = self.renderer()
        return b"".join(renderer.feed(event) for event in replay(response))

    def renderer(self) -> StreamRenderer:
        """What writes a streamed answer for the client."""
        renderer = self._dialect.StreamRenderer(self._request, self._identity, self.fidelity)
        return renderer if self._unsaid is None else NotingRenderer(renderer, self._unsaid.note)

    def own(self, error: GatewayError) -> GatewayError:
        """An upstream's error; its body can be shown only to clients of the same API."""
        if self.translated:
            error.upstream_body = None
        return error

    def stream_head(self) -> StreamHead:
        """How the two sides' streams are called, and the header lines for the client."""
        return StreamHead(self._format.STREAM_TYPE, self._dialect.STREAM_TYPE, self.head())

    def render_failure(self, error: GatewayError) -> bytes:
        """An error as the end of a stream of which the client has nothing that needs closing."""
        return self._dialect.render_stream_error(error, self._identity.request_id)

    def head(self) -> bytes:
        """Header lines for the client: what translation did to the request, so far."""
        return b"%b: %b\r\n" % (FIDELITY_HEADER, self.fidelity.header()) if self.fidelity else b""


def end_of_lines(data: bytes) -> int:
    """Where the last whole line of ``data`` ends."""
    return data.rfind(b"\n") + 1
