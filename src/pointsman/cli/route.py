"""``pointsman route``: how requests are judged and where they go. Works without a running server."""

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pointsman.cli import app
from pointsman.cli.options import AsJson, command_group
from pointsman.cli.output import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pointsman.routing.complexity import Complexity
    from pointsman.routing.complexity.cases import Case, Evaluation

MAX_INPUT: Final = 16 * 1024 * 1024  # characters read from standard input
ROUNDS: Final = 5  # a prompt's time is taken so often; the shortest counts, as it was disturbed least
group = command_group("route", "How requests are judged and where they go.")
app.add_typer(group)


@group.callback()
def _route() -> None:
    """How requests are judged and where they go."""


@group.command("score")
def score_text(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What the user says; - is standard input.")] = None,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Judge the labelled set instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how demanding a prompt is and why, or how well prompts of known tiers are judged."""
    if (text is None) is not evaluate:
        from pointsman.errors import ConfigError

        raise ConfigError("give either a TEXT or --evaluate")
    if text is None:
        _evaluate(as_json)
    else:
        _explain(sys.stdin.read(MAX_INPUT) if text == "-" else text, as_json)


def _explain(text: str, as_json: bool) -> None:
    from pointsman.canonical.parts import TextPart
    from pointsman.canonical.request import Message, Request
    from pointsman.routing.complexity import score

    message = Message(role="user", parts=[TextPart(text=text)])
    found = score(Request(wire="openai.chat", model="auto", messages=[message]))
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found.tier}: score {found.score:.2f}, confidence {found.confidence:.2f}\n")
    print_table(("signal", "measure>", "strength>", "weight>", "adds>"), _reasons(found))


def _reasons(found: "Complexity") -> list[list[str]]:
    """The base, the signals by how much they add, and the rules that raised the score."""
    signals = sorted(found.signals, key=lambda signal: -abs(signal.contribution))
    rows = [
        [one.name, f"{one.measure:g}", f"{one.strength:.2f}", f"{one.weight:.2f}", f"{one.contribution:+.3f}"]
        for one in signals
    ]
    rules = [[f"rule: {name}", "", "", "", ""] for name in found.rules]
    return [["base", "", "", "", f"{found.base:+.3f}"], *rows, *rules]


def _evaluate(as_json: bool) -> None:
    from pointsman.routing.complexity.cases import SPLITS, build_cases, evaluate
    from pointsman.routing.complexity.scoring import score

    cases = build_cases()
    parts: dict[str, Any] = {}
    for split in SPLITS:
        part = [case for case in cases if case.split == split]
        result, times = evaluate(part, lambda request: score(request).tier), _times_us(part)
        templates = len({case.template for case in part})
        if as_json:
            parts[split] = {"result": result, "templates": templates, "median_us": times[0], "p99_us": times[1]}
        else:
            _print_part(split, result, templates, times)
    if as_json:
        print_json(parts)


def _times_us(cases: "Sequence[Case]") -> tuple[float, float]:
    """Median and 99th percentile of the time that one score takes, in microseconds of this machine."""
    from pointsman.clock import SystemClock
    from pointsman.routing.complexity import score

    now = SystemClock().monotonic
    shortest = []
    for request in [case.request() for case in cases]:
        times = []
        for _ in range(ROUNDS):
            begun = now()
            score(request)
            times.append(now() - begun)
        shortest.append(min(times) * 1e6)
    shortest.sort()
    return shortest[len(shortest) // 2], shortest[len(shortest) * 99 // 100]


def _print_part(split: str, result: "Evaluation", templates: int, times: tuple[float, float]) -> None:
    from pointsman.routing.complexity import TIERS

    typer.echo(f"{split.replace('_', ' ')}: {result.total} prompts from {templates} templates")
    rows = [
        ["right", f"{result.right / result.total:.1%}"],
        ["right or one tier off", f"{result.near / result.total:.1%}"],
        ["judged too low", f"{result.below / result.total:.1%}"],
        ["per score, median", f"{times[0]:.0f} us"],
        ["per score, 99th percentile", f"{times[1]:.0f} us"],
    ]
    print_table(("", "figure>"), rows)
    typer.echo()
    answers = [[label, *(str(result.confusion[label][answer]) for answer in TIERS)] for label in TIERS]
    print_table(("label / judged as", *(f"{tier}>" for tier in TIERS)), answers)
    typer.echo()
    languages = [[name, str(count), f"{right / count:.1%}"] for name, (right, count) in result.languages.items()]
    print_table(("language", "prompts>", "right>"), languages)
    typer.echo()
