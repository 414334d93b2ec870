"""What a chaos run showed: the clients' log, the upstreams' log and the gateway's records laid side by side."""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos_upstreams import FINE
from pointsman.accounting.journal import list_segments, read_segment

Row = dict[str, Any]
WANTED_RATE = 0.9999
# A connection that broke within this time after the kill was the killed worker's.
KILL_SECONDS = 2.0
EXAMPLES = 5


@dataclass
class Findings:
    """All that is known of a run. ``rows``: the clients' log; ``calls``: the upstreams', by serial; ``fine``: when each
    upstream was in fine weather; ``records``: how many records the journal has for each request id, ``stored``: and the
    database. Times in seconds of the machine's monotonic clock.
    """

    rows: list[Row]
    calls: dict[int, list[Row]]
    fine: dict[str, list[tuple[float, float]]]
    records: Counter[str]
    stored: set[str]
    changed_at: float
    killed_at: float
    deadline: float
    notes: list[str] = field(default_factory=list)

    def healthy(self, row: Row) -> bool:
        """True when one upstream, at least, was in fine weather from the request's beginning to its end."""
        spans = (span for spans in self.fine.values() for span in spans)
        return any(begin <= row["began"] and row["ended"] <= end for begin, end in spans)

    def killed(self, row: Row) -> bool:
        """True for a request that was on the killed worker."""
        at = self.killed_at
        return bool(row["how"] == "reset" and at <= row["ended"] <= at + KILL_SECONDS)

    def added_ms(self, row: Row) -> tuple[float, float] | None:
        """How much longer the client waited than the answering upstream took, and than all upstreams took that were
        asked for it, one after the other. None when it was not answered.
        """
        calls = self.calls.get(row["serial"], [])
        good = [call for call in calls if call["fault"] is None and call["outcome"] == "completed"]
        if row["how"] != "answered" or not good:
            return None
        took = row["ended"] - row["began"]
        every = sum(call["ended"] - call["received"] for call in calls)
        return (took - (good[-1]["ended"] - good[-1]["received"])) * 1e3, (took - every) * 1e3

    def complaints(self) -> list[str]:
        """What is wrong, each as a sentence; empty when all held."""
        ways = Counter(row["how"] for row in self.rows)
        found = list(self.notes)
        if ways["truncated"]:
            found.append(f"{ways['truncated']} answers that seemed whole were not")
        if ways["hung"]:
            found.append(f"{ways['hung']} requests got nothing within the deadline")
        if late := sum(row["ended"] - row["began"] > self.deadline + 1 for row in self.rows):
            found.append(f"{late} requests took longer than the deadline")
        broken = sum(row["how"] == "reset" and not self.killed(row) for row in self.rows)
        if broken:
            found.append(f"{broken} connections broke that were not the killed worker's")
        rate, asked = self.success(begun=False)
        if asked and rate < WANTED_RATE:
            found.append(f"{rate:.3%} of the requests for which a healthy target existed were answered")
        found += self._bookkeeping()
        return found

    def _bookkeeping(self) -> list[str]:
        whole = [row for row in self.rows if row["how"] != "reset" and row["request_id"]]
        lost = [row for row in whole if row["request_id"] not in self.records]
        doubled = [name for name, count in self.records.items() if count > 1]
        unstored = [row for row in whole if row["request_id"] not in self.stored]
        found = []
        if lost:
            found.append(f"{len(lost)} answered requests have no record")
        if doubled:
            found.append(f"{len(doubled)} requests have more than one record")
        if unstored:
            found.append(f"{len(unstored)} answered requests are not in the database")
        return found

    def success(self, *, begun: bool) -> tuple[float, int]:
        """The part that was answered of the requests for which a healthy target existed, and how many these are.

        Those on the killed worker are left out; with ``begun`` those count as failed whose answer had begun when its
        upstream failed, else they are left out: only another target's continuation could save them.
        """
        rows = [row for row in self.rows if self.healthy(row) and not self.killed(row)]
        if not begun:
            rows = [row for row in rows if row["how"] != "told"]
        return sum(row["how"] == "answered" for row in rows) / max(len(rows), 1), len(rows)

    def text(self) -> str:
        """Everything in Markdown."""
        chaos = [row for row in self.rows if row["began"] >= self.changed_at]
        calm = [row for row in self.rows if row["ended"] < self.changed_at]
        lines = [*_classes(calm, chaos, self), "", *self._times(calm, chaos), ""]
        lines += [f"- {line}" for line in [*self._rates(), *self._attempts(chaos), *self._records(), *self._examples()]]
        found = self.complaints()
        lines.append(f"- verdict: {'FAILED: ' + '; '.join(found) if found else 'passed'}")
        return "\n".join(lines)

    def _rates(self) -> list[str]:
        rate, asked = self.success(begun=False)
        with_begun, all_asked = self.success(begun=True)
        return [
            f"success where a healthy target existed: {rate:.4%} of {asked:,}",
            f"the same with streams that broke after they had begun: {with_begun:.4%} of {all_asked:,}",
            f"requests without a healthy target: {sum(not self.healthy(row) for row in self.rows):,}, "
            f"{sum(not self.healthy(row) and row['how'] == 'answered' for row in self.rows):,} of them answered",
            f"on the killed worker, connection reset: {sum(map(self.killed, self.rows))}",
        ]

    def _times(self, calm: list[Row], chaos: list[Row]) -> list[str]:
        lines = ["| added time, ms | requests | p50 | p90 | p99 | highest |", "|---|--:|--:|--:|--:|--:|"]
        moved = [row for row in chaos if len(self.calls.get(row["serial"], [])) > 1]
        stayed = [row for row in chaos if len(self.calls.get(row["serial"], [])) == 1]
        kinds: list[tuple[str, list[Row], int]] = [
            ("fine weather, over the upstream's own time", calm, 0),
            ("chaos, one attempt", stayed, 0),
            ("chaos, several attempts: over the answering upstream's time", moved, 0),
            ("chaos, several attempts: over all asked upstreams' time", moved, 1),
            ("chaos, all: over the answering upstream's time", chaos, 0),
        ]
        for title, rows, which in kinds:
            values = sorted(added[which] for added in map(self.added_ms, rows) if added is not None)
            cells = [f"{_part(values, part):,.1f}" for part in (0.5, 0.9, 0.99, 1.0)]
            lines.append(f"| {title} | {len(values):,} | {' | '.join(cells)} |")
        return lines

    def _attempts(self, chaos: list[Row]) -> list[str]:
        counts = Counter(len(self.calls.get(row["serial"], [])) for row in chaos)
        calls = sum(number * count for number, count in counts.items())
        spread = ", ".join(f"{number}: {count:,}" for number, count in sorted(counts.items()))
        return [f"upstream calls per request under chaos: {calls / max(len(chaos), 1):.3f} ({spread})"]

    def _records(self) -> list[str]:
        whole = sum(row["how"] != "reset" and bool(row["request_id"]) for row in self.rows)
        more = sum(self.records.values()) - whole
        return [
            f"records: {sum(self.records.values()):,} in the journal, {len(self.stored):,} in the database, for "
            f"{whole:,} requests that got an answer or an error ({more:+,}: cut off by the kill, or left by the client)"
        ]

    def _examples(self) -> list[str]:
        bad = [row for row in self.rows if row["how"] != "answered" and self.healthy(row) and not self.killed(row)]
        words = Counter(f"{row['how']} {row['status']}: {row['told'][:160]}" for row in bad if row["how"] != "told")
        return [f"not answered though a target was healthy, {count} times: {what}" for what, count in _top(words)]


def _top(words: Counter[str]) -> list[tuple[str, int]]:
    return words.most_common(EXAMPLES)


def _part(values: list[float], part: float) -> float:
    return values[min(int(len(values) * part), len(values) - 1)] if values else float("nan")


def _classes(calm: list[Row], chaos: list[Row], findings: Findings) -> list[str]:
    lines = ["| outcome | fine weather | chaos, healthy target | chaos, none |", "|---|--:|--:|--:|"]
    with_one = [row for row in chaos if findings.healthy(row)]
    without = [row for row in chaos if not findings.healthy(row)]
    columns = [Counter(_kind(row, findings) for row in rows) for rows in (calm, with_one, without)]
    for kind in sorted(set().union(*columns)):
        lines.append(f"| {kind} | {' | '.join(f'{column[kind]:,}' for column in columns)} |")
    return lines


def _kind(row: Row, findings: Findings) -> str:
    kind = f"{row['how']}, {'streamed' if row['stream'] else 'buffered'}"
    if row["how"] == "refused":
        kind += f", {row['status']}"
    return f"{kind}, killed worker" if findings.killed(row) else kind


def read_rows(path: Path) -> list[Row]:
    """The lines of a log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_upstreams(path: Path, end: float) -> tuple[dict[int, list[Row]], dict[str, list[tuple[float, float]]]]:
    """Calls by serial, and when each upstream was in fine weather, until ``end``."""
    calls: dict[int, list[Row]] = defaultdict(list)
    changes: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for row in read_rows(path):
        if "serial" in row:
            calls[row["serial"]].append(row)
        else:
            changes[row["name"]].append((row["at"], row["weather"]))
    for some in calls.values():
        some.sort(key=lambda call: call["received"])
    return calls, {name: list(_fine(some, end)) for name, some in changes.items()}


def _fine(changes: list[tuple[float, str]], end: float) -> Iterable[tuple[float, float]]:
    begin: float | None = None
    for at, weather in [*changes, (end, "")]:
        if weather == FINE and begin is None:
            begin = at
        elif weather != FINE and begin is not None:
            yield begin, at
            begin = None


def read_records(data_dir: Path) -> tuple[Counter[str], set[str]]:
    """How many records each request has in the journal, and which requests the database has."""
    counts: Counter[str] = Counter()
    journal = data_dir / "journal"
    for name in list_segments(journal):
        position = 0
        while True:
            part = read_segment(journal / name, position, 1000, live=False)
            counts.update(record.request_id for record in part.records)
            position = part.position
            if part.at_end:
                break
    database = sqlite3.connect(f"file:{data_dir / 'pointsman.db'}?mode=ro", uri=True)
    try:
        return counts, {row[0] for row in database.execute("SELECT request_id FROM requests")}
    finally:
        database.close()
