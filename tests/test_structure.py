"""What holds for the repository as a whole. The import rules themselves are checked by `make check` (lint-imports)."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from defences.table import read_table

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src" / "pointsman"
# Folders of tests that follow a question instead of a package.
CROSS_CUTTING = {"contract", "faults", "nodes", "flow", "golden", "security", "translation"}
CROSS_CUTTING_FILES = {"test_benchmarks.py", "test_documentation.py", "test_structure.py"}
SUPPLY_CHAIN = 50  # the item that docs/security-tests.md does not hold
TRIED_WITHOUT_DEFENCE = {*range(9, 21), *range(51, 55)}  # items whose tests `make defences` runs without it
WIRE_WORDS = re.compile(r"\b(?:prompt_tokens|completion_tokens|prompt_tokens_details|completion_tokens_details)\b")
WIRE_PACKAGES = {"wire", "dialects", "providers", "testing"}
INDEX_ADDRESS = re.compile(
    r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|deb\.debian\.org|--(?:extra-)?index-url[= ]"
)


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file under version control that is still there."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return tuple(path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file())


@cache
def generator() -> ModuleType:
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def canonical_name(requirement: str) -> str:
    """The package's name as lock files write it."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def locked_packages(name: str) -> dict[str, str]:
    """The entries of a lock file: package and everything that stands behind its version."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    return {canonical_name(entry): entry for entry in entries if entry.strip()}


def project() -> dict[str, object]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements_of(*extras: str) -> set[str]:
    """The direct dependencies with those of ``extras``, and the build backend."""
    document = project()
    table = document["project"]
    wanted = [*table["dependencies"], *document["build-system"]["requires"]]  # type: ignore[index]
    for extra in extras:
        wanted += table["optional-dependencies"][extra]  # type: ignore[index]
    return {canonical_name(requirement) for requirement in wanted}


@pytest.mark.parametrize(
    ("lock", "extras"), [("run.txt", ("local",)), ("dev.txt", ("local", "postgres", "dev"))], ids=["run", "dev"]
)
def test_every_dependency_is_locked(lock: str, extras: tuple[str, ...]) -> None:
    missing = requirements_of(*extras) - set(locked_packages(lock))
    assert not missing, "run make lock"


@pytest.mark.parametrize("lock", ["run.txt", "dev.txt"])
def test_every_locked_package_has_one_version_and_hashes(lock: str) -> None:
    for name, entry in locked_packages(lock).items():
        assert re.match(r"[\w.-]+==[\w.!+]+ ", entry), name
        assert "--hash=sha256:" in entry, name


def test_development_uses_the_versions_that_users_run() -> None:
    def versions(lock: str) -> dict[str, str]:
        return {name: entry.split()[0] for name, entry in locked_packages(lock).items()}

    run, dev = versions("run.txt"), versions("dev.txt")
    assert {name: dev.get(name) for name in run} == run


def test_no_file_names_a_package_index() -> None:
    this = Path(__file__).resolve()
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in tracked_files() if path != this}
    assert [str(path.relative_to(ROOT)) for path, text in texts.items() if INDEX_ADDRESS.search(text)] == []


def test_tests_mirror_the_sources() -> None:
    strangers = []
    for path in tracked_files():
        place = path.relative_to(ROOT)
        if place.parts[0] != "tests" or not place.name.startswith("test_"):
            continue
        if len(place.parts) == 2:
            known = place.name in CROSS_CUTTING_FILES or (SOURCES / place.name.removeprefix("test_")).exists()
        else:
            known = place.parts[1] in CROSS_CUTTING or (SOURCES / place.parts[1]).is_dir()
        if not known:
            strangers.append(str(place))
    assert strangers == []


def test_words_of_public_apis_stay_in_the_translating_packages() -> None:
    leaks = [
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if path.relative_to(SOURCES).parts[0] not in WIRE_PACKAGES
        and WIRE_WORDS.search(path.read_text(encoding="utf-8"))
    ]
    assert leaks == []


def test_one_module_opens_outgoing_sockets() -> None:
    opening = re.compile(r"\b(?:create_connection|open_connection|sock_connect|start_tls)\(|\bsocket\.socket\(")
    # Sockets that take connections, that were taken, or inherited.
    listening = {"server/listeners.py", "server/handshakes.py", "server/worker_link.py"}
    found = [
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if path.relative_to(SOURCES).parts[0] != "testing" and opening.search(path.read_text(encoding="utf-8"))
    ]
    assert set(found) - listening == {"upstream/dialing.py"}


def test_the_request_path_names_no_api() -> None:
    modules = ("flow.py", "pursuit.py", "calling.py")
    text = "".join((SOURCES / name).read_text(encoding="utf-8") for name in modules).lower()
    assert [name for name in ("openai", "anthropic", "gemini", "ollama") if name in text] == []


def test_every_setting_is_documented_and_generated_pages_are_current() -> None:
    stale = [str(path) for path, text in generator().generated().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run make fix"


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for page in (path for path in tracked_files() if path.suffix == ".md"):
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            place = (page.parent / file).resolve() if file else page
            if not place.exists() or (anchor and anchor not in anchors(place)):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def proofs() -> dict[int, list[str]]:
    """The tests that docs/security-tests.md names for each item."""
    page = (ROOT / "docs" / "security-tests.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*?\| ([^|]+) \|$", page, flags=re.MULTILINE)
    return {int(item): re.findall(r"`([\w/]+\.py::test_\w+)`", cell) for item, cell in rows}


def is_there(test: str) -> bool:
    """Whether a test, named as below ``tests/``, is in its file."""
    file, _, name = test.partition("[")[0].partition("::")
    path = ROOT / "tests" / file
    return path.is_file() and bool(re.search(rf"^def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE))


def test_every_attack_of_the_list_is_proven_by_tests_that_are_there() -> None:
    assert sorted(proofs()) == [item for item in range(1, 55) if item != SUPPLY_CHAIN]
    assert [item for item, tests in proofs().items() if not tests] == []
    assert [f"{item}: {test}" for item, tests in proofs().items() for test in tests if not is_there(test)] == []


def test_the_proofs_of_the_data_plane_are_those_that_are_tried_without_the_defence() -> None:
    tried = {(defence.item, test.partition("[")[0]) for defence in read_table() for test in defence.tests}
    named = {(item, test) for item, tests in proofs().items() if item in TRIED_WITHOUT_DEFENCE for test in tests}
    assert sorted(named - tried) == [], "a table of defences/ has to say without what they fail"
    assert sorted(tried - named) == [], "docs/security-tests.md does not name them"


def test_each_defence_of_the_tables_can_be_taken_away() -> None:
    table = read_table()
    assert [test for defence in table for test in defence.tests if not is_there(test)] == []
    counts = {
        (removal.file, removal.old): (ROOT / removal.file).read_text(encoding="utf-8").count(removal.old)
        for defence in table
        for removal in defence.removals
    }
    assert [place for place, count in counts.items() if count != 1] == [], "defences/ holds what the code was"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_make_target_says_what_it_does() -> None:
    command = ["env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "make", "--silent", "help"]  # this may run below make
    help_text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert phony is not None
    listed = {line.split()[1] for line in help_text.splitlines()}
    assert listed == set(phony[1].split())


def test_a_serving_process_holds_nothing_of_the_command_line_and_no_management_code() -> None:
    heavy = ("alembic", "click", "genai_prices", "litestar", "pydantic", "typer")
    program = f"import sys, pointsman.serving, pointsman.app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_no_half_merged_text_is_kept() -> None:
    mark = re.compile(rb"^(?:<{7}|>{7}) ", re.MULTILINE)
    assert [str(path) for path in tracked_files() if mark.search(path.read_bytes())] == []
