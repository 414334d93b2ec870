"""NotDiamond's choice of a model, ``POST /v2/modelRouter/modelSelect``, as its SDK 1.7.0 has it (2026-11).

With ``type: openrouter`` models are named ``author/name`` both ways.
"""

from typing import Final

import msgspec

PATH: Final = "/v2/modelRouter/modelSelect"
OPENROUTER: Final = "openrouter"


class Candidate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model to choose from; prices in USD per million tokens, latency in seconds."""

    model: str
    context_length: int | None = None
    input_price: float | None = None
    output_price: float | None = None
    latency: float | None = None


class Selecting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The request. ``cost_quality_tradeoff`` is from 0 (quality alone) to 10 (cost alone)."""

    llm_providers: list[Candidate]
    messages: list[dict[str, str]]
    type: str | None = None
    cost_quality_tradeoff: int | None = None
    hash_content: bool | None = None
    preference_id: str | None = None
    previous_session: str | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A model that was chosen."""

    model: str
    provider: str = ""


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    providers: list[Choice]
    session_id: str | None = None
