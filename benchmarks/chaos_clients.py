"""The clients of a chaos run: many at once, buffered and streamed, who read every answer to its end and check its text.

A line of JSON goes to the log for every request. Times are ``time.monotonic()`` seconds.
"""

import asyncio
import itertools
import json
import random
import sys
import time
from typing import Any, Literal, TextIO

import msgspec
import uvloop

from benchmarks.targets import KEY

# answered: the whole right text. refused: an error status with a sound error. told: a stream that ended with an error.
# truncated: it ended as if it were whole, and is not. reset: the connection broke. hung: nothing, beyond the deadline.
Ended = Literal["answered", "refused", "told", "truncated", "reset", "hung"]

ASKED = "serial-{serial} alpha beta gamma delta epsilon zeta eta theta iota kappa"
SLACK_SECONDS = 3.0  # what a client waits beyond the gateway's own deadline
RETRY_SECONDS = 0.05  # before a client whose connection broke or was refused comes again


class Plan(msgspec.Struct, frozen=True):
    """How the clients behave: where, how many, how long, their pause (seconds, on average), the deadline, the seed."""

    port: int
    clients: int
    seconds: float
    pause: float
    deadline: float
    seed: int
    models: tuple[str, ...]


class Answer(msgspec.Struct):
    """One answer as far as it came."""

    status: int = 0
    headers: dict[bytes, bytes] = {}
    body: bytes = b""


class Client:
    """One client with one connection at a time."""

    def __init__(self, plan: Plan, number: int, serials: "itertools.count[int]", file: TextIO) -> None:
        self._plan = plan
        self._chance = random.Random(f"{plan.seed} {number}")
        self._serials = serials
        self._file = file
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def run(self, until: float) -> None:
        """Ask again and again."""
        await asyncio.sleep(self._chance.random() * self._plan.pause * 2)
        while time.monotonic() < until:
            await self._ask()
            await asyncio.sleep(self._chance.random() * self._plan.pause * 2)
        self._drop()

    async def _ask(self) -> None:
        serial, stream = next(self._serials), self._chance.random() < 0.5
        prompt = ASKED.format(serial=serial)
        model = self._chance.choice(self._plan.models)
        answer = Answer()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._plan.deadline + SLACK_SECONDS):
                await self._exchange(_message(model, prompt, stream), answer)
            ended, told = judge(answer, f"echo: {prompt}", stream)
        except TimeoutError:
            ended, told = "hung", ""
        except (OSError, EOFError) as error:
            ended, told = "reset", repr(error)
        now = time.monotonic()
        row = {"serial": serial, "began": began, "ended": now, "stream": stream, "model": model, "how": ended}
        row |= {"status": answer.status, "request_id": answer.headers.get(b"x-request-id", b"").decode(), "told": told}
        self._file.write(json.dumps(row) + "\n")
        if ended in ("hung", "reset"):
            self._drop()
            await asyncio.sleep(RETRY_SECONDS)

    async def _exchange(self, message: bytes, answer: Answer) -> None:
        """Send, and read into ``answer``. Raises OSError and EOFError when the connection breaks."""
        if self._reader is None or self._writer is None or self._reader.at_eof() or self._writer.is_closing():
            self._drop()
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._plan.port)
        self._writer.write(message)
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")[:-2]
        answer.headers = dict(line.lower().split(b": ", 1) for line in lines)
        answer.status = int(first.split(b" ", 2)[1])
        if b"content-length" in answer.headers:
            answer.body = await self._reader.readexactly(int(answer.headers[b"content-length"]))
        else:
            while size := int(await self._reader.readline(), 16):
                answer.body += (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readline()
        if answer.headers.get(b"connection") == b"close":
            self._drop()

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def _message(model: str, prompt: str, stream: bool) -> bytes:
    asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    if stream:
        asked["stream"] = True
    body = msgspec.json.encode(asked)
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def judge(answer: Answer, expected: str, stream: bool) -> tuple[Ended, str]:
    """How an answer that came to its end is to be counted, and the words of its error."""
    try:
        if answer.status != 200:
            return "refused", json.loads(answer.body)["error"]["message"][:400]
        if not stream:
            choice = json.loads(answer.body)["choices"][0]
            whole = choice["message"]["content"] == expected and choice["finish_reason"] == "stop"
            return ("answered", "") if whole else ("truncated", answer.body[:400].decode(errors="replace"))
        return _judge_stream(answer.body, expected)
    except (ValueError, LookupError, TypeError) as error:
        return "truncated", f"{error!r}: {answer.body[-300:]!r}"


def _judge_stream(body: bytes, expected: str) -> tuple[Ended, str]:
    text, finish, done = "", None, False
    for line in body.decode().splitlines():
        if not line.startswith("data: "):
            continue
        if line == "data: [DONE]":
            done = True
            continue
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            return "told", event["error"]["message"][:400]
        for choice in event["choices"]:
            text += choice["delta"].get("content") or ""
            finish = choice["finish_reason"] or finish
    if (text, finish, done) == (expected, "stop", True):
        return "answered", ""
    return "truncated", f"{finish} {done} {text[-200:]}"


async def run(plan: Plan, file: TextIO) -> None:
    """All clients until the time is over."""
    serials = itertools.count(1)
    until = time.monotonic() + plan.seconds
    await asyncio.gather(*[Client(plan, number, serials, file).run(until) for number in range(plan.clients)])


if __name__ == "__main__":
    with open(sys.argv[2], "w") as log:
        uvloop.run(run(msgspec.json.decode(sys.argv[1], type=Plan), log))
