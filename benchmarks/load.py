"""Load on a target: the requests, the load programs, and the check that answers are right."""

import http.client
import json
import math
import ssl
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.machine import SOURCES, BenchError, tool
from benchmarks.targets import KEY, Endpoint, Running, favour_session

PATH = "/v1/chat/completions"
PATHS = {"openai": PATH, "anthropic": "/v1/messages"}
MESSAGES = [
    (
        "system",
        "You are a careful assistant for a travel company. Answer briefly, cite the document you used, and say so when "
        "you do not know. Never invent prices, and never promise a refund.",
    ),
    (
        "user",
        "Hello! I am planning a five day trip to Paris with two children in late April, and I would like to know what "
        "the weather is usually like, whether we should book the museums ahead, and which passes are worth the money.",
    ),
    (
        "assistant",
        "Late April is mild, 8 to 17 degrees, with some showers. Book the Louvre and the Eiffel Tower ahead. The "
        "museum pass pays off from about four museums; children under 18 enter most national museums for free.",
    ),
    (
        "user",
        "Thanks. And what is the capital of France, how old is it, and which three places would you show to a ten year "
        'old who likes dinosaurs, boats and "really tall things"? Please give the opening hours too.',
    ),
]


@dataclass(frozen=True)
class Result:
    """What one load program saw. Times in ms; ``done`` counts answers, or events where it read streams."""

    done: int
    seconds: float
    p50: float
    p99: float
    failed: int
    streams: int = 0


def chat_body(model: str, *, stream: bool, size: int = 0) -> bytes:
    """A chat request of about 1 KB, compact JSON as the official clients send it, padded to ``size`` bytes."""
    body = _chat_body(model, MESSAGES, stream=stream)
    if size <= len(body):
        return body
    padding = ("A longer document follows. " * (size // 27 + 1))[: size - len(body)]
    role, content = MESSAGES[-1]
    return _chat_body(model, [*MESSAGES[:-1], (role, content + padding)], stream=stream)


def _chat_body(model: str, messages: Iterable[tuple[str, str]], *, stream: bool) -> bytes:
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": role, "content": content} for role, content in messages],
        "temperature": 0.7,
        "max_tokens": 256,
        "top_p": 1,
        "stream": stream,
        "user": "user-1234",
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    return json.dumps(body, separators=(",", ":")).encode()


def messages_body(model: str) -> bytes:
    """A chat of about 1.2 KB with a tool, as clients of Anthropic's API send it."""
    system, *turns = MESSAGES
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    body = {
        "model": model,
        "max_tokens": 256,
        "system": system[1],
        "messages": [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns],
        "tools": [{"name": "forecast", "description": "The weather in a city.", "input_schema": schema}],
        "temperature": 0.7,
    }
    return json.dumps(body, separators=(",", ":")).encode()


class Load:
    """Runs the load programs; their inputs stand in the scratch folder. ``cores`` is as for taskset: ``1``, ``0,1``."""

    def __init__(self, programs: Path, scratch: Path, cores: str, *, favour: bool) -> None:
        self._programs = programs
        self._scratch = scratch
        self._cores = cores
        self._favour = favour

    def closed(self, endpoint: Endpoint, connections: int, seconds: float) -> Result:
        """As many plain requests as ``connections`` can carry, each sent when the last was answered (wrk)."""
        body = self._scratch / f"{endpoint.api}-{endpoint.model}-{endpoint.body_bytes}.json"
        if endpoint.api == "anthropic":
            body.write_bytes(messages_body(endpoint.model))
        else:
            body.write_bytes(chat_body(endpoint.model, stream=False, size=endpoint.body_bytes))
        command = [tool("wrk"), "-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "--latency", "--timeout", "10s"]
        url = f"{endpoint.scheme}://127.0.0.1:{endpoint.port}{PATHS[endpoint.api]}"
        command += ["-s", str(SOURCES / "chat.lua"), url, "--", str(body), KEY]
        command += [f"{name}: {value}" for name, value in endpoint.headers.items()]
        output = self._run(command, seconds + 30)
        _, found, line = output.partition("RESULT ")
        if not found:
            raise BenchError(f"wrk failed:\n{output}")
        seen = json.loads(line.splitlines()[0])
        failed = seen["bad_status"] + seen["errors"]
        return Result(seen["requests"], seen["us"] / 1e6, seen["p50"] / 1e3, seen["p99"] / 1e3, failed)

    def steady(self, endpoint: Endpoint, connections: int, rate: float, seconds: float) -> Result:
        """Plain requests at a fixed rate per second, latency from the moment each was due."""
        request = self._request_file(endpoint, stream=False)
        seen = self._run_ours("steady", endpoint, request, seconds, str(connections), f"{rate:.0f}", f"{seconds:.2f}")
        failed = seen["failed"] + seen["unsent"]
        return Result(seen["requests"], seen["seconds"], seen["p50"] / 1e3, seen["p99"] / 1e3, failed)

    def streams(self, endpoint: Endpoint, connections: int, seconds: float, ramp_ms: int) -> Result:
        """Streams back to back on every connection; the latency is the age of an event when it arrives."""
        request = self._request_file(endpoint, stream=True)
        seen = self._run_ours("streams", endpoint, request, seconds, str(connections), f"{seconds:.2f}", str(ramp_ms))
        p50, p99 = seen["p50"] / 1e3, seen["p99"] / 1e3
        return Result(seen["events"], seen["seconds"], p50, p99, seen["broken"], seen["streams"])

    def _request_file(self, endpoint: Endpoint, *, stream: bool) -> Path:
        body = chat_body(endpoint.model, stream=stream)
        further = "".join(f"{name}: {value}\r\n" for name, value in endpoint.headers.items())
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
            "Content-Type: application/json\r\n"
            f"Accept: {'text/event-stream' if stream else 'application/json'}\r\nUser-Agent: OpenAI/Python 2.8.1\r\n"
            f"{further}Content-Length: {len(body)}\r\n\r\n"
        )
        path = self._scratch / f"{'stream' if stream else 'plain'}.http"
        path.write_bytes(head.encode() + body)
        return path

    def _run_ours(
        self, program: str, endpoint: Endpoint, request: Path, seconds: float, *arguments: str
    ) -> dict[str, int]:
        command = [str(self._programs / program), str(endpoint.port), str(request), *arguments]
        output = self._run(command, seconds + 60)
        lines = [line for line in output.splitlines() if line.startswith("{")]
        if not lines:
            raise BenchError(f"{program} failed:\n{output}")
        seen: dict[str, int] = json.loads(lines[-1])
        if seen.get("broken") or seen.get("failed"):
            print(f"  {program} on port {endpoint.port}: {output.strip()}", flush=True)
        return seen

    def _run(self, command: list[str], limit_seconds: float) -> str:
        with subprocess.Popen(
            [tool("taskset"), "-c", self._cores, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                if self._favour:
                    favour_session(process.pid)
                return process.communicate(timeout=limit_seconds)[0]
            except subprocess.TimeoutExpired:
                raise BenchError(f"{Path(command[0]).name} did not end within {limit_seconds:.0f} s") from None
            finally:
                process.kill()


def ask_once(endpoint: Endpoint, timeout: float = 5.0) -> None:
    """One plain request; raises BenchError unless the answer is right, OSError while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=timeout)
    if endpoint.scheme == "https":
        context = ssl.create_default_context(cafile=str(machine.SCRATCH / "tls" / "certificate.pem"))
        connection = http.client.HTTPSConnection("127.0.0.1", endpoint.port, timeout=timeout, context=context)
    try:
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **endpoint.headers}
        connection.request("POST", PATH, chat_body(endpoint.model, stream=False), headers)
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status == 503:
        raise ConnectionRefusedError("not ready yet")
    usage = json.loads(answer).get("usage") if response.status == 200 else None
    if not usage or usage.get("prompt_tokens") != 211:
        raise BenchError(f"port {endpoint.port} answers {response.status}: {answer[:300]!r}")


def wait_for_answer(endpoint: Endpoint, running: Running | None, limit_seconds: float = 90.0) -> None:
    """Asks every 2 ms until the first right answer; raises BenchError if the process ends or the time is over."""
    end = time.monotonic() + limit_seconds
    while True:
        try:
            return ask_once(endpoint)
        except (OSError, http.client.HTTPException) as error:
            if running is not None:
                running.check_alive()
            if time.monotonic() > end:
                raise BenchError(f"port {endpoint.port} gave no answer in {limit_seconds:.0f} s: {error}") from error
            time.sleep(0.002)
