"""What an operator says of a connection beyond its address reaches its provider format."""

from pathlib import Path

import httpx
import pytest

from gateway import KEY, running_gateway, wait_until
from pointsman.keyring import Secret
from pointsman.testing import Gemini, running_simulator
from pointsman.upstream.declared import NewConnection

BODY = {"messages": [{"role": "user", "content": "hello"}]}
OPTIONS = {"project": "mine", "location": "europe-west4"}
PLACE = "/v1/projects/mine/locations/europe-west4/publishers/google/models/sim-model:generateContent"


@pytest.mark.parametrize("declared", [True, False], ids=["file", "command"])
def test_a_project_and_a_location_lead_to_vertex(tmp_path: Path, declared: bool) -> None:
    with running_simulator(Gemini(api_key="token")) as simulator:
        row = {"id": "google", "kind": "vertex", "base_url": simulator.origin, "models": ["sim-model"]}
        connections = [{**row, "api_key": "token", "options": OPTIONS}] if declared else []
        with running_gateway(tmp_path, {"connections": connections}) as gateway:
            if not declared:
                new = NewConnection(
                    id="google",
                    kind="vertex",
                    base_url=simulator.origin,
                    secret=Secret("token"),
                    models=("sim-model",),
                    allow_private=True,
                    options=OPTIONS,
                )
                gateway.call(gateway.installation.connections.add(new))
                wait_until(lambda: "google" in gateway.server.gateway.snapshot.endpoints, "the new connection")
            answer = httpx.post(
                f"{gateway.address}/v1/chat/completions",
                json={"model": "google/sim-model", **BODY},
                headers={"authorization": f"Bearer {KEY}"},
            )
        assert answer.status_code == 200, answer.text
        assert simulator.requests[-1].path.partition("?")[0] == PLACE
