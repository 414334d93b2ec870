"""The benchmark's one table, as Markdown that is also readable in a terminal, and the record in RESULTS.md."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks import machine
from benchmarks.measure import Sample
from benchmarks.scenarios import Outcome, StartTimes, median_start

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
BASE = "nginx"
NO_PROXY = "direct"
OURS = "pointsman"
# A target this near to the bare upstream is held back by the load programs, not by itself.
LOAD_BOUND = 0.9
NONE = "-"
HEADER = [
    "run",
    "target",
    "per second",
    "of nginx",
    "streams/s",
    "p50 ms",
    "p99 ms",
    "added p50",
    "added p99",
    "CPU us each",
    "incl. projection",
    "Pss MB after",
    "failed",
    "others",
]
LEGEND = (
    "Medians over the rounds; `of nginx` and `added` (over direct, in ms) are taken within each round. `each` is a "
    "request, or an event of a stream, whose p50 and p99 are its age on arrival. `incl. projection` adds the CPU time "
    "used after the run until the process was quiet. `failed`: answers that were not 200, broken streams, socket "
    "errors. `others`: part of the two cores that other processes took."
)


@dataclass
class Report:
    """Everything measured, in the order of measuring.

    ``lines`` are findings that fit no table; ``idle_mb``: (resident, proportional) by target; ``complete``: all
    scenarios were run, none of them quickly.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    starts: dict[str, StartTimes] = field(default_factory=dict)
    idle_mb: dict[str, tuple[float, float]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    complete: bool = False

    @property
    def failed(self) -> int:
        """Failed requests and broken streams of all runs."""
        return sum(s.result.failed for o in self.outcomes for samples in o.samples.values() for s in samples)

    def text(self) -> str:
        """Table, lines about start and memory, notes, legend."""
        rows = [_row(outcome, name) for outcome in self.outcomes for name in outcome.samples]
        parts = ["\n".join(_table(HEADER, rows))] if rows else []
        parts.append(
            "\n".join(f"- {line}" for line in [*self._lines(), *self.lines, *self._comparisons(), *self._notes()])
        )
        if rows:
            parts.append(LEGEND)
        return "\n\n".join(part for part in parts if part)

    def _lines(self) -> list[str]:
        lines = []
        for name, times in self.starts.items():
            low, high = min(times.again), max(times.again)
            lines.append(
                f"{name}, exec to first answer: {median_start(times):.2f} s (median of {len(times.again)}, "
                f"{low:.2f} to {high:.2f}); on an empty data directory {times.first_ever:.2f} s"
            )
        for name, (resident, proportional) in self.idle_mb.items():
            lines.append(f"{name}, idle after start: RSS {resident:.0f} MB, Pss {proportional:.0f} MB")
        return lines

    def _comparisons(self) -> list[str]:
        """How many times as much as each peer Pointsman carries, where no rate was given."""
        lines = []
        for outcome in self.outcomes:
            ours = outcome.samples.get(OURS)
            peers = [name for name in outcome.samples if name not in (BASE, NO_PROXY) and not name.startswith(OURS)]
            if ours and peers and not outcome.paced:
                parts = [f"{_ratio(ours, outcome.samples[name]):,.1f} times {name}" for name in peers]
                lines.append(f"{outcome.title}: {OURS} carries {' and '.join(parts)}")
        return lines

    def _notes(self) -> list[str]:
        notes = []
        for outcome in self.outcomes:
            for name, samples in outcome.samples.items():
                bare = outcome.samples.get(NO_PROXY)
                if not all(sample.settled for sample in samples):
                    notes.append(
                        f"{outcome.title}: {name} was still busy 20 s after a run; its projection is not whole"
                    )
                if bare and name != NO_PROXY and not outcome.paced and _ratio(samples, bare) > LOAD_BOUND:
                    notes.append(
                        f"{outcome.title}: {name} is within 10 % of direct, so the load is the limit, not {name}"
                    )
        return notes


def _ratio(samples: list[Sample], base: list[Sample]) -> float:
    """The median over the rounds of one target's rate over another's in the same round."""
    return median(sample.rate / other.rate if other.rate else 0.0 for sample, other in zip(samples, base, strict=True))


def _share(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def _added(samples: list[Sample], bare: list[Sample] | None, read: Callable[[Sample], float]) -> str:
    if not bare:
        return NONE
    return f"{median(read(s) - read(b) for s, b in zip(samples, bare, strict=True)):.2f}"


def _row(outcome: Outcome, name: str) -> list[str]:
    samples = outcome.samples[name]
    base = outcome.samples.get(BASE)
    bare = outcome.samples.get(NO_PROXY) if outcome.paced and name != NO_PROXY else None
    streams = median(s.result.streams / s.result.seconds for s in samples)
    return [
        outcome.title,
        name,
        f"{median(s.rate for s in samples):,.0f}",
        _share(_ratio(samples, base)) if base else NONE,
        f"{streams:,.0f}" if outcome.unit == "event" else NONE,
        f"{median(s.result.p50 for s in samples):.2f}",
        f"{median(s.result.p99 for s in samples):.2f}",
        _added(samples, bare, lambda s: s.result.p50),
        _added(samples, bare, lambda s: s.result.p99),
        _median_or_none([s.cpu_us for s in samples]),
        _median_or_none([s.settled_cpu_us for s in samples]),
        _median_or_none([s.memory_mb for s in samples[-1:]], digits=0),
        str(sum(s.result.failed for s in samples)),
        f"{100 * median(s.others for s in samples):.0f} %",
    ]


def _median_or_none(values: list[float | None], digits: int = 1) -> str:
    known = [value for value in values if value is not None]
    return f"{median(known):.{digits}f}" if known else NONE


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table whose columns are padded: the first two to the left, figures to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    rule = ["-" * w if i < 2 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = []
    for row in [header, rule, *rows]:
        cells = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def append_record(report: Report, command: str) -> None:
    """Appends a dated section to RESULTS.md: commit, machine, command, table."""
    append_section("", command, [("scenarios", "all" if report.complete else "some")], report.text())


def append_section(title: str, command: str, further: list[tuple[str, str]], text: str) -> None:
    """Appends a section to RESULTS.md: the date and a title, the commit, the machine, further facts, and the text."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    facts = [("commit", machine.commit()), *machine.describe(), ("command", f"`{command}`"), *further]
    lines = "\n".join(f"- {what}: {value}" for what, value in facts)
    with RESULTS.open("a") as results:
        results.write(f"\n## {now}{', ' + title if title else ''}\n\n{lines}\n\n{text}\n")
