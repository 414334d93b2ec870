"""One turn of one agent: it asks, the model calls a tool, the tool runs, the model answers, the agent prints it."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from agents.machine import ROOT, AgentsError, program_of
from agents.programs import KEY, Agent, Place
from pointsman.testing import AnthropicMessages, Api, Gemini, OpenAIChat, RunningSimulator, running_simulator

TURN_TIMEOUT_S: Final = 90
START_TIMEOUT_S: Final = 20
UPSTREAM_KEY: Final = "sk-simulated"
MODEL: Final = "sim-model"
# The shell works the answer out, so that it can't have come from the prompt.
COMMAND: Final = "echo tool-ran-$((6*7))"
RAN: Final = b"tool-ran-42"
ANSWERED: Final = "echo:"  # how a simulated model begins every text

# Kind of connection, and the simulated API behind it.
FORMATS: Final[Mapping[str, type[OpenAIChat] | type[AnthropicMessages] | type[Gemini]]] = {
    "openai": OpenAIChat,
    "anthropic": AnthropicMessages,
    "gemini": Gemini,
}


class Turn(msgspec.Struct, kw_only=True):
    """What came of one agent's turn onto one upstream format; ``notes`` counts what the fidelity ledger said."""

    agent: Agent
    format: str
    tool_ran: bool
    answered: bool
    seconds: float
    requests: int
    problem: str = ""
    output: str = ""
    connection: str
    notes: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)

    @property
    def passed(self) -> bool:
        """True when the tool's result reached the upstream and the model's last words reached standard output."""
        return self.tool_ran and self.answered and not self.problem


def take_turn(agent: Agent, format_name: str, home: Path) -> Turn:
    """Run ``agent`` in the empty folder ``home`` against a gateway of its own onto one simulated upstream."""
    connection = f"{format_name}-upstream"
    home.mkdir(parents=True)
    api: Api = FORMATS[format_name](api_key=UPSTREAM_KEY)
    with running_simulator(api) as simulator, _gateway(home / "gateway", connection, format_name, simulator) as address:
        begun = time.monotonic()
        printed, problem = _run(agent, Place(home=home, address=address, model=f"{connection}/{MODEL}"))
        seconds = time.monotonic() - begun
        received = simulator.requests
    refused = [f"the upstream answered {one.status} to {one.path}" for one in received if one.status != 200]
    return Turn(
        agent=agent,
        format=format_name,
        tool_ran=any(RAN in one.body for one in received),
        answered=ANSWERED in printed,
        seconds=seconds,
        requests=len(received),
        problem=problem or "; ".join(refused),
        output=printed,
        connection=connection,
        notes=_notes(home / "gateway"),
    )


def _run(agent: Agent, place: Place) -> tuple[str, str]:
    """What the agent printed, and what went wrong, if anything."""
    work = place.home / "work"
    work.mkdir()
    invocation = agent.invoke(place)
    environment = {"HOME": str(place.home), "PATH": os.environ["PATH"], "TERM": "dumb", **invocation.environment}
    prompt = f"call the tool {agent.tool} with {json.dumps(agent.arguments(COMMAND))}"
    command = [str(program_of(agent)), *invocation.options]
    try:
        done = subprocess.run(
            command, input=prompt, capture_output=True, text=True, cwd=work, env=environment, timeout=TURN_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as expired:
        return _text(expired.stdout), f"no end within {TURN_TIMEOUT_S} s\n{_text(expired.stderr)[-1000:]}"
    problem = f"exit status {done.returncode}: {done.stderr[-1500:]}" if done.returncode else ""
    return done.stdout, problem


def _text(output: bytes | str | None) -> str:
    return output.decode("utf-8", "replace") if isinstance(output, bytes) else output or ""


@contextlib.contextmanager
def _gateway(data_dir: Path, connection: str, kind: str, simulator: RunningSimulator) -> Iterator[str]:
    """`pointsman serve` as users run it; gives its address. Raises AgentsError when it does not start."""
    data_dir.mkdir()
    base_url = simulator.base_url if kind == "openai" else simulator.origin
    settings = data_dir / "pointsman.toml"
    settings.write_text(
        "[local]\nenabled = false\n\n[[connections]]\n"
        f'id = "{connection}"\nkind = "{kind}"\nbase_url = "{base_url}"\n'
        f'api_key = "{UPSTREAM_KEY}"\nmodels = ["{MODEL}"]\n'
    )
    process = subprocess.Popen(
        [*_pointsman("serve", data_dir), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=(data_dir / "log").open("wb"),
        text=True,
        env={**os.environ, "POINTSMAN_BOOTSTRAP_KEY": KEY},
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        if found is None:
            raise AgentsError(f"the gateway did not start: {(data_dir / 'log').read_text()[-1000:]}")
        yield found[0]
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_S)
        process.stdout.close()


def _pointsman(command: str, data_dir: Path) -> list[str]:
    program = [sys.executable, "-m", "pointsman.cli", command]
    return [*program, "--data-dir", str(data_dir), "--config", str(data_dir / "pointsman.toml")]


def _notes(data_dir: Path) -> Counter[tuple[str, str]]:
    """What the fidelity ledger noted in this gateway's requests: (action, field without its numbers) -> how often."""
    command = [*_pointsman("logs", data_dir), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT_S, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise AgentsError(f"the log can't be read: {done.stderr[-1000:]}")
    notes: Counter[tuple[str, str]] = Counter()
    for line in done.stdout.splitlines():
        record: dict[str, Any] = json.loads(line)
        for path, action, _ in json.loads(record["fidelity"] or "[]"):
            notes[action, re.sub(r"\[\d+\]|\.\d+(?=\.|$)", "[]", path)] += 1
    return notes
