"""One request that names a profile: how it was judged, where its conversation stays, and what its client is told."""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from pointsman.canonical.record import RequestRecord
from pointsman.canonical.request import Request
from pointsman.clock import Clock
from pointsman.hub.operation_lane import OPERATIONS
from pointsman.hub.own_calls import client_request
from pointsman.hub.profile_headers import Answering, answer_lines, routing_lines
from pointsman.policy.combo_memory import IDLE_US, MOST_CONVERSATIONS, ComboMemory
from pointsman.policy.conversations import Conversation, conversation_of
from pointsman.routing.plan import Problem, Route, plan
from pointsman.routing.profiles.making import profile_of
from pointsman.routing.profiles.narrowing import narrowed
from pointsman.routing.targets import Target
from pointsman.routing.wants import Judged

if TYPE_CHECKING:
    from pointsman.routing.complexity import ConversationMemory
    from pointsman.upstream.notdiamond import NotDiamond


class Asking(Protocol):
    """A client's request."""

    headers: dict[bytes, bytes]
    body: bytes
    plan_head: bytes
    telling: Any


class Entry(Answering, Protocol):
    """A request's record while it runs (entry.py)."""

    @property
    def record(self) -> RequestRecord: ...
    @property
    def exchange(self) -> Asking: ...


class Kept(NamedTuple):
    """What is remembered of a conversation, since when (us), and the engine's name for it."""

    memory: "ConversationMemory"
    at: int
    session: str | None


class ProfileRun:
    """One request of a profile."""

    __slots__ = ("_conversation", "_entry", "_request", "_route", "_runs", "_verdict", "judged")

    def __init__(
        self, runs: "ProfileRuns", route: Route, entry: Entry, request: Request, conversation: Conversation | None
    ) -> None:
        self._runs = runs
        self._route = route
        self._entry = entry
        self._request = request
        self._conversation = conversation
        from pointsman.routing.profiles.judging import judge  # the scorer is for who names a profile

        kept = runs.kept(route, conversation)
        self._verdict = judge(request, profile_of(route), kept.memory if kept is not None else None)
        self.judged: Judged = self._verdict.judged

    async def settled(self, problem: Problem) -> Problem:
        """The problem with what is remembered of the conversation, its candidates few, and chosen by the engine."""
        runs, exchange = self._runs, self._entry.exchange
        if self._conversation is not None:
            place = runs.memory.place(self._route, self._conversation, pinned=False)
            memory = msgspec.structs.replace(problem.memory, sticky=place)
            problem = msgspec.structs.replace(problem, memory=memory)
        problem = narrowed(problem)
        if runs.engine is not None and runs.engine.asks(problem):
            problem = await self._consult(runs.engine, problem)
        exchange.plan_head += routing_lines(self.judged)
        exchange.telling = self._told
        return problem

    async def _consult(self, engine: "NotDiamond", problem: Problem) -> Problem:
        """The problem with the engine's choice; a conversation that stays with its model leaves none."""
        order = plan(problem).order
        if not order or order[0].id == problem.memory.sticky:
            return problem
        kept = self._runs.kept(self._route, self._conversation)
        budget = [target for target in order if _budget(problem, target) == self.judged.budget]
        picked = await engine.choose(self._request, problem, budget, kept.session if kept is not None else None)
        if picked is None:
            return problem
        self.judged = msgspec.structs.replace(
            self.judged, engine=engine.NAME, picks=picked.targets, session=picked.session, request_id=picked.request_id
        )
        return msgspec.structs.replace(problem, wants=msgspec.structs.replace(problem.wants, judged=self.judged))

    def answered(self, target: Target) -> None:
        """The conversation goes on there."""
        if self._conversation is not None:
            self._runs.memory.answered(self._route, self._conversation, target.id)
            self._runs.keep(self._route, self._conversation, self._verdict.memory, self.judged.session)

    def _told(self) -> bytes:
        return answer_lines(self._entry)


def _budget(problem: Problem, target: Target) -> str:
    """The budget that a candidate belongs to."""
    step = next(step for step in problem.route.steps if step.target.id == target.id)
    return step.id.partition(" ")[0]


class ProfileRuns:
    """What the requests of profiles share. Levels of conversations are this process's own: another one judges them by
    the turns that a request carries.
    """

    def __init__(self, memory: ComboMemory, clock: Clock, engine: "NotDiamond | None" = None) -> None:
        self.memory = memory
        self.engine = engine
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()

    def begin(self, route: Route, speaking: tuple[Any, Any], entry: Entry) -> ProfileRun:
        """A request of a profile. Raises GatewayError(INVALID_REQUEST) when it can't be read."""
        dialect, call = speaking
        exchange = entry.exchange
        if dialect.OPERATION in OPERATIONS:  # nothing is said in it that could be judged
            return ProfileRun(self, route, entry, Request(wire=dialect.WIRE, model=call.model, messages=[]), None)
        request: Request = dialect.as_request(call, exchange.body)
        told = client_request(dialect, call, exchange.body)
        conversation = conversation_of(entry.record.key_id or "", exchange.headers, told)
        return ProfileRun(self, route, entry, request, conversation)

    def kept(self, route: Route, conversation: Conversation | None) -> Kept | None:
        """What is remembered of a conversation that was not idle for too long."""
        if conversation is None:
            return None
        oldest = self._clock.now_us() - IDLE_US
        for name in conversation.known:
            found = self._kept.get((route.name, name))
            if found is not None and found.at >= oldest:
                return found
        return None

    def keep(self, route: Route, conversation: Conversation, memory: "ConversationMemory", session: str | None) -> None:
        """Remember this for the conversation's next turn."""
        key = (route.name, conversation.kept)
        before = self._kept.pop(key, None)
        session = session or (before.session if before is not None else None)
        self._kept[key] = Kept(memory, self._clock.now_us(), session)
        if len(self._kept) > MOST_CONVERSATIONS:
            self._kept.popitem(last=False)
