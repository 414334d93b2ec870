"""The local embedder's process: MiniLM behind OpenAI's embeddings and a rerank operation, on a free loopback port.

    python -P -m pointsman.upstream.embedding_server --model PATH

It starts, announces itself, and dies with its parent as the local model does (local_server.py).
"""

import argparse
import asyncio
import base64
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from pointsman.canonical.embeddings import EmbeddingRequest, Embeddings
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.identity import Identity
from pointsman.canonical.rerank import Ranked, Ranking
from pointsman.canonical.usage import TokenUsage
from pointsman.dialects import openai_embeddings, rerank
from pointsman.errors import GatewayError, Kind
from pointsman.orphans import die_with_parent
from pointsman.upstream.batches import Batches, QueueFull, Tokens
from pointsman.upstream.local_http import Answer, LocalHttp
from pointsman.upstream.local_server import Announcement, Refusal, keep_stdout_for_announcements
from pointsman.upstream.minilm import DIMENSIONS, MAX_TOKENS, MODEL_NAME, MiniLM, weights_intact

ENCODED_AT_ONCE: Final = 256
_CALL: Final = ClientCall()
_IDENTITY: Final = Identity(request_id="local", created=0)
_encode: Final = msgspec.json.Encoder().encode


class Embedder:
    """Answers the operations."""

    def __init__(self, model: Any, batches: Batches) -> None:
        """``model`` is a `MiniLM`, or what has its ``encode``."""
        self._model = model
        self._batches = batches

    async def serve(self, method: str, path: str, body: bytes) -> Answer:
        """Every request gets an answer; errors are in OpenAI's shape."""
        try:
            if path == "/v1/embeddings" and method == "POST":
                return Answer(status=200, body=await self._embed(body))
            if path == "/v1/rerank" and method == "POST":
                return Answer(status=200, body=await self._rank(body))
            raise GatewayError(Kind.NOT_FOUND, "there is no such path here")
        except GatewayError as error:
            return _refusal(error)
        except QueueFull:
            return _refusal(
                GatewayError(Kind.OVERLOADED, "too many texts wait for the local embedder", retry_after_seconds=1)
            )

    async def _embed(self, body: bytes) -> bytes:
        request = openai_embeddings.read_request(body, _CALL)
        if request.dimensions not in (None, DIMENSIONS):
            raise GatewayError(
                Kind.INVALID_REQUEST, f"{MODEL_NAME} has {DIMENSIONS} dimensions and no others", param="dimensions"
            )
        if not isinstance(request.inputs[0], str):
            raise GatewayError(Kind.UNSUPPORTED, f"{MODEL_NAME} takes texts, not tokens", param="input")
        tokens = await self._encode(request.inputs)
        for number, one in enumerate(tokens):
            if len(one) > MAX_TOKENS:
                raise GatewayError(
                    Kind.CONTEXT_LENGTH,
                    f"input {number} has {len(one)} tokens; {MODEL_NAME} takes {MAX_TOKENS}: send it in pieces",
                    param="input",
                )
        rows = await self._batches.embed(tokens)
        response = Embeddings(
            vectors=_vectors(request, rows), model=MODEL_NAME, usage=TokenUsage(input_tokens=sum(map(len, tokens)))
        )
        return openai_embeddings.write_response(response, request, _IDENTITY, Fidelity())

    async def _rank(self, body: bytes) -> bytes:
        request = rerank.read_request(body, _CALL)
        query = (await self._encode([request.query]))[0][:MAX_TOKENS]
        tokens = await self._encode([document.text for document in request.documents])
        windows = [(number, window) for number, one in enumerate(tokens) for window in _windows(one)]
        rows = await self._batches.embed([query, *(window for _, window in windows)])
        best = [0.0] * len(request.documents)
        for (number, _), row in zip(windows, rows[1:], strict=True):
            best[number] = max(best[number], min(1.0, float(row @ rows[0])))
        order = sorted(range(len(best)), key=lambda number: -best[number])
        response = Ranking(
            results=[Ranked(number, best[number]) for number in order],
            model=MODEL_NAME,
            usage=TokenUsage(input_tokens=len(query) + sum(map(len, tokens))),
        )
        return rerank.write_response(response, request, _IDENTITY, Fidelity())

    async def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens, made in a thread in pieces: the loop goes on answering."""
        found: list[list[int]] = []
        for start in range(0, len(texts), ENCODED_AT_ONCE):
            found += await asyncio.to_thread(self._model.encode, texts[start : start + ENCODED_AT_ONCE])
        return found


def _windows(tokens: Sequence[int]) -> list[Tokens]:
    """A long document in pieces that the model takes, each between the two marks; its best piece is its score."""
    if len(tokens) <= MAX_TOKENS:
        return [tokens]
    first, last, inner = tokens[0], tokens[-1], tokens[1:-1]
    size = MAX_TOKENS - 2
    return [[first, *inner[start : start + size], last] for start in range(0, len(inner), size)]


def _vectors(request: EmbeddingRequest, rows: Sequence[Any]) -> list[Any]:
    if request.encoding == "base64":
        return [base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in rows]
    return [row.tolist() for row in rows]


def _refusal(error: GatewayError) -> Answer:
    after = error.retry_after_seconds
    return Answer(
        status=error.status,
        body=openai_embeddings.render_error(error, ""),
        retry_after=None if after is None else int(after),
    )


def _refuse(status: int) -> Answer:
    return _refusal(GatewayError(Kind.UNAUTHENTICATED, "the key is wrong", status=status))


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until the parent goes away. Does not return: ends the process with 0, or with 1 after a refusal."""
    die_with_parent()
    announcements = keep_stdout_for_announcements()
    parser = argparse.ArgumentParser(prog="python -m pointsman.upstream.embedding_server")
    parser.add_argument("--model", type=Path, required=True, help="the weights, an ONNX file")
    weights: Path = parser.parse_args(arguments).model
    api_key = sys.stdin.buffer.readline().strip().decode()
    if not api_key:
        os._exit(1)
    model, refusal = _load(weights)
    if model is None:
        os.write(announcements, _encode(Announcement(refusal=refusal)) + b"\n")
        os._exit(1)
    asyncio.run(_serve(model, api_key, announcements))
    os._exit(0)


def _load(weights: Path) -> tuple[MiniLM | None, Refusal | None]:
    try:
        if not weights_intact(weights):
            return None, Refusal.WEIGHTS_CORRUPT
        return MiniLM(weights), None
    except FileNotFoundError:
        return None, Refusal.WEIGHTS_MISSING
    except ImportError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return None, Refusal.ENGINE_MISSING


async def _serve(model: MiniLM, api_key: str, announcements: int) -> None:
    loop = asyncio.get_running_loop()
    embedder = Embedder(model, Batches(model.embed))
    server = await loop.create_server(partial(LocalHttp, api_key, embedder.serve, _refuse), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    os.write(announcements, _encode(Announcement(host=host, port=port)) + b"\n")
    ended = loop.create_future()

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 4096) and not ended.done():
            ended.set_result(None)

    loop.add_reader(sys.stdin.fileno(), read)
    await ended
    os._exit(0)  # at once: native threads may be in the middle of a batch that nobody waits for


if __name__ == "__main__":
    main()
