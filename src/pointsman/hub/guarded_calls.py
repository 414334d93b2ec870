"""Calls that guards have looked at: their requests as upstreams may see them, their answers with the values back in."""

import copy
from typing import Any, Protocol

import msgspec

from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    CitationAdded,
    Ended,
    Failed,
    PartDelta,
    PartEnded,
    PartStarted,
    SummaryDelta,
    TranscriptDelta,
)
from pointsman.canonical.halves import StreamRenderer
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import ReasoningPart, TextPart, ToolCallPart
from pointsman.canonical.request import Request
from pointsman.canonical.response import Response
from pointsman.guards.guard import Guard, Report
from pointsman.guards.masking import Mask, Restorer
from pointsman.guards.places import cited_by, in_part, in_response
from pointsman.hub.combo_calls import choice_left
from pointsman.hub.judging import Judges
from pointsman.hub.own_calls import AlteredDialect, OwnCall


class Noting(Protocol):
    """Who is told what the rules of a request have found so far."""

    def __call__(self, report: Report) -> None: ...


class Watch:
    """One request's guard, the values that it has masked, its webhooks, and what all of them have found."""

    __slots__ = ("guard", "judged", "judges", "mask", "note", "report")

    def __init__(self, guard: Guard, mask: Mask, note: Noting, judges: Judges) -> None:
        self.guard = guard
        self.mask = mask
        self.note = note
        self.judges = judges
        self.report = Report()
        self.judged = False  # a webhook has changed the request

    def examine(self, request: Request) -> Request:
        """The request as the upstream may see it. Raises GuardBlocked."""
        try:
            return self._examined(request, self.report)
        finally:
            self.note(self.report)

    async def judge_request(self, request: Request) -> Request:
        """The examined request as webhooks leave it. Raises GuardBlocked, Unjudged."""
        try:
            judged = await self.judges.of_request(request, self.report)
        finally:
            self.note(self.report)
        self.judged = judged is not request
        return judged

    def examine_again(self, request: Request) -> Request:
        """Another form of the request, whose findings are counted already. Raises GuardBlocked."""
        return self._examined(request, Report())

    def _examined(self, request: Request, report: Report) -> Request:
        examined = self.guard.examine(request, self.mask, report)
        if len(examined.tools) != len(request.tools):
            examined.tool_choice = choice_left(examined)
        return examined

    @property
    def sees_answers(self) -> bool:
        """Whether an answer has to be whole before its client gets any of it."""
        return self.guard.sees_answers or self.judges.sees_answers

    async def judge_answer(self, response: Response, model: str) -> None:
        """Redact in an answer what has to be, and have webhooks judge what is left. Raises GuardBlocked, Unjudged."""
        try:
            self.guard.examine_answer(response, self.report)
            await self.judges.of_answer(response, model, self.report)
        finally:
            self.note(self.report)

    def restored(self, response: Response) -> Response:
        """An answer with the masked values back in. The one that is given stays as it is: it may be kept for others."""
        if not self.mask.values:
            return response
        own = copy.copy(response)
        own.choices = [copy.copy(choice) for choice in response.choices]
        in_response(own, self.mask.restore, lambda text: self.mask.restore(text, quoted=True))
        return own


class GuardedDialect(AlteredDialect):
    """A client's dialect for a request that a guard has looked at."""

    def __init__(self, dialect: Any, call: OwnCall, watch: Watch, client_request: Request) -> None:
        """``client_request`` is what the client asked, with its own values."""
        super().__init__(dialect, call, None)
        self.client_request = client_request
        self._watch = watch
        self.HOLDS = watch.sees_answers and call.stream

    def parse_request(self, body: bytes) -> OwnCall:
        """The call of another body of the same request: with members for its upstream. Raises GuardBlocked."""
        if self._watch.judged:
            return self._own  # a webhook has changed it, and is not asked again
        call = self._dialect.parse_request(body)
        return OwnCall.like(call, self._watch.examine_again(self._dialect.as_request(call, body)))

    def as_request(self, call: Any, body: bytes) -> Request:
        """The request as the upstream may see it."""
        request: Request = (call if isinstance(call, OwnCall) else self._own).request
        return request

    def examined(self, request: Request) -> Request:
        """The request, into which something was written that no guard has seen. Raises GuardBlocked."""
        return self._watch.examine_again(request)

    async def judge(self, response: Response) -> None:
        """Redact in the answer what has to be. Raises GuardBlocked, Unjudged."""
        if self._watch.sees_answers:
            await self._watch.judge_answer(response, self._own.model)

    def write_response(self, response: Response, request: Request, identity: Identity, fidelity: Any) -> bytes:
        """The answer for the client, with its own values."""
        own = self._watch.restored(response)
        return self._dialect.write_response(own, request, identity, fidelity)  # type: ignore[no-any-return]

    def StreamRenderer(self, request: Request, identity: Identity, fidelity: Any) -> StreamRenderer:
        """Writes a streamed answer, with the client's own values."""
        renderer: StreamRenderer = self._dialect.StreamRenderer(request, identity, fidelity)
        mask = self._watch.mask
        return RestoringRenderer(renderer, mask, is_json(request)) if mask.values else renderer


def is_json(request: Request) -> bool:
    """Whether the answer's text is JSON, in whose strings values have to be written as such."""
    return request.output_format is not None and request.output_format.kind in ("json_object", "json_schema")


Place = tuple[str, int, int, int]  # what it is the text of, choice, part, section


class RestoringRenderer:
    """Puts masked values back into a stream's events, however its chunks cut their placeholders."""

    def __init__(self, renderer: StreamRenderer, mask: Mask, is_json: bool) -> None:
        self._render = renderer.feed
        self._mask = mask
        self._is_json = is_json
        self._restorers: dict[Place, Restorer] = {}
        self._quoted: set[tuple[int, int]] = set()  # parts that are JSON

    def feed(self, event: AnyEvent) -> bytes:
        """The bytes of what is sure by now."""
        match event:
            case PartDelta():
                return self._more(event, ("text", event.choice, event.index, 0))
            case SummaryDelta():
                return self._more(event, ("summary", event.choice, event.index, event.section))
            case TranscriptDelta():
                return self._more(event, ("transcript", event.choice, event.index, 0))
            case PartStarted():
                event = self._begin(event)
            case CitationAdded():
                event = self._cited(event)
            case PartEnded():
                return self._rest_of(event.choice, event.index) + self._render(event)
            case ChoiceEnded():
                if event.stop_sequence is not None:
                    event = msgspec.structs.replace(event, stop_sequence=self._mask.restore(event.stop_sequence))
            case Ended() | Failed():
                rest = b"".join(self._rest_of(choice, part) for _, choice, part, _ in list(self._restorers))
                return rest + self._render(event)
            case _:
                pass
        return self._render(event)

    def _begin(self, event: PartStarted) -> PartStarted:
        """A part begins. What it brings with its start may end in the middle of a placeholder, too."""
        part, spot = event.part, (event.choice, event.index)
        if isinstance(part, ToolCallPart) or (self._is_json and isinstance(part, TextPart)):
            self._quoted.add(spot)
        if isinstance(part, ToolCallPart):
            return event if not part.arguments else self._filled(event, "arguments")
        if isinstance(part, TextPart | ReasoningPart) and part.text:
            return self._filled(event, "text")
        return msgspec.structs.replace(event, part=in_part(part, self._mask.restore))

    def _filled(self, event: PartStarted, member: str) -> PartStarted:
        place = ("text", event.choice, event.index, 0)
        text = self._restorer(place).feed(getattr(event.part, member))
        return msgspec.structs.replace(event, part=msgspec.structs.replace(event.part, **{member: text}))

    def _restorer(self, place: Place) -> Restorer:
        found = self._restorers.get(place)
        if found is None:
            quoted = place[0] == "text" and place[1:3] in self._quoted
            found = self._restorers[place] = Restorer(self._mask, quoted=quoted)
        return found

    def _more(self, event: PartDelta | SummaryDelta | TranscriptDelta, place: Place) -> bytes:
        text = self._restorer(place).feed(event.text)
        if not text:
            return b""
        return self._render(event if text == event.text else msgspec.structs.replace(event, text=text))

    def _rest_of(self, choice: int, part: int) -> bytes:
        """What is held back of a part, now that it is over."""
        out = b""
        for place in [place for place in self._restorers if place[1:3] == (choice, part)]:
            text = self._restorers.pop(place).finish()
            if not text:
                continue
            if place[0] == "text":
                out += self._render(PartDelta(choice, part, text))
            elif place[0] == "summary":
                out += self._render(SummaryDelta(choice, part, place[3], text))
            else:
                out += self._render(TranscriptDelta(choice, part, text))
        return out

    def _cited(self, event: CitationAdded) -> CitationAdded:
        restorer = self._restorers.get(("text", event.choice, event.index, 0))
        citation = cited_by(event.citation, self._mask.restore)
        if restorer is not None:
            start, end = restorer.place(citation.start), restorer.place(citation.end)
            citation = msgspec.structs.replace(citation, start=start, end=end)
        return msgspec.structs.replace(event, citation=citation)
