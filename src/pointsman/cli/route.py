"""``pointsman route``: how requests are judged and where they go. Works without a running server."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pointsman.cli import app
from pointsman.cli.options import AsJson, ConfigFile, DataDir, command_group, opened
from pointsman.cli.output import print_json, print_table, printable

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
        _judge(sys.stdin.read(MAX_INPUT) if text == "-" else text, as_json)


@group.command("explain")
def explain_route(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="A model's name, as a client gives it.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A request's JSON body, of any API; - is standard input.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show where a request would go and why, without making it. How targets do now is known to the server alone."""
    import asyncio

    asyncio.run(_explain_route(_asked_body(model, file), as_json, (data_dir, config)))


@group.command("replay")
def replay_route(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="As the header x-request-id had it.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Make the routing decision of a past request again: where it went, why, and whether it would be the same."""
    import asyncio

    asyncio.run(_replay_route(request_id, as_json, (data_dir, config)))


@group.command("notdiamond")
def notdiamond(
    api_key: Annotated[
        str | None, typer.Option(help="env:NAME, file:PATH, - (standard input) or prompt: its key from now on.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Ask it no more, and forget its key.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Have NotDiamond choose among a profile's models, or show whether it does. Its key is stored encrypted."""
    import asyncio

    asyncio.run(_notdiamond(api_key, remove, as_json, (data_dir, config)))


async def _notdiamond(
    api_key: str | None, remove: bool, as_json: bool, place: "tuple[Path | None, Path | None]"
) -> None:
    from pointsman.cli.audited import about
    from pointsman.cli.connections import read_api_key
    from pointsman.cli.output import confirm, note

    async with opened(*place) as installation:
        engines = installation.engines
        if remove:
            await engines.remove()
        elif api_key is not None:
            await engines.set({}, read_api_key(api_key, installation.environment))
        if remove or api_key is not None:
            about("notdiamond", "profile.engine.deleted" if remove else None)
            note(f"That is {await confirm(installation)}.")
        shown = await engines.shown()
    if as_json:
        print_json(shown)
    else:
        print_table(("", ""), [(name.replace("_", " "), printable(str(value))) for name, value in shown.items()])


async def _explain_route(body: bytes, as_json: bool, place: "tuple[Path | None, Path | None]") -> None:
    from pointsman.cli.models import catalogue_of
    from pointsman.dry_run import judged, read_asked, route_of
    from pointsman.routing.demands import wants_of
    from pointsman.routing.explain import explained
    from pointsman.routing.plan import Problem
    from pointsman.routing.profiles.narrowing import narrowed

    async with opened(*place) as installation:
        asked = read_asked(body, await installation.presets.table())
        route = route_of(asked, await catalogue_of(installation, priced=False))
        if route.kind == "profile":  # prices decide
            route = route_of(asked, await catalogue_of(installation, priced=True))
        asked = judged(asked, route)
        now = installation.clock.now_us()
        problem = Problem(route=route, wants=wants_of(asked, route), now=now, seed=now)
        told = explained(narrowed(problem) if route.kind == "profile" else problem)
    if as_json:
        print_json(told)
    else:
        _print_plan(told)


async def _replay_route(request_id: str, as_json: bool, place: "tuple[Path | None, Path | None]") -> None:
    from pointsman.errors import ConfigError
    from pointsman.routing.replay import replayed

    async with opened(*place) as installation:
        kept = await installation.requests.find_plan(request_id)
    if kept is None:
        raise ConfigError(
            f"no routing decision is kept of the request {request_id[:100]!r}: there was no choice, it is too long ago"
            " (journal.plan_days), or it is not in the database yet"
        )
    told = replayed(kept)
    if as_json:
        print_json(told)
        return
    if told["plan"] is None:
        typer.echo(told["note"])
        return
    _print_plan(told["plan"])
    typer.echo(f"\nMade again from {told['bytes']} bytes: {'identical' if told['identical'] else 'NOT identical'}.")


def _asked_body(model: str | None, file: "Path | None") -> bytes:
    """The request's body, with the model's name when that was given beside it."""
    import msgspec

    from pointsman.errors import ConfigError

    if model is None and file is None:
        raise ConfigError("give a MODEL, or a request with --file")
    if file is None:
        return msgspec.json.encode({"model": model})
    try:
        data = sys.stdin.buffer.read(MAX_INPUT) if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise ConfigError(f"can't read {file}: {error.strerror}") from error
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ConfigError(f"{file} holds no JSON object") from None
    return data if model is None else msgspec.json.encode(fields | {"model": msgspec.Raw(msgspec.json.encode(model))})


def _print_plan(told: dict[str, Any]) -> None:
    typer.echo(f"{printable(told['model'])}: {told['kind']} {printable(told['route'])}, strategy {told['strategy']}\n")
    if told["judged"] is not None:
        typer.echo(_judgement(told["judged"]) + "\n")
    rows = [
        [str(place), printable(row["target"]), printable(row["reason"]), row.get("health", "")]
        for place, row in enumerate(told["order"], 1)
    ]
    print_table(("#>", "target", "why", "health"), rows)
    if told["excluded"]:
        typer.echo()
        rows = [[printable(row["target"]), row["filter"], printable(row["reason"])] for row in told["excluded"]]
        print_table(("excluded", "by", "why"), rows)
    if "error" in told:
        typer.echo(f"\nHTTP {told['error']['status']}: {printable(told['error']['message'])}")


def _judgement(judged: "dict[str, Any]") -> str:
    """How a request that names a profile was judged."""
    features = sorted(judged["signals"].items(), key=lambda pair: -abs(pair[1]))
    told = ", ".join([f"{name} {value:+.2f}" for name, value in features] + [f"rule {one}" for one in judged["rules"]])
    return (
        f"Profile {judged['profile']}, budget {judged['budget']}: {judged['tier']}, score {judged['score']:.2f}, "
        f"confidence {judged['confidence']:.2f}, by {judged['engine']} ({told or 'nothing stands out'})"
    )


def _judge(text: str, as_json: bool) -> None:
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
