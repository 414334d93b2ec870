"""One request that names a combo: what the combo makes of it, where its conversation stays, its place at a target."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import Any, Final, Protocol

import msgspec

from pointsman.canonical.record import RequestRecord
from pointsman.errors import GatewayError, Kind
from pointsman.hub.combo_calls import altered
from pointsman.hub.handoff import with_handoff
from pointsman.hub.operation_lane import OPERATIONS
from pointsman.hub.own_calls import AlteredDialect, OwnCall, client_request, examined
from pointsman.hub.side_calls import SideCalls
from pointsman.policy.combo_memory import ComboMemory
from pointsman.policy.conversations import Conversation, conversation_of, fields_request
from pointsman.policy.handoffs import Handoff, HandoffBook, Place
from pointsman.routing.combos import Combo
from pointsman.routing.plan import Problem, Route
from pointsman.routing.targets import Target
from pointsman.upstream.places import Bounds, Places

NOWHERE: Final[AbstractAsyncContextManager[None]] = nullcontext()
RELAY: Final = "context-relay"


class Asking(Protocol):
    """A client's request."""

    headers: dict[bytes, bytes]
    body: bytes


class Entry(Protocol):
    """A request's record while it runs (flow.py)."""

    @property
    def record(self) -> RequestRecord: ...
    @property
    def exchange(self) -> Asking: ...


@asynccontextmanager
async def _within(left: float, pause: float, place: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
    async with AsyncExitStack() as held:
        try:
            async with asyncio.timeout(left):
                await asyncio.sleep(pause)
                await held.enter_async_context(place)
        except TimeoutError:
            raise GatewayError(Kind.UPSTREAM_TIMEOUT, "the time was over before it could be asked") from None
        yield


class ComboRun:
    """One request of a combo. ``speaking`` are the dialect and the call that its targets get."""

    __slots__ = (
        "_asked", "_conversation", "_delay", "_entry", "_handoff", "_route", "_runs", "_used", "combo", "speaking",
        "spot",
    )  # fmt: skip

    def __init__(
        self,
        runs: "ComboRuns",
        combo: Combo,
        route: Route,
        speaking: tuple[Any, Any],
        asked: tuple[Conversation | None, Entry],
    ) -> None:
        self._runs = runs
        self.combo = combo
        self._route = route
        self._conversation, self._entry = conversation, entry = asked
        self._handoff: Handoff | None = None
        self._used: tuple[Any, Any] | None = None  # the same call with the handoff in it
        self.spot: Place | None = None  # whose handoffs these are; None: there is no conversation to hand over
        if route.strategy == RELAY and conversation is not None and conversation.known:
            self.spot = Place(entry.record.workspace_id, combo.name, conversation.kept)
        self.speaking = speaking
        self._delay = (combo.settings.get("fallbackDelayMs") or 0) / 1000  # seconds between two targets
        self._asked = False

    async def recall(self) -> None:
        """Look whether another account has handed this conversation over."""
        if self.spot is not None:
            self._handoff = await self._runs.handoffs.find(self.spot)

    def speaking_to(self, target: Target, speaking: tuple[Any, Any]) -> tuple[Any, Any]:
        """The dialect and the call for one target: with the handoff, where the conversation comes from another."""
        if self._handoff is None or target.connection.id == self._handoff.account:
            return speaking
        if self._used is None:
            dialect, call = speaking
            request = with_handoff(dialect.as_request(call, self._entry.exchange.body), self._handoff)
            own = OwnCall.like(call, examined(dialect, request))
            self._used = AlteredDialect(dialect, own, None), own
        return self._used

    def at_its_target(self, problem: Problem) -> Problem:
        """The problem with what is remembered of the conversation."""
        if self._conversation is None:
            return problem
        place = self._runs.memory.place(self._route, self._conversation, pinned=self.combo.pinned)
        if place is None:
            return problem
        return msgspec.structs.replace(problem, memory=msgspec.structs.replace(problem.memory, sticky=place))

    def place(self, target: Target, left: float) -> AbstractAsyncContextManager[None]:
        """A place at a target; the combo says how many there are, and how long to wait before another target is asked.
        Raises GatewayError when entered: OVERLOADED where none is free, UPSTREAM_TIMEOUT once the ``left`` seconds of
        the request are over.
        """
        combo, place, pause = self.combo, NOWHERE, self._delay if self._asked else 0.0
        self._asked = True
        if "concurrencyPerModel" in combo.set_here or (combo.stored and combo.strategy == "round-robin"):
            settings = combo.settings_at(target)
            bounds = Bounds(settings["concurrencyPerModel"], settings["queueDepth"], settings["queueTimeoutMs"] / 1000)
            place = self._runs.places.at(target.id, bounds)
        return _within(left, pause, place) if pause or place is not NOWHERE else NOWHERE

    def answered(self, target: Target) -> None:
        """The conversation goes on there."""
        if self._conversation is not None:
            self._runs.memory.answered(self._route, self._conversation, target.id)
        if self._handoff is not None and self.spot is not None and target.connection.id != self._handoff.account:
            self._runs.handoffs.spend(self.spot)


class ComboRuns:
    """What the requests of combos share."""

    def __init__(self, memory: ComboMemory, handoffs: HandoffBook) -> None:
        self.memory = memory
        self.handoffs = handoffs
        self.beside = SideCalls()
        self.places = Places()

    def begin(self, combo: Combo, route: Route, speaking: tuple[Any, Any], entry: Entry) -> ComboRun:
        """A request of ``combo``. Raises GatewayError(INVALID_REQUEST) when it can't be read."""
        dialect, call = speaking
        entry.record.combo = combo.name
        conversation = None
        if dialect.OPERATION not in OPERATIONS:
            if len(route.steps) > 1 and (route.strategy == RELAY or not combo.settings.get("disableSessionStickiness")):
                conversation = self._conversation(dialect, call, entry)
            speaking = altered(combo, dialect, call, entry.exchange.body)
        return ComboRun(self, combo, route, speaking, (conversation, entry))

    def _conversation(self, dialect: Any, call: Any, entry: Entry) -> Conversation | None:
        exchange = entry.exchange
        fields = call.fields
        request = fields_request(fields) if fields is not None else client_request(dialect, call, exchange.body)
        return conversation_of(entry.record.key_id or "", exchange.headers, request)
