"""Messages to input items. Whatever an item can't hold is called by name in the ledger."""

from typing import Final

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    Extra,
    FilePart,
    ImagePart,
    NativePart,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from pointsman.canonical.request import Message, Request
from pointsman.providers.openai_responses.input_content import ContentWriter
from pointsman.wire.openai_responses import WIRE, short_name

INSTRUCTIONS: Final = "instructions"


class InputWriter:
    """Writes the messages of one request. ``own``: its client speaks this API, so that what we have no word for goes
    along; ``reasoning_text``: the host takes reasoning that it can read (OpenAI takes only its own, encrypted).
    """

    def __init__(self, request: Request, fidelity: Fidelity, *, reasoning_text: bool, cache_marks: bool) -> None:
        self._own = request.wire == WIRE
        self._fidelity = fidelity
        self._reasoning_text = reasoning_text
        self._content = ContentWriter(fidelity, own=self._own, cache_marks=cache_marks)
        self._names = {tool.name: tool.namespace for tool in request.tools if tool.namespace is not None}
        self.items: list[Extra] = []
        self.instructions: str | None = None

    def write(self, messages: list[Message]) -> None:
        """Add the items of all messages, in order."""
        for number, message in enumerate(messages):
            if message.name is not None:
                self._fidelity.dropped(f"{message.path}.name", "this API has no names of speakers")
            if number == 0 and message.path == INSTRUCTIONS:
                self.instructions = "".join(part.text for part in message.parts if isinstance(part, TextPart))
            elif message.role == "assistant":
                self._write_answer(message)
            else:
                self._write_asked(message)

    def _write_asked(self, message: Message) -> None:
        """What is said to the model, and the results of its calls."""
        content: list[Extra] = []
        extra = self._extra_of(message)

        def flush() -> None:
            nonlocal content, extra
            if content or extra:
                self.items.append({"type": "message", "role": message.role, "content": content, **extra})
                content, extra = [], {}

        if not message.parts:
            self.items.append({"type": "message", "role": message.role, "content": content, **extra})
            return
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                flush()
                self._write_result(part)
            elif isinstance(part, NativePart) and self._is_item(part):
                flush()
                self.items.append(part.value)
            else:
                written = self._content.write(part, by_model=False)
                if written is not None:
                    content.append(written)
        flush()

    def _write_answer(self, message: Message) -> None:
        """What the model said before: items in the order in which it made them."""
        extra = self._extra_of(message)
        open_item: Extra | None = None
        for part in message.parts:
            if isinstance(part, TextPart | RefusalPart | AudioPart | ImagePart | FilePart) or (
                isinstance(part, NativePart) and not self._is_item(part)
            ):
                written = self._content.write(part, by_model=True)
                if written is None:
                    continue
                if open_item is None or part.item_id is not None:
                    open_item = {"type": "message", "role": "assistant", "content": [], **extra}
                    if part.item_id:
                        open_item |= {"id": part.item_id, "status": open_item.get("status", "completed")}
                    extra = {}
                    self.items.append(open_item)
                open_item["content"].append(written)
            else:
                open_item = None
                self._write_item(part)
        if extra:
            self.items.append({"type": "message", "role": "assistant", "content": [], **extra})

    def _write_item(self, part: AnyPart) -> None:
        match part:
            case ToolCallPart():
                self._write_call(part)
            case ReasoningPart():
                self._write_reasoning(part)
            case ToolResultPart():
                self._write_result(part)
            case NativePart():
                self.items.append(part.value)
            case _:
                self._fidelity.dropped(part.path, "this API's models can't have said it")

    def _write_call(self, part: ToolCallPart) -> None:
        custom = part.kind == "custom"
        namespace = part.namespace or self._names.get(part.name)
        item: Extra = {"type": "custom_tool_call" if custom else "function_call", "call_id": part.id}
        item |= {"name": short_name(namespace, part.name), "input" if custom else "arguments": part.arguments}
        if namespace is not None:
            item["namespace"] = namespace
        self._finish(item, part)

    def _write_result(self, part: ToolResultPart) -> None:
        item: Extra = {"type": "custom_tool_call_output" if part.kind == "custom" else "function_call_output"}
        item |= {"call_id": part.call_id, "output": self._output(part)}
        if part.is_error:
            self._fidelity.dropped(f"{part.path}.is_error", "this API has no mark for failed tools, only their words")
        self._finish(item, part)

    def _output(self, part: ToolResultPart) -> str | list[Extra]:
        """A tool's words as a string where they are nothing else."""
        texts = [one for one in part.content if isinstance(one, TextPart) and one.extra is None and one.cache is None]
        if len(texts) == len(part.content) and len(texts) < 2:
            return texts[0].text if texts else ""
        written = (self._content.write(one, by_model=False) for one in part.content)
        return [one for one in written if one is not None]

    def _write_reasoning(self, part: ReasoningPart) -> None:
        """Reasoning goes back to its maker only: by its encrypted state, or by its name when the maker stored it."""
        opaque = part.opaque
        item: Extra = {"type": "reasoning", "summary": []}
        item["summary"] = [{"type": "summary_text", "text": text} for text in part.summary or ()]
        if part.text and (self._reasoning_text or (self._own and opaque is None and part.item_id)):
            item["content"] = [{"type": "reasoning_text", "text": part.text}]
        if opaque is not None and opaque.origin == WIRE:
            item["encrypted_content"] = opaque.data
            if opaque.id is not None and part.item_id is None:
                item["id"] = opaque.id
            if part.text and "content" not in item:
                item["content"] = [{"type": "reasoning_text", "text": part.text}]
            self._finish(item, part)
            return
        if opaque is not None:
            member = "encrypted_content" if self._own else opaque.kind
            self._fidelity.dropped(f"{part.path}.{member}", f"only {opaque.origin} can read it")
        if "content" in item or (self._own and part.item_id):
            self._finish(item, part)
        else:
            self._fidelity.dropped(part.path, "this API takes reasoning back only from itself, encrypted")

    def _finish(self, item: Extra, part: AnyPart) -> None:
        """Put the id in, and what the client said beyond our words."""
        if part.item_id and self._own:
            item["id"] = part.item_id
        if part.cache is not None and not isinstance(part, TextPart):
            self._fidelity.dropped(f"{part.path}.cache_control", "this API caches by itself")
        if part.opaque is not None and not isinstance(part, ReasoningPart):
            self._fidelity.dropped(f"{part.path}.{part.opaque.kind}", f"only {part.opaque.origin} can read it")
        item |= self._content.extra_of(part)
        self.items.append(item)

    def _extra_of(self, message: Message) -> Extra:
        if message.extra and not self._own:
            for name in message.extra:
                self._fidelity.dropped(f"{message.path}.{name}", "this API has no such member")
            return {}
        return dict(message.extra or {})

    def _is_item(self, part: NativePart) -> bool:
        """True for an item of this API; one of another is dropped by the content writer."""
        return part.wire == WIRE and not part.type.startswith("content.")
