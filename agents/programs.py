"""The agents: which packages they are, how each is pointed at a gateway, and which of their tools runs a command."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

KEY: Final = "sk-pm-agents-0123456789abcdefghijklmnopqrstuvwxyz"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an agent runs: an empty home, a gateway at ``address``, and the model to ask it for."""

    home: Path
    address: str
    model: str


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """How a turn is begun: options behind the program's name, and variables; the prompt goes to standard input."""

    options: Sequence[str]
    environment: Mapping[str, str]


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """One agent. ``program`` is its path below ``node_modules``; ``arguments`` are those of ``tool`` for a command."""

    name: str
    package: str
    version: str
    program: str
    tool: str
    arguments: Callable[[str], dict[str, object]]
    invoke: Callable[[Place], Invocation]


def _claude(place: Place) -> Invocation:
    return Invocation(
        options=("-p", "--permission-mode", "bypassPermissions", "--allowedTools", "Bash"),
        environment={
            "ANTHROPIC_BASE_URL": place.address,
            "ANTHROPIC_AUTH_TOKEN": KEY,
            "ANTHROPIC_MODEL": place.model,
            "ANTHROPIC_SMALL_FAST_MODEL": place.model,
            "IS_SANDBOX": "1",  # root may skip the permission questions
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        },
    )


def _codex(place: Place, *, websockets: bool = False) -> Invocation:
    folder = place.home / ".codex"
    folder.mkdir(exist_ok=True)
    folder.joinpath("config.toml").write_text(
        f'model = "{place.model}"\n'
        'model_provider = "pointsman"\n\n'
        "[model_providers.pointsman]\n"
        'name = "Pointsman"\n'
        f'base_url = "{place.address}/v1"\n'
        'env_key = "POINTSMAN_API_KEY"\n'
        'wire_api = "responses"\n'
        f"supports_websockets = {'true' if websockets else 'false'}\n"
    )
    return Invocation(
        options=("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "-"),
        environment={"POINTSMAN_API_KEY": KEY, "CODEX_HOME": str(folder)},
    )


def _codex_over_websocket(place: Place) -> Invocation:
    return _codex(place, websockets=True)


def _opencode(place: Place) -> Invocation:
    settings = {
        "provider": {
            "pointsman": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "Pointsman",
                "options": {"baseURL": f"{place.address}/v1", "apiKey": KEY},
                "models": {place.model: {"name": "simulated"}},
            }
        },
        "permission": "allow",
        "autoupdate": False,
        "share": "disabled",
    }
    file = place.home / "opencode.json"
    file.write_text(json.dumps(settings))
    return Invocation(
        options=("run", "--model", f"pointsman/{place.model}"),
        environment={"OPENCODE_CONFIG": str(file), "OPENCODE_DISABLE_MODELS_FETCH": "1"},
    )


def _command(name: str) -> Callable[[str], dict[str, object]]:
    return lambda command: {name: command, **({} if name == "cmd" else {"description": "Say it"})}


CLAUDE: Final = Agent(
    name="Claude Code",
    package="@anthropic-ai/claude-code",
    version="2.1.197",
    program="@anthropic-ai/claude-code-linux-x64/claude",
    tool="Bash",
    arguments=_command("command"),
    invoke=_claude,
)
CODEX: Final = Agent(
    name="Codex",
    package="@openai/codex",
    version="0.169.0",
    program=".bin/codex",
    tool="exec_command",
    arguments=_command("cmd"),
    invoke=_codex,
)
CODEX_WEBSOCKET: Final = msgspec.structs.replace(CODEX, name="Codex, WebSocket", invoke=_codex_over_websocket)
OPENCODE: Final = Agent(
    name="opencode",
    package="opencode-ai",
    version="1.18.33",
    program="opencode-linux-x64/bin/opencode",
    tool="bash",
    arguments=_command("command"),
    invoke=_opencode,
)
AGENTS: Final = (CLAUDE, CODEX, CODEX_WEBSOCKET, OPENCODE)
