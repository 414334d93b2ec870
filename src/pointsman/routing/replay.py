"""A decision as bytes, small enough to be kept with its request, whole enough to be made again.

Kept are the targets by name, of each what is known and was looked at, the request's wishes, the conditions, the memory,
the time and the seed; never an address, a credential or a word of content. Lists of names that many targets share
(parameters, modalities) are kept once. A route's own part is made once per route and kept for the next request.
"""

import zlib
from collections import OrderedDict
from typing import Any, Final

import msgspec

from pointsman.routing import filters
from pointsman.routing.explain import explained
from pointsman.routing.plan import Condition, Memory, Problem, Route, RoutePlan, Step, plan
from pointsman.routing.strategies import facts_of
from pointsman.routing.targets import Connection, ModelFacts, target_of
from pointsman.routing.wants import Wants

VERSION: Final = 1
MOST_BYTES: Final = 16 * 1024
LARGE_BYTES: Final = 2 * 1024  # from here on bytes are compressed, and facts left out that were not looked at
KEPT_ROUTES: Final = 64
MOST_INFLATED: Final = 8 * 1024 * 1024
_UNREAD: Final = ("models", "hidden", "apart", "created_at")  # of a connection: long, and it decides nothing
_SETS: Final = ""  # the key of those facts that stand among the sets


class StoredTarget(msgspec.Struct, array_like=True, frozen=True):
    """A step: places of its connection and facts in the lists of the route, and its own members."""

    connection: int
    model: str
    facts: int
    weight: float = 0.0
    group: int = 0
    id: str = ""


class StoredRoute(msgspec.Struct, array_like=True, frozen=True):
    """A route. ``facts`` are members that are not None, by name; sets of words stand in ``sets`` under their place."""

    name: str
    kind: str
    strategy: str
    settings: dict[str, Any]
    connections: list[dict[str, Any]]
    sets: list[list[str]]
    facts: list[dict[str, Any]]
    steps: list[StoredTarget]


class StoredPlan(msgspec.Struct, array_like=True, frozen=True):
    """A decision. ``route`` is a StoredRoute, ``conditions`` by the step's place; both may be compressed.

    ``order`` are the steps' places as they were tried. Without ``route`` only ``note`` tells what was not kept and why.
    """

    version: int
    order: list[int]
    note: str = ""
    route: bytes = b""
    wants: Wants | None = None
    conditions: bytes = b""
    memory: Memory | None = None
    now: int = 0
    seed: int = 0


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A kept decision. ``problem`` is None when it was too large to be kept; ``order`` are the targets as tried."""

    problem: Problem | None
    order: tuple[str, ...]
    note: str = ""

    def identical(self) -> bool:
        """Whether the same problem gives the same order today."""
        return self.problem is not None and tuple(target.id for target in plan(self.problem).order) == self.order


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_plan: Final = msgspec.msgpack.Decoder(StoredPlan).decode
_decode_route: Final = msgspec.msgpack.Decoder(StoredRoute).decode
_decode_conditions: Final = msgspec.msgpack.Decoder(dict[int, Condition]).decode
# Routes are made once and asked often. By identity: the entry holds the route, so its id can't be another's.
_routes: OrderedDict[tuple[int, frozenset[str] | None], tuple[Route, bytes, dict[str, int]]] = OrderedDict()


def dump(problem: Problem, made: RoutePlan) -> bytes:
    """The decision as at most MOST_BYTES bytes; one that is larger leaves a note only."""
    route, places = _route(problem.route, None)
    if len(route) > LARGE_BYTES:
        read = facts_of(problem.route.strategy)
        if read is not None:
            route, places = _route(problem.route, read.union(filters.facts_read(problem)))
    conditions = {places[name]: one for name, one in problem.conditions.items() if name in places}
    order = [places[target.id] for target in made.order]
    stored = StoredPlan(
        VERSION, order, "", route, problem.wants, _small(_encode(conditions)) if conditions else b"",
        problem.memory, problem.now, problem.seed,
    )  # fmt: skip
    data = _encode(stored)
    if len(data) <= MOST_BYTES:
        return data
    note = f"not kept: {len(problem.route.steps)} targets, {len(data)} bytes"
    return _encode(StoredPlan(VERSION, [], note))


def load(data: bytes) -> Replay:
    """A kept decision. Raises ValueError when the bytes are none, or of a version that this program does not know."""
    try:
        stored = _decode_plan(data)
        if stored.version != VERSION:
            raise ValueError(f"a stored plan of version {stored.version} can't be read")
        if stored.wants is None:
            return Replay(problem=None, order=(), note=stored.note)
        route = _restored(_decode_route(_whole(stored.route)))
        conditions = _decode_conditions(_whole(stored.conditions)) if stored.conditions else {}
        names = [step.target.id for step in route.steps]
        problem = Problem(
            route=route,
            wants=stored.wants,
            conditions={names[place]: one for place, one in conditions.items()},
            memory=stored.memory or Memory(),
            now=stored.now,
            seed=stored.seed,
        )
        return Replay(problem=problem, order=tuple(names[place] for place in stored.order))
    except (msgspec.DecodeError, msgspec.ValidationError, zlib.error, IndexError, TypeError) as error:
        raise ValueError(f"a stored plan can't be read: {error}") from error


def replayed(kept: bytes) -> dict[str, Any]:
    """A kept decision, made again: the plan with its reasons, and whether it is identical to the original."""
    replay = load(kept)
    if replay.problem is None:
        return {"identical": None, "note": replay.note, "plan": None}
    return {"identical": replay.identical(), "bytes": len(kept), "plan": explained(replay.problem)}


def _route(route: Route, read: frozenset[str] | None) -> tuple[bytes, dict[str, int]]:
    """A route's bytes with the facts named by ``read`` (None: all), and the place of each target's first step."""
    key = (id(route), read)
    found = _routes.get(key)
    if found is None:
        places: dict[str, int] = {}
        for place, step in enumerate(route.steps):
            places.setdefault(step.target.id, place)
        found = (route, _small(_encode(_flat(route, read))), places)
        _routes[key] = found
        if len(_routes) > KEPT_ROUTES:
            _routes.popitem(last=False)
    return found[1], found[2]


def _flat(route: Route, read: frozenset[str] | None) -> StoredRoute:
    connections: dict[int, int] = {}
    accounts: list[dict[str, Any]] = []
    sets: dict[frozenset[str], int] = {}
    facts: dict[int, int] = {}
    known: list[dict[str, Any]] = []
    steps = []
    for step in route.steps:
        target = step.target
        place = connections.get(id(target.connection))
        if place is None:
            place = connections[id(target.connection)] = len(accounts)
            accounts.append(_members(target.connection))
        fact = facts.get(id(target.facts))
        if fact is None:
            fact = facts[id(target.facts)] = len(known)
            known.append(_known(target.facts, read, sets))
        steps.append(StoredTarget(place, target.model, fact, step.weight, step.group, step.id))
    words = [sorted(one) for one in sets]
    return StoredRoute(route.name, route.kind, route.strategy, dict(route.settings), accounts, words, known, steps)


def _members(connection: Connection) -> dict[str, Any]:
    """What a connection has that is not its default."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(Connection):
        value = getattr(connection, field.name)
        if field.name not in _UNREAD and value != field.default:
            found[field.name] = sorted(value) if isinstance(value, frozenset) else value
    return {name: value for name, value in found.items() if value != []}


def _known(facts: ModelFacts, read: frozenset[str] | None, sets: dict[frozenset[str], int]) -> dict[str, Any]:
    """What is known; of sets of words their places in ``sets``."""
    found: dict[str, Any] = {}
    shared: dict[str, int] = {}
    for name in facts.__struct_fields__ if read is None else sorted(read):
        value = getattr(facts, name, None)
        if isinstance(value, frozenset):
            shared[name] = sets.setdefault(value, len(sets))
        elif value is not None:
            found[name] = value
    return {**found, _SETS: shared} if shared else found


def _restored(stored: StoredRoute) -> Route:
    connections = [msgspec.convert(one, Connection) for one in stored.connections]
    facts = [
        msgspec.convert({name: stored.sets[place] for name, place in one.pop(_SETS, {}).items()} | one, ModelFacts)
        for one in stored.facts
    ]
    steps = [
        Step(
            target=target_of(connections[one.connection], one.model, facts[one.facts]),
            weight=one.weight,
            group=one.group,
            id=one.id,
        )
        for one in stored.steps
    ]
    rest = {"name": stored.name, "kind": stored.kind, "strategy": stored.strategy, "settings": stored.settings}
    return msgspec.structs.replace(msgspec.convert({**rest, "steps": ()}, Route), steps=tuple(steps))


def _small(data: bytes) -> bytes:
    """Compressed when that is worth it; the first byte tells: zlib's is 0x78, a list's or map's never is."""
    return zlib.compress(data, 1) if len(data) > LARGE_BYTES else data


def _whole(data: bytes) -> bytes:
    if data[:1] != b"\x78":
        return data
    inflater = zlib.decompressobj()
    whole = inflater.decompress(data, MOST_INFLATED)
    if not inflater.eof:
        raise ValueError("a stored plan is too large")
    return whole
