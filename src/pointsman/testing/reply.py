"""What a simulated API is: a function from a request to a reply. Replies are data; nothing here touches a socket."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

import msgspec

from .behaviour import Behaviour

Headers = tuple[tuple[str, str], ...]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request as it came: names of headers in lower case, in order; ``path`` undecoded, with its query."""

    method: str
    path: str
    headers: Headers
    body: bytes
    http_version: str
    keep_alive: bool

    def header(self, name: str) -> str:
        """The first value of a header (name in lower case), or an empty string."""
        return next((value for key, value in self.headers if key == name), "")


class EventKind(StrEnum):
    """The part an event plays in a stream, so that a fault can pick it out."""

    START = "start"
    DELTA = "delta"
    FINISH = "finish"
    USAGE = "usage"
    DONE = "done"
    ERROR = "error"


class Event(msgspec.Struct, frozen=True):
    """One streamed event: its part, and its bytes with all of its framing except HTTP's."""

    kind: EventKind
    data: bytes


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer before HTTP framing: ``events`` when it is streamed, else ``body``.

    ``headers`` hold neither the framing headers nor Content-Type. ``failure`` is an error object of this API in
    JSON, for faults that report an error after the head; ``failure_event`` is the same with a stream's framing, where
    that is not the ``data:`` line of server-sent events. ``force_chunked`` sends a buffered body with chunked framing.
    """

    status: int
    content_type: str
    headers: Headers
    body: bytes = b""
    events: Iterable[Event] | None = None
    failure: bytes = b""
    failure_event: bytes = b""
    force_chunked: bool = False


class Api(Protocol):
    """One simulated API: turns requests into replies in its own shapes."""

    def model_of(self, request: Request) -> str:
        """The model that a request names, or an empty string; never raises."""
        ...

    def answer(self, request: Request, behaviour: Behaviour) -> Reply:
        """What the API answers when nothing is wrong with the API; a wrong request gets an error reply."""
        ...

    def refuse(self, fault: str, request: Request, behaviour: Behaviour) -> Reply:
        """The error reply of a fault whose ``refusal`` is set, in the API's own shape."""
        ...

    def reject_directive(self, message: str) -> Reply:
        """The error reply to a request whose simulator directives are wrong."""
        ...
