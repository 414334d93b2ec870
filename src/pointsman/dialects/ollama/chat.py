"""``POST /api/chat``: reads requests, writes whole and streamed answers."""

from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import AnyPart, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from pointsman.canonical.request import Message, Request, Tool
from pointsman.canonical.response import Response
from pointsman.dialects.ollama import answers
from pointsman.dialects.ollama.answers import Lines, Piece, whole_answer
from pointsman.dialects.ollama.errors import render_error, render_limits, render_stream_error
from pointsman.dialects.ollama.requests import begin_request, read_images
from pointsman.wire import members as reading
from pointsman.wire import ollama as wire
from pointsman.wire.members import Members

__all__ = [
    "KEEP_ALIVE",
    "NAME",
    "OPERATION",
    "STREAM_TYPE",
    "UNSAID",
    "WIRE",
    "StreamRenderer",
    "loading_answer",
    "read_request",
    "render_error",
    "render_limits",
    "render_stream_error",
    "write_response",
]

NAME: Final = "ollama.chat"
WIRE: Final = wire.WIRE
OPERATION: Final = "chat"
STREAM_TYPE: Final = wire.NDJSON
KEEP_ALIVE: Final = b""  # lines of JSON have no comments
UNSAID: Final = frozenset(("stop_sequence", "service_tier", "state", "choice"))

_ROLES: Final = ("system", "developer", "user", "assistant", "tool")
_encode: Final = msgspec.json.Encoder().encode


def read_request(body: bytes, call: ClientCall) -> Request:
    """A chat request; one without messages only loads a model (`loading_answer`).

    Raises GatewayError(INVALID_REQUEST) that names the client's field.
    """
    members = reading.read_request(body, "'model' and 'messages'")
    request = begin_request(members, call, wire.PATHS)
    request.messages = _Conversation().read(members)
    request.tools = [_tool(tool) for tool in members.objects("tools")]
    request.extra |= members.rest() or {}
    return request


def write_response(response: Response, request: Request, identity: Identity, fidelity: Fidelity) -> bytes:
    """The whole answer. Raises GatewayError(UPSTREAM_ERROR) for a tool call whose arguments are no JSON object."""
    return whole_answer(response, request, identity, fidelity, _shape)


def loading_answer(request: Request, identity: Identity) -> bytes | None:
    """The answer to a request that only loads or unloads a model; None for a request that asks it something."""
    return answers.loading_answer(request, identity, _shape)


class StreamRenderer(Lines):
    """Writes one object per line; a tool call comes whole."""

    def __init__(self, request: Request, identity: Identity, fidelity: Fidelity) -> None:
        super().__init__(request, identity, fidelity, _shape)


def _shape(piece: Piece) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": piece.text}
    if piece.thinking:
        message["thinking"] = piece.thinking
    if piece.images:
        message["images"] = piece.images
    if piece.calls:
        message["tool_calls"] = piece.calls
    return {"message": message}


class _Conversation:
    """Reads messages and knows which calls wait for a result: Ollama's older clients name the tool, not the call."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._open: list[tuple[str, str]] = []  # id and name of calls without a result
        self._after_result = False

    def read(self, members: Members) -> list[Message]:
        """All messages, in our words."""
        for number, one in enumerate(members.objects("messages")):
            role = (one.string("role") or "").lower()
            if role not in _ROLES:
                raise one.wrong("role", f"must be one of {', '.join(_ROLES)}")
            if role == "tool":
                self._result(one, number)
            else:
                self._message(one, role, number)
            self._after_result = role == "tool"
        return self._messages

    def _message(self, one: Members, role: Any, number: int) -> None:
        parts: list[AnyPart] = []
        if thinking := one.string("thinking"):
            parts.append(ReasoningPart(text=thinking, path=one.at("thinking")))
        images = read_images(one)
        content = one.string("content")
        calls = [self._call(call, number, place) for place, call in enumerate(one.objects("tool_calls"))]
        if content or not (parts or images or calls):
            parts.append(TextPart(text=content or "", path=one.at("content")))
        message = Message(role=role, parts=[*parts, *images, *calls], path=one.path)
        message.extra = one.rest()
        self._messages.append(message)

    def _call(self, call: Members, message: int, place: int) -> ToolCallPart:
        function = call.object("function")
        if function is None:
            raise call.wrong("function", "is missing")
        name = function.text("name")
        arguments = function.mapping("arguments") or {}
        function.ignore("index")
        identity = call.string("id") or f"call_{message}_{place}"
        call.ignore("type")
        self._open.append((identity, name))
        extra = {**(call.rest() or {}), **{f"function.{key}": value for key, value in (function.rest() or {}).items()}}
        return ToolCallPart(
            id=identity, name=name, arguments=_encode(arguments).decode(), path=call.path, extra=extra or None
        )

    def _result(self, one: Members, number: int) -> None:
        name = one.string("tool_name") or one.string("name")  # "name" is what older clients say
        identity = self._answered(one.string("tool_call_id"), name) or f"call_{number}_0"
        content: list[AnyPart] = [TextPart(text=one.string("content") or "", path=one.at("content"))]
        content += read_images(one)
        part = ToolResultPart(call_id=identity, content=content, name=name, path=one.path)
        part.extra = one.rest()
        if self._after_result:
            self._messages[-1].parts.append(part)
        else:
            self._messages.append(Message(role="user", parts=[part], path=one.path))

    def _answered(self, identity: str | None, name: str | None) -> str | None:
        """The call that a result answers: by id, by the tool's name, or else the one that waits longest."""
        by_name = (call for call in self._open if call[1] == name)
        found = next((call for call in self._open if call[0] == identity), None)
        if found is None and identity is None:
            found = next(by_name, self._open[0] if self._open else None)
        if found is None:
            return identity
        self._open.remove(found)
        return found[0]


def _tool(tool: Members) -> Tool:
    kind = tool.string("type") or "function"
    function = tool.object("function")
    if kind != "function":
        return Tool(kind="native", name=kind, wire=WIRE, value=tool.value, path=tool.path)
    if function is None:
        raise tool.wrong("function", "is missing")
    found = Tool(
        kind="function",
        name=function.text("name"),
        description=function.string("description"),
        parameters=function.mapping("parameters"),
        path=tool.path,
    )
    rest = {f"function.{key}": value for key, value in (function.rest() or {}).items()}
    found.extra = {**(tool.rest() or {}), **rest} or None
    return found
