"""Thinking blocks with signatures that only this simulator can make, and the refusals of those that were changed.

A signature is the MAC of the thinking text, of the block's place among the thinking blocks of its answer and of their
number, so that a changed, left out or moved block is found without remembering any answer.
"""

import base64
import binascii
import hmac
from typing import Final

from .anthropic_checks import InvalidRequest, Json
from .anthropic_request import blocks_of, ends_with_tool_result

_VERSION: Final = 1
_MAC_BYTES: Final = 32
_KINDS: Final = ("thinking", "redacted_thinking")
_ALTERED: Final = (
    "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. These blocks must "
    "remain as they were in the original response."
)
_MUST_BEGIN: Final = (
    "When `thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost "
    "set of `tool_use` and `tool_result` blocks). We recommend you include thinking blocks from previous turns. To "
    "avoid this requirement, disable `thinking`. Please consult our documentation at "
    "https://docs.claude.com/en/docs/build-with-claude/extended-thinking"
)


class Signer:
    """Makes and checks signatures with one ``key``: another key stands for another provider."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, text: str, place: int, number: int) -> str:
        """The signature of block ``place`` of the ``number`` thinking blocks of an answer."""
        head = bytes((_VERSION, place, number))
        return base64.b64encode(head + self._mac(head, b"thinking", text.encode())).decode()

    def redact(self, text: str, place: int, number: int) -> str:
        """The ``data`` of a redacted block that hides ``text``."""
        head = bytes((_VERSION, place, number))
        veiled = bytes(byte ^ 0x5A for byte in text.encode())
        return base64.b64encode(head + self._mac(head, b"redacted", veiled) + veiled).decode()

    def place_of(self, block: Json) -> tuple[int, int] | None:
        """The place and number that were signed into a thinking block, or None if it is not ours or was changed."""
        kind = b"thinking" if block["type"] == "thinking" else b"redacted"
        try:
            raw = base64.b64decode(block["signature" if kind == b"thinking" else "data"], validate=True)
        except (binascii.Error, ValueError):
            return None
        head, mac, rest = raw[:3], raw[3 : 3 + _MAC_BYTES], raw[3 + _MAC_BYTES :]
        covered = block["thinking"].encode() if kind == b"thinking" else rest
        if len(head) < 3 or not hmac.compare_digest(mac, self._mac(head, kind, covered)):
            return None
        return head[1], head[2]

    def check(self, request: Json) -> None:
        """Raise InvalidRequest when a thinking block in ``request`` is not as it was made, or is missing."""
        for position, message in enumerate(request["messages"]):
            for number, block in enumerate(blocks_of(message)):
                if block["type"] in _KINDS and self.place_of(block) is None:
                    what = (
                        "`signature` in `thinking`" if block["type"] == "thinking" else "`data` in `redacted_thinking`"
                    )
                    raise InvalidRequest(f"messages.{position}.content.{number}: Invalid {what} block")
        if ends_with_tool_result(request):
            self._check_turn(request)

    def _check_turn(self, request: Json) -> None:
        """The thinking of the unfinished turn: that of every assistant message since the user last spoke."""
        turn = _turn(request["messages"])
        first = blocks_of(request["messages"][turn[0]])[0]["type"] if turn else ""
        # Adaptive thinking may leave thinking out, so only "enabled" demands it.
        if first and first not in _KINDS and (request.get("thinking") or {}).get("type") == "enabled":
            raise InvalidRequest(
                f"messages.{turn[0]}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{first}`. "
                f"{_MUST_BEGIN}"
            )
        for place in turn:
            blocks = blocks_of(request["messages"][place])
            thoughts = [(at, self.place_of(block)) for at, block in enumerate(blocks) if block["type"] in _KINDS]
            for order, (at, signed) in enumerate(thoughts):
                if at != order or signed != (order, len(thoughts)):
                    raise InvalidRequest(f"messages.{place}.content.{at}: {_ALTERED}")

    def _mac(self, *parts: bytes) -> bytes:
        return hmac.digest(self._key, b"\0".join(parts), "sha256")


def _turn(messages: list[Json]) -> list[int]:
    """The positions of the assistant messages after the last user message that brought no tool result."""
    turn: list[int] = []
    for place in range(len(messages) - 1, -1, -1):
        if messages[place]["role"] == "assistant":
            turn.insert(0, place)
        elif messages[place]["role"] == "user" and not any(
            block["type"] == "tool_result" for block in blocks_of(messages[place])
        ):
            break
    return turn
