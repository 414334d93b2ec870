"""The upstreams of a chaos run: four simulated providers in one process, each with a weather of its own.

A line of JSON goes to the log for every change of the weather and for every call that ended. Times are
``time.monotonic()`` seconds, which all processes of a machine share.
"""

import asyncio
import json
import random
import re
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any, TextIO

import uvloop

from pointsman.testing import AnthropicMessages, Behaviour, FaultMixture, Gemini, Ollama, OpenAIChat, Simulator
from pointsman.testing.request_log import Outcome, ReceivedRequest, RequestLog

PORTS = {"openai": 24410, "anthropic": 24411, "gemini": 24412, "ollama": 24413}
APIS: dict[str, Any] = {"openai": OpenAIChat, "anthropic": AnthropicMessages, "gemini": Gemini, "ollama": Ollama}
FINE = "fine"
PACE_MS = 3.0
SERIAL = re.compile(rb"serial-(\d+)")
_MID_STREAM = "cut_mid_stream=0.05,reset_mid_stream=0.05,error_event=0.05,missing_terminator=0.05,malformed_chunk=0.05"
_CALM = Behaviour(pace_ms=PACE_MS)


@dataclass(frozen=True)
class Weather:
    """How a provider behaves for a while: always like ``behaviour``, or at random like ``mixture``."""

    name: str
    behaviour: Behaviour = _CALM
    mixture: str | None = None


def _failing(name: str, fault: str, fine_s: float = 0.0, failing_s: float = 0.0) -> Weather:
    return Weather(name, Behaviour(pace_ms=PACE_MS, fault=fault, retry_after=1.0, fine_s=fine_s, failing_s=failing_s))


CLEAR = Weather(FINE)
WEATHERS = (
    _failing("down: 503", "http_503"),
    _failing("down: reset", "reset"),
    _failing("down: closes", "close"),
    _failing("limited", "rate_limit"),
    _failing("limited without hint", "rate_limit_bare"),
    _failing("flapping: 500", "http_500", 0.4, 0.4),
    _failing("flapping: reset", "reset", 0.3, 0.2),
    Weather("stalling", mixture="stall=0.25,silence=0.1"),
    Weather("cutting", mixture=_MID_STREAM),
    Weather("stormy", mixture=f"rate_limit=0.1,http_500=0.1,reset=0.1,close=0.05,html=0.05,stall=0.02,{_MID_STREAM}"),
)


class CallLog(RequestLog):
    """Writes every call that ended to a file."""

    def __init__(self, name: str, file: TextIO) -> None:
        super().__init__(history=1)
        self._name = name
        self._file = file

    def end(self, received: ReceivedRequest, outcome: Outcome) -> None:
        """Keep the call's line."""
        first = received.outcome is None
        super().end(received, outcome)
        serial = SERIAL.search(received.body)
        if first and serial is not None:
            row = {
                "serial": int(serial[1]),
                "name": self._name,
                "received": received.received_at,
                "ended": received.ended_at,
                "outcome": received.outcome,
                "fault": received.fault,
            }
            self._file.write(json.dumps(row) + "\n")


async def change_weather(simulator: Simulator, name: str, chance: random.Random, file: TextIO) -> None:
    """A new weather every few seconds, fine half of the time, until cancelled."""
    while True:
        weather = CLEAR if chance.random() < 0.5 else chance.choice(WEATHERS)
        simulator.behaviour = weather.behaviour
        mixture = weather.mixture
        simulator.mixture = None if mixture is None else FaultMixture.parse(mixture, chance.getrandbits(32))
        file.write(json.dumps({"at": time.monotonic(), "name": name, "weather": weather.name}) + "\n")
        await asyncio.sleep(chance.uniform(1.0, 6.0))


async def run(file: TextIO, seed: int) -> None:
    """Serve until SIGTERM. The weather is fine until SIGUSR1 comes."""
    loop = asyncio.get_running_loop()
    stop, begin = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, begin.set)
    simulators = {}
    for name, port in PORTS.items():
        simulator = Simulator(APIS[name](models=("sim-model",)), _CALM, port=port)
        simulator.log = CallLog(name, file)
        await simulator.start()
        simulators[name] = simulator
        file.write(json.dumps({"at": time.monotonic(), "name": name, "weather": FINE}) + "\n")
    print("ready", flush=True)
    await begin.wait()
    changes = [
        loop.create_task(change_weather(simulator, name, random.Random(f"{seed} {name}"), file))
        for name, simulator in simulators.items()
    ]
    await stop.wait()
    for change in changes:
        change.cancel()
    for simulator in simulators.values():
        await simulator.stop()


if __name__ == "__main__":
    with open(sys.argv[1], "w") as log:
        uvloop.run(run(log, int(sys.argv[2])))
