"""Anthropic's lists of models and counts of tokens, as clients read them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from pointsman.wire.members import wrong_request

_USUAL_PAGE, _LARGEST_PAGE = 20, 1000  # platform.claude.com/docs/en/api/models-list

_encode: Final = msgspec.json.Encoder().encode


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a list says of a model: its name at the gateway, and since when it is there in seconds since 1970."""

    name: str
    created: int


def write_models(cards: Sequence[ModelCard], query: Mapping[str, str]) -> bytes:
    """The page that ``limit``, ``after_id`` and ``before_id`` ask for. Raises GatewayError(INVALID_REQUEST)."""
    limit = _limit(query.get("limit"))
    names = [card.name for card in cards]
    if "after_id" in query:
        cards = cards[_position(names, query, "after_id") + 1 :]
    elif "before_id" in query:
        cards = cards[: _position(names, query, "before_id")]
    page = cards[-limit:] if "before_id" in query and "after_id" not in query else cards[:limit]
    first, last = (page[0].name, page[-1].name) if page else (None, None)
    told = {"data": [_model(card) for card in page], "has_more": len(cards) > limit}
    return _encode({**told, "first_id": first, "last_id": last})


def write_model(card: ModelCard) -> bytes:
    """One model."""
    return _encode(_model(card))


def write_count_response(tokens: int) -> bytes:
    """The answer to a request to count tokens."""
    return _encode({"input_tokens": tokens})


def _model(card: ModelCard) -> dict[str, Any]:
    created = datetime.fromtimestamp(card.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = card.name
    return {"type": "model", "id": name, "display_name": name, "created_at": created, "lifecycle": "active"}


def _limit(given: str | None) -> int:
    if given is None:
        return _USUAL_PAGE
    if not (given.isascii() and given.isdecimal() and 1 <= int(given[:9]) <= _LARGEST_PAGE):
        raise wrong_request("limit", f"must be between 1 and {_LARGEST_PAGE}")
    return int(given)


def _position(names: list[str], query: Mapping[str, str], parameter: str) -> int:
    if query[parameter] not in names:
        raise wrong_request(parameter, "names no model here")
    return names.index(query[parameter])
