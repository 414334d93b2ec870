"""``pointsman simulate``: an upstream to try things on, with true wire shapes and every way to fail."""

import asyncio
import difflib
import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pointsman.cli import app
from pointsman.cli.options import command_group
from pointsman.cli.output import note, print_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from pointsman.testing import Api, Behaviour, FaultMixture, Simulator

DEFAULT_PORT = 20200
FLAP = re.compile(
    r"(?P<fine>\d{1,5}(?:\.\d+)?)s/(?P<failing>\d{1,5}(?:\.\d+)?)s|(?P<fine_requests>\d{1,6})/(?P<failing_requests>\d{1,6})"
)
# Addresses that mean every interface, and where a client on this machine finds such a server.
REACHED_AT = {"//0.0.0.0:": "//127.0.0.1:", "//[::]:": "//[::1]:"}
group = command_group("simulate", "Run a simulated upstream.")
app.add_typer(group)

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(metavar="PORT", help="Port to listen on; 0 takes any free one.", min=0, max=65535)]
ApiKey = Annotated[str | None, typer.Option(help="Demand this key; without it any will do.")]
Models = Annotated[list[str] | None, typer.Option("--model", metavar="MODEL", help="A model to list; repeat it.")]
FaultName = Annotated[str | None, typer.Option(help="Fail in this way; see simulate --faults.")]
Tokens = Annotated[int | None, typer.Option(metavar="N", help="Length of every answer.", min=0, max=10_000_000)]
Pace = Annotated[float, typer.Option(metavar="MS", help="Time between two streamed events.", min=0, max=3_600_000)]
Faults = Annotated[
    str | None,
    typer.Option(metavar="NAME=P,...", help="Fail at random: rate_limit=0.1,reset=0.05; see simulate --faults."),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Of --faults: the same requests fail alike.")]
Flap = Annotated[
    str | None,
    typer.Option(metavar="FINE/FAILING", help="--fault comes and goes: 5s/2s in seconds, 20/5 in requests."),
]
ListFaults = Annotated[bool, typer.Option("--list-faults", help="Show the faults and exit.")]

# Command, class in pointsman.testing, what it is called, and the kind of connection that speaks it.
APIS: Final = (
    ("openai", "OpenAIResponses", "OpenAI: Chat Completions and Responses", "openai"),
    ("anthropic", "AnthropicMessages", "Anthropic Messages", "anthropic"),
    ("gemini", "Gemini", "Gemini", "gemini"),
    ("ollama", "Ollama", "Ollama", "ollama"),
    ("cohere", "Cohere", "Cohere v2", "cohere"),
    ("bedrock", "Bedrock", "Amazon Bedrock Converse", "bedrock"),
    ("voyage", "VoyageRetrieval", "Voyage AI: embeddings and rerank", "voyage"),
    ("jina", "JinaRetrieval", "Jina AI: embeddings and rerank", "jina"),
    ("operations", "OpenAIOperations", "OpenAI: embeddings, images, audio, moderations", "openai"),
)

WITH_V1: Final = ("openai", "voyage", "jina")  # kinds whose base URL ends with /v1


def _show_faults(wanted: bool) -> None:
    if wanted:
        from pointsman.testing import FAULTS

        print_table(("fault", "what happens"), [(one.name, one.summary) for one in FAULTS.values()])
        raise typer.Exit


@group.callback()
def _simulate(
    faults: Annotated[
        bool, typer.Option("--faults", help="Show every way to fail and exit.", is_eager=True, callback=_show_faults)
    ] = False,
) -> None:
    """Run a simulated upstream."""


def _add_command(name: str, api: str, title: str, kind: str) -> None:
    @group.command(name, help=f"Simulate {title} until Ctrl-C.")
    def simulate(
        host: Host = "127.0.0.1",
        port: Port = DEFAULT_PORT,
        api_key: ApiKey = None,
        model: Models = None,
        fault: FaultName = None,
        faults: Faults = None,
        seed: Seed = 0,
        flap: Flap = None,
        tokens: Tokens = None,
        pace_ms: Pace = 0.0,
        list_faults: ListFaults = False,
    ) -> None:
        from pointsman import testing

        if list_faults:
            _show_faults(list_faults)
        if fault is not None:
            _check_fault(fault)
        simulated = getattr(testing, api)(api_key=api_key, models=tuple(model or ("sim-model",)))
        behaviour = testing.Behaviour(tokens=tokens, pace_ms=pace_ms, fault=fault, **_flapping(fault, flap))
        mixture = _mixture(faults, seed)
        asyncio.run(_run((host, port), simulated, (behaviour, mixture), partial(_announce, title, kind, api_key)))


for _row in APIS:
    _add_command(*_row)


@group.command()
def host(
    flavour: Annotated[str, typer.Argument(metavar="HOST", help="deepseek, mistral, groq, openrouter, qwen ...")],
    host: Host = "127.0.0.1",
    port: Port = DEFAULT_PORT,
    api_key: ApiKey = None,
    model: Models = None,
) -> None:
    """Simulate a host that speaks OpenAI's API and departs from it, until Ctrl-C."""
    from pointsman.errors import ConfigError
    from pointsman.testing import FLAVOURS, Behaviour, OpenAIChat

    if flavour not in FLAVOURS:
        raise ConfigError(f"there is no host {flavour[:100]!r}; there are: {', '.join(FLAVOURS)}")
    models = tuple(model or ("sim-model",))
    simulated = OpenAIChat(api_key=api_key, models=models, flavour=FLAVOURS[flavour])
    asyncio.run(_run((host, port), simulated, (Behaviour(), None), partial(_announce, flavour, flavour, api_key)))


def _check_fault(name: str) -> None:
    from pointsman.errors import ConfigError
    from pointsman.testing import FAULTS

    if name not in FAULTS:
        near = difflib.get_close_matches(name[:100], list(FAULTS), 3, 0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "pointsman simulate --faults shows them"
        raise ConfigError(f"there is no fault {name[:100]!r}; {hint}")


def _mixture(faults: str | None, seed: int) -> "FaultMixture | None":
    from pointsman.errors import ConfigError
    from pointsman.testing import DirectiveError, FaultMixture

    if faults is None:
        return None
    try:
        return FaultMixture.parse(faults, seed)
    except DirectiveError as error:
        raise ConfigError(str(error)) from error


def _flapping(fault: str | None, flap: str | None) -> dict[str, Any]:
    """The members of a Behaviour that ``5s/2s`` or ``20/5`` means."""
    from pointsman.errors import ConfigError

    if flap is None:
        return {}
    found = FLAP.fullmatch(flap)
    if fault is None or found is None:
        raise ConfigError("--flap takes 5s/2s (seconds) or 20/5 (requests) and goes with --fault")
    if flap.endswith("s"):
        return {"fine_s": float(found["fine"]), "failing_s": float(found["failing"])}
    return {"fine_requests": int(found["fine_requests"]), "failing_requests": int(found["failing_requests"])}


async def _run(
    address: tuple[str, int],
    api: "Api",
    conduct: "tuple[Behaviour, FaultMixture | None]",
    announce: "Callable[[Simulator], None]",
) -> None:
    """Serve until SIGINT or SIGTERM; both are the normal end."""
    import signal

    from pointsman.errors import ConfigError
    from pointsman.testing import serve

    (host, port), (behaviour, mixture) = address, conduct
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    serving = loop.create_task(serve(host, port, api=api, behaviour=behaviour, on_bound=announce, mixture=mixture))
    stopping = loop.create_task(stop.wait())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    serving.cancel()
    try:
        await serving
    except asyncio.CancelledError:
        note("stopped")
    except OSError as error:
        raise ConfigError(f"can't listen on {host}:{port}: {error.strerror or error}") from error


def _announce(title: str, kind: str, api_key: str | None, simulator: "Simulator") -> None:
    base_url = simulator.base_url if kind in WITH_V1 else simulator.origin
    for bound, reached in REACHED_AT.items():
        base_url = base_url.replace(bound, reached)
    typer.echo(f"simulating {title} at {base_url}")
    key = " --api-key prompt" if api_key is not None else ""
    named = "" if kind == "openai" else f" --kind {kind}"
    typer.echo(f"use it:  pointsman connections add sim{named} --base-url {base_url} --allow-private{key}")
