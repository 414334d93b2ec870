"""Requests made up from a contract's document, valid and not, and what every answer to them must hold."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import hypothesis
import requests
from contract_bodies import BODIES
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
KNOWN = {"provider": "sim", "model_id": CHAT, "modelId": CHAT, "author": "openai", "slug": "gpt-4.1-mini",
         "path": f"{CHAT}:generateContent"}  # fmt: skip
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
TWISTS = st.none() | st.tuples(st.integers(0, 10_000), JSON)
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def fuzz(site: Site, contract: Contract, examples: int, seed: int) -> list[str]:
    """What went wrong, a line for each operation, after ``examples`` requests of each kind to each operation."""
    schema = openapi.from_dict(served_document(contract))
    faults = []
    if contract is Contract.OMNIROUTE:
        site.furnish()
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
    faults: list[str] = []

    def ask(case: Case) -> None:
        """A fault is noted and not raised: nothing is run again, on a gateway that has changed since."""
        try:
            _ask(site, contract, session, case)
        except BaseExceptionGroup as error:
            faults.append("".join(str(one) for one in error.exceptions) + case.as_curl_command())

    try:
        _run(site, operation.as_strategy(generation_mode=mode), ask, (examples, seed))
    except hypothesis.errors.Unsatisfiable:
        pass  # there is nothing that this operation's document forbids
    except hypothesis.errors.FlakyStrategyDefinition:
        pass  # the tool's own strategies remember what they made before
    return faults[0][:1500] if faults else None


def _run(site: Site, cases: Any, ask: Callable[[Case], None], length: tuple[int, int]) -> None:
    examples, seed = length

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    )
    @hypothesis.given(case=cases, known=st.booleans(), twist=TWISTS)
    def run(case: Case, known: bool, twist: tuple[int, Any] | None) -> None:
        if known:
            _aim(site, case, twist)
        ask(case)

    run()


def _aim(site: Site, case: Case, twist: tuple[int, Any] | None) -> None:
    """Have a request concern something that is there, with a body that is taken but for one ``twist``."""
    label = case.operation.label
    for name in case.path_parameters or {}:
        if case.operation.method.upper() != "DELETE":
            made = next((made for below, made in site.ids.items() if case.operation.path.startswith(below)), None)
            case.path_parameters[name] = KNOWN.get(name) or made or case.path_parameters[name]
    body = BODIES.get(label)
    if body is None or case.media_type not in (None, "application/json"):
        return
    case.body = {**body, **case.body} if isinstance(case.body, dict) else dict(body)
    case.media_type = "application/json"
    if twist is not None:
        place, value = twist
        _replace(case.body, place, value)


def _replace(body: Any, place: int, value: Any) -> None:
    """Put ``value`` in one of the members of ``body``, or of what it holds."""
    names = list(body) if isinstance(body, dict) else list(range(len(body)))
    name = names[place % len(names)]
    if isinstance(body[name], dict | list) and body[name] and place % 3:
        body[name] = copy.deepcopy(body[name])
        _replace(body[name], place // 7, value)
    else:
        body[name] = value


def _ask(site: Site, contract: Contract, session: requests.Session, case: Case) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    answer = case.call(base_url=f"{site.gateway.address}/{contract}", session=session, headers=headers, timeout=20)
    case.validate_response(answer, checks=CHECKS)
