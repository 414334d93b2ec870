"""The local model's process: loads the weights, serves them on a free loopback port, and dies with its parent.

    python -P -m pointsman.upstream.local_server --model PATH

It reads one line, the API key, from standard input, writes one JSON line (`Announcement`) to standard output when it
is ready or refuses to start, and then lives until standard input ends or SIGTERM comes. Logs go to standard error.
It is a process of its own because a crash of native code or a long prompt must not take the gateway along.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from pointsman.orphans import die_with_parent
from pointsman.upstream.local_weights import weights_intact

MODEL_NAME: Final = "smollm2-135m-instruct"
# Two requests at once, each with its own 4,096 tokens. More slots gave no more tokens per second on two cores, and a
# context shared by all slots (llama.cpp's kv_unified) fails every running request when their sum outgrows it.
SLOTS: Final = 2
CONTEXT_TOKENS_PER_SLOT: Final = 4096
ANSWER_TOKENS: Final = 512
# llama.cpp's levels: 1 is errors only; higher levels say something for every request.
_LOG_ERRORS: Final = 1


class Refusal(StrEnum):
    """Why the process ends by itself before it serves."""

    WEIGHTS_MISSING = "weights_missing"
    WEIGHTS_CORRUPT = "weights_corrupt"
    ENGINE_MISSING = "engine_missing"


class Announcement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The one line on standard output: where the server listens, or why there is none."""

    host: str = ""
    port: int = 0
    refusal: Refusal | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until the parent goes away. Does not return: ends the process with 0, or with 1 after a refusal."""
    die_with_parent()
    announcements = keep_stdout_for_announcements()
    model = _model_argument(arguments)
    api_key = sys.stdin.buffer.readline().strip().decode()
    if not api_key:
        os._exit(1)
    refusal = _refusal(model)
    if refusal is None:
        server, announcement = _serve(model, api_key)
    else:
        server, announcement = None, Announcement(refusal=refusal)
    os.write(announcements, msgspec.json.encode(announcement) + b"\n")
    if server is None:
        os._exit(1)
    while os.read(sys.stdin.fileno(), 4096):
        pass
    # At once: native threads may be in the middle of an answer that nobody waits for.
    os._exit(0)


def _model_argument(arguments: Sequence[str] | None) -> Path:
    parser = argparse.ArgumentParser(prog="python -m pointsman.upstream.local_server")
    parser.add_argument("--model", type=Path, required=True, help="the weights, a GGUF file")
    model: Path = parser.parse_args(arguments).model
    return model


def keep_stdout_for_announcements() -> int:
    """Return a private copy of standard output; whatever native code prints goes to standard error from now on."""
    private = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return private


def _refusal(model: Path) -> Refusal | None:
    """What stands in the way of a start. The hash is checked first: native code parses only the pinned file."""
    try:
        if not weights_intact(model):
            return Refusal.WEIGHTS_CORRUPT
    except FileNotFoundError:
        return Refusal.WEIGHTS_MISSING
    try:
        import xllamacpp  # noqa: F401
    except ImportError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return Refusal.ENGINE_MISSING
    return None


def _serve(model: Path, api_key: str) -> tuple[object, Announcement]:
    """Load the model and start serving; the server stops when the returned object is dropped."""
    import xllamacpp

    server = xllamacpp.Server(_parameters(xllamacpp.CommonParams(), model, api_key))
    address = urlsplit(server.listening_address)
    return server, Announcement(host=address.hostname or "", port=address.port or 0)


def _parameters(parameters: Any, model: Path, api_key: str) -> Any:
    cores = len(os.sched_getaffinity(0))
    parameters.model.path = str(model)
    parameters.model_alias = {MODEL_NAME}
    parameters.api_keys = [api_key]
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_parallel = SLOTS
    parameters.n_ctx = SLOTS * CONTEXT_TOKENS_PER_SLOT
    parameters.kv_unified = False
    # With a thread per core, tokens nearly stop while other processes keep the cores busy: for each token the threads
    # wait for each other hundreds of times (docs/decisions/0006). Prompts have few and long steps.
    parameters.cpuparams.n_threads = max(1, cores // 2)
    parameters.cpuparams_batch.n_threads = cores
    # What its authors advise for chat (the model card); at the engine's own 0.8 it strays into other languages.
    parameters.sampling.temp = 0.2
    parameters.sampling.top_p = 0.9
    # Only for requests that set no limit: a small model that rambles would otherwise fill its whole context.
    parameters.n_predict = ANSWER_TOKENS
    parameters.verbosity = _LOG_ERRORS
    # The default keeps up to 8 GiB of old prompts in memory.
    parameters.cache_ram_mib = 0
    parameters.cache_idle_slots = False
    # Nothing but the API: no web page, no view of running prompts, no other origins.
    parameters.ui = False
    parameters.endpoint_slots = False
    parameters.cors_origins = ""
    parameters.fit_params = False
    return parameters


if __name__ == "__main__":
    main()
