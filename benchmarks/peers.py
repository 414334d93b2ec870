"""Other gateways to compare with: LiteLLM proxy and the Portkey gateway, installed for this below ``.bench/peers``.

Both run as their documentation says, one worker, with as little switched on as they allow: no database, no virtual
keys, no log of requests. Pointsman runs with everything on.
"""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import SCRATCH, BenchError, tool
from benchmarks.scenarios import say
from benchmarks.targets import FAST, KEY, UPSTREAM_KEY, UPSTREAMS, Endpoint, Target

FOLDER = SCRATCH / "peers"
INSTALL_SECONDS = 900
LITELLM_PORT = 23500
PORTKEY_PORT = 23510
# LiteLLM looks for opentelemetry in every request, and for a missing package that costs it half of its speed.
LITELLM_PACKAGES = ("litellm[proxy]==1.106.2", "opentelemetry-sdk")
# With newer versions of hono than those of its own lock file every stream fails.
PORTKEY_PACKAGES = {"@portkey-ai/gateway": "1.15.2"}
PORTKEY_OVERRIDES = {"hono": "4.9.7", "@hono/node-server": "1.13.5"}
# What a peer is measured with: plain requests and streams. It is far from where large bodies or TLS would matter.
KINDS = {kind: upstream for kind, upstream in UPSTREAMS.items() if not upstream.body_bytes}


def install() -> dict[str, Target]:
    """The peers' targets, installed when they are missing. Raises BenchError when that fails."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    _install_litellm()
    _install_portkey()
    return {row.name: row for row in (_litellm(), _portkey())}


def _run(command: list[str], folder: Path) -> None:
    say(f"installing: {' '.join(command)}")
    log = FOLDER / "install.log"
    try:
        with log.open("ab") as out:
            done = subprocess.run(
                command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, timeout=INSTALL_SECONDS, check=False
            )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{command[0]} did not end within {INSTALL_SECONDS} s, see {log}") from None
    if done.returncode:
        raise BenchError(f"{command[0]} failed, see {log}")


def _install_litellm() -> None:
    folder = FOLDER / "litellm"
    if (folder / "bin" / "litellm").exists():
        return
    _run([sys.executable, "-m", "venv", "--clear", str(folder)], FOLDER)
    _run([str(folder / "bin" / "pip"), "install", *LITELLM_PACKAGES], FOLDER)


def _install_portkey() -> None:
    folder = FOLDER / "portkey"
    if (folder / "node_modules" / ".bin" / "gateway").exists():
        return
    folder.mkdir(exist_ok=True)
    package = {"private": True, "dependencies": PORTKEY_PACKAGES, "overrides": PORTKEY_OVERRIDES}
    (folder / "package.json").write_text(json.dumps(package))
    _run([tool("npm"), "install", "--no-audit", "--no-fund"], folder)


def _litellm() -> Target:
    def prepare(scratch: Path) -> list[str]:
        models = [
            {
                "model_name": f"my-model-{kind}",
                "litellm_params": {
                    "model": "openai/up-model",
                    "api_base": f"http://127.0.0.1:{upstream.port}/v1",
                    "api_key": UPSTREAM_KEY,
                },
            }
            for kind, upstream in KINDS.items()
        ]
        settings = {"request_timeout": 600, "set_verbose": False, "json_logs": True, "telemetry": False}
        general = {"master_key": KEY, "disable_spend_logs": True, "disable_error_logs": True}
        config = scratch / "litellm.yaml"  # JSON is YAML
        config.write_text(json.dumps({"model_list": models, "litellm_settings": settings, "general_settings": general}))
        program = str(FOLDER / "litellm" / "bin" / "litellm")
        return [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(LITELLM_PORT)]

    # Its price list would be fetched from outside at every start.
    env = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    endpoints = {kind: Endpoint(LITELLM_PORT, f"my-model-{kind}") for kind in KINDS}
    return Target("litellm", prepare, {**endpoints, FAST: endpoints["plain"]}, env, starts=1)


def _portkey() -> Target:
    def prepare(scratch: Path) -> list[str]:
        return [str(FOLDER / "portkey" / "node_modules" / ".bin" / "gateway"), f"--port={PORTKEY_PORT}", "--headless"]

    def endpoint(port: int) -> Endpoint:
        host = f"http://127.0.0.1:{port}/v1"
        return Endpoint(
            PORTKEY_PORT, "up-model", headers={"x-portkey-provider": "openai", "x-portkey-custom-host": host}
        )

    endpoints = {kind: endpoint(upstream.port) for kind, upstream in KINDS.items()}
    return Target("portkey", prepare, {**endpoints, FAST: endpoints["plain"]}, starts=1)
