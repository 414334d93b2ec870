"""TLS for clients: the certificate, and its replacement while connections stay open."""

import asyncio
import os
import ssl
from typing import Any, Final

import structlog

from pointsman.errors import ConfigError

WATCH_SECONDS: Final = 1.0
log = structlog.get_logger("pointsman.tls")
_Stamp = tuple[tuple[int, int, int] | None, ...]


class ServerCertificate:
    """A certificate chain and its key in PEM files. ``context`` is for `loop.start_tls`.

    Every handshake uses the newest pair that could be loaded; connections that are open keep what they have. Raises
    ConfigError when the first pair can't be loaded.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._paths = (os.path.expanduser(certificate), os.path.expanduser(key))
        self._stamp = self._read_stamp()
        try:
            self._current = self.context = self._load()
        except (OSError, ValueError) as error:
            raise ConfigError(f"server.tls_certificate, server.tls_key: {_reason(error)}") from error
        self.context.sni_callback = self._choose

    def _choose(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called in every handshake, whether the client named a server or not."""
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.load_cert_chain(*self._paths, password=_no_password)
        return context

    def reload(self) -> bool:
        """Load the files again; a pair that can't be loaded is logged, and the one in use stays."""
        self._stamp = self._read_stamp()
        try:
            self._current = self._load()
        except (OSError, ValueError) as error:
            log.error("the new TLS certificate can't be used; the old one stays", reason=_reason(error))
            return False
        log.info("TLS certificate loaded")
        return True

    async def watch(self) -> None:
        """Reload whenever one of the files has changed."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._read_stamp() != self._stamp:
                self.reload()

    def _read_stamp(self) -> _Stamp:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _no_password() -> str:
    raise ValueError("the key is encrypted; it must not be")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"not a certificate and its key in PEM ({error.reason or 'unreadable'})"
    if isinstance(error, OSError):
        return f"can't read {error.filename or 'the files'}: {error.strerror}"
    return str(error)
