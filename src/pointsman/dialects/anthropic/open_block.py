"""A content block while it streams: what each piece of a part gives to the client, as heads and deltas.

A ``head`` begins the block on the wire. Reasoning begins late: only its text, or its end, tells whether the client is
to see thinking or redacted thinking.
"""

from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    Citation,
    NativePart,
    Opaque,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
)
from pointsman.dialects.anthropic.blocks import (
    SECTION_BREAK,
    call_head,
    citations_of,
    note_unknown,
    reasoning_block,
)
from pointsman.wire.anthropic import CALL_TYPES, WIRE

Piece = dict[str, Any]

_encode: Final = msgspec.json.Encoder().encode


class OpenBlock:
    """A block of text; the other kinds change what its methods give. ``shown`` once the block has begun on the wire."""

    calls = False

    def __init__(self, path: str, fidelity: Fidelity) -> None:
        self.path = path
        self.fidelity = fidelity
        self.opaque: Opaque | None = None
        self.shown = False

    def begin(self) -> list[Piece]:
        """What goes out when the part begins."""
        return self.show({"type": "text", "text": ""})

    def text(self, text: str) -> list[Piece]:
        """More of the part's main text."""
        return [{"type": "text_delta", "text": text}] if text else []

    def summary(self, section: int, text: str) -> list[Piece]:
        """More of a summary."""
        return []

    def transcript(self, text: str) -> list[Piece]:
        """More of what a voice says."""
        return []

    def citation(self, citation: Citation) -> list[Piece]:
        """A source."""
        found = citations_of((citation,), self.path, self.fidelity)
        return [{"type": "citations_delta", "citation": one} for one in found]

    def end(self) -> list[Piece]:
        """What goes out before the block closes."""
        return []

    def show(self, head: Piece) -> list[Piece]:
        """Begin the block on the wire."""
        self.shown = True
        return [{"head": head}]


class _Said(OpenBlock):
    """Text that is known in part already: what a part held at its beginning."""

    def __init__(self, path: str, fidelity: Fidelity, text: str, citations: list[Citation] | None = None) -> None:
        super().__init__(path, fidelity)
        self._first = text
        self._citations = citations or []

    def begin(self) -> list[Piece]:
        pieces = super().begin() + self.text(self._first)
        for citation in self._citations:
            pieces += self.citation(citation)
        return pieces


class _Call(OpenBlock):
    """A tool call; a custom tool's text becomes the JSON string ``input``, piece by piece."""

    calls = True

    def __init__(self, path: str, fidelity: Fidelity, part: ToolCallPart) -> None:
        super().__init__(path, fidelity)
        self._part = part
        self._custom = part.kind == "custom"

    def begin(self) -> list[Piece]:
        pieces = self.show(call_head(self._part, self.path, self.fidelity))
        if self._custom:
            pieces.append(_json_delta('{"input":"'))
        return pieces + self.text(self._part.arguments)

    def text(self, text: str) -> list[Piece]:
        if not text:
            return []
        return [_json_delta(_encode(text)[1:-1].decode() if self._custom else text)]

    def end(self) -> list[Piece]:
        return [_json_delta('"}')] if self._custom else []


class _Reasoning(OpenBlock):
    def __init__(self, path: str, fidelity: Fidelity, part: ReasoningPart) -> None:
        super().__init__(path, fidelity)
        self._part = part
        self._section = 0
        self.opaque = part.opaque

    def begin(self) -> list[Piece]:
        return self.text(self._part.text or SECTION_BREAK.join(self._part.summary or ()))

    def text(self, text: str) -> list[Piece]:
        if not text:
            return []
        head = [] if self.shown else self.show({"type": "thinking", "thinking": "", "signature": ""})
        return [*head, {"type": "thinking_delta", "thinking": text}]

    def summary(self, section: int, text: str) -> list[Piece]:
        later, self._section = section > self._section, section
        return self.text(SECTION_BREAK + text if later and self.shown else text)

    def end(self) -> list[Piece]:
        part = ReasoningPart(text="x" if self.shown else "", opaque=self.opaque)
        block = reasoning_block(part, self.path, self.fidelity)
        if block is None:
            return []
        if block["type"] != "thinking":
            return self.show(block) if not self.shown else []
        head = [] if self.shown else self.show({"type": "thinking", "thinking": "", "signature": ""})
        return [*head, {"type": "signature_delta", "signature": block["signature"]}]


class _Native(OpenBlock):
    """A block that Anthropic alone has, whole; the input of its calls streams."""

    def __init__(self, path: str, fidelity: Fidelity, part: NativePart) -> None:
        super().__init__(path, fidelity)
        self._value = part.value

    def begin(self) -> list[Piece]:
        if self._value.get("type") not in CALL_TYPES:
            return self.show(self._value)
        pieces = self.show({**self._value, "input": {}})
        return [*pieces, _json_delta(_encode(self._value.get("input") or {}).decode())]

    def text(self, text: str) -> list[Piece]:
        return []


class _Transcript(OpenBlock):
    """What a voice says; its sound has no place."""

    def __init__(self, path: str, fidelity: Fidelity, said: str) -> None:
        super().__init__(path, fidelity)
        self._said = said

    def begin(self) -> list[Piece]:
        return super().begin() + self.transcript(self._said)

    def text(self, text: str) -> list[Piece]:
        return []

    def transcript(self, text: str) -> list[Piece]:
        return super().text(text)


def open_block(part: AnyPart, path: str, fidelity: Fidelity) -> OpenBlock | None:
    """The block for a part that begins; None for one that can't be shown (noted)."""
    match part:
        case TextPart():
            return _Said(path, fidelity, part.text, part.citations)
        case RefusalPart():
            return _Said(path, fidelity, part.text)
        case ToolCallPart():
            return _Call(path, fidelity, part)
        case ReasoningPart():
            return _Reasoning(path, fidelity, part)
        case AudioPart():
            fidelity.approximated(path, "Anthropic's API answers without sound: what was said, as text")
            return _Transcript(path, fidelity, part.transcript or "")
        case NativePart() if part.wire == WIRE:
            return _Native(path, fidelity, part)
        case _:
            note_unknown(part, path, fidelity)
            return None


def _json_delta(text: str) -> Piece:
    return {"type": "input_json_delta", "partial_json": text}
