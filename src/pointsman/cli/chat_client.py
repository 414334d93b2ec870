"""A small client of a running server, on the standard library: model list and streamed chat answers.

This is a program that calls a gateway, as any user's is; the gateway's own calls to upstreams go another way.
"""

import http.client
import ssl
from collections.abc import Generator, Iterator
from typing import Final, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from pointsman.errors import ConfigError, GatewayError, Kind

CONNECT_SECONDS: Final = 10.0
# Between two parts of an answer: a local model may have to be loaded first.
READ_SECONDS: Final = 300.0
MAX_LINE_BYTES: Final = 8 * 1024 * 1024
MAX_BODY_BYTES: Final = 32 * 1024 * 1024
MESSAGE_CHARACTERS: Final = 500

T = TypeVar("T")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn: ``role`` is ``user`` or ``assistant``."""

    role: str
    content: str


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None


class _ErrorDetail(msgspec.Struct):
    message: str = ""


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    error: _ErrorDetail | None = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model] = []


class ChatClient:
    """Talks to the server at ``url`` (``http://host:port``, with or without ``/v1``). One connection per call.

    Every failure is a GatewayError whose message is one line; a wrong ``url`` is a ConfigError.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            raise ConfigError(f"--url: the port in {url} is not a number from 1 to 65535") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"--url: {url} is not http:// or https:// with a host")
        self.url = url
        self.key = key
        self._host = parts.hostname
        self._port = port
        self._secure = parts.scheme == "https"
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")

    def list_models(self) -> list[str]:
        """The ids that the server offers, in its order."""
        return [model.id for model in _decode(self._get("/v1/models"), _Models).data]

    def check_model(self, name: str) -> None:
        """Raise GatewayError, with the server's own hint, when it doesn't know this model."""
        self._get(f"/v1/models/{quote(name, safe='/')}")

    def stream(self, model: str, messages: list[Message]) -> Generator[str, None, None]:
        """The parts of an answer's text as they come. Closing the iterator stops the answer."""
        body = msgspec.json.encode({"model": model, "messages": messages, "stream": True})
        with self._connected() as connection:
            try:
                response = self._answer(connection, "POST", "/v1/chat/completions", body)
                yield from _texts(response)
            except (OSError, http.client.HTTPException) as error:
                raise _broken(self.url, error) from error

    def post(self, path: str, body: bytes) -> bytes:
        """The body of the answer to a JSON body."""
        with self._connected() as connection:
            try:
                return self._answer(connection, "POST", path, body).read(MAX_BODY_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _broken(self.url, error) from error

    def _get(self, path: str) -> bytes:
        with self._connected() as connection:
            try:
                return self._answer(connection, "GET", path, None).read(MAX_BODY_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _broken(self.url, error) from error

    def _connected(self) -> "_Connected":
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=CONNECT_SECONDS)
        try:
            connection.connect()
        except ssl.SSLError as error:
            raise _unreachable(f"TLS with {self.url} failed: {error.reason or error}") from error
        except OSError as error:
            message = f"no server answers at {self.url} ({error.strerror or error}); start one with: pointsman serve"
            raise _unreachable(message) from error
        connection.sock.settimeout(READ_SECONDS)
        return _Connected(connection)

    def _answer(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "text/event-stream, application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, self._prefix + path, body, headers)
        response = connection.getresponse()
        if response.status != 200:
            raise _refusal(response)
        return response


class _Connected:
    """Closes the connection at the end of a ``with`` block."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def __enter__(self) -> http.client.HTTPConnection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _texts(response: http.client.HTTPResponse) -> Iterator[str]:
    while line := response.readline(MAX_LINE_BYTES):
        if not line.startswith(b"data:"):
            continue
        value = line[5:].strip()
        if value == b"[DONE]":
            return
        chunk = _decode(value, _Chunk)
        if chunk.error is not None:
            raise GatewayError(Kind.UPSTREAM_ERROR, one_line(chunk.error.message))
        for choice in chunk.choices[:1]:
            if choice.delta is not None and choice.delta.content:
                yield choice.delta.content
    raise GatewayError(Kind.UPSTREAM_ERROR, "the answer ended before it was complete")


def _refusal(response: http.client.HTTPResponse) -> GatewayError:
    """The server's own words, or the status when it has none."""
    body = response.read(MAX_BODY_BYTES)
    try:
        error = msgspec.json.decode(body, type=_Chunk).error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        error = None
    text = error.message if error is not None and error.message else response.reason or "no reason given"
    return GatewayError(Kind.UPSTREAM_ERROR, f"{one_line(text)} (HTTP {response.status})", status=response.status)


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise GatewayError(Kind.UPSTREAM_ERROR, "what answers there doesn't speak like an OpenAI API") from None


def _broken(url: str, error: Exception) -> GatewayError:
    if isinstance(error, TimeoutError):
        return GatewayError(Kind.UPSTREAM_TIMEOUT, f"{url} sent nothing for {READ_SECONDS:.0f} s")
    return GatewayError(Kind.UPSTREAM_ERROR, f"the connection to {url} broke: {one_line(str(error))}")


def _unreachable(message: str) -> GatewayError:
    return GatewayError(Kind.UPSTREAM_UNAVAILABLE, message)


def one_line(text: str) -> str:
    """``text`` on one line, printable and not too long."""
    flat = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(flat.split())[:MESSAGE_CHARACTERS]
