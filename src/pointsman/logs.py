"""Structured logs on standard error: JSON lines, or readable ones on a terminal. Everything passes one redaction.

The line of each request is the journal's own JSON (it holds no prompt, answer or credential), written in bursts.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import msgspec
import structlog

# Credentials by their looks: provider keys, bearer values, passwords in URLs.
_SECRETS: Final = re.compile(
    r"(?i)\b(?:sk|pk|rk|xai|gsk|key|oma|cc_live|cc_agent|hmpk|hxv)[-_][A-Za-z0-9_\-]{12,}|\bbearer\s+\S+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
_SECRET_NAMES: Final = frozenset(("authorization", "api_key", "secret", "password", "token", "x-api-key", "cookie"))
REDACTED: Final = "[redacted]"


def redact(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: nothing that is named or looks like a credential is written."""
    for name, value in event.items():
        if name.lower() in _SECRET_NAMES:
            event[name] = REDACTED
        elif isinstance(value, str):
            event[name] = redact_text(value)
    return event


def redact_text(text: str) -> str:
    """``text`` without what looks like a credential."""
    return _SECRETS.sub(REDACTED, text)


def configure_logging(level: str, stream: TextIO = sys.stderr) -> None:
    """Set structlog up for this process; exceptions are logged with their trace, for the operator only."""
    terminal = stream.isatty()
    render: Any = (
        structlog.dev.ConsoleRenderer()
        if terminal
        else structlog.processors.JSONRenderer(serializer=lambda event, **_: msgspec.json.encode(event).decode())
    )
    trace = [] if terminal else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *trace,
            redact,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )


class RequestLog:
    """The request lines: kept for a moment and written together, so that logging costs no system call a request."""

    MAX_PENDING: Final = 256

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._pending: list[bytes] = []

    def line(self, payload: bytes) -> None:
        """Queue the JSON object of a settled request."""
        self._pending.append(payload)
        if len(self._pending) >= self.MAX_PENDING:
            self.flush()

    def flush(self) -> None:
        """Write what is queued."""
        if self._pending:
            lines, self._pending = self._pending, []
            text = b"".join([b'{"event":"request",' + line[1:] + b"\n" for line in lines])
            try:
                self._stream.write(text.decode("utf-8", "replace"))
                self._stream.flush()
            except (OSError, ValueError):
                pass  # nobody reads the log any more: serving goes on
