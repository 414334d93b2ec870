"""Every fault of the wall, buffered and streamed, at one target, at the first of two, and at all: what the client gets.

`python tests/faults/failover_table.py` writes the table into docs/failover.md; test_failover_table.py checks each row.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]  # also when it is run by itself

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway  # noqa: E402
from pointsman.canonical.record import Outcome, RequestRecord  # noqa: E402
from pointsman.testing import FAULTS, OpenAIChat, running_simulator  # noqa: E402
from raw_client import CHAT, Answer, Connection, ask_async, request  # noqa: E402

PAGE: Final = ROOT / "docs" / "failover.md"
BEGIN, END = "<!-- the table: written by tests/faults/failover_table.py -->\n", "<!-- end of the table -->\n"
LIMIT_S: Final = 0.5  # of each phase of a call
DEADLINE_S: Final = 5.0  # of a request
WORDS: Final = " ".join(f"word{number}" for number in range(12))
MIDWAY: Final = (
    "stall", "cut_mid_stream", "reset_mid_stream", "malformed_chunk", "malformed_json", "error_event",
)  # fmt: skip
CLIENTS: Final = {"An OpenAI client (raw lane)": CHAT, "An Anthropic client (hub lane)": "/v1/messages"}
SITUATIONS: Final = ("one", "two", "all")
# Before content in any case: what a stream begins with is one event.
FAULT_ROWS: Final = (*FAULTS, *(f"{fault},after_events=1" for fault in MIDWAY))


class Case(msgspec.Struct, frozen=True):
    """One cell: a fault, streamed or not, at ``one`` target, at the first of ``two``, at ``all`` of two."""

    fault: str
    stream: bool
    situation: str

    @property
    def name(self) -> str:
        """The model that is asked for."""
        return f"{self.fault} {'stream' if self.stream else 'whole'} {self.situation}"

    def message(self, path: str) -> bytes:
        """The request."""
        members: dict[str, Any] = {"max_tokens": 100} if path.endswith("messages") else {}
        body = {"model": self.name, "stream": self.stream, "messages": [{"role": "user", "content": WORDS}], **members}
        return request(
            "POST", path, msgspec.json.encode(body), "connection: close", f"x-pointsman-timeout: {DEADLINE_S}"
        )


class Seen(msgspec.Struct, frozen=True):
    """What became of a case."""

    case: Case
    answer: Answer
    records: list[RequestRecord]
    seconds: float
    calls: int  # that the upstreams got

    @property
    def record(self) -> RequestRecord:
        """The one record."""
        [record] = self.records
        return record

    @property
    def whole(self) -> bool:
        """A complete correct answer."""
        return self.answer.status == 200 and self.text == f"echo: {WORDS}" and self.broken is None

    @property
    def broken(self) -> str | None:
        """The error that the client was told, in a body or in its stream."""
        if self.answer.status != 200:
            return str(self.answer.json()["error"].get("message"))
        found = self.answer.body.find(b'"error"') if self.case.stream else -1
        return None if found < 0 else self.answer.body[found:].decode()

    @property
    def text(self) -> str:
        """What the model said, in either client's API; as far as it can be read."""
        try:
            return self._read() if b'"chat.completion' not in self.answer.body else self.answer.text
        except ValueError:
            return ""

    def _read(self) -> str:
        parts: list[str] = []
        for line in self.answer.body.splitlines():
            value = line.removeprefix(b"data: ")
            if value.startswith(b"{"):
                event = msgspec.json.decode(value)
                parts += [part.get("text", "") for part in event.get("content", ())]
                parts.append(event.get("delta", {}).get("text", ""))
        return "".join(parts)

    def cell(self) -> str:
        """For the page: outcome, time, attempts."""
        if self.whole:
            outcome = "answered"
        elif self.answer.status != 200:
            outcome = f"{self.answer.status}"
        elif self.broken is not None:
            outcome = "error event"
        else:
            outcome = "as it came"
        return f"{outcome}, {self.seconds * 1000:.0f} ms, {self.calls}"


def cases() -> list[Case]:
    """All of them."""
    return [
        Case(fault, stream, situation)
        for fault in FAULT_ROWS
        for stream in (False, True)
        for situation in SITUATIONS
        if stream or "," not in fault
    ]


def settings(url: str) -> dict[str, Any]:
    """Connections of its own for each case, so that no case meets a target that another one has made fail."""
    rows, combos = [], []
    for number, case in enumerate(cases()):
        bad = f"sim-model#fault={case.fault},retry_after=2,headers_ms=5000,at_byte=40"
        names = [f"c{number}-1", f"c{number}-2"]
        rows += [
            {"id": name, "kind": "openai", "base_url": url, "api_key": UPSTREAM_KEY, "provider": name} for name in names
        ]
        targets = [f"{names[0]}/{bad}"]
        if case.situation != "one":
            targets.append(f"{names[1]}/{bad if case.situation == 'all' else 'sim-model'}")
        combos.append({"name": case.name, "targets": targets})
    limits = {
        "headers_timeout_seconds": LIMIT_S,
        "first_byte_timeout_seconds": LIMIT_S,
        "idle_timeout_seconds": LIMIT_S,
    }
    return {"connections": rows, "combos": combos, "upstream": limits}


@contextmanager
def wall(folder: Path) -> Iterator[RunningGateway]:
    """A gateway with all cases, and an upstream behind it."""
    with (
        running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, strict=False)) as simulator,
        running_gateway(folder, settings(simulator.base_url)) as gateway,
    ):
        yield gateway


def look(gateway: RunningGateway, path: str) -> list[Seen]:
    """Ask for every case, eight at a time: most of the time is waiting for limits."""

    async def one(case: Case, turn: asyncio.Semaphore) -> tuple[Answer, float]:
        async with turn:
            began = time.monotonic()
            answer = await ask_async(gateway.port, case.message(path))
            return answer, time.monotonic() - began

    async def all_of_them() -> list[tuple[Answer, float]]:
        turn = asyncio.Semaphore(8)
        return await asyncio.gather(*(one(case, turn) for case in cases()))

    found = []
    for case, (answer, seconds) in zip(cases(), asyncio.run(all_of_them()), strict=True):
        records = list(gateway.journal.of(answer.request_id))
        failed = len(msgspec.json.decode(records[0].attempts or "[]"))
        calls = failed + (records[0].outcome is Outcome.SUCCESS)
        found.append(Seen(case, answer, records, seconds, max(calls, 1)))
    return found


def added_ms(folder: Path, count: int = 80) -> tuple[float, float]:
    """What failing over adds to the failed target's own time and that of the one that answers, in ms: the medians of
    requests that meet one failure (500) and one sound target, less those of both alone; and the same at 95 %.
    """
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as simulator:
        names = [f"m{number}" for number in range(2 * count)]
        rows = [
            {"id": name, "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY, "provider": name}
            for name in (*names, "sound")
        ]
        bad = "sim-model#fault=http_500"
        combos = [
            {"name": f"over-{number}", "targets": [f"{names[number]}/{bad}", "sound/sim-model"]}
            for number in range(count)
        ]
        with running_gateway(folder, {"connections": rows, "combos": combos}) as gateway:
            over, failed, sound = [], [], []
            with Connection(gateway.port) as connection:
                for number in range(count):
                    for times, model in (
                        (over, f"over-{number}"),
                        (failed, f"{names[count + number]}/{bad}"),
                        (sound, "sound/sim-model"),
                    ):
                        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
                        began = time.perf_counter()
                        connection.ask(request("POST", CHAT, msgspec.json.encode(body)))
                        times.append((time.perf_counter() - began) * 1000)
    most = [statistics.quantiles(times, n=20)[-1] for times in (over, failed, sound)]
    return (
        statistics.median(over) - statistics.median(failed) - statistics.median(sound),
        most[0] - most[1] - most[2],
    )


def table(seen: list[Seen]) -> str:
    """As Markdown."""
    lines = ["| fault | | one target | two targets, the first fails | all fail |", "|---|---|---|---|---|"]
    for start in range(0, len(seen), len(SITUATIONS)):
        row = seen[start : start + len(SITUATIONS)]
        kind = "stream" if row[0].case.stream else "whole"
        fault = row[0].case.fault.replace(",after_events=1", ", before content")
        lines.append(f"| {fault} | {kind} | {' | '.join(one.cell() for one in row)} |")
    return "\n".join(lines) + "\n"


def write() -> None:
    """Measure, and put it into the page."""
    parts = []
    for title, path in CLIENTS.items():
        with tempfile.TemporaryDirectory() as folder, wall(Path(folder)) as gateway:
            parts.append(f"### {title}\n\n{table(look(gateway, path))}\n")
    with tempfile.TemporaryDirectory() as folder:
        median, most = added_ms(Path(folder))
    parts.append(
        f"Failing over adds {max(median, 0):.2f} ms (median; {max(most, 0):.2f} ms at 95 %) to both calls' own time.\n"
    )
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    PAGE.write_text(before + BEGIN + "\n" + "".join(parts) + "\n" + END + after, encoding="utf-8")


if __name__ == "__main__":
    write()
