"""Embeddings and rankings honour OpenRouter's ``provider`` object, and no upstream sees it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import KEY, UPSTREAM_KEY, running_gateway
from pointsman.testing import JinaRetrieval, OpenAIOperations, RunningSimulator, running_simulator

NAMES = ("one", "two")
PATHS = ("/api/v1/embeddings", "/api/v1/rerank")
BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/embeddings": {"model": "lab/embed", "input": "hello"},
    "/api/v1/rerank": {"model": "lab/rank", "query": "hello", "documents": ["hello", "other"]},
}


class Site:
    """A gateway before two accounts of an embedder, and two of a ranker."""

    def __init__(self, address: str, behind: dict[str, RunningSimulator]) -> None:
        self.address = address
        self.behind = behind

    def post(self, path: str, **more: Any) -> httpx.Response:
        """An answer."""
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.post(self.address + path, json={**BODIES[path], **more}, headers=headers, timeout=20)

    def asked(self, path: str) -> list[int]:
        """How many calls each account has had."""
        kind = "embed" if "embed" in path else "rank"
        return [len(self.behind[f"{kind}-{name}"].requests) for name in NAMES]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        behind: dict[str, RunningSimulator] = {}
        rows, facts = [], []
        for kind, host, api in (("embed", "vllm", OpenAIOperations), ("rank", "jina", JinaRetrieval)):
            for name in NAMES:
                running = stack.enter_context(running_simulator(api(api_key=UPSTREAM_KEY)))  # type: ignore[abstract]
                behind[f"{kind}-{name}"] = running
                rows.append(
                    {"id": f"{kind}-{name}", "kind": host, "provider": f"{kind}{name}", "models": [f"sim-{kind}"],
                     "base_url": running.origin + "/v1", "api_key": UPSTREAM_KEY}
                )  # fmt: skip
                facts.append({"model": f"{kind}-{name}/sim-{kind}", "slug": f"lab/{kind}"})
        settings = {"connections": rows, "facts": facts, "routing": {"model_lists": False}}
        gateway = stack.enter_context(running_gateway(tmp_path, settings))
        yield Site(gateway.address, behind)


@pytest.mark.parametrize("path", PATHS)
def test_the_provider_object_decides_and_goes_no_further(site: Site, path: str) -> None:
    kind = "embed" if "embed" in path else "rank"
    for wish in ({"only": [f"{kind}two"]}, {"ignore": [f"{kind}one"]}, {"order": [f"{kind}two"]}):
        answer = site.post(path, provider=wish)
        assert answer.status_code == 200, answer.text
    assert site.asked(path) == [0, 3]
    for one in site.behind[f"{kind}-two"].requests:
        assert "provider" not in json.loads(one.body)


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_preference_is_named(site: Site, path: str) -> None:
    answer = site.post(path, provider={"beauty": 1})
    assert answer.status_code == 400
    assert "provider.beauty" in answer.text
    assert site.asked(path) == [0, 0]
