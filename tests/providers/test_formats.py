"""Which format speaks which wire API, and how each lists its models."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import GatewayError, Kind
from pointsman.providers.formats import ModelListing, listing_of, parse_model_list, provider_format
from pointsman.providers.hosts import hosts

LISTS = {
    "openai.chat": b'{"object":"list","data":[{"id":"a/b:c","object":"model"},{"id":"d"}]}',
    "anthropic": b'{"data":[{"type":"model","id":"a/b:c"},{"type":"model","id":"d"}],"has_more":false}',
    "gemini": b'{"models":[{"name":"models/a/b:c"},{"name":"models/d"}]}',
    "ollama": b'{"models":[{"name":"a/b:c"},{"name":"d"}]}',
    "cohere": b'{"models":[{"name":"a/b:c"},{"name":"d"}]}',
}


def test_every_host_of_the_table_speaks_a_format_that_is_there() -> None:
    for host in hosts().values():
        assert provider_format(host.format).WIRE in (host.format, "none")  # none: embeddings and rankings alone


@pytest.mark.parametrize("wire", LISTS)
def test_a_model_list_gives_its_ids(wire: str) -> None:
    listing = listing_of(wire)
    assert listing is not None
    assert parse_model_list(LISTS[wire], listing) == ("a/b:c", "d")


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b'{"data":5}', b'{"data":[5]}', b'{"data":[{"id":5}]}', b"{}"])
def test_what_is_no_model_list_is_the_upstreams_error(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        parse_model_list(body, ModelListing("/models", "data", "id"))
    assert caught.value.kind is Kind.UPSTREAM_ERROR


@given(st.binary(max_size=60))
def test_model_lists_raise_only_our_error(body: bytes) -> None:
    with contextlib.suppress(GatewayError):
        parse_model_list(body, ModelListing("/models", "data", "id"))
