"""Items to messages: what a client's input and an upstream's output consist of."""

from collections.abc import Iterable
from typing import Final, Literal, cast

from pointsman.canonical.parts import AnyPart, NativePart, ReasoningPart, ToolCallPart, ToolResultPart
from pointsman.canonical.request import Message, Role
from pointsman.wire.members import Members
from pointsman.wire.openai_responses import CALL_KINDS, CLIENT_ITEMS, RESULT_KINDS, WIRE, flat_name, is_own_id
from pointsman.wire.openai_responses.content import read_content
from pointsman.wire.openai_responses.state import read_state

_ROLES: Final = ("user", "assistant", "system", "developer")
_Kind = Literal["function", "custom"]


def kind_of(item: Members) -> str:
    """An item's type; messages and references may go without one."""
    kind = item.string("type")
    if kind is not None:
        return kind
    return "message" if "role" in item else "item_reference"


def read_items(items: Iterable[Members]) -> list[Message]:
    """The messages that these items make up: what the model made in a row is one message, results in a row another."""
    messages: list[Message] = []
    for item in items:
        kind = kind_of(item)
        if kind == "message":
            _add_message(messages, item)
        elif kind in RESULT_KINDS:
            _client_side(messages, item).append(read_result(item, kind))
        elif kind in CLIENT_ITEMS:
            _client_side(messages, item).append(_native(item, kind))
        else:
            part = read_model_item(item, kind)
            if isinstance(part, ReasoningPart) and part.summary == [part.text]:
                part.summary = None  # the reasoning itself, which was shown as its summary
            _model_side(messages, item).append(part)
    return messages


def read_output(items: Iterable[Members]) -> list[AnyPart]:
    """The parts of an answer's items, in order."""
    parts: list[AnyPart] = []
    for item in items:
        parts += read_output_item(item)
    return parts


def read_output_item(item: Members) -> list[AnyPart]:
    """The parts of one item of an answer. They have no paths, and how far an item got is the answer's own matter."""
    kind = kind_of(item)
    if kind != "message":
        part = read_model_item(item, kind)
        part.path = ""
        part.extra = {name: value for name, value in (part.extra or {}).items() if name != "status"} or None
        return [part]
    item.ignore("role", "status")
    identity, phase = item.string("id"), item.string("phase")
    parts = read_content(item, "content")
    if parts:
        parts[0].item_id = identity or ""
        for part in parts:
            part.path = ""
        if phase is not None:
            parts[0].extra = {"phase": phase, **(parts[0].extra or {})}
    return parts


def read_model_item(item: Members, kind: str) -> AnyPart:
    """An item of the model's side that is no message: a call, reasoning, or one that this API alone has."""
    if kind in CALL_KINDS:
        return _read_call(item, kind)
    if kind == "reasoning":
        return read_reasoning(item)
    return _native(item, kind)


def read_result(item: Members, kind: str) -> ToolResultPart:
    """What a tool gave."""
    name, namespace = item.string("name"), item.string("namespace")
    part = ToolResultPart(
        call_id=item.text("call_id"),
        content=read_content(item, "output"),
        name=flat_name(namespace, name) if name is not None else None,
        kind=cast("_Kind", RESULT_KINDS[kind]),
        path=item.path,
        item_id=_identity(item),
    )
    if "output" not in item:
        raise item.wrong("output", "is missing")
    _drop_done(item)
    part.extra = item.rest()
    return part


def _read_call(item: Members, kind: str) -> ToolCallPart:
    namespace = item.string("namespace")
    part = ToolCallPart(
        id=item.text("call_id"),
        name=flat_name(namespace, item.text("name")),
        arguments=item.string("arguments" if kind == "function_call" else "input") or "",
        kind=cast("_Kind", CALL_KINDS[kind]),
        namespace=namespace,
        path=item.path,
        item_id=_identity(item),
    )
    _drop_done(item)
    part.extra = item.rest()
    return part


def read_reasoning(item: Members) -> ReasoningPart:
    """What the model thought. State that the gateway put into an envelope comes out again."""
    identity = item.string("id")
    summary = [one.string("text") or "" for one in item.objects("summary")]
    text = "".join(one.string("text") or "" for one in item.objects("content"))
    part = ReasoningPart(text=text, summary=summary or None, path=item.path, item_id=_identity(item))
    sealed = item.string("encrypted_content")
    if sealed:
        part.opaque, signed = read_state(sealed, identity)
        part.text = part.text or signed
    _drop_done(item)
    part.extra = item.rest()
    return part


def _add_message(messages: list[Message], item: Members) -> None:
    role = cast("Role", item.one_of("role", *_ROLES) or "user")
    identity = _identity(item)
    if "content" not in item:
        raise item.wrong("content", "is missing")
    parts = read_content(item, "content")
    _drop_done(item)
    item.ignore("type")
    extra = item.rest()
    if parts:
        parts[0].item_id = identity
    last = messages[-1] if messages else None
    if role == "assistant" and extra is None and last is not None and last.role == role and last.extra is None:
        last.parts += parts
    else:
        messages.append(Message(role=role, parts=parts, path=item.path, extra=extra))


def _model_side(messages: list[Message], item: Members) -> list[AnyPart]:
    if not messages or messages[-1].role != "assistant":
        messages.append(Message(role="assistant", parts=[], path=item.path))
    return messages[-1].parts


def _client_side(messages: list[Message], item: Members) -> list[AnyPart]:
    last = messages[-1] if messages else None
    if last is None or last.role != "user" or not all(map(_is_result, last.parts)) or not last.parts:
        messages.append(Message(role="user", parts=[], path=item.path))
    return messages[-1].parts


def _is_result(part: AnyPart) -> bool:
    return isinstance(part, ToolResultPart) or (isinstance(part, NativePart) and part.type in CLIENT_ITEMS)


def _native(item: Members, kind: str) -> NativePart:
    return NativePart(wire=WIRE, type=kind, value=item.value, path=item.path, item_id="")


def _identity(item: Members) -> str:
    """The item's id, unless the gateway made it up: then it is a name that no upstream knows."""
    identity = item.string("id")
    return "" if identity is None or is_own_id(identity) else identity


def _drop_done(item: Members) -> None:
    """``status: completed`` says nothing; any other is kept."""
    item.ignore("type")
    if item.value.get("status") == "completed":
        item.ignore("status")
