"""``pointsman local``: status, removal and a second installation. The download itself is tested with the weights."""

import json
from pathlib import Path

from cli_gateway import Run

from pointsman.upstream.local_weights import SMOLLM2, weights_path


def place_weights(tmp_path: Path, size: int) -> Path:
    """A file of this size where the weights belong, with the wrong content."""
    path = weights_path(tmp_path / "data")
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_status_without_weights_says_how_to_get_them(run: Run) -> None:
    finished = run("local", "status")
    assert finished.code == 0
    assert "not installed (pointsman local install)" in finished.out


def test_status_is_told_to_programs(run: Run, tmp_path: Path) -> None:
    path = place_weights(tmp_path, SMOLLM2.file_bytes)
    status = json.loads(run("local", "status", "--json").out)
    assert status == {
        "installed": True,
        "path": str(path),
        "size_bytes": SMOLLM2.file_bytes,
        "sha256_ok": None,
        "engine": status["engine"],
    }


def test_verify_finds_a_damaged_file(run: Run, tmp_path: Path) -> None:
    place_weights(tmp_path, SMOLLM2.file_bytes)
    finished = run("local", "status", "--verify")
    assert finished.code == 1
    assert "NOT as published" in finished.out


def test_a_second_installation_downloads_nothing(run: Run, tmp_path: Path) -> None:
    path = place_weights(tmp_path, SMOLLM2.file_bytes)
    assert run("local", "install").out == f"already installed: {path}\n"


def test_removal_is_repeatable(run: Run, tmp_path: Path) -> None:
    path = place_weights(tmp_path, 10)
    assert run("local", "remove").out == "removed\n"
    assert not path.exists()
    assert run("local", "remove").out == "there was nothing to remove\n"
