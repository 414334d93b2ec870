"""What follows a combo's answer, without its client: shadow calls, and the summary that is handed to another account.

Each has a record of its own, whose ``route`` says which it is. Neither holds anything against an upstream: what a
client did not ask for must not move what clients ask for.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from pointsman.canonical.record import SHADOW, Outcome, RequestRecord
from pointsman.canonical.response import Response
from pointsman.entry import Entry
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Call, Dialect, Gateway, Snapshot
from pointsman.hub.combo_runs import ComboRun
from pointsman.hub.fusion import text_of
from pointsman.hub.handoff import MAX_MESSAGES, SECONDS, read_summary, summary_call
from pointsman.hub.kept_exchange import KeptExchange
from pointsman.hub.operation_lane import OPERATIONS
from pointsman.hub.own_calls import CapturingDialect, OwnCall, whole_call
from pointsman.policy.budgets import Bound
from pointsman.policy.handoffs import Handoff, Place, expiry
from pointsman.routing.combos import named_targets
from pointsman.routing.strategies.context_relay import handoff_due
from pointsman.routing.targets import Target

HANDOFF: Final = "handoff"  # the ``route`` of its records
SHADOW_TARGETS: Final = 2  # of one request, where the combo says nothing else; the figures are OmniRoute's
SHADOW_MS: Final = 30_000

Ask = Callable[[Gateway, Dialect, Entry, Call, Snapshot, Target], Awaitable[None]]


class SideCall:
    """A call beside a client's request. ``ask`` is how a target is asked (flow.py)."""

    def __init__(self, gateway: Gateway, ask: Ask, label: str, seconds: float, payer: Bound | None = None) -> None:
        """``seconds`` bound the call; ``payer`` are the budgets that pay for it."""
        self._gateway = gateway
        self._payer = payer
        self._ask = ask
        self._label = label
        self._seconds = seconds

    async def run(self, of: RequestRecord, speaking: tuple[Any, OwnCall], target: Target) -> Response | None:
        """The answer; None when there is none. ``of`` is the record of the client's request.

        The costs of a shadow are nobody's but the operator's: its record names no client's key.
        """
        gateway, (dialect, call) = self._gateway, speaking
        capture: Any = CapturingDialect(dialect, call)
        started = (gateway.clock.monotonic(), gateway.clock.now_us())
        exchange = KeptExchange(gateway.clock.new_id("req"), b"", self._label.encode(), {}, started)
        entry = Entry(gateway, capture, exchange)
        record = entry.record
        record.key_id = SHADOW if self._label == SHADOW else of.key_id
        record.workspace_id, record.request_model = of.workspace_id, call.model
        if self._label != SHADOW:
            record.account_id = of.account_id
        entry.budgets = self._payer
        entry.deadline = gateway.client.ticker.now + self._seconds
        entry.turn_to(target)
        try:
            await self._ask(gateway, capture, entry, call, gateway.snapshot, target)
        except GatewayError as error:
            entry.settle(error.status, Outcome.ERROR, error.kind)
        except BaseException:
            entry.settle(503, Outcome.ERROR, Kind.NOT_READY)  # the process ends
            raise
        return capture.response  # type: ignore[no-any-return]


def follow(gateway: Gateway, ask: Ask, entry: Entry, run: ComboRun) -> None:
    """Begin what a combo wants to be done after an answer. Never waits, never fails."""
    if entry.target is None or entry.record.operation in OPERATIONS or entry.record.outcome is not Outcome.SUCCESS:
        return
    shadows = run.combo.settings.get("shadowRouting")
    if shadows and shadows.get("enabled"):
        _shadow(gateway, ask, entry, run)
    if run.spot is not None:
        _hand_over(gateway, ask, entry, run)


def _shadow(gateway: Gateway, ask: Ask, entry: Entry, run: ComboRun) -> None:
    rules = run.combo.settings["shadowRouting"]
    rate = rules.get("sampleRate")
    if gateway.seed() / 2**64 >= (1.0 if rate is None else rate):
        return
    most = rules.get("maxTargets") or SHADOW_TARGETS
    targets = _shadow_targets(gateway, rules.get("targets") or (), entry)[:most]
    if not targets:
        return
    dialect, call = run.speaking
    own = whole_call(dialect.as_request(call, entry.exchange.body), run.combo.name)
    side = SideCall(gateway, ask, SHADOW, (rules.get("timeoutMs") or SHADOW_MS) / 1000)
    for target in targets:
        gateway.combos.beside.begin(partial(side.run, entry.record, (dialect, own), target))


def _shadow_targets(gateway: Gateway, names: Sequence[str], entry: Entry) -> list[Target]:
    """Of each name the first target that is well and that the client's request may go to; who has answered it is no
    shadow of itself.
    """
    answered = entry.target
    catalogue, health, now = gateway.snapshot.catalogue, gateway.health, gateway.clock.now_us()
    found: dict[str, Target] = {}
    for name in names:
        for target in named_targets(name, catalogue):
            other = (answered is None or target.id != answered.id) and target.id not in found
            if other and health.ready(target, now) and entry.may_go_to(target):
                found[target.id] = target
                break
    return list(found.values())


def _hand_over(gateway: Gateway, ask: Ask, entry: Entry, run: ComboRun) -> None:
    """Have a summary made when the account is near the end of its quota."""
    target, settings, place = entry.target, run.combo.settings, run.spot
    if target is None or place is None or not _hands_over(target, settings.get("handoffProviders") or ()):
        return
    now = gateway.clock.now_us()
    condition = gateway.health.standing_of(target.connection.id, now)
    if not handoff_due(condition, settings) or not gateway.combos.handoffs.begin(place):
        return
    dialect, call = run.speaking
    maker = _maker(gateway, settings.get("handoffModel"), entry, target)
    most = settings.get("maxMessagesForSummary") or MAX_MESSAGES
    own = summary_call(dialect.as_request(call, entry.exchange.body), maker.id, most)
    resets = min((window.resets_at for window in condition.windows if window.resets_at is not None), default=None)
    empty = Handoff(account=target.connection.id, expires_at=expiry(now, resets), summary="")
    side = SideCall(gateway, ask, HANDOFF, SECONDS, entry.budgets)
    begun = own is not None and gateway.combos.beside.begin(
        partial(_sum_up, gateway, side, entry.record, (dialect, own), (maker, place, empty))
    )
    if not begun:
        gateway.combos.handoffs.failed(place)


def _hands_over(target: Target, providers: Sequence[str]) -> bool:
    """Whether a provider's accounts are summed up: all, where the combo names none."""
    return not providers or target.connection.id in providers or target.connection.vendor in providers


def _maker(gateway: Gateway, name: str | None, entry: Entry, current: Target) -> Target:
    """Who makes the summary: the model that the combo names, if it is well and may, else the one that has answered."""
    targets, now = named_targets(name, gateway.snapshot.catalogue) if name else [], gateway.clock.now_us()
    return next((one for one in targets if gateway.health.ready(one, now) and entry.may_go_to(one)), current)


async def _sum_up(
    gateway: Gateway,
    side: SideCall,
    of: RequestRecord,
    speaking: tuple[Any, OwnCall],
    to: tuple[Target, Place, Handoff],
) -> None:
    maker, place, empty = to
    handoff: Handoff | None = None
    try:
        response = await side.run(of, speaking, maker)
        handoff = read_summary(text_of(response), empty.account, empty.expires_at)
    finally:
        if handoff is None:
            gateway.combos.handoffs.failed(place)
        else:
            gateway.combos.handoffs.keep(place, handoff)
