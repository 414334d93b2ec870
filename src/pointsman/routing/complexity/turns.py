"""The user's turns of a conversation, newest first, and whether tools are at work since the newest."""

from collections.abc import Sequence

import msgspec

from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    FilePart,
    ImagePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    VideoPart,
)
from pointsman.canonical.request import Message


class Turn(msgspec.Struct, kw_only=True):
    """What the user said between two answers: the text parts in order, and how many pictures and documents.

    ``starter``: how many of the texts were there when the turn began; texts that came with tool results are later.
    """

    texts: list[str]
    images: int = 0
    documents: int = 0
    starter: int = 0


class Conversation(msgspec.Struct, kw_only=True):
    """``turns``: newest first. ``tool_loop``: the model called tools, or a result came, since the newest began."""

    turns: list[Turn]
    tool_loop: bool = False


def read_turns(messages: Sequence[Message], count: int) -> Conversation:
    """The newest ``count`` turns. Reads no more messages than these take."""
    found = Conversation(turns=[])
    open_turn: Turn | None = None
    after_result = False
    for message in reversed(messages):
        if message.role == "assistant":
            if open_turn is not None and not after_result:
                found.turns.append(open_turn)
                open_turn = None
                if len(found.turns) == count:
                    return found
            if not found.turns and any(isinstance(part, ToolCallPart) for part in message.parts):
                found.tool_loop = True
        elif message.role == "user":
            after_result = any(isinstance(part, ToolResultPart) for part in message.parts)
            if after_result and not found.turns:
                found.tool_loop = True
            turn = _content(message.parts)
            if turn is not None:
                turn.starter = 0 if after_result else len(turn.texts)
                open_turn = turn if open_turn is None else _joined(turn, open_turn)
    if open_turn is not None:
        found.turns.append(open_turn)
    return found


def _content(parts: Sequence[AnyPart]) -> Turn | None:
    """What the user said in a message; None when it holds nothing of the user's own."""
    turn = Turn(texts=[])
    for part in parts:
        if isinstance(part, TextPart):
            turn.texts.append(part.text)
        elif isinstance(part, ImagePart | VideoPart):
            turn.images += 1
        elif isinstance(part, FilePart | AudioPart):
            turn.documents += 1
    return turn if turn.texts or turn.images or turn.documents else None


def _joined(earlier: Turn, later: Turn) -> Turn:
    return Turn(
        texts=earlier.texts + later.texts,
        images=earlier.images + later.images,
        documents=earlier.documents + later.documents,
        starter=earlier.starter + later.starter,
    )
