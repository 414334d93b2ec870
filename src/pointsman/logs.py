"""Structured logs on standard error: JSON lines, or readable ones on a terminal. Everything passes one redaction.

The line of each request is the journal's own JSON (it holds no prompt, answer or credential), written in bursts.
"""

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import msgspec
import structlog

# Credentials by their looks: provider keys, tokens, bearer values, passwords in URLs.
_SECRETS: Final = re.compile(
    r"(?i)\b(?:sk|pk|rk|xai|gsk|oma|pms|cc_live|cc_agent|hmpk|hxv)[-_][a-z0-9_\-]{12,}"
    r"|\b(?:AIza|hf_|ghp_|AKIA)[a-z0-9_\-]{12,}|\beyJ[a-z0-9_\-]{8,}\.[a-z0-9_\-.]+"
    r"|\bbearer\s+\S+|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
)
_SECRET_NAMES: Final = frozenset(("authorization", "api_key", "secret", "password", "token", "x-api-key", "cookie"))
REDACTED: Final = "[redacted]"


def redact(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: nothing that is named or looks like a credential is written, at any depth.

    Values that JSON can't hold are written as their redacted ``repr``, so that logging never fails.
    """
    for name in list(event):
        event[name] = _clean(name, event[name])
    return event


def _clean(name: object, value: object) -> object:
    if str(name).lower() in _SECRET_NAMES:
        return REDACTED
    if isinstance(value, str):
        return redact_text(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)
    if isinstance(value, Mapping):
        return {redact_text(str(key)): _clean(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", item) for item in value]
    return redact_text(repr(value))


def redact_text(text: str) -> str:
    """``text`` without what looks like a credential, in encodable characters."""
    return _SECRETS.sub(REDACTED, text.encode("utf-8", "replace").decode())


def configure_logging(level: str, stream: TextIO = sys.stderr) -> None:
    """Set structlog up for this process; exceptions are logged with their trace, for the operator only."""
    render: Any = (
        structlog.dev.ConsoleRenderer()
        if stream.isatty()
        else structlog.processors.JSONRenderer(serializer=lambda event, **_: msgspec.json.encode(event).decode())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *names: _LineWriter(stream),
        # A cached logger would go on writing to the stream of an earlier setting-up in the same process.
        cache_logger_on_first_use=False,
    )


class _LineWriter:
    """The logger under structlog: writes to the descriptor itself, and never fails its caller."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, message: str) -> None:
        """Write one line."""
        write_log(self._stream, message.encode("utf-8", "replace") + b"\n")

    debug = info = warning = error = critical = exception = fatal = log = warn = failure = err = msg


def write_log(stream: TextIO, data: bytes) -> None:
    """Write bytes to a log stream past its buffer; a log that can't be written is given up, serving goes on."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # no file behind it: a test's StringIO, or closed
        try:
            stream.write(data.decode("utf-8", "replace"))
        except (OSError, ValueError):
            pass
        return
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        pass


class RequestLog:
    """The request lines: kept for a moment and written together, so that logging costs no system call a request."""

    MAX_PENDING: Final = 64  # 45 kB: the heap keeps what its highest peak needed
    WHOLE_BYTES: Final = 4096  # PIPE_BUF: a longer write to a pipe may be cut by another process's

    def __init__(self, stream: TextIO = sys.stderr, *, shared: bool = False) -> None:
        """``shared``: other processes write to the stream too."""
        self._stream = stream
        self._pending: list[bytes] = []
        self._most_bytes = self.WHOLE_BYTES if shared else None

    def line(self, payload: bytes) -> None:
        """Queue the JSON object of a settled request."""
        self._pending.append(payload)
        if len(self._pending) >= self.MAX_PENDING:
            self.flush()

    def flush(self) -> None:
        """Write what is queued."""
        if self._pending:
            lines, self._pending = self._pending, []
            data = b"".join([b'{"event":"request",' + line[1:] + b"\n" for line in lines])
            while self._most_bytes is not None and len(data) > self._most_bytes:
                end = data.rfind(b"\n", 0, self._most_bytes) + 1 or data.find(b"\n") + 1
                write_log(self._stream, data[:end])
                data = data[end:]
            write_log(self._stream, data)
