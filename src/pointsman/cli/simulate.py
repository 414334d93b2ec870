"""``pointsman simulate``: an upstream to try things on, with true wire shapes and every way to fail."""

import asyncio
import difflib
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli import app
from pointsman.cli.options import command_group
from pointsman.cli.output import note, print_table

if TYPE_CHECKING:
    from pointsman.testing import Api, Behaviour, Simulator

DEFAULT_PORT = 20200
# Addresses that mean every interface, and where a client on this machine finds such a server.
REACHED_AT = {"//0.0.0.0:": "//127.0.0.1:", "//[::]:": "//[::1]:"}
# What the simulated APIs are called, by the class that answers.
TITLES = {"OpenAIChat": "OpenAI Chat Completions", "AnthropicMessages": "Anthropic Messages"}

group = command_group("simulate", "Run a simulated upstream.")
app.add_typer(group)


@group.callback()
def _simulate() -> None:
    """Run a simulated upstream."""


@group.command()
def openai(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", help="Port to listen on; 0 takes any free one.", min=0, max=65535)
    ] = DEFAULT_PORT,
    api_key: Annotated[str | None, typer.Option(help="Demand this key; without it any will do.")] = None,
    model: Annotated[list[str] | None, typer.Option(metavar="MODEL", help="A model to list; repeat it.")] = None,
    fault: Annotated[str | None, typer.Option(help="Fail in this way; see --list-faults.")] = None,
    tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Length of every answer.", min=0, max=10_000_000)
    ] = None,
    pace_ms: Annotated[
        float, typer.Option(metavar="MS", help="Time between two streamed events.", min=0, max=3_600_000)
    ] = 0.0,
    flavour: Annotated[
        str, typer.Option(help="A host that departs from OpenAI: deepseek, mistral, groq, openrouter, qwen ...")
    ] = "openai",
    list_faults: Annotated[bool, typer.Option("--list-faults", help="Show the faults and exit.")] = False,
) -> None:
    """Simulate an OpenAI Chat Completions upstream until Ctrl-C."""
    from pointsman.errors import ConfigError
    from pointsman.testing import FAULTS, FLAVOURS, Behaviour, OpenAIChat
    """Simulate an OpenAI upstream, Chat Completions and Responses, until Ctrl-C."""
    from pointsman.testing import FAULTS, Behaviour, OpenAIResponses

    if list_faults:
        print_table(("fault", "what happens"), [(one.name, one.summary) for one in FAULTS.values()])
        return
    if fault is not None:
        _check_fault(fault)
    if flavour not in FLAVOURS:
        raise ConfigError(f"there is no flavour {flavour[:100]!r}; there are: {', '.join(FLAVOURS)}")
    api = OpenAIChat(api_key=api_key, models=tuple(model or ("sim-model",)), flavour=FLAVOURS[flavour])
    behaviour = Behaviour(tokens=tokens, pace_ms=pace_ms, fault=fault)
    asyncio.run(_run((host, port), api, behaviour, api_key))


@group.command()
def anthropic(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", help="Port to listen on; 0 takes any free one.", min=0, max=65535)
    ] = DEFAULT_PORT,
    api_key: Annotated[str | None, typer.Option(help="Demand this key; without it any will do.")] = None,
    model: Annotated[list[str] | None, typer.Option(metavar="MODEL", help="A model to list; repeat it.")] = None,
    fault: Annotated[
        str | None, typer.Option(help="Fail in this way; simulate openai --list-faults shows them.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Length of every answer.", min=0, max=10_000_000)
    ] = None,
    pace_ms: Annotated[
        float, typer.Option(metavar="MS", help="Time between two streamed events.", min=0, max=3_600_000)
    ] = 0.0,
) -> None:
    """Simulate an Anthropic Messages upstream until Ctrl-C."""
    from pointsman.testing import AnthropicMessages, Behaviour

    if fault is not None:
        _check_fault(fault)
    api = AnthropicMessages(api_key=api_key, models=tuple(model or ("sim-model",)))
    api = OpenAIResponses(api_key=api_key, models=tuple(model or ("sim-model",)))
    behaviour = Behaviour(tokens=tokens, pace_ms=pace_ms, fault=fault)
    asyncio.run(_run((host, port), api, behaviour, api_key))


def _check_fault(name: str) -> None:
    from pointsman.errors import ConfigError
    from pointsman.testing import FAULTS

    if name not in FAULTS:
        near = difflib.get_close_matches(name[:100], list(FAULTS), 3, 0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "--list-faults shows them"
        raise ConfigError(f"there is no fault {name[:100]!r}; {hint}")


async def _run(address: tuple[str, int], api: "Api", behaviour: "Behaviour", api_key: str | None) -> None:
    """Serve until SIGINT or SIGTERM; both are the normal end."""
    import signal

    from pointsman.errors import ConfigError
    from pointsman.testing import serve

    host, port = address
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    serving = loop.create_task(
        serve(host, port, api=api, behaviour=behaviour, on_bound=lambda simulator: _announce(simulator, api_key))
    )
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


def _announce(simulator: "Simulator", api_key: str | None) -> None:
    base_url = simulator.base_url
    for bound, reached in REACHED_AT.items():
        base_url = base_url.replace(bound, reached)
    title = TITLES.get(type(simulator.api).__name__, "an upstream")
    typer.echo(f"simulating {title} at {base_url}")
    typer.echo(f"simulating OpenAI Chat Completions and Responses at {base_url}")
    key = " --api-key prompt" if api_key is not None else ""
    typer.echo(f"use it:  pointsman connections add sim --base-url {base_url} --allow-private{key}")
