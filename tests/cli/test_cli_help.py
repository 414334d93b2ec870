"""The command line as a whole: quick to start, one line per mistake, documented."""

import subprocess
import sys
from pathlib import Path

import pytest
from cli_gateway import Run

from pointsman import __version__
from pointsman.cli.reference import render_reference

HEAVY = (
    "alembic",
    "cryptography",
    "genai_prices",
    "httptools",
    "litestar",
    "prometheus_client",
    "pydantic",
    "rich",
    "sqlalchemy",
    "uvloop",
)
LOADED_BY_HELP = """
import sys
from pointsman.cli import main
sys.argv = ["pointsman", "--help"]
try:
    main()
except SystemExit as ended:
    assert not ended.code
print("\\nloaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED_BY_HELP], capture_output=True, text=True, check=True)
    page, _, loaded = done.stdout.partition("\nloaded: ")
    assert "connections" in page
    assert "typer" in loaded.split()
    assert set(loaded.split()).isdisjoint(HEAVY)


def test_the_version_is_shown(run: Run) -> None:
    assert run("--version").out == f"pointsman {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [("keyz",), ("keys", "create", "--expires-days", "0"), ("connections", "add"), ("logs", "--limit", "-1")],
)
def test_wrong_use_is_exit_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    finished = run(*arguments)
    assert finished.code == 2
    assert finished.err
    assert not finished.out


def test_a_wrong_configuration_file_is_one_line_and_exit_code_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pointsman.toml").write_text("[sever]\nport = 1\n")
    finished = run("keys", "list")
    assert (finished.code, finished.err.count("\n")) == (2, 1)
    assert "did you mean 'server'?" in finished.err


def test_the_written_reference_is_current() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
    assert page.read_text(encoding="utf-8") == render_reference(), "python -m pointsman.cli.reference > docs/cli.md"
