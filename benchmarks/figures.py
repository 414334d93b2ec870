"""The figures that README.md shows, read from the newest complete record in RESULTS.md. Called by docs/generate.py."""

import re
from dataclasses import dataclass

SECTION = re.compile(r"^## (?P<title>.+)$", re.MULTILINE)
NONE = "-"
OURS = "pointsman"


@dataclass(frozen=True)
class Record:
    """One section of RESULTS.md: its title, its facts by name, and the rows of its table by (run, target)."""

    title: str
    facts: dict[str, str]
    rows: dict[tuple[str, str], dict[str, str]]
    lines: list[str]

    def cell(self, run: str, column: str) -> str:
        """A figure of Pointsman in the first run whose title begins with ``run``; "-" without one."""
        for (title, target), row in self.rows.items():
            if target == OURS and title.startswith(run):
                return row[column]
        return NONE

    def found(self, pattern: str) -> str:
        """The first group of the first finding that matches; "-" without one."""
        for line in self.lines:
            match = re.search(pattern, line)
            if match is not None:
                return match[1]
        return NONE


def records(text: str) -> list[Record]:
    """Every section, the newest last."""
    parts = SECTION.split(text)[1:]
    return [_record(title, body) for title, body in zip(parts[::2], parts[1::2], strict=True)]


def _record(title: str, body: str) -> Record:
    bullets = [line[2:] for line in body.splitlines() if line.startswith("- ")]
    named_bullets = [found for line in bullets if (found := re.match(r"([\w ]+): (.*)$", line)) is not None]
    facts = {found[1]: found[2] for found in named_bullets}
    table = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in body.splitlines() if line[:2] == "| "]
    header, rows = (table[0], table[2:]) if len(table) > 2 else ([], [])
    # Other records may have several tables of other widths; only the first one's rows count.
    named = [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]
    return Record(title, facts, {(row["run"], row["target"]): row for row in named if "run" in row}, bullets)


def newest_complete(text: str) -> Record | None:
    """The newest record in which all scenarios were measured, None when there is none."""
    complete = [record for record in records(text) if record.facts.get("scenarios") == "all"]
    return complete[-1] if complete else None


def figures_block(text: str) -> str:
    """README.md's figures as Markdown, from the text of RESULTS.md."""
    record = newest_complete(text)
    if record is None:
        return "No complete run is recorded yet; `make bench ARGS=--record` makes one.\n"
    commit = record.facts.get("commit", NONE).split()[0]
    lines = [
        f"Measured {record.title} at commit {commit}, on one core of: {record.facts.get('processor', NONE)}, "
        f"Python {record.facts.get('Python', NONE).split()[-1]}.\n",
        "| what | measured |\n|---|---|",
        *(f"| {what} | {value} |" for what, value in [*_rows(record), *_beside_peers(text)]),
    ]
    return "\n".join(lines) + "\n"


def _beside_peers(text: str) -> list[tuple[str, str]]:
    """How many times as much as other gateways, from the newest record with peers, which need not be complete."""
    for record in reversed(records(text)):
        found = record.found(r"^requests, 64 connections: pointsman carries (.*)$")
        if found != NONE and "times pointsman" not in found:  # else beside this gateway in another state
            return [(f"chat requests beside other gateways ({record.title})", found)]
    return []


def _rows(record: Record) -> list[tuple[str, str]]:
    main, half, slow = "requests, 64 connections", "half load", "500 streams, 25 ms gaps"
    fast, busy, large = "32 streams, no gaps", "500 streams, 5 ms gaps", "1 MB both ways"
    return [
        (
            "chat requests, 64 connections",
            f"{record.cell(main, 'per second')} a second, {record.cell(main, 'CPU us each')} us of CPU each, "
            f"{record.cell(main, 'of nginx')} of nginx's rate",
        ),
        (
            "added to each at half load",
            f"{record.cell(half, 'added p50')} ms (median), {record.cell(half, 'added p99')} ms (99th percentile)",
        ),
        ("added to each event of 500 streams of 40 tokens/s", f"{record.cell(slow, 'added p99')} ms (99th percentile)"),
        (
            "events of 32 streams as fast as they go",
            f"{record.cell(fast, 'per second')} a second, {record.cell(fast, 'of nginx')} of nginx's rate",
        ),
        ("events of 500 streams at 5 ms", f"{record.cell(busy, 'of nginx')} of nginx's rate"),
        ("requests and answers of 1 MB", f"{record.cell(large, 'of nginx')} of nginx's rate"),
        (
            "highest steady rate with p99 under 5 ms",
            record.found(r"^pointsman, highest rate.* 5 ms: ([^,]*(?:,\d+)*/s)"),
        ),
        ("memory", record.found(r"^pointsman, RSS: (.*)$")),
        ("start to first answer", record.found(r"^pointsman, exec to first answer: ([\d.]+ s)")),
    ]
