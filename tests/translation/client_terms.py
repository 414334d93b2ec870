"""The terms in which clients of all APIs ask and show what they got, and what they share."""

import base64
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Protocol, Self

import httpx
import msgspec


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for: a text, and beside it tools, thoughts, a picture or a schema for the answer.

    ``tools`` are (name, JSON schema of the arguments) each; ``limit`` is the longest answer in tokens, which then is
    asked for without chance.
    """

    text: str
    tools: tuple[tuple[str, dict[str, Any]], ...] = ()
    think: bool = False
    image: bytes | None = None
    schema: dict[str, Any] | None = None
    limit: int | None = None


class Call(msgspec.Struct, frozen=True):
    """One tool call; ``id`` is empty where the API has none."""

    id: str
    name: str
    arguments: Any


class Count(msgspec.Struct, frozen=True):
    """Tokens as all APIs would count them: ``cached`` is part of ``read``, ``thought`` of ``written``.

    None: the client's API has no place for it.
    """

    read: int
    cached: int | None
    written: int
    thought: int | None


class Answer(msgspec.Struct, kw_only=True):
    """What a client got. ``turn`` is the answer as this client hands it back in the next request."""

    text: str = ""
    thought: str = ""
    calls: list[Call] = msgspec.field(default_factory=list)
    count: Count | None = None
    turn: list[Any] = msgspec.field(default_factory=list)


class Client(Protocol):
    """One dialect's SDK. A conversation is a list of the SDK's own messages."""

    NAME: str
    stack: ExitStack
    last: httpx.Response

    def open(self, wish: Wish) -> list[Any]:
        """A conversation's first message."""
        ...

    def results(self, calls: list[Call]) -> list[Any]:
        """The messages with a result for each call."""
        ...

    def follow(self, text: str) -> list[Any]:
        """A further user message."""
        ...

    def ask(self, model: str, wish: Wish, messages: list[Any], *, stream: bool) -> Answer:
        """The answer; raises the SDK's own exceptions."""
        ...

    def status_of(self, error: Exception) -> int:
        """The HTTP status in one of the SDK's own exceptions; 0 for one of a stream that broke.

        Raises AssertionError when the exception isn't of the class that the SDK has for that.
        """
        ...


def result_of(call: Call) -> str:
    """What the tool of a call gives."""
    return f"result of {call.name}"


class SdkClient(AbstractContextManager["SdkClient"]):
    """What the clients share: an HTTP client that remembers the last response's head."""

    NAME = ""

    def __init__(self, timeout_seconds: float) -> None:
        self.stack = ExitStack()
        self.last: httpx.Response
        self._timeout = timeout_seconds

    def http(self, library: Any = httpx) -> Any:
        """An HTTP client of the library that an SDK is made with, closed with this one."""
        return self.stack.enter_context(library.Client(**self.http_options()))

    def http_options(self) -> dict[str, Any]:
        """Options of an HTTP client."""
        return {"timeout": self._timeout, "event_hooks": {"response": [self._remember]}}

    def _remember(self, response: httpx.Response) -> None:
        self.last = response

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()


def data_url(image: bytes) -> str:
    """A picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def openai_status(sdk: Any, error: Exception) -> int:
    """The status of an error of the openai or anthropic SDK, whose class has to be the one of its status."""
    if isinstance(error, sdk.APIStatusError):
        names = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError", 429: "RateLimitError"}
        named = getattr(sdk, names.get(error.status_code, "APIStatusError"))
        if error.response.status_code != 200:
            assert isinstance(error, named)
            return int(error.status_code)
        return 0
    assert isinstance(error, sdk.APIError)
    return 0


class BrokenStream(Exception):
    """The stream's own event that says it broke, where an SDK hands it on and raises nothing."""
