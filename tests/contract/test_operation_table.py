"""The table of operations says what is true: of the contracts' documents, and of a running gateway."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway import RunningGateway
from pointsman.contracts.documents import contract_document
from pointsman.contracts.operations import Contract, Operation, all_operations, operations_of

# What nobody serves yet. A line goes when its operation comes; none may be added.
NOT_SERVED = Path(__file__).with_name("not_served.txt")
METHODS = {"get", "post", "put", "patch", "delete"}
BASES = {Contract.OPENROUTER: "/api/v1", Contract.HYBRID: "/v1"}
NO_PATH = "there is no such path here"


@pytest.fixture(scope="module")
def anybody(gateway: RunningGateway) -> Iterator[httpx.Client]:
    """A client without a credential."""
    with httpx.Client(base_url=gateway.address, timeout=20) as client:
        yield client


def sample(operation: Operation) -> str:
    """A path of an operation."""
    return re.sub(r"\{[^}]*\}", "x", operation.path.replace("{path}", "x:generateContent"))


def is_routed(client: httpx.Client, operation: Operation, mount: str = "") -> bool:
    """True when somebody answers, whatever he says."""
    answer = client.request(operation.method, mount + sample(operation))
    return answer.status_code != 405 and not (answer.status_code in (400, 404) and NO_PATH in answer.text)


@pytest.mark.parametrize("contract", Contract)
def test_the_table_has_every_operation_of_the_contract_and_its_status(contract: Contract) -> None:
    found = {}
    for path, item in contract_document(contract)["paths"].items():
        for method in METHODS & set(item):
            found[(method.upper(), BASES.get(contract, "") + path)] = set(item[method]["responses"])
    rows = {(row.method, row.path): row for row in operations_of(contract)}
    assert set(rows) == set(found)
    assert len(rows) == len(operations_of(contract)), "an operation stands there twice"
    for key, row in rows.items():
        assert str(row.status) in found[key], row


def test_what_is_not_served_yet_stands_in_one_list() -> None:
    lines = [line for line in NOT_SERVED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    listed = {tuple(line.split("  ")[0].split(" ")) for line in lines}
    assert listed == {(str(row.contract), row.method, row.path) for row in all_operations() if row.plane is None}
    assert all(line.endswith("  issue later") for line in lines), "every line says why"


@pytest.mark.parametrize("contract", Contract)
def test_what_the_table_says_is_served_is_and_nothing_else(contract: Contract, anybody: httpx.Client) -> None:
    rows = operations_of(contract)
    assert [row for row in rows if row.plane is not None and not is_routed(anybody, row)] == []
    # A path that several contracts share is served for one of them and may be for another.
    served = {(row.method, row.path) for row in all_operations() if row.plane is not None}
    mine = [row for row in rows if row.plane is None and (row.method, row.path) not in served]
    assert [row for row in mine if is_routed(anybody, row)] == []


@pytest.mark.parametrize("contract", Contract)
def test_every_served_operation_answers_below_its_mount(contract: Contract, anybody: httpx.Client) -> None:
    rows = [row for row in operations_of(contract) if row.plane is not None]
    assert [row for row in rows if not is_routed(anybody, row, f"/{contract}")] == []


@pytest.mark.parametrize("contract", Contract)
def test_below_a_mount_nothing_of_another_contract_is_managed(contract: Contract, anybody: httpx.Client) -> None:
    mine = {row.path for row in operations_of(contract)}
    others = [row for row in all_operations() if row.plane == "views" and row.path not in mine]
    assert [row for row in others if is_routed(anybody, row, f"/{contract}")] == []


def test_who_may_call_without_a_credential_is_a_short_list(anybody: httpx.Client) -> None:
    for row in all_operations():
        if row.plane is None or row.path == "/api/tags" or row.path == "/api/v1beta/models":
            continue
        status = anybody.request(row.method, sample(row)).status_code
        lists = row.method == "GET" and row.path.startswith(("/v1/models", "/api/v1/models"))
        if row.credentials and not lists:
            assert status in (401, 403, 426), row
        elif not row.credentials:
            assert status not in (401, 403), row
