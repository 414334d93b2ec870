"""What the sources must not hold: code out of data, shells, statements put together from text, comparisons that tell.

Each rule reads every module of the program; what is allowed stands here with its reason.
"""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

import pointsman

SOURCES: Final = Path(pointsman.__file__).parent
# Names whose call would run or unpack what somebody sent.
DANGEROUS: Final = re.compile(
    r"\b(?:eval|exec|execfile|__import__|compile)\(|\bos\.(?:system|popen|spawn\w*|fork)\b|\bshell\s*=\s*True"
    r"|\bcreate_subprocess_shell\b|\bsubprocess_shell\b|\bgetoutput\b|\bgetstatusoutput\b|\bpty\.spawn\b"
    r"|\b(?:import|from)\s+(?:pickle|cPickle|dill|marshal|shelve|yaml|jsonpickle|code|codeop|cffi|runpy)\b"
    r"|\b(?:jinja2|mako|string\.Template|chevron|pystache|django)\b|\bmktemp\(|\bextractall\(|\bunpack_archive\("
)
# Where modules are imported by a name that is made at run time: each time one of a table of our own.
IMPORTING: Final = {
    "api/omniroute/combo_test.py": "the dialect of a kind of target",
    "contracts/operations.py": "the module of each contract",
    "dry_run.py": "the dialect of a known format",
    "hub/translator.py": "the dialect of a known format",
    "providers/formats.py": "the half of a wire API",
    "routing/strategies/__init__.py": "the file of a known strategy",
    "server/inference.py": "the dialect of a route",
}
# Statements that are put together, each looked at: from constants, names of tables, and marks for values.
PUT_TOGETHER: Final = {
    "storage/budget_leases.py": 2,  # a table's own name
    "storage/database.py": 1,  # one of two words
    "storage/ledger.py": 1,  # as many marks for values as there are rows
    "storage/ledger_audit.py": 3,  # constants of the module
    "storage/migrations/versions/0016_ledger.py": 1,  # a table of constants
    "storage/migrations/versions/0029_scale.py": 3,  # constants of the module
    "storage/recorded_costs.py": 1,  # a number of microseconds
}
# Comparisons of what is called like a secret and is none: digests as names of things, states of machines.
COMPARED: Final = {
    "policy/kept_answers.py: entry.digest != name.digest",
    "policy/shared_calls.py: call.name.digest != name.digest",
    "storage/authorization_codes.py: _TABLE.c.digest == digest",  # a look-up by digest, in the database
    "storage/keys.py: _TABLE.c.digest == digest",
    "storage/audit.py: audit.c.hash == digest",  # of a public chain
    "storage/payments.py: payments.c.nonce == nonce",  # of a public payment
    "upstream/local_weights.py: digest != release.wheel_sha256",  # of a public file
}
# Processes that are started, and what stands in their command lines: nothing of a request.
PROCESSES: Final = {
    "accounting/prices.py": "price_lookup.py, which reads names on its standard input",
    "accounting/burst.py": "the same program's sums, on its standard input",
    "server/workers.py": "this program as a worker",
    "serving.py": "this program again, after a changed configuration",
    "upstream/local_model.py": "the local model's server, for a file of the installation",
    "upstream/local_weights.py": "pip, for one pinned release",
}


@cache
def texts() -> dict[str, str]:
    """Every module's text, by path. Simulators for tests are no part of the server."""
    paths = [path for path in sorted(SOURCES.rglob("*.py")) if path.relative_to(SOURCES).parts[0] != "testing"]
    return {str(path.relative_to(SOURCES)): path.read_text(encoding="utf-8") for path in paths}


def parsed(words: str) -> dict[str, ast.Module]:
    """The modules that hold one of the words."""
    telling = re.compile(words)
    return {place: ast.parse(text) for place, text in texts().items() if telling.search(text)}


def code_lines(text: str) -> list[str]:
    """A module's lines without comments."""
    return [line.split("  # ")[0] for line in text.splitlines() if not line.lstrip().startswith("#")]


def test_nothing_runs_unpacks_or_renders_what_was_sent() -> None:
    found = []
    for place, text in texts().items():
        for line in code_lines(text):
            hit = DANGEROUS.search(line)
            if hit and not re.search(r"\b(?:re|re2|regex)\.compile\($", line[: hit.end()]):
                found.append((place, line.strip()))
    assert found == []


def test_processes_are_started_in_these_places_alone_and_none_by_a_shell() -> None:
    starting = re.compile(
        r"\bcreate_subprocess_exec\(|\bsubprocess\.(?:Popen|run|call|check_\w+)\(|\bos\.exec\w*\(|\bposix_spawn"
    )
    found = {place for place, text in texts().items() if any(starting.search(line) for line in code_lines(text))}
    assert found == set(PROCESSES)


def test_statements_hold_no_text_that_is_put_in_at_run_time() -> None:
    """Values are bound. What is written into a statement comes from constants of its module."""
    found: dict[str, int] = {}
    for place, tree in parsed(r"\btext\(|exec_driver_sql|literal_column").items():
        if not place.startswith(("storage/", "accounting/", "policy/", "identity/", "cli/")):
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("text", "exec_driver_sql", "literal_column") and node.args and not _is_constant(node.args[0]):
                found[place] = found.get(place, 0) + 1
    assert found == PUT_TOGETHER, "a statement that is put together has to be looked at"


def _is_constant(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        return name.lstrip("_").isupper()
    return False


def test_secrets_are_compared_in_constant_time_or_looked_up_by_digest() -> None:
    words = re.compile(
        r"(?:^|[._])(?:secret|password|token|signature|digest|mac|hmac|verifier|challenge|nonce|code|pepper)s?$"
    )
    found = set()
    for place, tree in parsed(r"==|!=").items():
        if not place.startswith(("identity/", "policy/", "api/", "server/", "upstream/", "keyring.py", "storage/")):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and any(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops):
                sides = [node.left, *node.comparators]
                plain = any(isinstance(side, ast.Constant) for side in sides)
                names = [ast.unparse(side) for side in sides]
                if not plain and any(words.search(name.removesuffix("()")) for name in names):
                    found.add(f"{place}: {ast.unparse(node)}")
    assert found == COMPARED, "compare secrets with hmac.compare_digest, or look digests up"


@pytest.mark.parametrize(
    "place",
    ["identity/agents.py", "policy/key_codes.py", "secret.py", "upstream/open_id.py", "identity/audit_check.py"],
)
def test_what_has_to_be_compared_is_compared_by_hmac(place: str) -> None:
    assert "hmac.compare_digest(" in texts()[place]


def test_modules_are_imported_by_names_of_tables_alone() -> None:
    found = {place for place, text in texts().items() if re.search(r"\bimport_module\(|\b__import__\(", text)}
    assert found == set(IMPORTING)
