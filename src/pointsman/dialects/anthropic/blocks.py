"""Parts of an answer as Anthropic's content blocks."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    Citation,
    NativePart,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
)
from pointsman.errors import GatewayError, Kind
from pointsman.wire.anthropic import WIRE
from pointsman.wire.anthropic.signatures import wrap

Block = dict[str, Any]

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
SECTION_BREAK: Final = "\n\n"  # between summaries of reasoning, which Anthropic has as one text


def write_blocks(parts: Iterable[AnyPart], fidelity: Fidelity) -> list[Block]:
    """The content of a whole answer. Raises GatewayError(UPSTREAM_ERROR) for a call that nobody can read."""
    blocks = []
    for number, part in enumerate(parts):
        block = write_block(part, f"content[{number}]", fidelity)
        if block is not None:
            blocks.append(block)
    return blocks


def write_block(part: AnyPart, path: str, fidelity: Fidelity) -> Block | None:
    """The block of a part, None for one that can't be shown (noted) or that says nothing."""
    match part:
        case TextPart():
            return _text(part, path, fidelity)
        case ReasoningPart():
            return reasoning_block(part, path, fidelity)
        case ToolCallPart():
            return {**call_head(part, path, fidelity), "input": _input(part)}
        case RefusalPart():
            return {"type": "text", "text": part.text}
        case AudioPart(transcript=str(said)):
            fidelity.approximated(path, "Anthropic's API answers without sound: what was said, as text")
            return {"type": "text", "text": said}
        case NativePart(wire="anthropic"):
            return part.value
        case _:
            note_unknown(part, path, fidelity)
            return None


def note_unknown(part: AnyPart, path: str, fidelity: Fidelity) -> None:
    """A part that Anthropic's answers have no block for."""
    name = part.type if isinstance(part, NativePart) else type(part).__name__.removesuffix("Part").lower()
    fidelity.dropped(path, f"Anthropic's answers hold no {name}")


def reasoning_block(part: ReasoningPart, path: str, fidelity: Fidelity) -> Block | None:
    """Thinking, or redacted thinking for reasoning that is hidden; None when there is neither text nor state."""
    text = part.text or SECTION_BREAK.join(part.summary or ())
    opaque = part.opaque
    own = opaque is not None and opaque.origin == WIRE
    if opaque is not None and own and opaque.kind == "redacted":
        return {"type": "redacted_thinking", "data": opaque.data}
    if opaque is not None and not own:
        fidelity.mapped(f"{path}.{opaque.kind}", "carried in the signature")
    if text or own:
        return {"type": "thinking", "thinking": text, "signature": signature_of(part)}
    return {"type": "redacted_thinking", "data": wrap(opaque)} if opaque is not None else None


def signature_of(part: ReasoningPart) -> str:
    """Anthropic's signature, or what stands in its place for another's reasoning."""
    if part.opaque is not None and part.opaque.origin == WIRE and part.opaque.kind == "signature":
        return part.opaque.data
    return wrap(part.opaque)


def call_head(part: ToolCallPart, path: str, fidelity: Fidelity) -> Block:
    """A tool_use block with an empty input, as it begins in a stream."""
    if part.kind == "custom":
        fidelity.approximated(path, "a custom tool's text stands in the member 'input'")
    if part.namespace is not None:
        fidelity.dropped(f"{path}.namespace", "Anthropic's API has no namespaces")
    own = part.extra if part.extra is not None and part.extra.keys() <= {"caller", "toolset_name"} else {}
    return {"type": "tool_use", "id": part.id, "name": part.name, "input": {}, **own}


def citations_of(citations: Iterable[Citation], path: str, fidelity: Fidelity) -> list[Block]:
    """Citations as Anthropic has them; another's name a search result that stands nowhere."""
    written = []
    for number, citation in enumerate(citations):
        if citation.wire == WIRE and citation.native is not None:
            written.append(citation.native)
            continue
        place = f"{path}.citations[{number}]"
        if citation.url is None and citation.file_id is None:
            fidelity.dropped(place, "it names no source")
            continue
        fidelity.approximated(place, "as the place of a search result")
        written.append(
            {
                "type": "search_result_location",
                "source": citation.url or citation.file_id,
                "title": citation.title,
                "cited_text": citation.cited_text or "",
                "search_result_index": number,
                "start_block_index": 0,
                "end_block_index": 1,
            }
        )
    return written


def _text(part: TextPart, path: str, fidelity: Fidelity) -> Block:
    block: Block = {"type": "text", "text": part.text}
    citations = citations_of(part.citations or (), path, fidelity)
    if citations:
        block["citations"] = citations
    return block


def _input(part: ToolCallPart) -> dict[str, Any]:
    if part.kind == "custom":
        return {"input": part.arguments}
    if not part.arguments.strip():
        return {}
    try:
        return _decode(part.arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise GatewayError(
            Kind.UPSTREAM_ERROR, "the model called a tool with arguments that are no JSON object; try again"
        ) from None
