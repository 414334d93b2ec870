"""Requests made up from a contract's document, valid and not, and what every answer to them must hold."""

import warnings
from collections.abc import Callable
from typing import Any

import hypothesis
import requests
from contract_site import CHAT, Site, offline
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway import KEY
from pointsman.contracts.documents import served_document
from pointsman.contracts.operations import Contract

CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance, response_headers_conformance]
# What is there to be found, for every other request: a made-up name leads nowhere.
KNOWN = {"provider": "sim", "id": "sim", "model_id": CHAT, "modelId": CHAT, "author": "openai", "slug": "gpt-4.1-mini",
         "path": f"{CHAT}:generateContent"}  # fmt: skip
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def fuzz(site: Site, contract: Contract, examples: int, seed: int) -> list[str]:
    """What went wrong, a line for each operation, after ``examples`` requests of each kind to each operation."""
    schema = openapi.from_dict(served_document(contract))
    faults = []
    with requests.Session() as session, offline(site.gateway):
        for found in schema.get_all_operations():
            operation = found.ok()
            for mode in MODES:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of the tool about itself
                    fault = _first_fault(site, contract, session, (operation, mode, examples, seed))
                if fault is not None:
                    faults.append(f"{operation.label} ({mode.value}): {fault}")
    return faults


def _first_fault(site: Site, contract: Contract, session: requests.Session, asked: tuple[Any, ...]) -> str | None:
    operation, mode, examples, seed = asked
    try:
        cases = operation.as_strategy(generation_mode=mode)
        _run(cases, lambda case: _ask(site, contract, session, case), examples, seed)
    except hypothesis.errors.Unsatisfiable:
        return None  # there is nothing that this operation's document forbids
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - reported with its operation
        return "".join(str(one) for one in getattr(error, "exceptions", [error]))[:1500]
    return None


def _run(cases: Any, ask: Callable[[Case], None], examples: int, seed: int) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    )
    @hypothesis.given(case=cases, known=st.booleans())
    def run(case: Case, known: bool) -> None:
        if known:
            _aim(case)
        ask(case)

    run()


def _aim(case: Case) -> None:
    """Have a request concern something that is there."""
    for name in case.path_parameters or {}:
        case.path_parameters[name] = KNOWN.get(name, case.path_parameters[name])
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = CHAT


def _ask(site: Site, contract: Contract, session: requests.Session, case: Case) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    answer = case.call(base_url=f"{site.gateway.address}/{contract}", session=session, headers=headers, timeout=20)
    case.validate_response(answer, checks=CHECKS)
