"""Every operation of connections and provider nodes answers as OmniRoute's contract says, to administrators alone."""

from collections.abc import Iterator

import pytest
from connections_client import Admin, archive, token_file
from contract_shapes import (
    BATCH,
    LIST,
    MODELS,
    NODES,
    OFFERED,
    ONE,
    ONE_NODE,
    OPERATIONS,
    RESULT,
    VALIDATED,
)

from gateway import UPSTREAM_KEY, RunningGateway
from pointsman.testing import RunningSimulator


@pytest.fixture
def admin(gateway: RunningGateway) -> Iterator[Admin]:
    """An administrator at the module's gateway."""
    made = Admin(gateway)
    yield made
    made.close()


@pytest.fixture(scope="module")
def inference_key(gateway: RunningGateway) -> str:
    """A key that may call models only."""
    _, secret = gateway.call(gateway.installation.keys.create("caller"))
    gateway.call(gateway.installation.await_revision(gateway.call(gateway.installation.configuration.revision())))
    return secret.reveal()


def test_connections_are_made_read_changed_tested_and_removed(admin: Admin, shared_simulator: RunningSimulator) -> None:
    new = {
        "provider": "openai", "name": "Work", "url": shared_simulator.base_url, "apiKey": UPSTREAM_KEY,
        "isActive": True, "maxConcurrent": 4, "allowPrivate": True,
    }  # fmt: skip
    made = admin.ask("POST", "/api/providers", new, status=201, shape=ONE)["connection"]
    assert (made["id"], made["name"], made["maxConcurrent"], made["testStatus"]) == ("work", "Work", 4, "untested")
    path = f"/api/providers/{made['id']}"
    assert made["id"] in [row["id"] for row in admin.ask("GET", "/api/providers", shape=LIST)["connections"]]
    assert admin.ask("GET", path, shape=ONE)["connection"] == made
    assert admin.ask("POST", f"{path}/test", shape=RESULT)["valid"]
    assert admin.ask("GET", path)["connection"]["testStatus"] == "active"
    assert admin.ask("GET", f"{path}/models", shape=MODELS)["source"] == "api"
    changed = admin.ask("PATCH", path, {**new, "maxConcurrent": None}, shape=ONE)["connection"]
    assert (changed["maxConcurrent"], changed["id"]) == (None, made["id"])
    assert admin.ask("PUT", path, {"priority": 7}, shape=ONE)["connection"]["priority"] == 7
    assert admin.ask("DELETE", path)["message"] == "Connection deleted successfully"
    admin.ask("GET", path, status=404)
    admin.ask("DELETE", path, status=404)
    admin.ask("PATCH", path, {"priority": 1}, status=404)


def test_credentials_are_tried_out_one_by_one_and_in_batches(admin: Admin, simulator: RunningSimulator) -> None:
    asked = {"provider": "openai", "apiKey": UPSTREAM_KEY, "baseUrl": simulator.base_url, "allowPrivate": True}
    assert admin.ask("POST", "/api/providers/validate", asked, shape=VALIDATED)["valid"]
    wrong = admin.ask("POST", "/api/providers/validate", {**asked, "apiKey": "sk-wrong"}, shape=VALIDATED)
    assert (wrong["valid"], wrong["diagnosis"]["type"]) == (False, "auth")
    found = admin.ask("POST", "/api/providers/test-batch", {"mode": "all"}, shape=BATCH)
    assert {row["connectionId"]: row["valid"] for row in found["results"]}["sim"]
    assert found["summary"]["total"] == len(found["results"])
    assert admin.ask("POST", "/api/providers/test-batch", shape=BATCH)["mode"] == "all"
    assert admin.ask("POST", "/api/providers/test-batch", {"mode": "oauth"}, shape=BATCH)["results"] == []
    assert admin.fault("POST", "/api/providers/test-batch", {"mode": "provider"}) == "providerId"


def test_lists_for_clients_and_of_models_show_no_address(admin: Admin, shared_simulator: RunningSimulator) -> None:
    found = admin.ask("GET", "/api/providers/client", shape=LIST)
    assert [row["id"] for row in found["connections"]] == ["sim"]
    assert shared_simulator.base_url not in str(found)
    admin.ask("GET", "/api/provider-models?provider=openai", shape=OFFERED)


def test_nodes_are_made_changed_tried_out_and_removed_with_their_connections(
    admin: Admin, simulator: RunningSimulator
) -> None:
    new = {
        "name": "Lab",
        "prefix": "lab",
        "apiType": "chat",
        "baseUrl": simulator.base_url,
        "type": "openai-compatible",
    }
    assert admin.fault("POST", "/api/provider-nodes", new) == "url"
    node = admin.ask("POST", "/api/provider-nodes", {**new, "allowPrivate": True}, status=201, shape=ONE_NODE)["node"]
    assert node["id"].startswith("openai-compatible-chat-")
    assert admin.ask("GET", "/api/provider-nodes", shape=NODES)["nodes"] == [node]
    admin.ask("POST", "/api/provider-nodes", {**new, "allowPrivate": True}, status=409)
    made = admin.create(provider=node["id"], apiKey=UPSTREAM_KEY, allowPrivate=True, name="lab one")
    assert (made["provider"], made["url"]) == (node["id"], simulator.base_url)
    assert admin.chat("lab/anything").status_code == 200
    path = f"/api/provider-nodes/{node['id']}"
    assert admin.ask("PATCH", path, {"prefix": "den"}, shape=ONE_NODE)["node"]["prefix"] == "den"
    assert admin.ask("PUT", path, {"name": "Den"}, shape=ONE_NODE)["node"]["name"] == "Den"
    assert admin.chat("den/anything").status_code == 200
    assert admin.chat("lab/anything").status_code == 404
    asked = {**new, "apiKey": UPSTREAM_KEY, "allowPrivate": True}
    assert admin.ask("POST", "/api/provider-nodes/validate", asked, shape=VALIDATED)["valid"]
    assert admin.ask("DELETE", path)["success"]
    admin.ask("GET", f"/api/providers/{made['id']}", status=404)
    admin.ask("DELETE", path, status=404)
    admin.ask("PATCH", path, {"name": "x"}, status=404)


def test_token_files_of_another_vendors_program_are_read_and_not_taken(admin: Admin) -> None:
    base = "/api/providers/agy-auth"
    text = token_file().decode()
    refusal = admin.ask("POST", f"{base}/import", {"source": {"kind": "text", "text": text}}, status=400)
    assert "API key" in refusal["error"]["details"][0]["message"]
    bulk = admin.ask("POST", f"{base}/import-bulk", {"entries": [{"json": {"access_token": "a"}}, {"json": text}]})
    assert (bulk["success"], bulk["failed"]) == (0, 2)
    assert bulk["results"][0]["error"] == "has no refresh_token"
    admin.ask("POST", f"{base}/apply-local", status=404)
    packed = archive(one=token_file(), folder__two=token_file(), broken=b"{")
    answered = admin.send("POST", f"{base}/zip-extract", packed, "application/zip")
    assert [entry["name"] for entry in answered.json()["entries"]] == ["one.json", "two.json"]
    form = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.zip"\r\n\r\n' + packed + b"\r\n--b--\r\n"
    assert admin.send("POST", f"{base}/zip-extract", form, "multipart/form-data; boundary=b").json() == answered.json()
    for bad in (b"no archive", archive(**{"..__up": token_file()}), archive(big=b'{"a":"' + b"x" * 70_000 + b'"}')):
        assert admin.send("POST", f"{base}/zip-extract", bad, "application/zip").status_code == 400


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda value: value.replace("/", "_"))
def test_an_operation_is_for_administrators_alone(
    gateway: RunningGateway, inference_key: str, method: str, path: str
) -> None:
    path = path.replace("{id}", "sim")
    for key, status, message in (
        (None, 401, "Authentication required"),
        ("sk-pm-unknown-0123456789abcdefghijklmnop", 401, "Invalid management token"),
        (inference_key, 403, "Invalid management token"),
    ):
        caller = Admin(gateway, key)
        found = caller.ask(method, path, {} if method != "GET" else None, status=status)
        caller.close()
        assert found["error"]["message"] == message
        assert found["requestId"]


def test_lists_are_bounded_and_paged(admin: Admin) -> None:
    first = admin.ask("GET", "/api/providers?limit=1", shape=LIST)
    assert (len(first["connections"]), first["limit"], first["offset"]) == (1, 1, 0)
    assert admin.ask("GET", f"/api/providers?offset={first['total']}")["connections"] == []
    for path in ("/api/providers?limit=0", "/api/providers?limit=501", "/api/provider-nodes?offset=-1",
                 "/api/provider-models?limit=x", "/api/providers/client?limit=9999"):  # fmt: skip
        assert admin.fault("GET", path, None) in ("limit", "offset")
