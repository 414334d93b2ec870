"""Ollama's clients find models and learn about them."""

import json

import pytest
from ollama import ListResponse, ProcessResponse, ShowResponse

from pointsman.dialects.ollama.models import (
    API_VERSION,
    ModelCard,
    read_show,
    write_running,
    write_show,
    write_tags,
    write_version,
)
from pointsman.errors import GatewayError

CARD = ModelCard(
    name="acme/large",
    modified=1_769_000_000,
    family="acme",
    context_length=128_000,
    capabilities=("completion", "tools"),
)
PLAIN = ModelCard(name="small", modified=0)


def test_models_are_listed_by_name_with_distinct_digests() -> None:
    found = ListResponse.model_validate_json(write_tags([CARD, PLAIN]), strict=True).models
    assert [model.model for model in found] == ["acme/large", "small"]
    assert len({model.digest for model in found}) == 2
    assert all(model["name"] == model["model"] for model in json.loads(write_tags([CARD, PLAIN]))["models"])


def test_running_models_have_a_context_where_it_is_known() -> None:
    found = ProcessResponse.model_validate_json(write_running([CARD, PLAIN], 1_769_000_300), strict=True).models
    assert [model.context_length for model in found] == [128_000, None]


def test_a_model_is_shown_with_what_it_can_do() -> None:
    found = ShowResponse.model_validate_json(write_show(CARD), strict=True)
    assert found.capabilities == ["completion", "tools"]
    assert (found.modelinfo or {})["acme.context_length"] == 128_000
    assert read_show(b'{"name": "m"}') == read_show(b'{"model": "m"}') == "m"
    with pytest.raises(GatewayError, match="'model' is missing"):
        read_show(b"{}")


def test_the_version_is_one_that_clients_accept() -> None:
    assert json.loads(write_version()) == {"version": API_VERSION}
    assert tuple(map(int, API_VERSION.split("."))) >= (0, 6, 4)
