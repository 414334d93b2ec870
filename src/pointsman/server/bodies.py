"""Request bodies as they come: small pieces are gathered, encoded ones decoded piece by piece, within the limits.

Each coding is one stream: data behind its end is refused, because a second member is what another reader may overlook.
"""

import zlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from pointsman.errors import GatewayError, Kind
from pointsman.server.body_memory import STEP_BYTES, Share
from pointsman.server.http_faults import check_size

if TYPE_CHECKING:
    from pointsman.server.edge import Edge

ACCEPTED: Final = b"gzip, deflate, br, zstd"
MAX_CODINGS: Final = 2
# Bytes of framing (chunk heads, extensions) that one byte of body may cost: more is an attack on the parser's time.
MAX_CHUNK_OVERHEAD: Final = 16
SMALL_PIECE: Final = 1024  # bytes; an object for each smaller piece could cost many times what it holds
FREE_BYTES: Final = 1024 * 1024  # decoded without a look at the ratio: small bodies may repeat themselves
ZSTD_WINDOW_LOG: Final = 23  # 8 MiB, the largest window of the content coding (RFC 9659)


def add_small(pieces: list[bytes | bytearray], piece: bytes) -> None:
    """Add a small piece to a list that has some: such pieces are gathered in an array at its end."""
    last = pieces[-1]
    if isinstance(last, bytearray):
        last += piece
    else:
        pieces.append(bytearray(piece))


class IncomingBody:
    """One request's body while it arrives. ``size`` is how much has come, as it was sent; ``share`` what it has of the
    room for bodies (body_memory.py), which is to be given back when it is served or dropped.
    """

    __slots__ = ("_chunked", "_decoder", "_edge", "_headers", "_raw", "_room", "_target", "pieces", "share", "size")

    def __init__(
        self,
        edge: "Edge",
        target: bytes,
        headers: dict[bytes, bytes],
        encoding: bytes | None = None,
        *,
        chunked: bool = False,
    ) -> None:
        """Raises GatewayError(UNSUPPORTED_ENCODING) for an ``encoding``, as the head says it, that is not known."""
        limits = edge.settings
        self._edge = edge
        self._target = target
        self._headers = headers
        self._decoder: BodyDecoder | None = None
        if encoding is not None:
            self._decoder = BodyDecoder(encoding, limits.max_body_bytes, limits.max_decompression_ratio)
        self.pieces: list[bytes | bytearray] = []  # what is held; the first is bytes
        self._room = STEP_BYTES
        self._chunked = chunked
        self._raw = 0  # bytes of a chunked body in the packets behind that of its head
        self.size = 0
        self.share: Share | None = None

    def add(self, piece: bytes) -> None:
        """The next bytes as they were sent. Raises GatewayError: TOO_LARGE, OVERLOADED, INVALID_REQUEST."""
        self.size += len(piece)
        usual = self._edge.settings.max_body_bytes
        if self.size > usual:
            check_size(self._edge.router, self._target, self._headers, self.size, usual)
        held = self.size
        if self._decoder is not None:
            piece = self._decoder.decode(piece)
            held = max(held, self._decoder.given)
        if held > self._room:
            self._grow(held)
        if self.pieces and len(piece) < SMALL_PIECE:
            add_small(self.pieces, piece)
        else:
            self.pieces.append(piece)

    def is_overframed(self, more: int) -> bool:
        """Whether with ``more`` bytes from the connection it has too many chunk heads and extensions for its size."""
        if not self._chunked:
            return False
        self._raw += more
        return self._raw > self._edge.settings.max_header_bytes + (1 + MAX_CHUNK_OVERHEAD) * self.size

    def count_small(self) -> None:
        """Have it counted although it is small, for it must wait: one read can hold many that are encoded, and large
        once decoded. Raises GatewayError(OVERLOADED).
        """
        if self.share is None and self._decoder is not None:
            self._grow(self._decoder.given)

    def whole(self) -> bytes:
        """All of it, at its end. Raises GatewayError(INVALID_REQUEST) when encoded data isn't whole."""
        if self._decoder is not None:
            self._decoder.end()
        pieces = self.pieces
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def drop(self) -> None:
        """Hold nothing more."""
        self.pieces, self._decoder = [], None
        if self.share is not None:
            self.share.give_back()

    def _grow(self, held: int) -> None:
        if self.share is None:
            find_caller = partial(self._edge.caller_of, self._target, self._headers)
            self.share = Share(self._edge.body_memory, find_caller)
        self._room = self.share.grow(held)


class Coding(Protocol):
    """The decoder of one coding."""

    @property
    def ended(self) -> bool:
        """True once the end of the encoded stream was seen."""

    def decode(self, data: bytes, room: int) -> bytes:
        """What ``data`` adds, cut some way behind ``room`` bytes. Raises ValueError when it isn't this coding."""


class BodyDecoder:
    """Decodes one body whose Content-Encoding is ``encoding``.

    Raises GatewayError: UNSUPPORTED_ENCODING for a coding that isn't known, or too many; TOO_LARGE when more than
    ``limit_bytes``, or more than ``ratio`` times what was sent, comes out; INVALID_REQUEST when the data is damaged.
    """

    def __init__(self, encoding: bytes, limit_bytes: int, ratio: int) -> None:
        names = [name.strip().lower() for name in encoding.split(b",")]
        names = [name for name in names if name not in (b"identity", b"")]
        if len(names) > MAX_CODINGS:
            raise _unsupported(encoding, f"send at most {MAX_CODINGS} codings")
        for name in names:
            if name not in _CODINGS:
                raise _unsupported(name, "gzip, deflate, br and zstd are known here")
        self._codings = [_CODINGS[name]() for name in reversed(names)]  # the one applied last comes off first
        self._limit = limit_bytes
        self._ratio = ratio
        self._taken = 0
        self._given = [0] * len(names)

    @property
    def given(self) -> int:
        """Bytes that came out of all codings so far: a decoder holds a part of what came out, for its window."""
        return sum(self._given)

    def decode(self, data: bytes) -> bytes:
        """The decoded bytes that ``data`` adds."""
        self._taken += len(data)
        limit = min(self._limit, max(FREE_BYTES, self._taken * self._ratio))
        for index, coding in enumerate(self._codings):
            if not data:
                break
            try:
                data = coding.decode(data, limit - self._given[index])
            except ValueError:
                raise _damaged() from None
            self._given[index] += len(data)
            if self._given[index] > limit:
                raise self._too_large()
        return data

    def end(self) -> None:
        """To be called at the end of the body; raises GatewayError when the encoded data isn't whole."""
        if self._taken and not all(coding.ended for coding in self._codings):
            raise _damaged()

    def _too_large(self) -> GatewayError:
        if max(self._given) > self._limit:
            what = f"the limit of {self._limit} bytes"
        else:
            what = f"{self._ratio} times what was sent"
        return GatewayError(Kind.TOO_LARGE, f"the request body is, decoded, larger than {what}")


class _Zlib:
    def __init__(self, window_bits: int) -> None:
        self._decoder = zlib.decompressobj(window_bits)

    @property
    def ended(self) -> bool:
        return self._decoder.eof

    def decode(self, data: bytes, room: int) -> bytes:
        if self._decoder.eof:
            raise ValueError("data behind the end")
        try:
            decoded = self._decoder.decompress(data, room + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if self._decoder.unused_data:
            raise ValueError("data behind the end")
        return decoded


class _Brotli:
    def __init__(self) -> None:
        import brotli  # a request that is encoded this way pays for the import

        self._decoder: Any = brotli.Decompressor()
        self._error: type[Exception] = brotli.error

    @property
    def ended(self) -> bool:
        return bool(self._decoder.is_finished())

    def decode(self, data: bytes, room: int) -> bytes:
        parts = []
        try:
            while True:
                part = self._decoder.process(data, output_buffer_limit=room + 1)
                parts.append(part)
                room -= len(part)
                if room < 0 or self._decoder.can_accept_more_data():
                    break
                data = b""
                if not part and self._decoder.is_finished():
                    break
        except self._error as error:
            raise ValueError(str(error)) from error
        return b"".join(parts)


class _Zstd:
    def __init__(self) -> None:
        from pointsman.server import zstandard

        self._decoder: Any = zstandard.decoder(ZSTD_WINDOW_LOG)
        self._error = zstandard.ZstdError

    @property
    def ended(self) -> bool:
        return bool(self._decoder.eof)

    def decode(self, data: bytes, room: int) -> bytes:
        try:
            decoded: bytes = self._decoder.decompress(data, room + 1)
        except (self._error, EOFError) as error:
            raise ValueError(str(error)) from error
        if self._decoder.unused_data:
            raise ValueError("data behind the end")
        return decoded


_CODINGS: Final[dict[bytes, Callable[[], Coding]]] = {
    b"gzip": lambda: _Zlib(31),
    b"x-gzip": lambda: _Zlib(31),
    b"deflate": lambda: _Zlib(15),
    b"br": _Brotli,
    b"zstd": _Zstd,
}


def _unsupported(name: bytes, hint: str) -> GatewayError:
    shown = name[:64].decode("latin-1")
    return GatewayError(
        Kind.UNSUPPORTED_ENCODING, f"the request body is encoded with '{shown}': {hint}", param="content-encoding"
    )


def _damaged() -> GatewayError:
    return GatewayError(
        Kind.INVALID_REQUEST, "the request body is not what its content-encoding says", param="content-encoding"
    )
