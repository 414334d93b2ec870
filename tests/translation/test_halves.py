"""Every half has what the agreement (canonical/halves.py) asks of it."""

from importlib import import_module

import pytest

from pointsman.canonical.halves import LACKING, Dialect, ProviderFormat, Upstream
from pointsman.canonical.parts import WIRES
from pointsman.canonical.unsaid import WORDS as UNSAID_WORDS
from pointsman.errors import GatewayError, Kind
from pointsman.providers.formats import provider_format

DIALECTS = (
    "openai_chat", "openai_completions", "openai_responses", "anthropic", "gemini", "gemini.array", "ollama.chat",
    "ollama.generate",
)  # fmt: skip
FORMATS = ("openai.chat", "openai.responses", "anthropic", "gemini", "ollama", "cohere")


def members_of(protocol: type) -> set[str]:
    own = {name for name in vars(protocol) if not name.startswith("_")}
    return own | set(protocol.__annotations__)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_is_whole(name: str) -> None:
    module = import_module(f"pointsman.dialects.{name}")
    assert {member for member in members_of(Dialect) if not hasattr(module, member)} == set()
    assert module.WIRE in WIRES
    assert frozenset(UNSAID_WORDS) >= module.UNSAID


@pytest.mark.parametrize("wire", FORMATS)
def test_a_provider_format_is_whole(wire: str) -> None:
    module = provider_format(wire)
    assert {member for member in members_of(ProviderFormat) if not hasattr(module, member)} == set()
    assert wire == module.WIRE
    assert module.STREAM_TYPE.lower() == module.STREAM_TYPE
    assert module.lacks(Upstream(model="m")) <= frozenset(LACKING)


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("kind", Kind)
def test_every_dialect_has_its_words_for_every_kind_of_error(name: str, kind: Kind) -> None:
    module = import_module(f"pointsman.dialects.{name}")
    error = GatewayError(kind, "what happened", param="model")
    assert b"what happened" in module.render_error(error, "req_1")
    assert b"what happened" in module.render_stream_error(error, "req_1")
