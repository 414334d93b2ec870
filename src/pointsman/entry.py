"""A request's record while it runs: what is counted, and its one settlement."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from pointsman.accounting.billing import add_costs, bill, cost_with_byok, fee_of
from pointsman.accounting.budget_desk import Hold
from pointsman.accounting.estimation import estimate_tokens, estimate_usage, tokens_of
from pointsman.accounting.pricing import Price
from pointsman.canonical.identity import Costs
from pointsman.canonical.record import CacheOutcome, Outcome, RequestRecord
from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Call, Dialect, Exchange, Gateway
from pointsman.hub.continuation import Continuation
from pointsman.hub.own_calls import OwnCall
from pointsman.identity.keys import PREPAID, Key
from pointsman.planning import Planned, aside, told_of
from pointsman.policy.budgets import Bound, charge
from pointsman.policy.key_habits import bare
from pointsman.policy.limits import Reservation
from pointsman.policy.sessions import SESSION_HEADERS, session_line, session_named
from pointsman.routing.bounds import is_permitted
from pointsman.routing.metadata import Told, wanted
from pointsman.routing.presets import Preset
from pointsman.routing.targets import Target, target_of
from pointsman.runner import in_task
from pointsman.settings import UpstreamSettings
from pointsman.ticker import NEVER
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.attempts import Attempts
from pointsman.upstream.endpoints import Endpoint, Pending, Reading


class Watched(Reading, Protocol):
    """A stream that goes by: what it has told so far, and how many events there were."""

    @property
    def events(self) -> int: ...


MAX_TEXT = 256  # characters of an upstream's own words that a record keeps


class Entry:
    """A request's record while it runs, and its one settlement."""

    __slots__ = (
        "_answers", "_before", "_endpoint", "_gateway", "_hold", "_model", "_sent_at", "_sent_before", "_settled",
        "admitted", "attempts", "budgets", "continuation", "deadline", "dialect", "exchange", "limits", "planned",
        "preset", "reader", "record", "reservation", "session", "target", "unlogged", "upstream_reservation",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, dialect: Dialect, exchange: Exchange) -> None:
        self._gateway = gateway
        self._endpoint: Endpoint | None = None
        self._model = ""
        self._sent_at = 0.0  # of this attempt; 0 while nothing was to be sent
        self._answers: tuple[CollectedAnswer, ...] = ()  # of this attempt: they know whether they got a connection
        self._sent_before = False  # an earlier attempt went out
        self._settled = False
        self._before: RequestRecord | None = None
        self._hold: Hold | None = None  # of the budgets
        self.budgets: Bound | None = None  # those that bind this call
        self.dialect = dialect
        self.admitted = False
        self.unlogged = False  # its key wants nothing kept but what money needs
        self.attempts: Attempts | None = None
        self.deadline = NEVER  # of the attempt, on the ticker's clock
        self.limits: UpstreamSettings | None = None  # of the attempt's phases, when they are not those of all calls
        self.planned: Planned | None = None
        self.preset: Preset | None = None  # that the request was filled in with
        self.target: Target | None = None
        self.reader: Watched | None = None  # of the stream that this attempt gets
        self.continuation: Continuation | None = None  # when another target may go on with a stream that breaks
        self.reservation: Reservation | None = None  # of the key and its workspace
        self.upstream_reservation: Reservation | None = None  # of the connection
        self.exchange, asked = exchange, exchange.headers
        self.session: str | None = None  # the id of its conversation
        if FIRST in asked or SECOND in asked or THIRD in asked or FOURTH in asked:  # a loop would cost three times it
            self.session = session_named(asked)
        self.record = RequestRecord(
            request_id=exchange.request_id,
            created_at=exchange.started_at,
            operation=dialect.OPERATION,
            route=exchange.path.decode("ascii", "replace"),
            dialect=dialect.NAME,
            bytes_in=len(exchange.body),
        )

    def begin_session(self, key: Key, name: str) -> None:
        """The request of ``key`` belongs to this conversation; the client is told so.

        Raises GatewayError(RATE_LIMITED) when the key has too many.
        """
        self.session, sessions = name, self._gateway.sessions
        if most := sessions.allowed(key.settings):
            sessions.admit(name, key.id, int(self._gateway.clock.monotonic() * 1e6), most)
        self.exchange.api_head += session_line(name)

    def may_go_to(self, target: Target) -> bool:
        """Whether the guardrails leave this target to the request, for a part of it that no plan has a place for."""
        bounds = self.planned.problem.wants.bounds if self.planned is not None else None
        return bounds is None or is_permitted(bounds, target)

    def speak(self, dialect: Dialect) -> Dialect:
        """The client is answered in this dialect from now on."""
        self.dialect = dialect
        self.record.dialect = dialect.NAME
        return dialect

    def turn_to(self, target: Target) -> None:
        """Another target is tried. What the one before has cost stays counted."""
        if self.target is not None:
            self.put_aside()
        self.target = target
        self.record.target = target.id

    def put_aside(self) -> None:
        """The attempt before is over, if there was one: what it has cost stays counted, the rest is given back."""
        record, before, went_out = self.record, self._before, self.went_out
        if self.upstream_reservation is not None:
            self.upstream_reservation.settle(record.input_tokens + record.output_tokens if went_out else None)
            self.upstream_reservation = None
        if self.reservation is None:
            self.exchange.limit_head = b""  # the connection's: the client hears of its own limits, if it has any
        self._sent_before = self._sent_before or went_out
        self._sent_at, self._answers, self.reader = 0.0, (), None
        if _is_used(record):
            bill(record, self._gateway.billing)
            if before is None:
                self._before = msgspec.structs.replace(record)
            else:
                _add(before, record)
            for field in COUNTED:
                setattr(record, field, 0)
            record.cost_nano_usd = record.upstream_cost_nano_usd = record.exemption = None
            record.usage_estimated = record.byok = False

    async def afford(self, call: Call, endpoint: Endpoint, target: Target, writes: bool | None) -> None:
        """Reserve the most that a call to ``target`` can cost, beside what attempts before it have cost already.

        ``writes``: whether its answer is text of any length; None: it is paid by something else than tokens.
        Raises BudgetExceeded, or GatewayError(OVERLOADED) when nobody can tell now.
        """
        budgets, bound = self._gateway.budgets, self.budgets
        if budgets is None or bound is None or not bound.hard:
            return
        price = endpoint.known_price(target.model)
        if isinstance(price, Pending):
            await in_task()
            price = await endpoint.price(target.model)
        output = call.max_output_tokens
        if writes:
            output = budgets.most_tokens(output, target.facts.max_output_tokens, call.choices)
        body = estimate_tokens(self.exchange.body, 0)
        if isinstance(call, OwnCall):
            body = max(body, tokens_of(call.text_bytes))
        at = self.record.created_at
        known = price if writes is not None else None
        worst = budgets.worst_case(known, (body, output), at, prepaid=bound.key_kind == PREPAID)
        if endpoint.byok and known is not None:
            fee = fee_of(worst, self._gateway.billing)
            worst = worst + fee if bound.byok else fee
        spent = self._held_for(self._before) if self._before is not None else 0
        self._hold = await budgets.reserve(bound, self._hold, spent + worst, at)

    def _held_for(self, record: RequestRecord) -> int:
        """What must stay reserved for a call that is over, as long as the whole request is not."""
        counted = self.budgets is not None and self.budgets.byok
        return cost_with_byok(record) if counted else record.cost_nano_usd or 0

    def belong_to(self, whole: "Entry") -> None:
        """Count for the same caller, in the same budgets."""
        record = whole.record
        self.record.key_id, self.record.workspace_id = record.key_id, record.workspace_id
        self.record.account_id, self.budgets = record.account_id, whole.budgets
        self.unlogged = whole.unlogged

    def keep_hold_of(self, part: "Entry") -> None:
        """Hold what a part of this request has cost, until the whole is settled."""
        if part._hold is None:
            return
        if self._hold is None:
            part._hold.try_resize(min(part._hold.amount, part._held_for(part.record)))
            self._hold = part._hold
        else:
            part._hold.move(part._held_for(part.record), self._hold)
            part._hold.settle(0)
        part._hold = None

    def absorb(self, other: RequestRecord) -> None:
        """Count what another call for the same request has used."""
        if self._before is None:
            self._before = msgspec.structs.replace(other)
        else:
            _add(self._before, other)

    @property
    def went_out(self) -> bool:
        """Whether any call of this attempt was sent: it had something to send, and got a connection for it."""
        if not self._sent_at:
            return False
        for answer in self._answers:
            if answer.connection is not None:
                return True
        return not self._answers

    def give_up(self) -> None:
        """Nobody waits for this attempt any more: what it has used is counted as far as it was told, else estimated.

        The upstream has worked on what was sent: the input, at least, is used.
        """
        reader = self.reader
        if not self.went_out:
            return
        if reader is not None:
            self.read(reader.model, reader.finish_reason, reader.usage, reader.events - 1)
        elif not _is_used(self.record):
            self.read(None, None, None, 0)

    def take_over(self, other: "Entry") -> None:
        """Another entry's call is this request's own from here on; its figures are in this record already."""
        self._endpoint, self._model, self._sent_at = other._endpoint, other._model, other._sent_at
        self._answers = other._answers
        self.target = other.target
        self.upstream_reservation, other.upstream_reservation = other.upstream_reservation, None
        other._settled = True

    def sent(self, endpoint: Endpoint, model: str | None) -> None:
        """The call goes to this upstream as soon as there is a connection. ``model`` is None where none is asked.

        A price that isn't known yet is looked up meanwhile; a call that is over sooner is recorded as unpriced.
        """
        self.record.connection_id = endpoint.connection_id
        self.record.provider = endpoint.provider
        self.record.byok = endpoint.byok
        self._endpoint = endpoint
        self._sent_at = self._gateway.clock.monotonic()
        if model is not None:
            self._model = model
            endpoint.known_price(model)

    async def count_calls(self, further: int) -> None:
        """The attempt asks its connection so many times more: have its limits of requests count that.

        Raises GatewayError(RATE_LIMITED) when not all of them fit; then none is counted.
        """
        reservation = self.upstream_reservation
        if reservation is None or not further:
            return
        await in_task()
        try:
            await reservation.extend(further)
        finally:
            if self.reservation is None:  # else the client is told of its own limits
                self.exchange.limit_head = self.dialect.render_limits(reservation.standing)

    def uncount_calls(self, unmade: int) -> None:
        """So many of those calls were not made, as one before them failed."""
        if self.upstream_reservation is not None and unmade:
            self.upstream_reservation.give_back(unmade)

    @property
    def price_rule(self) -> str | None:
        """Where the price of the call comes from, as one word; None while there is none."""
        price = self._endpoint.known_price(self._model) if self._endpoint is not None else None
        return price.source.replace(": ", ":").replace(" ", "-") if isinstance(price, Price) else None

    def aside(self) -> dict[str, Any]:
        """What some clients are told beside the answer: who gives it, and how it was found."""
        catalogue, namer = self._gateway.snapshot.catalogue, self._gateway.planner.namer
        connection = catalogue.connections.get(self.record.connection_id or "")
        if connection is None:
            return {}
        out: dict[str, Any] = {"provider": namer(connection)}
        if wanted(self.exchange.headers):
            answered = self.target or target_of(connection, self._model)
            spent = int((self._gateway.clock.monotonic() - self._sent_at) * 1e3)
            out |= aside(self._told()._replace(answered=answered, generation_ms=spent), namer)
        return out

    def costs(self, usage: TokenUsage) -> Costs | None:
        """What the call costs when it has used so much, with all attempts before it; None where a price is unknown."""
        endpoint, before = self._endpoint, self._before
        price = endpoint.known_price(self._model) if endpoint is not None else None
        if endpoint is None or not isinstance(price, Price):
            return None
        upstream = price.cost_nano_usd(usage, self.record.created_at)
        charged = fee_of(upstream, self._gateway.billing) if endpoint.byok else upstream
        earlier = before.cost_nano_usd or 0 if before is not None else 0
        return Costs(charged + earlier, upstream, endpoint.byok)

    def beside(self, error: GatewayError) -> dict[str, Any] | None:
        """What some clients are told beside an error of a request that was routed."""
        if self.planned is None or error.status == 500 or not wanted(self.exchange.headers):
            return None
        return aside(self._told(), self._gateway.planner.namer)

    def _told(self) -> Told:
        tried = self.attempts.tried if self.attempts is not None else ()
        return told_of(self.planned, self.record.request_model or "", tried, None)

    def read(self, model: str | None, finish_reason: str | None, usage: TokenUsage | None, produced: int) -> None:
        """What the answer told; ``produced`` is about how many tokens came when ``usage`` is None."""
        if self._settled:
            return  # the record is written: whoever counts it must see the same
        record = self.record
        record.response_model = model[:MAX_TEXT] if model is not None else None
        record.finish_reason = finish_reason[:MAX_TEXT] if finish_reason is not None else None
        if usage is None:
            usage = estimate_usage(record.bytes_in, produced)
        record.input_tokens = usage.input_tokens
        record.output_tokens = usage.output_tokens
        record.cache_read_tokens = usage.cache_read_tokens
        record.cache_write_tokens = usage.cache_write_tokens
        record.reasoning_tokens = usage.reasoning_tokens
        record.usage_estimated = usage.estimated
        price = self._endpoint.known_price(self._model) if self._endpoint is not None else None
        if isinstance(price, Price):
            record.cost_nano_usd = price.cost_nano_usd(usage, record.created_at)

    def settle_stream(self, error: GatewayError | None) -> None:
        """Write the record of an answer that went to the client as it came; ``error`` is how it broke.

        Nothing is left to try then, but the next request shall know. What is raised is judged by whoever tries targets.
        """
        if error is None:
            self.settle(200, Outcome.SUCCESS)
            return
        if self.target is not None and not self._settled:
            ends = (self.deadline, NEVER)
            attempts = self.attempts or Attempts(self._gateway.health, self._gateway.clock, deadline=ends)
            attempts.broke(self.target, error.kind)
        self.settle(200, Outcome.ERROR, error.kind)

    def settle(self, status: int, outcome: Outcome, kind: Kind | None = None) -> None:
        """Write the record, once; later calls do nothing."""
        if self._settled:
            return
        self._settled, went_out = True, self.went_out
        self.reader, self._answers = None, ()  # they write for the client, who is told of this entry: a ring
        record = self.record
        record.status = status
        record.outcome = outcome
        record.error_kind = kind.value if kind is not None else None
        now, exchange = self._gateway.clock.monotonic(), self.exchange
        record.duration_us = int((now - exchange.started) * 1e6)
        if exchange.first_byte is not None:
            record.first_byte_us = int((exchange.first_byte - exchange.started) * 1e6)
        if went_out:
            record.upstream_us = int((now - self._sent_at) * 1e6)
        record.bytes_out += exchange.bytes_out
        tokens = record.input_tokens + record.output_tokens
        if self.upstream_reservation is not None:
            self.upstream_reservation.settle(tokens if went_out else None)
        if record.cost_nano_usd and (
            not record.output_tokens or record.byok or record.finish_reason == "error" or kind
        ):
            bill(record, self._gateway.billing)
        if self._before is not None:
            _add(record, self._before)
            tokens = record.input_tokens + record.output_tokens
        if self.reservation is not None:
            used = went_out or self._sent_before or self._before is not None or record.cache in FROM_CACHE
            self.reservation.settle(tokens if used else None)
        if self.session is not None:
            self._gateway.sessions.count(self.session, record, self._gateway.clock.now_us())
        if self.attempts is not None:
            record.attempts = self.attempts.log()
        if self.budgets is not None:
            charge(self.budgets, record)
        if record.key_id is None:
            self._gateway.ledger.note(record)  # strangers can't fill the journal
        elif self.unlogged:
            self._gateway.ledger.write(bare(record), quiet=True)
        else:
            self._gateway.ledger.write(record)
        if self._hold is not None:  # only now: what the journal holds is held no more
            counted = self.budgets.byok if self.budgets is not None and record.byok else ()
            self._hold.settle(record.cost_nano_usd or 0, dict.fromkeys(counted, cost_with_byok(record)))
        self._gateway.observe(record)

    def leave(self) -> None:
        """Another entry has this request's record."""
        self._settled = True

    def listen(self, answer: CollectedAnswer) -> None:
        """This is the answer to the call, or to one of several; now and then its head tells the account's limits."""
        self._answers += (answer,)
        gateway, endpoint, target = self._gateway, self._endpoint, self.target
        if endpoint is None or target is None or endpoint.look_at > self.record.created_at:
            return

        def learn(headers: Mapping[bytes, bytes]) -> None:
            endpoint.look_at = gateway.health.learn(target.connection, headers, gateway.clock.now_us())

        answer.look = learn


class PartEntry(Entry):
    """The books of a call that is one of several for a request: counted there, never written by itself."""

    def settle(self, status: int, outcome: Outcome, kind: Kind | None = None) -> None:
        """Nothing more is counted; later calls do nothing."""
        if self._settled:
            return
        self._settled, went_out = True, self.went_out
        self.reader, self._answers = None, ()  # they write for the client, who is told of this entry: a ring
        record = self.record
        bill(record, self._gateway.billing)
        if self.upstream_reservation is not None:
            self.upstream_reservation.settle(record.input_tokens + record.output_tokens if went_out else None)


FIRST, SECOND, THIRD, FOURTH = SESSION_HEADERS
FROM_CACHE: Final = (CacheOutcome.HIT, CacheOutcome.SEMANTIC)
COUNTED: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


def _is_used(record: RequestRecord) -> bool:
    return bool(record.input_tokens or record.output_tokens or record.cost_nano_usd is not None)


def _add(record: RequestRecord, other: RequestRecord) -> None:
    """Count what another attempt has used. The cost of one that used tokens at no known price makes the sum unknown."""
    unknown = any(one.cost_nano_usd is None for one in (record, other) if _is_used(one))
    add_costs(record, other, unknown=unknown)
    for field in COUNTED:
        setattr(record, field, getattr(record, field) + getattr(other, field))
    record.usage_estimated = record.usage_estimated or other.usage_estimated
