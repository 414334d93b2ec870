"""What is done with responses that the gateway kept, as far as that is JSON alone: going on, listing the input."""

from collections.abc import Mapping, Sequence
from hashlib import blake2s
from typing import Any, Final

import msgspec

from pointsman.canonical.parts import Extra
from pointsman.errors import GatewayError, Kind
from pointsman.wire.openai_responses import own_id

MAX_PAGE: Final = 100
_PREFIXES: Final = {
    "message": "msg", "function_call": "fc", "function_call_output": "fco", "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco", "reasoning": "rs",
}  # fmt: skip
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One kept response as the next one needs it: what it was given and what it gave."""

    id: str
    status: str
    input: list[Extra]
    output: list[Extra]


def input_items(body: Mapping[str, Any]) -> list[Extra]:
    """The items of a request's ``input``; a plain string is one user message. What is no item is left out."""
    given = body.get("input")
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    return [_whole(item) for item in given if isinstance(item, dict)] if isinstance(given, list) else []


def named_items(items: Sequence[Extra], response_id: str) -> list[Extra]:
    """The items with an id each, made up from the response's where they had none, as they are listed."""
    return [_named(item, response_id, number) for number, item in enumerate(items)]


def expand(body: bytes, turns: Sequence[Turn]) -> bytes:
    """A request with what came before it written out: ``turns`` (oldest first) and then its own input.

    The earlier items lose their ids: their upstream may not know them. Reasoning of which nothing but the id could be
    sent is left out. References to earlier items are resolved. Raises
    GatewayError(INVALID_REQUEST) when the last of them is not an answer that can be gone on from.
    """
    if turns and turns[-1].status not in ("completed", "incomplete"):
        message = f"the response '{turns[-1].id[:80]}' is {turns[-1].status}: only a finished one can be gone on from"
        raise GatewayError(Kind.INVALID_REQUEST, message, param="previous_response_id")
    fields = _decode(body)
    earlier = [item for turn in turns for item in (*turn.input, *turn.output)]
    known = {item["id"]: item for item in earlier if isinstance(item.get("id"), str)}
    new = [
        _unnamed(known[item["id"]]) if is_reference(item) and item.get("id") in known else item
        for item in input_items(fields)
    ]
    fields.pop("previous_response_id", None)
    fields["input"] = [_unnamed(item) for item in earlier if not _is_hollow(item)] + new
    return _encode(fields)


def is_reference(item: Mapping[str, Any]) -> bool:
    """True for an ``item_reference``, which may go without its type."""
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "role" not in item and "id" in item)


def page(items: Sequence[Extra], *, after: str | None, limit: int, newest_first: bool) -> Extra:
    """A list object of up to ``limit`` items behind the one named ``after``. INVALID_REQUEST at a wrong limit."""
    if not 1 <= limit <= MAX_PAGE:
        raise GatewayError(Kind.INVALID_REQUEST, f"'limit' must be between 1 and {MAX_PAGE}", param="limit")
    ordered = list(reversed(items)) if newest_first else list(items)
    names = [item["id"] for item in ordered]
    start = names.index(after) + 1 if after in names else 0
    found = ordered[start : start + limit]
    return {
        "object": "list",
        "data": found,
        "first_id": found[0]["id"] if found else "",
        "last_id": found[-1]["id"] if found else "",
        "has_more": start + limit < len(ordered),
    }


def not_found(response_id: str, *, previous: bool) -> GatewayError:
    """There is no such response, or it is another's: the same words for both."""
    shown = response_id[:80]
    if previous:
        message = f"Previous response with id '{shown}' not found."
        return GatewayError(Kind.INVALID_REQUEST, message, param="previous_response_id")
    return GatewayError(Kind.NOT_FOUND, f"Response with id '{shown}' not found.", param="id")


def _whole(item: Extra) -> Extra:
    """A message's plain string as a list of parts."""
    kind = item.get("type") or ("message" if "role" in item else None)
    content = item.get("content")
    if kind != "message" or not isinstance(content, str):
        return item
    if item.get("role") == "assistant":
        return {**item, "type": kind, "content": [{"type": "output_text", "text": content, "annotations": []}]}
    return {**item, "type": kind, "content": [{"type": "input_text", "text": content}]}


def _named(item: Extra, response_id: str, number: int) -> Extra:
    if isinstance(item.get("id"), str):
        return item
    kind = str(item.get("type") or "item")
    digest = blake2s(f"{response_id}/{number}".encode()).hexdigest()[:24]
    return {"id": own_id(_PREFIXES.get(kind, "item")) + digest, **item}


def _is_hollow(item: Extra) -> bool:
    """True for reasoning that only its maker has, under its id."""
    return item.get("type") == "reasoning" and not item.get("encrypted_content") and not item.get("content")


def _unnamed(item: Extra) -> Extra:
    return {name: value for name, value in item.items() if name != "id" or is_reference(item)}
