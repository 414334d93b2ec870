"""What Google accepts as a generateContent request in form: members, types and enums, and how it says no."""

import base64
import binascii
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from pointsman.wire.gemini_schema import ENUMS, GEMINI_ONLY, MESSAGES, VERTEX_ONLY, camel_case, snake_case

Json = dict[str, Any]

_BAD_REQUEST_TYPE: Final = "type.googleapis.com/google.rpc.BadRequest"
_PACKAGES: Final = {True: "google.cloud.aiplatform.v1beta1", False: "google.ai.generativelanguage.v1beta"}
_SCALARS: Final[dict[str, tuple[str, tuple[type, ...]]]] = {
    "string": ("TYPE_STRING", (str,)),
    "bool": ("TYPE_BOOL", (bool,)),
    "int": ("TYPE_INT32", (int,)),
    "number": ("TYPE_DOUBLE", (int, float)),
    "bytes": ("TYPE_BYTES", (str,)),
}


class InvalidRequest(ValueError):
    """A request that Google refuses: the message, the status' name with its code, and the error's details."""

    def __init__(
        self, message: str, *, code: int = 400, status: str = "INVALID_ARGUMENT", details: tuple[Json, ...] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.details = details


class _Violation(msgspec.Struct, frozen=True):
    """One member that doesn't fit: where it stands, in Google's snake case, and what is wrong."""

    field: str
    description: str


def parse(body: bytes, message: str, *, vertex: bool) -> Json:
    """The body as ``message`` with all members in camel case; InvalidRequest naming everything that doesn't fit."""
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"Invalid JSON payload received. {error}") from None
    if not isinstance(decoded, dict):
        raise InvalidRequest("Invalid JSON payload received. Root element must be a message.")
    reader = _Reader(vertex)
    read = reader.message(decoded, message, "")
    if reader.violations:
        raise _violated(reader.violations)
    return read


def objects_in(holder: Json, name: str) -> list[Json]:
    """The objects in the array ``name``; none if it is absent."""
    return holder.get(name) or []


def parts_of(request: Json) -> Iterator[Json]:
    """Every part of the conversation and of the system instruction."""
    for content in [*objects_in(request, "contents"), request.get("systemInstruction") or {}]:
        yield from objects_in(content, "parts")


def last_user_text(request: Json) -> str:
    """The text of the last user turn that has text, or an empty string."""
    for content in reversed(objects_in(request, "contents")):
        texts = [part["text"] for part in objects_in(content, "parts") if "text" in part]
        if content.get("role", "user") == "user" and texts:
            return "".join(texts)
    return ""


def ends_with_tool_result(request: Json) -> bool:
    """True when the last turn answers a function call."""
    contents = objects_in(request, "contents")
    return bool(contents) and any("functionResponse" in part for part in objects_in(contents[-1], "parts"))


def declarations(request: Json) -> list[Json]:
    """All function declarations, in order."""
    return [one for tool in objects_in(request, "tools") for one in objects_in(tool, "functionDeclarations")]


def config_of(request: Json, name: str = "generationConfig") -> Json:
    """The generation configuration, or another object member; empty if it is absent."""
    found = request.get(name)
    return found if isinstance(found, dict) else {}


class _Reader:
    """Takes a message apart by the tables of the wire, and notes what doesn't fit."""

    def __init__(self, vertex: bool) -> None:
        self.violations: list[_Violation] = []
        self._vertex = vertex
        self._hidden = GEMINI_ONLY if vertex else VERTEX_ONLY

    def message(self, value: Json, name: str, path: str) -> Json:
        """``value`` with the names that the table of ``name`` has."""
        members = MESSAGES[name]
        hidden = self._hidden.get(name, ())
        read: Json = {}
        for key, member in value.items():
            known = key if key in members else camel_case(key)
            if known not in members or known in hidden:
                self._unknown(key, path)
            elif member is not None:
                read[known] = self.value(member, members[known], f"{path}.{snake_case(known)}".lstrip("."))
        if name == "Part":
            self._one_of(read, path)
        return read

    def value(self, value: Any, kind: str, path: str) -> Any:
        """``value`` read as ``kind``."""
        if kind[0] == "[":
            return self._array(value, kind[1:-1], path)
        if kind[0] == "{":
            if not isinstance(value, dict):
                return self._wrong(value, "Map", path)
            return {key: self.value(one, kind[1:-1], f"{path}[{key}]") for key, one in value.items()}
        if kind in MESSAGES or kind == "struct":
            if not isinstance(value, dict):
                return self._wrong(value, f"type.googleapis.com/{self._package}.{kind}", path)
            return value if kind == "struct" else self.message(value, kind, path)
        return value if kind == "value" else self._scalar(value, kind, path)

    @property
    def _package(self) -> str:
        return _PACKAGES[self._vertex]

    def _array(self, value: Any, kind: str, path: str) -> Any:
        # A lone value where an array belongs is an array of one, as in Google's JSON.
        values = value if isinstance(value, list) else [value]
        return [self.value(one, kind, f"{path}[{position}]") for position, one in enumerate(values)]

    def _scalar(self, value: Any, kind: str, path: str) -> Any:
        if kind.startswith("enum "):
            return self._enum(value, kind[5:], path)
        name, types = _SCALARS[kind]
        if kind in ("int", "number") and isinstance(value, str):
            value = _number(value)
        if type(value) not in types and not (kind == "int" and isinstance(value, float) and value.is_integer()):
            return self._wrong(value, name, path)
        if kind == "bytes" and _unbase64(value) is None:
            self._note(path, f"Invalid value at '{path}' (TYPE_BYTES), Base64 decoding failed for {_quoted(value)}")
        return value

    def _enum(self, value: Any, name: str, path: str) -> Any:
        # The API takes names in any case for types of schemas, and nowhere else.
        found = value.upper() if name == "Type" and isinstance(value, str) else value
        if found not in ENUMS[name]:
            return self._wrong(value, f"type.googleapis.com/{self._package}.{name}", path)
        return found

    def _one_of(self, part: Json, path: str) -> None:
        held = [name for name in PART_DATA if name in part]
        for extra in held[1:]:
            self._note(
                path,
                f"Invalid value at '{path}' (oneof), oneof field 'data' is already set. Cannot set '{extra}'",
            )

    def _unknown(self, key: str, path: str) -> None:
        at = f" at '{path}'" if path else ""
        self._note(path, f'Invalid JSON payload received. Unknown name "{key}"{at}: Cannot find field.')

    def _wrong(self, value: Any, kind: str, path: str) -> Any:
        self._note(path, f"Invalid value at '{path}' ({kind}), {_quoted(value)}")
        return value

    def _note(self, path: str, description: str) -> None:
        self.violations.append(_Violation(path, description))


PART_DATA: Final = (
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
)


def unbase64(value: str) -> bytes:
    """Base64 in either alphabet, padded or not; the value has been checked."""
    return _unbase64(value) or b""


def _unbase64(value: str) -> bytes | None:
    text = value.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def _quoted(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _violated(violations: list[_Violation]) -> InvalidRequest:
    fields = [{**({"field": one.field} if one.field else {}), "description": one.description} for one in violations]
    detail = {"@type": _BAD_REQUEST_TYPE, "fieldViolations": fields}
    return InvalidRequest("\n".join(one.description for one in violations), details=(detail,))
