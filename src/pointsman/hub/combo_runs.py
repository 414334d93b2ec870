"""One request that names a combo: what the combo makes of it, where its conversation stays, its place at a target."""

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, Protocol

import msgspec

from pointsman.canonical.record import RequestRecord
from pointsman.hub.combo_calls import altered
from pointsman.hub.operation_lane import OPERATIONS
from pointsman.policy.combo_memory import ComboMemory
from pointsman.policy.conversations import Conversation, conversation_of, fields_request
from pointsman.routing.combos import Combo
from pointsman.routing.plan import Problem, Route
from pointsman.routing.targets import Target
from pointsman.upstream.places import Bounds, Places

NOWHERE: Final[AbstractAsyncContextManager[None]] = nullcontext()


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


class ComboRun:
    """One request of a combo. ``speaking`` are the dialect and the call that its targets get."""

    __slots__ = ("_combo", "_conversation", "_route", "_runs", "speaking")

    def __init__(
        self,
        runs: "ComboRuns",
        combo: Combo,
        route: Route,
        speaking: tuple[Any, Any],
        conversation: Conversation | None,
    ) -> None:
        self._runs = runs
        self._combo = combo
        self._route = route
        self._conversation = conversation
        self.speaking = speaking

    def at_its_place(self, problem: Problem) -> Problem:
        """The problem with what is remembered of the conversation."""
        if self._conversation is None:
            return problem
        place = self._runs.memory.place(self._route, self._conversation, pinned=self._combo.pinned)
        if place is None:
            return problem
        return msgspec.structs.replace(problem, memory=msgspec.structs.replace(problem.memory, sticky=place))

    def place(self, target: Target) -> AbstractAsyncContextManager[None]:
        """A place at a target; the combo says how many there are. Raises GatewayError(OVERLOADED) when entered."""
        combo = self._combo
        if "concurrencyPerModel" not in combo.set_here and not (combo.stored and combo.strategy == "round-robin"):
            return NOWHERE
        settings = combo.settings_at(target)
        bounds = Bounds(settings["concurrencyPerModel"], settings["queueDepth"], settings["queueTimeoutMs"] / 1000)
        return self._runs.places.at(target.id, bounds)

    def answered(self, target: Target) -> None:
        """The conversation goes on there."""
        if self._conversation is not None:
            self._runs.memory.answered(self._route, self._conversation, target.id)


class ComboRuns:
    """What the requests of combos share."""

    def __init__(self, memory: ComboMemory) -> None:
        self.memory = memory
        self.places = Places()

    def begin(self, combo: Combo, route: Route, speaking: tuple[Any, Any], entry: Entry) -> ComboRun:
        """A request of ``combo``. Raises GatewayError(INVALID_REQUEST) when it can't be read."""
        dialect, call = speaking
        entry.record.combo = combo.name
        conversation = None
        if dialect.OPERATION not in OPERATIONS:
            if len(route.steps) > 1 and not combo.settings.get("disableSessionStickiness"):
                conversation = self._conversation(dialect, call, entry)
            speaking = altered(combo, dialect, call, entry.exchange.body)
        return ComboRun(self, combo, route, speaking, conversation)

    def _conversation(self, dialect: Any, call: Any, entry: Entry) -> Conversation | None:
        exchange = entry.exchange
        request = fields_request(call.fields) if call.fields is not None else dialect.as_request(call, exchange.body)
        return conversation_of(entry.record.key_id or "", exchange.headers, request)
