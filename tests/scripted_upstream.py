"""An upstream that says exactly the bytes it is told to, for what no well-behaved simulator would say."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

Script = Callable[[int, bytes], Iterable[bytes | float]]


class ScriptedUpstream:
    """``script(number, body)`` gives the parts of the answer to a connection's ``number``-th request (from 0): bytes,
    and seconds to wait.

    After an answer the connection ends (by RST with ``reset``), unless ``keep`` is set. ``connections`` counts all,
    ``open`` those that are there now, ``most_open`` the most at any time, ``requests`` all requests.
    """

    def __init__(self) -> None:
        self.script: Script = lambda number, body: []
        self.reset = False
        self.keep = False
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.requests = 0
        self.closed_at = 0.0
        self.port = 0

    @property
    def base_url(self) -> str:
        """What a connection is given."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            number = 0
            while True:
                await self._answer(number, reader, writer)
                number += 1
                if not self.keep:
                    break
            if self.reset:
                writer.transport.abort()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            self.closed_at = time.monotonic()
            writer.close()

    async def _answer(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        self.requests += 1
        for part in self.script(number, body):
            if isinstance(part, bytes):
                writer.write(part)
                await writer.drain()
            await asyncio.sleep(0 if isinstance(part, bytes) else part)


@contextmanager
def running_upstream() -> Iterator[ScriptedUpstream]:
    """One in a thread of its own."""
    upstream = ScriptedUpstream()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="scripted-upstream", daemon=True)
    thread.start()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(upstream.serve, "127.0.0.1", 0, backlog=1000)

    async def stop(server: asyncio.Server) -> None:
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(5)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
