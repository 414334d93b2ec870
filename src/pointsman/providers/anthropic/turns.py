"""Messages as Anthropic has them: the system text apart, speakers in turn, results of tools before anything else."""

from typing import Any, Final

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import TextPart
from pointsman.canonical.request import Message, Request
from pointsman.providers.anthropic.blocks import Block, BlockWriter, bare
from pointsman.providers.anthropic.tools import put_back
from pointsman.wire.anthropic import WIRE

Json = dict[str, Any]

_SYSTEM_ROLES: Final = ("system", "developer")


def write_turns(request: Request, body: Json, fidelity: Fidelity) -> None:
    """Put ``system`` and ``messages`` into ``body``."""
    writer = BlockWriter(request.wire, fidelity)
    first = next(
        (at for at, message in enumerate(request.messages) if message.role not in _SYSTEM_ROLES), len(request.messages)
    )
    system = []
    for message in request.messages[:first]:
        _note_speaker(message, writer.fidelity)
        if message.extra:
            put_back({}, message.extra, message.path, False, fidelity)
        system += _system_blocks(message, writer)
    turns = _Turns(writer)
    for message in request.messages[first:]:
        turns.add(message)
    if not turns.written and system:
        fidelity.approximated(request.messages[0].path, "as the user's message: Anthropic wants one")
        turns.written, system = [{"role": "user", "content": system}], []
    if system:
        body["system"] = bare(system)
    for turn in turns.written:
        turn["content"] = bare(turn["content"])
    body["messages"] = turns.written


class _Turns:
    """Messages of Anthropic's, built one after another."""

    def __init__(self, writer: BlockWriter) -> None:
        self._writer = writer
        self.written: list[Json] = []

    def add(self, message: Message) -> None:
        """Add a message, or join it to the one before when the same speaker goes on."""
        fidelity = self._writer.fidelity
        _note_speaker(message, fidelity)
        role = message.role
        if role in _SYSTEM_ROLES and self._writer.own:
            self._append("system", _system_blocks(message, self._writer), message)
        elif role in _SYSTEM_ROLES:
            fidelity.approximated(message.path, "as the user's text in <system> marks")
            blocks = _system_blocks(message, self._writer)
            marked = [{**block, "text": f"<system>\n{block['text']}\n</system>"} for block in blocks]
            self._append("user", marked, message)
        else:
            blocks = [block for part in message.parts if (block := self._writer.write(part)) is not None]
            self._append(role, blocks, message)

    def _append(self, role: str, blocks: list[Block], message: Message) -> None:
        last = self.written[-1] if self.written else None
        turn: Json = {"role": role, "content": blocks}
        if message.extra:
            put_back(turn, message.extra, message.path, self._writer.own, self._writer.fidelity)
        if not blocks:
            if message.parts == []:
                self._writer.fidelity.dropped(message.path, "a message without content")
            return
        if last is None or last["role"] != role or role == "system":
            self.written.append(turn)
            return
        last["content"] = _results_first([*last["content"], *blocks])
        for name, value in turn.items():
            last.setdefault(name, value)


def _note_speaker(message: Message, fidelity: Fidelity) -> None:
    if message.name is not None:
        fidelity.dropped(f"{message.path}.name", "Anthropic's API has no names for speakers")


def _results_first(blocks: list[Block]) -> list[Block]:
    """Anthropic wants the results of tools before what else the user says."""
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


def _system_blocks(message: Message, writer: BlockWriter) -> list[Block]:
    """The texts of a system message; what else is in it has no place there."""
    if writer.own:
        return [block for part in message.parts if (block := writer.write(part)) is not None]
    blocks = []
    for part in message.parts:
        if not isinstance(part, TextPart):
            writer.fidelity.dropped(part.path, "Anthropic's system text holds text only")
        elif (block := writer.write(part)) is not None:
            blocks.append(block)
    return blocks


def end_prefill(request: Request, body: Json, fidelity: Fidelity) -> None:
    """A begun answer may not end with white space: Anthropic refuses that."""
    last = body["messages"][-1] if body["messages"] else None
    if last is None or last["role"] != "assistant" or request.wire == WIRE:
        return
    content = last["content"]
    text = content if isinstance(content, str) else content[-1].get("text")
    if isinstance(text, str) and text != text.rstrip():
        fidelity.approximated(request.messages[-1].path, "without the white space at its end")
        if isinstance(content, str):
            last["content"] = content.rstrip()
        else:
            content[-1]["text"] = text.rstrip()
