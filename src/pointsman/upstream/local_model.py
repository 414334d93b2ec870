"""The local model's supervisor: starts the child on first use, restarts it after a crash, stops it when idle.

    acquire() ─► endpoint of a ready child ─► the caller talks to it over loopback ─► release()
        │ none yet: one start shared by all callers; the child says on its standard output when it is ready
        └ after a crash: wait out the back-off when it is short, else not_ready with Retry-After

It opens no socket: the child listens, the upstream client connects.
"""

import asyncio
import secrets
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec
import structlog

from pointsman.clock import Clock
from pointsman.upstream.local_server import Announcement, Refusal
from pointsman.upstream.local_weights import LocalModelUnavailable

_log = structlog.get_logger()

FIRST_BACK_OFF_SECONDS: Final = 0.5
MOST_BACK_OFF_SECONDS: Final = 30.0
# A child that lived this long was well: the next crash counts as the first.
HEALTHY_SECONDS: Final = 60.0
# Callers wait this long for a restart; a longer wait is told to the client instead.
PATIENCE_SECONDS: Final = 5.0
TERMINATE_SECONDS: Final = 5.0
_STDERR_TAIL_BYTES: Final = 4096

_REMEDIES: Final = {
    Refusal.WEIGHTS_MISSING: "The local model's weights are not installed: run `pointsman local install`.",
    Refusal.WEIGHTS_CORRUPT: (
        "The local model's weights are damaged (SHA-256 differs): "
        "run `pointsman local remove` and then `pointsman local install`."
    ),
    Refusal.ENGINE_MISSING: "The local model's engine is not installed: run `pip install 'pointsman[local]'`.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A kind of child: what it is called in messages, its module, and what to do when it refuses to start."""

    noun: str
    module: str
    remedies: Mapping[Refusal, str]


CHAT: Final = Program(noun="The local model", module="pointsman.upstream.local_server", remedies=_REMEDIES)


class LocalState(StrEnum):
    """What the supervisor is doing."""

    NOT_INSTALLED = "not_installed"
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    BACKING_OFF = "backing_off"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEndpoint:
    """Where the child listens. The key is made for one life of the child; it is not shown in a repr."""

    host: str
    port: int
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStatus:
    """The supervisor's state now. ``failures`` counts failed starts and crashes in a row; the newest is told."""

    state: LocalState
    pid: int | None
    port: int | None
    in_flight: int
    failures: int
    retry_in_seconds: float
    last_error: str | None


class LocalModel:
    """One local model for one event loop. Every `acquire` that returns must be followed by one `release`."""

    def __init__(
        self,
        weights: Path,
        clock: Clock,
        *,
        idle_seconds: float = 300.0,
        start_timeout_seconds: float = 60.0,
        executable: str = sys.executable,
        program: Program = CHAT,
    ) -> None:
        self._weights = weights
        self._program = program
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._start_timeout_seconds = start_timeout_seconds
        self._executable = executable
        self._back_off = _BackOff()
        self._run: _Run | None = None
        self._in_flight = 0
        self._last_used = 0.0
        self._closed = False

    async def acquire(self) -> LocalEndpoint:
        """The endpoint of a ready child, started if need be, and a claim that keeps it from being stopped as idle.

        Raises LocalModelUnavailable (kind not_ready) naming what to do; ``retry_after_seconds`` says when a start is
        allowed again.
        """
        self._in_flight += 1
        try:
            return await self._endpoint()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give one claim back. RuntimeError when there is none: a claim was given back twice."""
        if self._in_flight == 0:
            raise RuntimeError("release() without acquire()")
        self._in_flight -= 1
        self._last_used = self._clock.monotonic()

    def status(self) -> LocalStatus:
        """What the supervisor is doing now; touches nothing but one file's metadata."""
        run = self._run
        endpoint = run.endpoint if run else None
        return LocalStatus(
            state=self._state(),
            pid=run.child.pid if run and run.child else None,
            port=endpoint.port if endpoint else None,
            in_flight=self._in_flight,
            failures=self._back_off.failures,
            retry_in_seconds=self._back_off.wait_seconds(self._clock.monotonic()),
            last_error=self._back_off.reason,
        )

    async def aclose(self) -> None:
        """Stop the child (SIGTERM, SIGKILL after 5 s) and refuse further use. Returns when the child is gone."""
        self._closed = True
        run = self._run
        if run is None:
            return
        if not run.leaving:
            run.task.cancel()
        await asyncio.wait({run.task})

    def _state(self) -> LocalState:
        if self._closed:
            return LocalState.CLOSED
        if self._run is not None:
            if self._run.leaving:
                return LocalState.STOPPING
            return LocalState.READY if self._run.endpoint else LocalState.STARTING
        if not self._weights.is_file():
            return LocalState.NOT_INSTALLED
        waiting = self._back_off.wait_seconds(self._clock.monotonic()) > 0
        return LocalState.BACKING_OFF if waiting else LocalState.STOPPED

    async def _endpoint(self) -> LocalEndpoint:
        while True:
            self._refuse_if_closed()
            run = self._run
            if run is None:
                await self._wait_out_back_off()
                if self._run is None:
                    self._start()
            elif run.leaving:
                # Two children at once would hold the memory twice.
                await asyncio.wait({run.task})
            else:
                # Shielded: one caller that gives up must not cancel the start that the others wait for.
                outcome = await asyncio.shield(run.ready)
                if isinstance(outcome, LocalEndpoint):
                    return outcome
                self._refuse_if_closed()
                raise LocalModelUnavailable(outcome.reason, retry_after_seconds=self._retry_after())

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise LocalModelUnavailable(f"{self._program.noun} is shutting down.")

    async def _wait_out_back_off(self) -> None:
        while self._run is None and (wait := self._back_off.wait_seconds(self._clock.monotonic())) > 0:
            if wait > PATIENCE_SECONDS or not self._back_off.waiting_helps:
                raise LocalModelUnavailable(self._back_off.reason or "", retry_after_seconds=self._retry_after())
            await asyncio.sleep(wait)
            self._refuse_if_closed()

    def _retry_after(self) -> float | None:
        return self._back_off.wait_seconds(self._clock.monotonic()) or None

    def _start(self) -> None:
        if not self._weights.is_file():
            raise LocalModelUnavailable(self._program.remedies[Refusal.WEIGHTS_MISSING])
        ready: asyncio.Future[LocalEndpoint | _Failure] = asyncio.get_running_loop().create_future()
        run = _Run(ready=ready)
        self._run = run
        run.task = asyncio.create_task(self._supervise(run), name="local model supervisor")

    async def _supervise(self, run: "_Run") -> None:
        """One life of the child, from its start until it is reaped."""
        failure: _Failure | None = _Failure(f"{self._program.noun} was stopped while it started.", waiting_helps=False)
        started_at = self._clock.monotonic()
        try:
            failure = await self._live(run, started_at)
        finally:
            run.leaving = True
            try:
                if run.child is not None:
                    await run.child.stop()
            finally:
                self._run = None
                self._close_books(run, failure, self._clock.monotonic() - started_at)

    async def _live(self, run: "_Run", started_at: float) -> "_Failure | None":
        """Start the child and keep it until it is idle (None) or fails."""
        try:
            run.child = child = await _Child.spawn(self._executable, self._weights, self._program)
            async with asyncio.timeout(self._start_timeout_seconds):
                endpoint = await child.endpoint()
        except _StartFailed as error:
            return error.failure
        except TimeoutError:
            return _Failure(
                f"{self._program.noun} was not ready within {self._start_timeout_seconds:g} s of its start."
            )
        except OSError as error:
            return _Failure(f"{self._program.noun}'s process can't be started: {error.strerror or error}.")
        run.endpoint = endpoint
        run.ready.set_result(endpoint)
        self._last_used = now = self._clock.monotonic()
        _log.info("local model ready", pid=child.pid, port=endpoint.port, seconds=round(now - started_at, 3))
        return await self._until_idle(run, child)

    async def _until_idle(self, run: "_Run", child: "_Child") -> "_Failure | None":
        while True:
            unused = self._clock.monotonic() - self._last_used if self._in_flight == 0 else 0.0
            if unused >= self._idle_seconds:
                run.leaving = True
                _log.info("local model idle", pid=child.pid, idle_seconds=self._idle_seconds)
                return None
            await asyncio.wait({child.exited}, timeout=self._idle_seconds - unused)
            if child.exited.done():
                return _Failure(f"{self._program.noun}'s process ended unexpectedly ({child.how_it_ended()}).")

    def _close_books(self, run: "_Run", failure: "_Failure | None", lived_seconds: float) -> None:
        now = self._clock.monotonic()
        if self._closed or failure is None:
            self._back_off.ended(lived_seconds)
        else:
            self._back_off.failed(failure, now, lived_seconds)
            _log.warning(
                "local model failed",
                reason=failure.reason,
                failures=self._back_off.failures,
                retry_in_seconds=self._back_off.wait_seconds(now),
                stderr=run.child.stderr_tail() if run.child else "",
            )
        if not run.ready.done():
            run.ready.set_result(failure or _Failure(f"{self._program.noun} was stopped while it started."))


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a start or a life of the child ended badly; ``waiting_helps`` is False when the operator must act."""

    reason: str
    waiting_helps: bool = True


class _StartFailed(Exception):
    def __init__(self, failure: _Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class _Run:
    """One life of the child and the task that supervises it."""

    task: asyncio.Task[None]

    def __init__(self, ready: asyncio.Future[LocalEndpoint | _Failure]) -> None:
        self.ready = ready
        self.child: _Child | None = None
        self.endpoint: LocalEndpoint | None = None
        self.leaving = False


class _BackOff:
    """When the next start is allowed: 0.5 s after the first failure, doubling to 30 s."""

    def __init__(self) -> None:
        self.failures = 0
        self.reason: str | None = None
        self.waiting_helps = True
        self._not_before = 0.0

    def wait_seconds(self, now: float) -> float:
        """Seconds until a start is allowed; 0.0 when it is."""
        return max(0.0, self._not_before - now) if self.failures else 0.0

    def ended(self, lived_seconds: float) -> None:
        """The child was stopped on purpose."""
        if lived_seconds >= HEALTHY_SECONDS:
            self.failures = 0
            self.reason = None

    def failed(self, failure: _Failure, now: float, lived_seconds: float) -> None:
        """The child crashed or did not start."""
        self.ended(lived_seconds)
        self.failures += 1
        self.reason = failure.reason
        self.waiting_helps = failure.waiting_helps
        doublings = min(self.failures - 1, 16)
        self._not_before = now + min(MOST_BACK_OFF_SECONDS, FIRST_BACK_OFF_SECONDS * 2**doublings)


class _Child:
    """The process and its three pipes."""

    def __init__(self, process: asyncio.subprocess.Process, api_key: str, program: Program) -> None:
        self._process = process
        self._program = program
        self._api_key = api_key
        self._tail = b""
        self.pid = process.pid
        self.exited = asyncio.create_task(process.wait(), name="local model exit")
        self._stderr_read = asyncio.create_task(self._read_stderr(), name="local model stderr")

    @classmethod
    async def spawn(cls, executable: str, weights: Path, program: Program) -> "_Child":
        """Start the process and hand it a new API key on standard input, which stays open as its sign of life."""
        # Not the gateway's environment: that holds secrets which native code that reads prompts has no need of.
        environment = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry)}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(executable, "-P", "-m", program.module, "--model", str(weights)),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=environment,
            # A Ctrl-C in the terminal is for the gateway, which lets running requests end first.
            start_new_session=True,
        )
        child = cls(process, secrets.token_urlsafe(32), program)
        assert process.stdin is not None
        process.stdin.write(f"{child._api_key}\n".encode())
        return child

    async def endpoint(self) -> LocalEndpoint:
        """Wait for the announcement. Raises _StartFailed when the child refuses, ends or talks nonsense."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            await self.exited
            raise _StartFailed(
                _Failure(f"{self._program.noun}'s process ended while it started ({self.how_it_ended()}).")
            )
        try:
            announcement = msgspec.json.decode(line, type=Announcement)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _StartFailed(_Failure(f"{self._program.noun}'s process announced something unreadable.")) from error
        if announcement.refusal is not None:
            raise _StartFailed(_Failure(self._program.remedies[announcement.refusal], waiting_helps=False))
        return LocalEndpoint(host=announcement.host, port=announcement.port, api_key=self._api_key)

    def how_it_ended(self) -> str:
        """The exit status in words; only after `exited`."""
        status = self.exited.result()
        if status == -signal.SIGILL:
            return "SIGILL: this processor lacks AVX2, which the engine needs"
        if status < 0:
            return signal.Signals(-status).name
        return f"exit status {status}"

    def stderr_tail(self) -> str:
        """The last 4 KiB that the process logged."""
        return self._tail.decode(errors="replace").strip()

    async def stop(self) -> None:
        """SIGTERM, SIGKILL after 5 s or when cancelled; returns when the process is reaped and its pipes are read."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._signal(signal.SIGTERM)
            await asyncio.wait({self.exited}, timeout=TERMINATE_SECONDS)
        finally:
            self._signal(signal.SIGKILL)
        await asyncio.wait({self.exited, self._stderr_read})

    def _signal(self, number: signal.Signals) -> None:
        if self.exited.done():
            return
        try:
            self._process.send_signal(number)
        except ProcessLookupError:
            pass

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(_STDERR_TAIL_BYTES):
            self._tail = (self._tail + chunk)[-_STDERR_TAIL_BYTES:]
