"""TLS towards upstreams: one context for each set of files, and sessions that make the next handshake short.

Certificate and name are checked always; there is no setting that turns that off.
"""

import os
import ssl
from collections import OrderedDict
from typing import Any, Final

import structlog

from pointsman.errors import ConfigError
from pointsman.open_files import is_shortage, shortage, used_up
from pointsman.upstream.origins import TlsFiles

MAX_SESSIONS: Final = 256
SYSTEM: Final = TlsFiles()
log = structlog.get_logger("pointsman.tls")


class SessionContext(ssl.SSLContext):
    """A context that offers a host's last session in the next handshake with it (RFC 8446 2.2, RFC 5077).

    asyncio has no argument for a session, but it makes its TLS objects by `wrap_bio`.
    """

    sessions: OrderedDict[str, ssl.SSLSession]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As its parent's, with the session of ``server_hostname``."""
        session = session or self.sessions.get(str(server_hostname))
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def remember(self, secured: ssl.SSLObject) -> None:
        """Keep the session of a connection that has worked; the oldest of too many is dropped."""
        session = secured.session
        if session is None or secured.server_hostname is None:
            return
        self.sessions[secured.server_hostname] = session
        self.sessions.move_to_end(secured.server_hostname)
        if len(self.sessions) > MAX_SESSIONS:
            self.sessions.popitem(last=False)


def make_context(files: TlsFiles) -> SessionContext:
    """A context that trusts ``files.ca_file``, else the system, and shows our certificate when there is one.

    Raises ConfigError that names the setting at fault; OSError when no more files can be opened.
    """
    context = SessionContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and name
    context.sessions = OrderedDict()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if files.ca_file is None and files.authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if used_up():  # what can't be opened is left out without a word, and would be missing for good
            raise shortage()
    else:
        try:
            context.load_verify_locations(cafile=files.ca_file, cadata=files.authorities)
        except (OSError, ValueError) as error:
            _raise_shortage(error)
            name = "ca_file" if files.ca_file is not None else "ca_certificates"
            raise ConfigError(f"{name}: can't be read as certificates in PEM form") from error
    if files.certificate is not None:
        try:  # the empty password keeps OpenSSL from asking for one on the terminal
            context.load_cert_chain(files.certificate, files.key, password="")
        except (OSError, ValueError) as error:
            _raise_shortage(error)
            message = "client_certificate, client_key: can't be read as PEM, don't fit together or need a password"
            raise ConfigError(message) from error
    return context


def _raise_shortage(error: Exception) -> None:
    """Raise ``error`` again where no file could be opened: the setting that names it may be right."""
    if is_shortage(error):
        raise error


def remember_session(transport: Any) -> None:
    """Keep the TLS session of an asyncio transport, if it has one, for the next connection."""
    secured = transport.get_extra_info("ssl_object")
    if secured is not None and isinstance(secured.context, SessionContext):
        secured.context.remember(secured)


class Contexts:
    """The contexts in use, each made at its first use and again when one of its files has changed."""

    def __init__(self) -> None:
        self._made: dict[TlsFiles, tuple[tuple[int, ...], SessionContext]] = {}

    def get(self, files: TlsFiles | None) -> SessionContext:
        """The context of ``files``. Raises ConfigError, OSError when it can't be made; one made before lives on."""
        files = files or SYSTEM
        stamp = _stamp(files)
        made = self._made.get(files)
        if made is not None and made[0] == stamp:
            return made[1]
        try:
            context = make_context(files)
        except ConfigError as error:
            if made is None:
                raise
            log.warning("TLS files not read again; the former ones stay in use", reason=str(error))
            context = made[1]
        self._made[files] = (stamp, context)
        return context


def _stamp(files: TlsFiles) -> tuple[int, ...]:
    stamps = []
    for path in (files.ca_file, files.certificate, files.key):
        try:
            stamps.append(os.stat(path).st_mtime_ns if path is not None else 0)
        except OSError:
            stamps.append(-1)
    return tuple(stamps)
