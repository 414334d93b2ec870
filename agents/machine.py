"""The machine: agents installed from npm into a folder of ours, and a network of nothing but loopback."""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agents.programs import Agent

ROOT: Final = Path(__file__).resolve().parent.parent
SCRATCH: Final = ROOT / ".agents"
INSTALL_TIMEOUT_S: Final = 900
INSIDE: Final = "--inside"  # told to a run that is already in its own network
_SIOCSIFFLAGS: Final = 0x8914  # linux/sockios.h
_IFF_UP_RUNNING: Final = 0x1 | 0x40  # linux/if.h


class AgentsError(Exception):
    """The run can't go on; the message says why and what to do."""


def install(agents: Sequence[Agent], folder: Path = SCRATCH) -> None:
    """Install what is missing of ``agents``, in the versions listed. Raises AgentsError.

    No package's own scripts run: the programs are taken straight from npm's platform packages.
    """
    missing = {f"{agent.package}@{agent.version}" for agent in agents if not _is_installed(agent, folder)}
    if not missing:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise AgentsError("npm is not installed; the agents come from npm and Codex needs Node 20 or later")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"installing {', '.join(sorted(missing))} into {folder} (some 800 MB for all, once) ...", flush=True)
    command = [npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", *sorted(missing)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise AgentsError(f"npm did not finish within {INSTALL_TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise AgentsError(f"npm failed:\n{done.stderr[-2000:]}")


def program_of(agent: Agent, folder: Path = SCRATCH) -> Path:
    """The agent's program. Raises AgentsError when npm has none for this machine."""
    program = folder / "node_modules" / agent.program
    if not program.exists():
        raise AgentsError(f"{program} does not exist: {agent.package} has no such program for this machine")
    return program


def _is_installed(agent: Agent, folder: Path) -> bool:
    package = folder / "node_modules" / agent.package / "package.json"
    return package.exists() and f'"version": "{agent.version}"' in package.read_text()


def isolated(arguments: Sequence[str]) -> int | None:
    """Run this program again in a network namespace of its own; its exit status, or None where that can't be had."""
    prefix = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    try:
        possible = subprocess.run([*prefix, "true"], capture_output=True, timeout=10, check=False).returncode == 0
    except OSError:
        possible = False
    if not possible:
        return None
    command = [*prefix, sys.executable, "-m", "agents.run", INSIDE, *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def raise_loopback() -> None:
    """Bring up ``lo``, which is down in a new network namespace."""
    with socket.socket() as made:
        fcntl.ioctl(made, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP_RUNNING))
