"""The files APIs as upstreams speak them: OpenAI's, Anthropic's, the Gemini API's.

A file passes only to an upstream that speaks its client's API, so nothing is translated; what is read of an answer is
the file's name, size, purpose and end.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

import msgspec

from pointsman.canonical.files import StoredFile
from pointsman.canonical.halves import Built, Upstream
from pointsman.errors import GatewayError, Kind
from pointsman.wire.anthropic import VERSION

MAX_ID: Final = 256  # letters of a file's name; real ones have 40 at most
MAX_TOLD_BYTES: Final = 64 * 1024
ANTHROPIC_BETA: Final = "files-api-2025-04-14"
UPLOAD_HEADERS: Final = (  # of Google's upload protocol, from the client
    "x-goog-upload-protocol",
    "x-goog-upload-command",
    "x-goog-upload-offset",
    "x-goog-upload-header-content-length",
    "x-goog-upload-header-content-type",
    "x-goog-upload-file-name",
)
_GEMINI_VERSION: Final = "v1beta"
_MICROSECONDS: Final = 1_000_000
_decode: Final = msgspec.json.Decoder().decode
Headers = tuple[tuple[str, str], ...]


class FileFormat(ABC):
    """One files API. ``WIRE`` is its dialect's word for it."""

    WIRE: str

    @abstractmethod
    def place(self, upstream: Upstream) -> str:
        """The path of the list."""

    def headers(self, sent: Mapping[bytes, bytes]) -> Headers:
        """What every request has beside the credential; ``sent`` are the client's headers."""
        return ()

    def upload(self, body: bytes, sent: Mapping[bytes, bytes], upstream: Upstream) -> Built:
        """The client's own form, as it came."""
        kind = ("content-type", sent.get(b"content-type", b"").decode("latin-1"))
        return Built(path=self.place(upstream), body=body, headers=(kind, *self.headers(sent)))

    def read(self, file_id: str, sent: Mapping[bytes, bytes], upstream: Upstream, method: str = "GET") -> Built:
        """The request for what is known of a file, or with DELETE for its end."""
        path = f"{self.place(upstream)}/{quote(file_id, safe='')}"
        return Built(method=method, path=path, body=b"", headers=self.headers(sent))

    def content(self, file_id: str, sent: Mapping[bytes, bytes], upstream: Upstream) -> Built:
        """The request for a file's bytes."""
        path = f"{self.place(upstream)}/{quote(file_id, safe='')}/content"
        return Built(method="GET", path=path, body=b"", headers=self.headers(sent))

    def is_gone(self, status: int, body: bytes) -> bool:
        """Whether an upstream says that there is no such file."""
        return status == 404

    def parse(self, body: bytes) -> StoredFile:
        """The file in an answer. Raises GatewayError(UPSTREAM_ERROR) when there is none."""
        if len(body) > MAX_TOLD_BYTES:
            raise _no_file()
        try:
            return self.stored(_decode(body))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, KeyError, TypeError, ValueError):
            raise _no_file() from None

    @abstractmethod
    def stored(self, told: Any) -> StoredFile:
        """The file that an upstream's object tells of. Raises KeyError, TypeError or ValueError when it is none."""


class OpenAIFiles(FileFormat):
    """OpenAI's; other hosts have taken it over."""

    WIRE = "openai"

    def place(self, upstream: Upstream) -> str:
        """Below the base URL, which brings the version."""
        return "/files"

    def stored(self, told: Any) -> StoredFile:
        """``{"id": "file-...", "object": "file", "bytes": ...}``."""
        expires = told.get("expires_at")
        return StoredFile(
            id=_name(told["id"]),
            told=told,
            size_bytes=_size(told.get("bytes")),
            purpose=_word(told.get("purpose")),
            expires_at=expires * _MICROSECONDS if type(expires) is int and 0 < expires < 2**40 else None,
        )


class AnthropicFiles(FileFormat):
    """Anthropic's, which is known there with a beta header only."""

    WIRE = "anthropic"

    def place(self, upstream: Upstream) -> str:
        """The base URL has no version."""
        return "/v1/files"

    def headers(self, sent: Mapping[bytes, bytes]) -> Headers:
        """The client's version and betas, the files' own among them."""
        betas = [name.strip() for name in sent.get(b"anthropic-beta", b"").decode("latin-1").split(",")]
        if not any(name.startswith("files-api-") for name in betas):
            betas.append(ANTHROPIC_BETA)
        version = sent.get(b"anthropic-version", VERSION.encode()).decode("latin-1")
        return ("anthropic-version", version), ("anthropic-beta", ",".join(filter(None, betas)))

    def stored(self, told: Any) -> StoredFile:
        """``{"id": "file_...", "type": "file", "size_bytes": ...}``."""
        return StoredFile(
            id=_name(told["id"]),
            told=told,
            size_bytes=_size(told.get("size_bytes")),
            expires_at=_instant(told.get("expires_at")),
        )


class GeminiFiles(FileFormat):
    """The Gemini API's. A file is uploaded in one request with its description, or in several to an address that the
    first is told.
    """

    WIRE = "gemini"

    def place(self, upstream: Upstream) -> str:
        """With the version that the connection has."""
        return f"/{self._version(upstream)}/files"

    def _version(self, upstream: Upstream) -> str:
        return quote(upstream.options.get("api_version") or _GEMINI_VERSION, safe="")

    def upload(self, body: bytes, sent: Mapping[bytes, bytes], upstream: Upstream) -> Built:
        """The first request of an upload, or the only one."""
        return self.part(f"/upload{self.place(upstream)}", body, sent)

    def part(self, path: str, body: bytes, sent: Mapping[bytes, bytes]) -> Built:
        """A request of an upload, with the words of Google's upload protocol."""
        names = [name for name in UPLOAD_HEADERS if name.encode() in sent]
        passed = tuple((name, sent[name.encode()].decode("latin-1")) for name in names)
        kind = sent.get(b"content-type", b"application/octet-stream").decode("latin-1")
        return Built(path=path, body=body, headers=(("content-type", kind), *passed))

    def is_gone(self, status: int, body: bytes) -> bool:
        """Google doesn't tell a file that isn't there from one that is another's."""
        return status == 404 or (status == 403 and b"or it may not exist" in body)

    def content(self, file_id: str, sent: Mapping[bytes, bytes], upstream: Upstream) -> Built:
        """Only files that a model has made can be had."""
        path = f"{self.place(upstream)}/{quote(file_id, safe='')}:download?alt=media"
        return Built(method="GET", path=path, body=b"", headers=())

    def stored(self, told: Any) -> StoredFile:
        """``{"name": "files/...", "sizeBytes": "12"}``, in an upload's answer within ``file``."""
        told = told.get("file", told)
        size = told.get("sizeBytes")
        return StoredFile(
            id=_name(told["name"].removeprefix("files/")),
            told=told,
            size_bytes=_size(int(size) if isinstance(size, str) and size.isdecimal() and len(size) < 16 else size),
            expires_at=_instant(told.get("expirationTime")),
        )


OPENAI: Final = OpenAIFiles()
ANTHROPIC: Final = AnthropicFiles()
GEMINI: Final = GeminiFiles()

# Who has files, by the host's id: from each one's own API reference.
FILE_HOSTS: Final[Mapping[str, FileFormat]] = MappingProxyType(
    {
        **dict.fromkeys(("openai", "openai-responses", "openai-compatible", "azure-v1"), OPENAI),
        **dict.fromkeys(("groq", "mistral", "together", "moonshot", "moonshot-cn", "xai", "zhipu"), OPENAI),
        **dict.fromkeys(("alibaba", "alibaba-cn"), OPENAI),
        "anthropic": ANTHROPIC,
        "gemini": GEMINI,
    }
)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID or not value.isprintable() or "/" in value:
        raise ValueError("no name of a file")
    return value


def _word(value: Any) -> str | None:
    return value[:MAX_ID] if isinstance(value, str) else None


def _size(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**53 else None


def _instant(value: Any) -> int | None:
    """Microseconds since 1970 of a time as RFC 3339 writes it; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * _MICROSECONDS)


def _no_file() -> GatewayError:
    return GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer tells of no file")
