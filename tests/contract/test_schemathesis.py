"""Made-up requests, valid and not, get answers that the contract's document has: never a fault of ours."""

from collections.abc import Iterator

import pytest
from contract_fuzz import fuzz
from contract_site import Site, running_site

from pointsman.contracts.operations import Contract


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("schemathesis")) as running:
        yield running


@pytest.mark.timeout(3600)  # half a minute on an idle machine; make schemathesis takes as long as it is told to
@pytest.mark.parametrize("contract", Contract)
def test_made_up_requests_find_no_fault(site: Site, contract: Contract, pytestconfig: pytest.Config) -> None:
    faults = fuzz(site, contract, pytestconfig.getoption("--examples"), pytestconfig.getoption("--seed"))
    assert not faults, "\n\n".join(faults)
