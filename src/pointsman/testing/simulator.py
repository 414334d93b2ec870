"""A simulated upstream on a real socket: in the running loop, in a thread of its own, or until cancelled."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

import uvloop

from .behaviour import HEADER, Behaviour, DirectiveError, directives_of_model, with_directives
from .connection import Connection
from .faults import FAULTS, Fault
from .mixture import FaultMixture
from .openai_chat import OpenAIChat
from .reply import Api, Reply, Request
from .request_log import Outcome, ReceivedRequest, RequestLog
from .transmission import Transmission, transmit

PATIENCE_S: Final = 5.0
_BACKLOG: Final = 2048


class Simulator:
    """An upstream that listens on ``host``:``port`` (0: any free port) while entered with ``async with``.

    ``api`` says what it answers (default: OpenAI Chat Completions), ``behaviour`` how, unless a request's directives
    say otherwise; ``mixture`` draws faults for requests that name none; ``history`` is the number of requests
    remembered. ``behaviour`` and ``mixture`` may be set anew at any time, for the requests that come then.
    Raises DirectiveError when ``behaviour`` names no fault that exists, and OSError on entering when the address can't
    be bound.
    """

    def __init__(
        self,
        api: Api | None = None,
        behaviour: Behaviour | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        history: int = 1000,
        mixture: FaultMixture | None = None,
    ) -> None:
        self.api: Api = OpenAIChat() if api is None else api
        self.behaviour = Behaviour() if behaviour is None else behaviour
        self.host = host
        self.port = port
        self.mixture = mixture
        self.log = RequestLog(history)
        self._asked: Counter[tuple[str, str]] = Counter()  # requests by fault and model
        self._first_asked: dict[tuple[str, str], float] = {}  # when the first of them came (monotonic seconds)
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        fault_named(self.behaviour)

    @property
    def origin(self) -> str:
        """``http://host:port`` of the bound socket."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What a client is given as its base URL: the origin and ``/v1``."""
        return f"{self.origin}/v1"

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """The last ``history`` requests, oldest first."""
        return self.log.requests

    @property
    def open_connections(self) -> int:
        """Clients connected now."""
        return len(self._connections)

    async def start(self) -> None:
        """Bind and listen; ``port`` becomes the bound port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._respond, self.log, self._connections), self.host, self.port, backlog=_BACKLOG
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection; requests in progress end as ``stopped``."""
        if self._server is None:
            return
        self._server.close()
        while self._connections:
            for connection in tuple(self._connections):
                connection.abort()
            await asyncio.sleep(0)
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def wait_for_requests(self, count: int, timeout_s: float = PATIENCE_S) -> tuple[ReceivedRequest, ...]:
        """The requests once ``count`` have come in; AssertionError after ``timeout_s`` seconds."""
        return await self.log.until(lambda: self.log.at_least(count), f"{count} requests", timeout_s)

    async def wait_for(self, outcome: Outcome, timeout_s: float = PATIENCE_S) -> ReceivedRequest:
        """The newest request that ended as ``outcome``, once there is one; AssertionError after ``timeout_s``."""
        return await self.log.until(lambda: self.log.ended(outcome), f"request ended as {outcome}", timeout_s)

    async def wait_for_disconnect(self, timeout_s: float = PATIENCE_S) -> ReceivedRequest:
        """The newest request whose client left before its answer was complete; AssertionError after ``timeout_s``."""
        return await self.wait_for(Outcome.CLIENT_DISCONNECTED, timeout_s)

    def _respond(self, request: Request) -> tuple[Transmission, ReceivedRequest]:
        model = self.api.model_of(request)
        try:
            behaviour = with_directives(self.behaviour, directives_of_model(model), request.header(HEADER))
            fault = self._fault_of(behaviour, model)
        except DirectiveError as error:
            behaviour, fault = Behaviour(), None
            reply = self.api.reject_directive(str(error))
        else:
            reply, behaviour = self._reply(request, behaviour, fault)
        transmission = transmit(reply, request, behaviour)
        if fault is not None and fault.disturb is not None:
            transmission = fault.disturb(transmission, behaviour)
        status = transmission.status if transmission.head else 0
        received = ReceivedRequest(request, model=model, fault=fault.name if fault else None, status=status)
        self.log.add(received)
        return transmission, received

    def _reply(self, request: Request, behaviour: Behaviour, fault: Fault | None) -> tuple[Reply, Behaviour]:
        if fault is None:
            return self.api.answer(request, behaviour), behaviour
        if fault.behave is not None:
            behaviour = fault.behave(behaviour)
        if fault.refusal:
            reply = self.api.refuse(fault.name, request, behaviour)
        else:
            reply = self.api.answer(request, behaviour)
        return (reply if fault.rewrite is None else fault.rewrite(reply, behaviour)), behaviour

    def _fault_of(self, behaviour: Behaviour, model: str) -> Fault | None:
        fault = fault_named(behaviour)
        if fault is None:
            return None if self.mixture is None else self.mixture.draw()
        asked = fault.name, model
        before = self._asked[asked]
        self._asked[asked] += 1
        if behaviour.fail_first is not None:
            return fault if before < behaviour.fail_first else None
        if behaviour.failing_requests:
            period = behaviour.fine_requests + behaviour.failing_requests
            return fault if before % period >= behaviour.fine_requests else None
        if behaviour.failing_s:
            now = time.monotonic()
            since = now - self._first_asked.setdefault(asked, now)
            return fault if since % (behaviour.fine_s + behaviour.failing_s) >= behaviour.fine_s else None
        return fault


def fault_named(behaviour: Behaviour) -> Fault | None:
    """The fault that ``behaviour`` names, None if none; DirectiveError when there is no such fault."""
    if behaviour.fault is None:
        return None
    try:
        return FAULTS[behaviour.fault]
    except KeyError:
        raise DirectiveError(f"No fault is called {behaviour.fault!r}; there are: {', '.join(FAULTS)}") from None


async def serve(
    host: str,
    port: int,
    *,
    api: Api | None = None,
    behaviour: Behaviour | None = None,
    on_bound: Callable[[Simulator], None] | None = None,
    mixture: FaultMixture | None = None,
) -> None:
    """Run a simulator until cancelled. ``on_bound`` is called once it listens, when ``port`` is the bound port.

    Raises OSError when the address can't be bound and DirectiveError when ``behaviour`` names no fault.
    """
    async with Simulator(api, behaviour, host=host, port=port, history=100, mixture=mixture) as simulator:
        if on_bound is not None:
            on_bound(simulator)
        await asyncio.get_running_loop().create_future()


class RunningSimulator:
    """A simulator in a thread of its own, with the waiting helpers as blocking calls."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.log = simulator.log
        self.origin = simulator.origin
        self.base_url = simulator.base_url
        self.port = simulator.port

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """The last requests, oldest first."""
        return self.log.requests

    def wait_for_requests(self, count: int, timeout_s: float = PATIENCE_S) -> tuple[ReceivedRequest, ...]:
        """The requests once ``count`` have come in; AssertionError after ``timeout_s`` seconds."""
        return self.log.wait(lambda: self.log.at_least(count), f"{count} requests", timeout_s)

    def wait_for(self, outcome: Outcome, timeout_s: float = PATIENCE_S) -> ReceivedRequest:
        """The newest request that ended as ``outcome``, once there is one; AssertionError after ``timeout_s``."""
        return self.log.wait(lambda: self.log.ended(outcome), f"request ended as {outcome}", timeout_s)

    def wait_for_disconnect(self, timeout_s: float = PATIENCE_S) -> ReceivedRequest:
        """The newest request whose client left before its answer was complete; AssertionError after ``timeout_s``."""
        return self.wait_for(Outcome.CLIENT_DISCONNECTED, timeout_s)


@contextmanager
def running_simulator(
    api: Api | None = None,
    behaviour: Behaviour | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    history: int = 1000,
) -> Iterator[RunningSimulator]:
    """A simulator in a thread with its own event loop, stopped on leaving. Raises what ``Simulator`` raises."""
    simulator = Simulator(api, behaviour, host=host, port=port, history=history)
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="pointsman-simulator", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(simulator.start(), loop).result(PATIENCE_S)
        yield RunningSimulator(simulator)
    finally:
        asyncio.run_coroutine_threadsafe(simulator.stop(), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()
