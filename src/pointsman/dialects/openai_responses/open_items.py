"""Items that are being written: each turns parts and deltas into its events and, in the end, into the whole item."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from pointsman.canonical.parts import Citation, Extra, ReasoningPart, RefusalPart, TextPart, ToolCallPart
from pointsman.canonical.response import TokenLogprob
from pointsman.wire.openai_responses import short_name
from pointsman.wire.openai_responses.content import write_citation, write_logprobs
from pointsman.wire.openai_responses.state import write_state

Emit = Callable[[str, Extra], None]
COMPLETED: Final = "completed"
_decode: Final = msgspec.json.Decoder().decode


class OpenItem:
    """One item of the output: ``item`` is what there is of it so far, ``index`` its place."""

    def __init__(self, emit: Emit, index: int, item: Extra) -> None:
        self.item = item
        self.index = index
        self._emit = emit
        self._place: Extra = {"item_id": item["id"], "output_index": index}

    def _added(self) -> None:
        self._emit("response.output_item.added", {"output_index": self.index, "item": dict(self.item)})

    def _done(self) -> None:
        self._emit("response.output_item.done", {"output_index": self.index, "item": self.item})


class OpenMessage(OpenItem):
    """A message: texts and refusals, one after the other. ``told``: log probabilities go along with the text."""

    def __init__(self, emit: Emit, index: int, identity: str, phase: Any, told: bool) -> None:
        item: Extra = {"id": identity, "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        if phase is not None:
            item["phase"] = phase
        super().__init__(emit, index, item)
        self._told = told
        self._part: Extra | None = None
        self._pieces: list[str] = []
        self._waiting: str | None = None  # a delta whose log probabilities may still come
        self._added()

    @property
    def _at(self) -> Extra:
        return {**self._place, "content_index": len(self.item["content"])}

    def begin(self, part: TextPart | RefusalPart) -> None:
        """The next text or refusal."""
        if isinstance(part, RefusalPart):
            self._part = {"type": "refusal", "refusal": ""}
        else:
            self._part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        self._emit("response.content_part.added", {**self._at, "part": _copy(self._part)})
        if part.text:
            self.delta(part.text)
        for citation in (part.citations or ()) if isinstance(part, TextPart) else ():
            self.cite(citation)

    def delta(self, text: str) -> None:
        """More of it."""
        self._pieces.append(text)
        if self._part is not None and self._part["type"] == "refusal":
            self._emit("response.refusal.delta", {**self._at, "delta": text})
            return
        self._release()
        self._waiting = text
        if not self._told:
            self._release()

    def cite(self, citation: Citation) -> bool:
        """A source of the text; False when this API has no such kind."""
        if self._part is None or self._part["type"] == "refusal":
            return False
        self._release()
        found = write_citation(citation, sum(map(len, self._pieces)))
        if found is None:
            return False
        number = len(self._part["annotations"])
        self._part["annotations"].append(found)
        members = {**self._at, "annotation_index": number, "annotation": found}
        self._emit("response.output_text.annotation.added", members)
        return True

    def logprobs(self, tokens: list[TokenLogprob]) -> None:
        """Log probabilities of what came last; of the last text, when no part is open."""
        if self._part is not None and self._part["type"] == "output_text":
            self._part["logprobs"] += write_logprobs(tokens, whole=True)
            self._release(tokens)
        elif self.item["content"] and "logprobs" in self.item["content"][-1]:
            self.item["content"][-1]["logprobs"] += write_logprobs(tokens, whole=True)

    def end(self) -> None:
        """The open text is whole."""
        if self._part is None:
            return
        self._release()
        at, text, part = self._at, "".join(self._pieces), self._part
        if part["type"] == "refusal":
            part["refusal"] = text
            self._emit("response.refusal.done", {**at, "refusal": text})
        else:
            part["text"] = text
            told = [_plain(one) for one in part["logprobs"]]
            self._emit("response.output_text.done", {**at, "text": text, "logprobs": told})
        self._emit("response.content_part.done", {**at, "part": part})
        self.item["content"].append(part)
        self._part, self._pieces = None, []

    def close(self, status: str = COMPLETED) -> None:
        """The message is whole, or has ended as ``status`` says."""
        self.end()
        self.item["status"] = status
        self._done()

    def _release(self, tokens: list[TokenLogprob] | None = None) -> None:
        if self._waiting is None:
            return
        told = write_logprobs(tokens, whole=False) if tokens else []
        self._emit("response.output_text.delta", {**self._at, "delta": self._waiting, "logprobs": told})
        self._waiting = None


class OpenCall(OpenItem):
    """A call of a function or of a custom tool.

    ``wrapped``: the client's tool takes free text, but the upstream knows only functions: what it calls has the text
    in one member of its JSON, and is taken out when it is whole.
    """

    def __init__(self, emit: Emit, index: int, identity: str, part: ToolCallPart, *, custom: bool) -> None:
        self._name, self._member = (
            ("custom_tool_call_input", "input") if custom else ("function_call_arguments", "arguments")
        )
        item: Extra = {"id": identity, "type": "custom_tool_call" if custom else "function_call"}
        if not custom:
            item["status"] = "in_progress"
        item |= {self._member: "", "call_id": part.id, "name": short_name(part.namespace, part.name)}
        if part.namespace is not None:
            item["namespace"] = part.namespace
        super().__init__(emit, index, {**item, **(part.extra or {})})
        self._wrapped = custom and part.kind == "function"
        self._pieces: list[str] = []
        self._added()
        if part.arguments:
            self.delta(part.arguments)

    def delta(self, text: str) -> None:
        """More of the arguments or of the input."""
        self._pieces.append(text)
        if not self._wrapped:
            self._emit(f"response.{self._name}.delta", {**self._place, "delta": text})

    def close(self, status: str = COMPLETED) -> None:
        """The call is whole, or has ended as ``status`` says."""
        text = "".join(self._pieces)
        if self._wrapped:
            text = unwrapped(text)
            if text:
                self._emit(f"response.{self._name}.delta", {**self._place, "delta": text})
        self.item[self._member] = text
        if "status" in self.item:
            self.item["status"] = status
        self._emit(f"response.{self._name}.done", {**self._place, self._member: text})
        self._done()


class OpenReasoning(OpenItem):
    """What the model thought. Nothing is shown of it until there is something to show.

    ``summarised``: the client asked for summaries; an upstream that gives its reasoning as it is gets that shown as
    one. ``sealed``: the client asked for the hidden state.
    """

    def __init__(self, emit: Emit, index: int, identity: str, *, summarised: bool, sealed: bool) -> None:
        super().__init__(emit, index, {"id": identity, "type": "reasoning", "summary": []})
        self._summarised = summarised
        self._sealed = sealed
        self._sections: list[list[str]] = []
        self._text: list[str] = []
        self.shown = False
        self.part = ReasoningPart()

    @property
    def borrowed(self) -> bool:
        """True when the reasoning itself is shown in a summary's place."""
        return self._summarised and bool(self._text)

    def begin(self, part: ReasoningPart) -> None:
        """The part, with what is known of it already."""
        self.part = part
        if part.item_id:
            self._show()  # its maker may know it by its name alone
        for number, section in enumerate(part.summary or ()):
            self.summary(number, section)
        if part.text:
            self.delta(part.text)

    def summary(self, section: int, text: str) -> None:
        """More of summary number ``section``."""
        self._show()
        while len(self._sections) <= section:
            self._end_section()
            self._sections.append([])
            empty = {"type": "summary_text", "text": ""}
            members = {**self._place, "summary_index": len(self._sections) - 1, "part": empty}
            self._emit("response.reasoning_summary_part.added", members)
        self._sections[section].append(text)
        members = {**self._place, "summary_index": section, "delta": text}
        self._emit("response.reasoning_summary_text.delta", members)

    def delta(self, text: str) -> None:
        """More of the reasoning itself."""
        first = not self._text
        self._text.append(text)
        if self._summarised:
            self.summary(0, text)
            return
        self._show()
        at = {**self._place, "content_index": 0}
        if first:
            empty = {"type": "reasoning_text", "text": ""}
            self._emit("response.content_part.added", {**at, "part": empty})
        self._emit("response.reasoning_text.delta", {**at, "delta": text})

    def close(self, status: str = COMPLETED) -> None:
        """The reasoning is whole."""
        text = "".join(self._text)
        state = write_state(self.part, text) if self._sealed else None
        if state is not None:
            self._show()
        if not self.shown:
            return
        self._end_section()
        if text:
            part = {"type": "reasoning_text", "text": text}
            self.item["content"] = [part]
            if not self._summarised:
                at = {**self._place, "content_index": 0}
                self._emit("response.reasoning_text.done", {**at, "text": text})
                self._emit("response.content_part.done", {**at, "part": part})
        if state is not None:
            self.item["encrypted_content"] = state
        self._done()

    def _end_section(self) -> None:
        if not self._sections or len(self.item["summary"]) == len(self._sections):
            return
        number = len(self._sections) - 1
        part = {"type": "summary_text", "text": "".join(self._sections[number])}
        at = {**self._place, "summary_index": number}
        self._emit("response.reasoning_summary_text.done", {**at, "text": part["text"]})
        self._emit("response.reasoning_summary_part.done", {**at, "part": part})
        self.item["summary"].append(part)

    def _show(self) -> None:
        if not self.shown:
            self.shown = True
            self._emit("response.output_item.added", {"output_index": self.index, "item": _copy(self.item)})


def unwrapped(arguments: str) -> str:
    """The free text in the arguments of a function that stands for a custom tool: its only string, else all of it."""
    try:
        value = _decode(arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return arguments
    if isinstance(value, dict) and len(value) == 1:
        (only,) = value.values()
        if isinstance(only, str):
            return only
    return arguments


def _copy(value: Extra) -> Extra:
    return {key: list(one) if isinstance(one, list) else one for key, one in value.items()}


def _plain(logprob: Extra) -> Extra:
    """As events have it: without the tokens' bytes."""
    rivals = [{"token": one["token"], "logprob": one["logprob"]} for one in logprob["top_logprobs"]]
    return {"token": logprob["token"], "logprob": logprob["logprob"], "top_logprobs": rivals}
