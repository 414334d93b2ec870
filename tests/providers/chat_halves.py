"""Helpers for the Chat Completions halves: the simulator's bytes without sockets, canned calls, leaves of JSON."""

import json
from collections.abc import Iterator
from typing import Any

from pointsman.canonical.events import AnyEvent
from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.canonical.identity import Identity
from pointsman.canonical.request import Request
from pointsman.dialects import openai_chat
from pointsman.providers.hosts import hosts
from pointsman.providers.openai_chat import StreamParser
from pointsman.testing import FLAVOURS, Behaviour, OpenAIChat
from pointsman.testing.reply import Request as HttpRequest

IDENTITY = Identity(request_id="req-1", created=1_800_000_000)


def simulated(body: dict[str, Any], flavour: str = "openai", path: str = "/v1/chat/completions") -> bytes:
    """What the simulator answers: a body, or a stream's events one after the other."""
    request = HttpRequest(
        method="POST", path=path, headers=(), body=json.dumps(body).encode(), http_version="1.1", keep_alive=True
    )
    reply = OpenAIChat(flavour=FLAVOURS[flavour]).answer(request, Behaviour(prompt_tokens=90, cached_tokens=64))
    assert reply.status == 200, reply.body
    return reply.body if reply.events is None else b"".join(event.data for event in reply.events)


def read(body: dict[str, Any]) -> Request:
    """A client's request in our own words."""
    return openai_chat.read_request(json.dumps(body).encode(), ClientCall())


def upstream(kind: str, model: str = "upstream-model") -> Upstream:
    """A host of the table."""
    return Upstream(model=model, quirks=hosts()[kind].quirk_map())


def events_of(stream: bytes, cuts: tuple[int, ...] = ()) -> list[AnyEvent]:
    """The events of a stream that comes in pieces."""
    parser, found, last = StreamParser(IDENTITY), [], 0
    for cut in (*sorted(cuts), len(stream)):
        found += parser.feed(stream[last:cut])
        last = max(last, cut)
    return [*found, *parser.finish()]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a JSON value with its path."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{place}]")
    else:
        yield path, value
