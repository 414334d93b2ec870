"""The table of the matrix, and why a cell doesn't hold all that its feature has. Run it to write the document anew."""

import sys
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from matrix_clients import CLIENTS  # noqa: E402 - found from the path that was just added
from matrix_upstreams import PROVIDERS  # noqa: E402

DOCUMENT = ROOT / "docs" / "translation-matrix.md"
# What each cell proves, by feature.
FEATURE_NAMES = {
    "text": "the answer is the upstream's text, and so is that to a second turn",
    "tools": "name and arguments of the call are exact, and its result is taken in the next turn",
    "parallel_tools": "two calls with ids of their own and arguments that are not mixed, and both results in order",
    "reasoning": "thoughts are shown, and the turns after them are taken by an upstream that verifies signatures",
    "image": "the bytes of a picture arrive unchanged",
    "structured_output": "the answer satisfies the schema",
    "error": "the SDK's own exception with the right status (429, 400), also for streams that break",
    "usage": "what the upstream counted is in the answer and in the journal",
}


class Reason(msgspec.Struct, frozen=True):
    """Why a cell holds less. ``ledger``: how the path begins under which the fidelity ledger tells of it; None where
    nothing that the client sent or the upstream gave was left out.
    """

    text: str
    ledger: str | None = None


_HIDDEN = "Chat Completions of OpenAI counts thoughts and shows none; the effort is carried and the count reported."
_NO_PLACE = "Ollama's answers have no place for cached and reasoning tokens; the journal has them."
_NO_THOUGHTS = "The upstream doesn't count reasoning tokens apart."
_NEITHER = "The upstream counts neither cached nor reasoning tokens apart."
# By client, provider and feature; "*" is any. The most particular one holds.
REASONS = {
    ("*", "openai", "reasoning"): Reason(_HIDDEN, "response.reasoning"),
    ("*", "azure", "reasoning"): Reason(_HIDDEN, "response.reasoning"),
    ("openai-chat", "openai", "reasoning"): Reason(_HIDDEN),
    ("openai-chat", "azure", "reasoning"): Reason(_HIDDEN),
    ("ollama", "*", "usage"): Reason(_NO_PLACE, "response.usage"),
    ("ollama", "ollama", "usage"): Reason(_NEITHER),
    ("*", "ollama", "usage"): Reason(_NEITHER),
    ("*", "cohere", "usage"): Reason(_NO_THOUGHTS),
    ("*", "bedrock", "usage"): Reason(_NO_THOUGHTS),
}


def reason_of(client: str, provider: str, feature: str) -> Reason | None:
    """Why this cell holds less than the feature; None when it holds all."""
    for key in ((client, provider, feature), (client, "*", feature), ("*", provider, feature)):
        if key in REASONS:
            return REASONS[key]
    return None


def document() -> str:
    """The whole page."""
    lines = [
        "# Translation matrix",
        "",
        "Each client is its vendor's official SDK, each provider a simulator that is true to the wire. Every cell is",
        "two tests of `tests/translation/test_matrix.py`, one buffered and one streamed. A number names the reason why",
        "a cell holds less than its feature; the test then proves what is left, and that the fidelity ledger tells",
        "of it where something was left out. Written by `python tests/translation/matrix_table.py`.",
        "",
        "| feature | what a cell proves |",
        "|---|---|",
        *(f"| {name} | {proof} |" for name, proof in FEATURE_NAMES.items()),
    ]
    numbers: dict[str, int] = {}
    for kind in CLIENTS:
        lines += ["", f"## {kind.NAME}", "", f"| | {' | '.join(PROVIDERS)} |", "|---|" + "---|" * len(PROVIDERS)]
        for feature in FEATURE_NAMES:
            reasons = [reason_of(kind.NAME, provider, feature) for provider in PROVIDERS]
            marks = [
                "yes" if one is None else f"yes ({numbers.setdefault(one.text, len(numbers) + 1)})" for one in reasons
            ]
            lines.append(f"| {feature} | {' | '.join(marks)} |")
    lines += ["", "## Reasons", "", *(f"{number}. {text}" for text, number in numbers.items())]
    return "\n".join(lines) + "\n"


def proven_table(proven: set[tuple[str, str, str, str]]) -> str:
    """How many of a pair's cells were proven in this run, buffered and streamed."""
    whole = 2 * len(FEATURE_NAMES)
    widths = [max(len(name), 5) for name in PROVIDERS]
    lines = [" " * 17 + " ".join(name.rjust(width) for name, width in zip(PROVIDERS, widths, strict=True))]
    for kind in CLIENTS:
        counts = [sum(cell[:2] == (kind.NAME, provider) for cell in proven) for provider in PROVIDERS]
        cells = [f"{count}/{whole}".rjust(width) for count, width in zip(counts, widths, strict=True)]
        lines.append(kind.NAME.ljust(17) + " ".join(cells))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
    print(f"{DOCUMENT.relative_to(ROOT)} is written")
