"""A request that two targets work on at once: the first to answer its client wins, the other one is cancelled.

What the loser has used is counted with the winner's, once, and stands by itself in the record's attempts.
"""

import asyncio
from typing import Any, Final

from pointsman.accounting.pricing import Price
from pointsman.canonical.record import Outcome
from pointsman.canonical.usage import TokenUsage
from pointsman.entry import Entry, PartEntry
from pointsman.errors import Kind
from pointsman.gateway import Dialect, Gateway, Snapshot
from pointsman.routing.targets import Target
from pointsman.upstream.attempts import Lost
from pointsman.upstream.hedging import HedgeTerms

# What a call's books tell of it that is not summed up.
TAKEN: Final = (
    "connection_id", "provider", "response_model", "finish_reason", "input_tokens", "output_tokens",
    "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "usage_estimated", "cost_nano_usd", "byok",
    "fidelity", "bytes_out", "target",
)  # fmt: skip
UNKNOWN_OUTPUT: Final = 4096  # tokens that an answer may have whose limit nobody knows


class RacedExchange:
    """The client, as one of several attempts sees it: only the one that wins gets through."""

    def __init__(self, exchange: Any, race: "Race") -> None:
        self._exchange = exchange
        self._race = race
        self._pace: Any = None
        self.racer: RacerEntry
        self.body = exchange.body
        self.limit_head = exchange.limit_head  # with what this attempt's connection adds to it

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    @property
    def throttle(self) -> Any:
        """What the client's pace is told to."""
        return self._pace

    @throttle.setter
    def throttle(self, pace: Any) -> None:
        self._pace = pace
        if self._race.winner is self.racer:
            self._exchange.throttle = pace

    def respond(self, *parts: Any, **more: Any) -> None:
        """The whole answer."""
        if self._race.win(self.racer):
            self._exchange.limit_head = self.limit_head
            self._exchange.respond(*parts, **more)

    def start(self, *parts: Any) -> None:
        """The beginning of a streamed answer."""
        if self._race.win(self.racer):
            self._exchange.throttle = self._pace
            self._exchange.limit_head = self.limit_head
            self._exchange.start(*parts)

    def write(self, data: bytes) -> None:
        """A part of it."""
        if self._race.winner is self.racer:
            self._exchange.write(data)

    def finish(self) -> None:
        """Its end."""
        if self._race.winner is self.racer:
            self._exchange.finish()

    def cut(self) -> None:
        """Its break."""
        if self._race.winner is self.racer:
            self._exchange.cut()


class RacerEntry(PartEntry):
    """The books of one of several attempts; the winner's become the request's."""

    __slots__ = ("_race", "began", "task")

    def __init__(self, gateway: Gateway, dialect: Dialect, exchange: Any, race: "Race") -> None:
        super().__init__(gateway, dialect, exchange)
        self._race = race
        self.began = gateway.clock.monotonic()
        self.task = asyncio.current_task()

    def leave(self) -> None:
        """Nothing more is counted here."""
        super().settle(0, Outcome.ERROR)

    def settle(self, status: int, outcome: Outcome, kind: Kind | None = None) -> None:
        """The winner's end is the request's."""
        if not self._settled and self._race.win(self):
            self._race.settled(self, status, outcome, kind)


class Race:
    """The attempts of one request that may be hedged (`upstream.hedging.Hedging`)."""

    def __init__(
        self, gateway: Gateway, speaking: tuple[Dialect, int], entry: Entry, snapshot: Snapshot, terms: HedgeTerms
    ) -> None:
        """``speaking`` is the dialect, and how many tokens the caller allows an answer (0: as many as the model)."""
        self._gateway = gateway
        self._dialect, self._most_tokens = speaking
        self._entry = entry
        self._snapshot = snapshot
        self._terms = terms
        self._running: list[RacerEntry] = []
        self._hedged = False
        self._second: RacerEntry | None = None
        self.winner: RacerEntry | None = None
        gateway.hedges.accrue(terms.share)

    # for attempts

    @property
    def answering(self) -> bool:
        """True once one of them has begun to answer the client."""
        return self.winner is not None

    def after(self, target: Target) -> float | None:
        """Seconds after which another target is asked beside this one."""
        return self._gateway.hedges.after((target.id, self._entry.record.stream), self._terms)

    def may(self, target: Target) -> bool:
        """Whether this target may be asked as the second one: what it may cost, and how many have had one."""
        hedges = self._gateway.hedges
        if self._terms.cost and (worst := self._worst(target)) is not None and worst > self._terms.cost:
            hedges.counts["over_cost"] += 1
            return False
        self._hedged = hedges.take()
        return self._hedged

    def _worst(self, target: Target) -> int | None:
        """What an answer may cost (nano-USD); more than anything when its price isn't known."""
        price = self._snapshot.endpoints[target.endpoint].known_price(target.model)
        if not isinstance(price, Price):
            return self._terms.cost + 1
        problem = self._entry.planned.problem if self._entry.planned is not None else None
        output = self._most_tokens or target.facts.max_output_tokens or UNKNOWN_OUTPUT
        return price.cost_nano_usd(
            TokenUsage(input_tokens=problem.wants.input_tokens if problem is not None else 0, output_tokens=output)
        )

    # for the flow

    def enter(self, target: Target) -> RacerEntry:
        """The books of an attempt that begins, in the current task."""
        entry = self._entry
        exchange: Any = RacedExchange(entry.exchange, self)
        racer = exchange.racer = RacerEntry(self._gateway, self._dialect, exchange, self)
        racer.record.request_model, racer.record.stream = entry.record.request_model, entry.record.stream
        racer.belong_to(entry)
        racer.planned, racer.attempts = entry.planned, entry.attempts
        racer.reservation = entry.reservation  # the request settles it
        racer.deadline, racer.limits = entry.deadline, entry.limits
        racer.turn_to(target)
        self._running.append(racer)
        if self._hedged and self._second is None:
            self._second = racer
        return racer

    def leave(self, racer: Entry) -> None:
        """An attempt is over. One that failed, or was given up with the request, is counted with the request."""
        if not isinstance(racer, RacerEntry) or racer not in self._running:
            return  # it has lost, and was counted then
        self._running.remove(racer)
        if racer is self.winner:
            self._take(racer)  # it had begun when the client went away
        else:
            self._count(racer)
            for name in ("connection_id", "provider", "target"):
                setattr(self._entry.record, name, getattr(racer.record, name))

    # for the attempts' own books and ways

    def win(self, racer: RacerEntry) -> bool:
        """The first attempt that answers: all others are cancelled. False for any other."""
        if self.winner is None and racer in self._running:
            self.winner = racer
            self._learn(racer)
            others = [one for one in self._running if one is not racer]
            self._running = [racer]
            for other in others:
                self._lose(other)
            if self._second is not None:
                self._gateway.hedges.counts["won" if racer is self._second else "lost"] += 1
        return self.winner is racer

    def settled(self, racer: RacerEntry, status: int, outcome: Outcome, kind: Kind | None) -> None:
        """The winner's answer is at its end, and with it the request."""
        if racer in self._running:
            self._running.remove(racer)
            self._take(racer)
            self._entry.settle(status, outcome, kind)

    def _learn(self, racer: RacerEntry) -> float:
        seconds = self._gateway.clock.monotonic() - racer.began
        assert racer.target is not None
        self._gateway.hedges.add((racer.target.id, self._entry.record.stream), seconds)
        return seconds

    def _lose(self, racer: RacerEntry) -> None:
        seconds = self._learn(racer)
        racer.give_up()
        used = self._count(racer)
        if self._entry.attempts is not None and racer.target is not None:
            self._entry.attempts.lost.append(Lost(racer.target, int(seconds * 1e6), used))
        if racer.task is not None:
            racer.task.cancel()

    def _count(self, racer: RacerEntry) -> dict[str, Any]:
        """Have the request's books count what an attempt has used; gives it."""
        record, went_out = racer.record, racer.went_out
        racer.leave()
        if went_out:
            self._entry.absorb(record)
        self._entry.keep_hold_of(racer)
        return {
            "input_tokens": record.input_tokens,
            "output_tokens": record.output_tokens,
            "estimated": record.usage_estimated,
            "cost_nano_usd": record.cost_nano_usd,
        }

    def _take(self, racer: RacerEntry) -> None:
        record = self._entry.record
        for name in TAKEN:
            setattr(record, name, getattr(racer.record, name))
        self._entry.keep_hold_of(racer)
        self._entry.take_over(racer)
