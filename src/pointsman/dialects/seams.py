"""How a stream of each API says that its answer goes on elsewhere: something that no client takes for content.

A comment where server-sent events are read by the standard; Anthropic's ping, which its clients skip, with a member
more; an empty piece with a member more where nothing may stand between an answer's pieces.
"""

from typing import Any, Final

import msgspec

from pointsman.wire.ollama import write_time

MEMBER: Final = "pointsman"
_encode: Final = msgspec.json.Encoder().encode


class Seam(msgspec.Struct, frozen=True, kw_only=True):
    """Where an answer goes on (a target's id), after how many characters of text, and what ended the part before."""

    continued_by: str
    after_characters: int
    reason: str


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A client's stream: its dialect's name and content type, and the model and time (s) that its pieces name."""

    dialect: str
    content_type: bytes
    model: str
    created: int


def write_seam(seam: Seam, stream: Stream) -> bytes:
    """The frame that tells of the seam, for a stream that has begun."""
    note: dict[str, Any] = {MEMBER: msgspec.structs.asdict(seam)}
    api, _, operation = stream.dialect.partition(".")
    if api == "anthropic":
        return b"event: ping\ndata: %b\n\n" % _encode({"type": "ping", **note})
    if api == "gemini":
        empty = {"content": {"parts": [{"text": ""}], "role": "model"}, "index": 0}
        data = _encode({"candidates": [empty], **note})
        return b"data: %b\r\n\r\n" % data if stream.content_type.startswith(b"text/") else b",\r\n%b\n" % data
    if api == "ollama":
        said: dict[str, Any] = {"message": {"role": "assistant", "content": ""}}
        said = said if operation == "chat" else {"response": ""}
        return (
            _encode({"model": stream.model, "created_at": write_time(stream.created), **said, "done": False, **note})
            + b"\n"
        )
    return b": %b\n\n" % _encode(note)
