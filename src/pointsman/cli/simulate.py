"""``pointsman simulate``: an upstream to try things on, with true wire shapes and every way to fail."""

import asyncio
import difflib
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pointsman.cli import app
from pointsman.cli.options import command_group
from pointsman.cli.output import note, print_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from pointsman.testing import Api, Behaviour, Simulator

DEFAULT_PORT = 20200
# Addresses that mean every interface, and where a client on this machine finds such a server.
REACHED_AT = {"//0.0.0.0:": "//127.0.0.1:", "//[::]:": "//[::1]:"}
group = command_group("simulate", "Run a simulated upstream.")
app.add_typer(group)

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(metavar="PORT", help="Port to listen on; 0 takes any free one.", min=0, max=65535)]
ApiKey = Annotated[str | None, typer.Option(help="Demand this key; without it any will do.")]
Models = Annotated[list[str] | None, typer.Option("--model", metavar="MODEL", help="A model to list; repeat it.")]
FaultName = Annotated[str | None, typer.Option(help="Fail in this way; see --list-faults.")]
Tokens = Annotated[int | None, typer.Option(metavar="N", help="Length of every answer.", min=0, max=10_000_000)]
Pace = Annotated[float, typer.Option(metavar="MS", help="Time between two streamed events.", min=0, max=3_600_000)]
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


@group.callback()
def _simulate() -> None:
    """Run a simulated upstream."""


def _add_command(name: str, api: str, title: str, kind: str) -> None:
    @group.command(name, help=f"Simulate {title} until Ctrl-C.")
    def simulate(
        host: Host = "127.0.0.1",
        port: Port = DEFAULT_PORT,
        api_key: ApiKey = None,
        model: Models = None,
        fault: FaultName = None,
        tokens: Tokens = None,
        pace_ms: Pace = 0.0,
        list_faults: ListFaults = False,
    ) -> None:
        from pointsman import testing

        if list_faults:
            print_table(("fault", "what happens"), [(one.name, one.summary) for one in testing.FAULTS.values()])
            return
        if fault is not None:
            _check_fault(fault)
        simulated = getattr(testing, api)(api_key=api_key, models=tuple(model or ("sim-model",)))
        behaviour = testing.Behaviour(tokens=tokens, pace_ms=pace_ms, fault=fault)
        asyncio.run(_run((host, port), simulated, behaviour, partial(_announce, title, kind, api_key)))


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
    asyncio.run(_run((host, port), simulated, Behaviour(), partial(_announce, flavour, flavour, api_key)))


def _check_fault(name: str) -> None:
    from pointsman.errors import ConfigError
    from pointsman.testing import FAULTS

    if name not in FAULTS:
        near = difflib.get_close_matches(name[:100], list(FAULTS), 3, 0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "--list-faults shows them"
        raise ConfigError(f"there is no fault {name[:100]!r}; {hint}")


async def _run(
    address: tuple[str, int], api: "Api", behaviour: "Behaviour", announce: "Callable[[Simulator], None]"
) -> None:
    """Serve until SIGINT or SIGTERM; both are the normal end."""
    import signal

    from pointsman.errors import ConfigError
    from pointsman.testing import serve

    host, port = address
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    serving = loop.create_task(serve(host, port, api=api, behaviour=behaviour, on_bound=announce))
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
