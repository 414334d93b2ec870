"""How much is measured: the scenarios by name, and their efforts quick, usual and full."""

from dataclasses import replace

from benchmarks.scenarios import LADDER, MAIN_STEP, OTHERS, STREAMS, Effort

# For peers that are slower by orders of magnitude.
PEER_SCENARIOS = ("start", "requests", "latency", "streams-fast", "streams-few")
PEER_LADDER = (1, MAIN_STEP)
QUICK_SCENARIOS = ("start", "requests", "latency", "streams-fast", "streams-25ms", "1mb")
QUICK_LADDER = (1, MAIN_STEP)
NAMES = ("start", "memory", "requests", "latency", "frontier", *STREAMS, *OTHERS, "workers")
USUAL_SCENARIOS = tuple(name for name in NAMES if name != "streams-few")

# A slow moment of the machine can decide the 99th percentile of a round: those that are asked for it have five, so that
# two such rounds are none of the median's.
USUAL = {
    "start": Effort(5, 0),
    "memory": Effort(1, 3),
    "requests": Effort(3, 2),
    "latency": Effort(5, 2),
    "frontier": Effort(4, 0.7),
    "streams-fast": Effort(2, 2),
    "streams-25ms": Effort(5, 2),
    "streams-5ms": Effort(5, 2),
    "streams-5ms-500": Effort(2, 2),
    "streams-translated": Effort(2, 2),
    "streams-few": Effort(2, 2),
    "tls": Effort(2, 2),
    "100kb": Effort(2, 2),
    "1mb": Effort(2, 2),
    "translated": Effort(3, 2),
    "workers": Effort(2, 2),
}


def efforts(*, quick: bool, full: bool, rounds: int | None, seconds: float | None) -> dict[str, Effort]:
    """The effort of every scenario. A quick one is a round of one second."""
    chosen = dict(USUAL)
    if quick:
        chosen = {name: Effort(1, min(1, effort.seconds)) for name, effort in chosen.items()}
        chosen["start"], chosen["frontier"] = Effort(2, 0), Effort(3, 1)
    if full:
        chosen = {name: Effort(effort.rounds * 2, effort.seconds * 1.5) for name, effort in chosen.items()}
        chosen["frontier"] = Effort(7, 3)
    for name, effort in chosen.items():
        chosen[name] = replace(effort, rounds=rounds or effort.rounds, seconds=seconds or effort.seconds)
    return chosen


def ladder(*, quick: bool, peers: bool) -> tuple[int, ...]:
    """Connections of the closed loop."""
    return PEER_LADDER if peers else QUICK_LADDER if quick else LADDER


def step_effort(effort: Effort, connections: int) -> Effort:
    """The main step of the ladder gets all of the effort, the others a third of the rounds."""
    return effort if connections == MAIN_STEP else replace(effort, rounds=max(1, effort.rounds // 3))
