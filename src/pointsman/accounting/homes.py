"""Names of the directories of journals, under which their processes have leases of budgets. No two have the same."""

import fcntl
import os
from pathlib import Path
from typing import Final

import structlog

HOME_FILE: Final = "home"  # the name, and behind it the place of this file
_GET_VERSION: Final = 0x80087601  # FS_IOC_GETVERSION
log = structlog.get_logger("pointsman.budgets")


def home_of(directory: Path) -> str:
    """The name of a journal's directory, made up at its first use. Raises OSError."""
    path = directory / HOME_FILE
    try:
        return _read(path)[0]
    except FileNotFoundError:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = _draft(directory, os.urandom(8).hex())
        try:
            os.link(draft, path)  # the first one wins, and nobody reads half of it
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return _read(path)[0]


def leave_home(directory: Path) -> None:
    """Give up the name of a directory that is a copy: it is another one's, whose leases are not ours to give back.

    For a server that starts, before anything else in the directory. Raises OSError.
    """
    path = directory / HOME_FILE
    try:
        name, place = _read(path)
    except FileNotFoundError:
        return
    if not name:  # a power failure has taken it
        path.unlink()
    elif not place:  # from before places were noted
        _draft(directory, name).replace(path)
    elif place != _place_of(path):
        log.warning("this directory of journals is a copy, or was moved; budgets know it by a new name", old=name)
        path.unlink()


def holder_name(home: str, tag: str) -> str:
    """The name under which a process has leases."""
    return f"{home}-{tag}"


def _draft(directory: Path, name: str) -> Path:
    """A file with the name and its own place, which keeps that under whatever path."""
    draft = directory / f"{HOME_FILE}.{os.getpid()}.{os.urandom(4).hex()}"
    with draft.open("x", encoding="ascii") as file:
        file.write(f"{name} {_place_of(draft)}")
        file.flush()
        os.fsync(file.fileno())  # before it has its name: an empty one would be that of others, too
    return draft


def _read(path: Path) -> tuple[str, str]:
    """The name, and the place where it was made; the empty text when nobody has noted it."""
    name, _, place = path.read_text(encoding="ascii").partition(" ")
    return name, place


def _place_of(path: Path) -> str:
    """What stays the same over restarts, and no copy of a file has: the number of its inode, and which use of it this
    is, where the file system tells that.
    """
    use = bytearray(8)
    with path.open("rb") as file:
        try:
            fcntl.ioctl(file, _GET_VERSION, use)
        except OSError:
            pass  # not of ext4, XFS, btrfs or F2FS
        return f"{os.fstat(file.fileno()).st_ino}:{use.hex()}"
