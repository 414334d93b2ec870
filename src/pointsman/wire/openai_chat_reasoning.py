"""What an assistant message of the history says of its reasoning, whichever names were used."""

from typing import Final

from pointsman.canonical.parts import AnyPart, Extra, Opaque, ReasoningPart, TextPart, ToolCallPart
from pointsman.wire.members import Members
from pointsman.wire.openai_chat_parts import WIRE, read_opaque

_KINDS: Final = ("reasoning.text", "reasoning.summary", "reasoning.encrypted")
NAMES: Final = frozenset(("reasoning_content", "reasoning", "reasoning_details"))


def read_history(message: Members) -> list[ReasoningPart]:
    """The reasoning parts of an assistant message.

    ``reasoning_details`` (OpenRouter) hold the state; the visible text is in them or in ``reasoning_content``
    (DeepSeek) or ``reasoning``. Text that stands in several of them is taken once.
    """
    if message.value.keys().isdisjoint(NAMES):
        return []
    name = "reasoning_content" if message.value.get("reasoning_content") is not None else "reasoning"
    text = message.string(name)
    message.ignore("reasoning_content", "reasoning")
    details = list(message.objects("reasoning_details"))
    if not details:
        if text is None:
            return []
        opaque = Opaque(origin=WIRE, kind="reasoning_content", data=text)
        return [ReasoningPart(text=text, opaque=opaque, path=message.at(name))]
    parts: list[ReasoningPart] = []
    for detail in details:
        _add_detail(parts, detail)
    if text and not any(part.text or part.summary for part in parts):
        first = parts[0]
        if first.opaque is not None and first.opaque.kind == "signature":
            first.text = text
        else:
            parts.insert(0, ReasoningPart(text=text, path=message.at(name)))
    return parts


def _add_detail(parts: list[ReasoningPart], detail: Members) -> None:
    """Entries that belong together make one part: text and its signature, summaries and the state behind them."""
    last = parts[-1] if parts else None
    kind, opaque = detail.one_of("type", *_KINDS), read_opaque(detail)
    open_part = last if last is not None and last.opaque is None else None
    if kind == "reasoning.summary":
        summary = detail.string("summary") or ""
        if open_part is not None and open_part.summary is not None:
            open_part.summary.append(summary)
            open_part.extra = {**(open_part.extra or {}), **(_rest(detail) or {})} or None
        else:
            parts.append(ReasoningPart(summary=[summary], path=detail.path, extra=_rest(detail)))
        return
    text = detail.string("text") or "" if kind == "reasoning.text" else ""
    if open_part is not None and (kind == "reasoning.text") == (open_part.summary is None):
        open_part.text += text
        open_part.opaque = opaque
        open_part.extra = {**(open_part.extra or {}), **(_rest(detail) or {})} or None
        return
    parts.append(ReasoningPart(text=text, opaque=opaque, path=detail.path, extra=_rest(detail)))


def _rest(detail: Members) -> Extra | None:
    """What an entry says beyond our words."""
    detail.ignore("index", "id", "format")
    return detail.rest()


def attach_signatures(parts: list[AnyPart]) -> list[AnyPart]:
    """Gemini's signatures belong to calls and texts: those that came among the reasoning go back to theirs."""
    calls = {part.id: part for part in parts if isinstance(part, ToolCallPart)}
    kept: list[AnyPart] = []
    for part in parts:
        opaque = part.opaque
        if not isinstance(part, ReasoningPart) or opaque is None or opaque.kind != "thought_signature" or part.text:
            kept.append(part)
            continue
        owner: AnyPart | None = calls.get(opaque.id or "")
        if owner is None and opaque.id is None:
            owner = next((one for one in parts if isinstance(one, TextPart)), None)
        if owner is not None and owner.opaque is None:
            owner.opaque = Opaque(origin=opaque.origin, kind=opaque.kind, data=opaque.data)
        else:
            kept.append(part)
    return kept
