"""Open files, sockets among them: how many this process may have, and whether it has them all."""

import errno
import fcntl
import os
import resource
from contextlib import suppress
from typing import Final

import structlog

from pointsman.settings import ServerSettings

OWN_FILES: Final = 256  # the database's, the journal's, listening sockets, pipes to other processes
_SHORTAGE: Final = frozenset((errno.EMFILE, errno.ENFILE))  # of this process, of the whole machine
log = structlog.get_logger("pointsman.open_files")


def raise_limit(settings: ServerSettings) -> None:
    """Let this process, and those that it starts, have as many files open as its system allows.

    Where these are fewer than ``settings`` may need, the operator is warned: it serves all the same.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    wanted = _most(settings)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        log.warning("fewer open files are allowed than all connections would be", allowed=allowed, wanted=wanted)


def make_room(settings: ServerSettings) -> None:
    """Let the kernel's table of this process' open files be as long as ``settings`` may need; to be called before any
    thread starts. Takes 8 bytes a file.

    By default Linux doubles a full table, and where threads share it, it waits first until all processors have looked
    away (``expand_fdtable``, fs/file.c): the ``accept`` or ``socket`` that brought the number of files to 256, 512 or
    1,024 stopped the event loop for 8 to 28 ms.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    last = _most(settings) if allowed == resource.RLIM_INFINITY else min(allowed, _most(settings))
    with suppress(OSError):
        file = os.open(os.sep, os.O_RDONLY)
        try:
            os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, last - 1))
        finally:
            os.close(file)


def _most(settings: ServerSettings) -> int:
    return settings.max_connections + settings.max_concurrent_requests + OWN_FILES


def is_shortage(error: BaseException) -> bool:
    """Whether it happened because no more files can be opened."""
    return isinstance(error, OSError) and error.errno in _SHORTAGE


def used_up() -> bool:
    """Whether no more files can be opened now: for work that fails without telling why."""
    try:
        os.close(os.open(os.sep, os.O_RDONLY))
    except OSError as error:
        return is_shortage(error)
    return False


def shortage() -> OSError:
    """The error for what failed without telling that this was why."""
    return OSError(errno.EMFILE, os.strerror(errno.EMFILE))
