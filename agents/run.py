"""``python -m agents.run``: every agent takes a tool-using turn onto every upstream format; prints a table.

Exit status 0 when every turn passed, 1 when one failed, 2 when the run could not be made.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agents.machine import INSIDE, AgentsError, install, isolated, raise_loopback
from agents.programs import AGENTS, Agent
from agents.turns import FORMATS, Turn, take_turn

_COLUMNS: Final = ("agent", "version", "upstream", "tool used", "final text", "requests", "seconds", "fidelity ledger")
_SERIOUS: Final = ("dropped", "approximated")


def main() -> int:
    """Install, isolate, run, report."""
    arguments = _arguments()
    try:
        if not arguments.inside:
            install(arguments.agents)
            status = None if arguments.network else isolated(sys.argv[1:])
            if status is not None:
                return status
            print("no network of its own: the agents could reach other hosts", flush=True)
        else:
            raise_loopback()
        turns = _take_turns(arguments.agents, arguments.formats)
    except AgentsError as error:
        print(error, file=sys.stderr)
        return 2
    _report(turns)
    return 0 if all(turn.passed for turn in turns) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m agents.run", description=__doc__)
    by_name = {agent.name.lower().split()[0].rstrip(","): agent for agent in AGENTS}
    parser.add_argument("--agent", action="append", choices=sorted(by_name), help="only this one; may be repeated")
    parser.add_argument("--upstream", action="append", choices=sorted(FORMATS), help="only this one; may be repeated")
    parser.add_argument("--network", action="store_true", help="don't cut the agents off from other hosts")
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    packages = {by_name[name].package for name in arguments.agent or by_name}
    arguments.agents = [agent for agent in AGENTS if agent.package in packages]
    arguments.formats = arguments.upstream or list(FORMATS)
    return arguments


def _take_turns(agents: Sequence[Agent], formats: Sequence[str]) -> list[Turn]:
    turns: list[Turn] = []
    with tempfile.TemporaryDirectory(prefix="pointsman-agents-") as scratch:
        for agent in agents:
            for name in formats:
                turn = take_turn(agent, name, Path(scratch) / str(len(turns)))
                print(f"{agent.name} onto {name}: {'passed' if turn.passed else 'FAILED'}", flush=True)
                turns.append(turn)
    return turns


def _report(turns: Sequence[Turn]) -> None:
    """The table in Markdown, what the ledger said, and what went wrong."""
    print(f"\n| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}")
    for turn in turns:
        counts = {action: sum(n for (what, _), n in turn.notes.items() if what == action) for action, _ in turn.notes}
        cells = (
            turn.agent.name,
            turn.agent.version,
            turn.format,
            "yes" if turn.tool_ran else "NO",
            "yes" if turn.answered else "NO",
            str(turn.requests),
            f"{turn.seconds:.1f}",
            ", ".join(f"{count} {action}" for action, count in sorted(counts.items())) or "nothing to note",
        )
        print(f"| {' | '.join(cells)} |")
    for turn in turns:
        serious = sorted(f"{action} {path}" for action, path in turn.notes if action in _SERIOUS)
        if serious:
            print(f"\n{turn.agent.name} onto {turn.format}: {'; '.join(serious)}")
    for turn in turns:
        if not turn.passed:
            print(f"\nFAILED: {turn.agent.name} onto {turn.format}: {turn.problem}\n{turn.output[-1500:]}")


if __name__ == "__main__":
    sys.exit(main())
