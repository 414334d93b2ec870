"""Where requests for Gemini models go, and with which credential."""

import json
from typing import Any

import pytest

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Upstream
from pointsman.canonical.parts import TextPart
from pointsman.canonical.request import Message, Request
from pointsman.providers import gemini

PROJECT = {"project": "my-project", "location": "europe-west4"}
EXPRESS = {"chat_path": "/v1/publishers/google/models/{model}", "auth": "x-goog-api-key"}


def request(**options: Any) -> Request:
    return Request(
        wire="openai.chat", model="x", messages=[Message(role="user", parts=[TextPart(text="hi")])], **options
    )


@pytest.mark.parametrize(
    ("upstream", "path"),
    [
        (Upstream(model="gemini-3-pro"), "/v1beta/models/gemini-3-pro"),
        (Upstream(model="models/gemini-3-pro"), "/v1beta/models/gemini-3-pro"),
        (Upstream(model="tunedModels/mine"), "/v1beta/tunedModels/mine"),
        (Upstream(model="a#b/c", options={"api_version": "v1"}), "/v1/models/a%23b%2Fc"),
        (Upstream(model="m", options={"api_version": ""}), "/models/m"),
        (
            Upstream(model="m", options=PROJECT),
            "/v1/projects/my-project/locations/europe-west4/publishers/google/models/m",
        ),
        (Upstream(model="m", options={"project": "p"}), "/v1/projects/p/locations/global/publishers/google/models/m"),
        (Upstream(model="m", quirks=EXPRESS), "/v1/publishers/google/models/m"),
    ],
)
def test_the_path_names_the_model_and_the_method(upstream: Upstream, path: str) -> None:
    assert gemini.build_request(request(), upstream, Fidelity()).path == f"{path}:generateContent"
    streamed = gemini.build_request(request(stream=True), upstream, Fidelity())
    assert streamed.path == f"{path}:streamGenerateContent?alt=sse"
    assert gemini.build_count_request(request(), upstream, Fidelity()).path == f"{path}:countTokens"


def test_a_project_takes_a_token_and_everything_else_a_key() -> None:
    assert gemini.auth_headers("s", Upstream(model="m", options=PROJECT)) == (("authorization", "Bearer s"),)
    for upstream in (Upstream(model="m"), Upstream(model="m", quirks=EXPRESS)):
        assert gemini.auth_headers("s", upstream) == (("x-goog-api-key", "s"),)


def test_models_are_listed_below_the_same_base_url() -> None:
    assert gemini.models_path(Upstream(model="")) == "/v1beta/models?pageSize=1000"
    assert gemini.models_path(Upstream(model="", options=PROJECT)).startswith("/v1beta1/publishers/google/models?")


def test_on_the_raw_lane_only_a_model_in_the_body_changes() -> None:
    upstream = Upstream(model="gemini-3-pro")
    body = b'{"contents":[ {"parts":[{"text":"hi"}]} ]}'
    assert gemini.patch_request(body, request(), upstream).body == body
    named = b'{"model": "models/x", "contents": [ {"parts":[{"text":"a model"}]} ] }'
    patched = gemini.patch_request(named, request(stream=True), upstream)
    assert json.loads(patched.body) == {**json.loads(named), "model": "models/gemini-3-pro"}
    assert patched.path == "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse"
