"""Vectors of meaning from the embedder on this machine, within a bound of time. Its process starts at the first."""

import asyncio
from array import array
from base64 import b64decode
from typing import Final

import msgspec
import structlog

from pointsman.clock import Clock
from pointsman.errors import GatewayError
from pointsman.runner import in_task
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.endpoints import LocalChild, header_lines, host_header
from pointsman.upstream.local_weights import LocalModelUnavailable
from pointsman.upstream.minilm import MODEL_NAME
from pointsman.upstream.origins import Origin

REST_SECONDS: Final = 5.0  # after a failure
_encode: Final = msgspec.json.Encoder().encode
log = structlog.get_logger("pointsman.cache")


class _Row(msgspec.Struct):
    embedding: str


class _Answer(msgspec.Struct):
    data: list[_Row]


_decode: Final = msgspec.json.Decoder(_Answer).decode


class LocalVectors:
    """Asks the embedder. A start takes longer than the bound: it goes on by itself, and questions do without."""

    def __init__(self, child: LocalChild, client: UpstreamClient, clock: Clock, timeout_seconds: float) -> None:
        self._child = child
        self._client = client
        self._clock = clock
        self._timeout = timeout_seconds
        self._starting: asyncio.Task[None] | None = None
        self._resting_until = 0.0
        self._warm = False

    async def vector(self, text: str) -> "array[float] | None":
        """A unit vector; None when there is none in time."""
        if self._clock.monotonic() < self._resting_until:
            return None
        await in_task()
        if not self._warm:
            if self._starting is None:
                self._starting = asyncio.get_running_loop().create_task(self._start())
            await asyncio.wait((self._starting,), timeout=self._timeout)
            if not self._warm:
                return None
        try:
            async with asyncio.timeout(self._timeout):
                return await self._ask(text)
        except (GatewayError, LocalModelUnavailable, TimeoutError, msgspec.DecodeError, ValueError) as error:
            self._warm = False
            self._resting_until = self._clock.monotonic() + REST_SECONDS
            log.info("questions are not compared by meaning for a while", reason=type(error).__name__)
            return None

    async def _start(self) -> None:
        try:
            await self._child.acquire()
            self._child.release()
            self._warm = True
        except (GatewayError, LocalModelUnavailable) as error:
            self._resting_until = self._clock.monotonic() + REST_SECONDS
            log.warning("questions can't be compared by meaning", reason=str(error))
        finally:
            self._starting = None

    async def _ask(self, text: str) -> "array[float] | None":
        address = await self._child.acquire()
        try:
            origin = Origin(scheme="http", host=address.host, port=address.port, allow_private=True)
            name = host_header("http", address.host, address.port)
            lines = (("authorization", f"Bearer {address.api_key}"), ("content-type", "application/json"))
            body = _encode({"model": MODEL_NAME, "input": text, "encoding_format": "base64"})
            head = b"POST /v1/embeddings HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n" % (
                header_lines(name, lines),
                len(body),
            )
            answer = CollectedAnswer()
            await self._client.send(origin, head + body, answer)
        finally:
            self._child.release()
        if answer.status != 200:  # too long for it
            return None
        vector = array("f")
        vector.frombytes(b64decode(_decode(answer.body).data[0].embedding))
        return vector
