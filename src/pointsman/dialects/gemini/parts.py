"""Contents of Gemini requests: from Google's parts to ours."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    FilePart,
    ImagePart,
    NativePart,
    Opaque,
    Part,
    ReasoningPart,
    Source,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    VideoPart,
)
from pointsman.canonical.request import Message, Role
from pointsman.wire.gemini import WIRE, text_of_response
from pointsman.wire.members import Members

_ROLES: Final[dict[str, Role]] = {"user": "user", "model": "assistant", "function": "user"}
_NATIVE: Final = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse", "audioTranscription")
_KINDS: Final = (
    "text", "functionCall", "functionResponse", "inlineData", "fileData", *_NATIVE,
)  # fmt: skip
# How closely to look at a picture. Only these have a word of ours; what else Google has is carried as it came.
_DETAILS: Final = {
    "MEDIA_RESOLUTION_LOW": "low",
    "MEDIA_RESOLUTION_HIGH": "high",
    "MEDIA_RESOLUTION_ULTRA_HIGH": "original",
}
_UPLOADED: Final = ("https://generativelanguage.googleapis.com/", "files/")

_encode: Final = msgspec.json.Encoder().encode


class ContentReader:
    """Reads a conversation's contents; knows which calls are still without a response."""

    def __init__(self) -> None:
        self._open: list[ToolCallPart] = []

    def messages(self, contents: Iterable[Members]) -> list[Message]:
        """One message for each content. Raises GatewayError(INVALID_REQUEST)."""
        return [self._message(number, content) for number, content in enumerate(contents)]

    def _message(self, number: int, content: Members) -> Message:
        role = _ROLES[content.one_of("role", *_ROLES) or "user"]
        parts = [self._part(part, f"call_{number}_{place}") for place, part in enumerate(content.objects("parts"))]
        if not parts:
            raise content.wrong("parts", "is empty; send at least one part")
        if role == "assistant":
            self._open = [part for part in parts if isinstance(part, ToolCallPart)]
        return Message(role=role, parts=parts, path=content.path, extra=content.rest())

    def _part(self, part: Members, derived_id: str) -> AnyPart:
        kind = next((name for name in _KINDS if name in part), None)
        for other in _KINDS:
            if other != kind and other in part:
                raise part.wrong(other, f"can't stand beside '{kind}' in one part")
        made = self._of_kind(kind, part, derived_id)
        made.path = part.path
        signature = part.string("thoughtSignature")
        if signature and not isinstance(made, NativePart):
            made.opaque = Opaque(origin=WIRE, kind="thought_signature", data=signature)
        made.extra = _merged(made.extra, part.rest())
        return made

    def _of_kind(self, kind: str | None, part: Members, derived_id: str) -> AnyPart:
        thought = part.boolean("thought")
        if kind == "text" or (kind is None and "thoughtSignature" in part):
            text = part.string("text") or ""
            return ReasoningPart(text=text) if thought else TextPart(text=text)
        if kind == "functionCall":
            return self._call(part, derived_id)
        if kind == "functionResponse":
            return self._result(part, derived_id)
        if kind in ("inlineData", "fileData"):
            return media_part(part)
        if kind in _NATIVE:
            part.ignore(*part.value)
            return NativePart(wire=WIRE, type=kind, value=part.value)
        raise part.wrong("", "has no data; send text, inlineData, fileData, functionCall or functionResponse")

    def _call(self, part: Members, derived_id: str) -> ToolCallPart:
        call = part.object("functionCall") or Members({})
        made = ToolCallPart(
            id=call.string("id") or derived_id,
            name=call.text("name"),
            arguments=_encode(call.mapping("args") or {}).decode(),
        )
        made.extra = _within("functionCall", call)
        return made

    def _result(self, part: Members, derived_id: str) -> ToolResultPart:
        result = part.object("functionResponse") or Members({})
        name = result.text("name")
        text, is_error = text_of_response(result.mapping("response") or {})
        content: list[AnyPart] = [TextPart(text=text, path=result.at("response"))]
        for inner in result.objects("parts"):
            media = media_part(inner)
            media.path, media.extra = inner.path, _merged(media.extra, inner.rest())
            content.append(media)
        made = ToolResultPart(
            call_id=self._answered(result.string("id"), name) or derived_id,
            content=content,
            name=name,
            is_error=is_error,
        )
        made.extra = _within("functionResponse", result)
        return made

    def _answered(self, call_id: str | None, name: str) -> str | None:
        """The id of the call that a response answers: the one it names, or the first open call of that name."""
        for call in self._open:
            if call.id == call_id or (call_id is None and call.name == name):
                self._open = [other for other in self._open if other is not call]
                return call.id
        return call_id


def media_part(part: Members) -> AnyPart:
    """A part that holds bytes or says where they are: by its media type a picture, sound, a film or a document."""
    inline, stored = part.object("inlineData"), part.object("fileData")
    held = inline or stored
    if held is None:
        raise part.wrong("", "has no data; send inlineData or fileData")
    media_type = held.string("mimeType")
    name = held.string("displayName")
    if inline is not None:
        source = Source(data=inline.text("data"), media_type=media_type)
    else:
        source = _stored(held.text("fileUri"), media_type)
    made = _media(source, media_type or "", name)
    made.extra = _within("inlineData" if inline is not None else "fileData", held)
    if isinstance(made, ImagePart):
        made.detail = _detail(part)
        if name is not None:
            holder = "inlineData" if inline is not None else "fileData"
            made.extra = _merged(made.extra, {f"{holder}.displayName": name})
    return made


def _media(source: Source, media_type: str, name: str | None) -> ImagePart | AudioPart | VideoPart | FilePart:
    kind = media_type.partition("/")[0]
    if kind == "image":
        return ImagePart(source=source)
    if kind == "audio" and name is None:
        return AudioPart(source=source)
    if (kind == "video" or _is_film(source)) and name is None:
        return VideoPart(source=source)
    return FilePart(source=source, filename=name)


def _stored(uri: str, media_type: str | None) -> Source:
    if uri.startswith(_UPLOADED) or uri.startswith("gs://"):
        return Source(file_id=uri, media_type=media_type)
    return Source(url=uri, media_type=media_type)


def _is_film(source: Source) -> bool:
    return source.url is not None and source.url.startswith(
        ("https://www.youtube.com/", "https://youtube.com/", "https://youtu.be/")
    )


def _detail(part: Members) -> str | None:
    value = part.value.get("mediaResolution")
    if not isinstance(value, dict) or set(value) != {"level"}:
        return None
    level = value["level"]
    detail = _DETAILS.get(level) if isinstance(level, str) else None
    if detail is not None:
        part.ignore("mediaResolution")
    return detail


def _within(name: str, inner: Members) -> dict[str, Any] | None:
    """What nobody read of a part's inner object, under the path from the part."""
    rest = inner.rest()
    return None if rest is None else {f"{name}.{key}": value for key, value in rest.items()}


def _merged(first: dict[str, Any] | None, second: dict[str, Any] | None) -> dict[str, Any] | None:
    return {**first, **second} if first and second else first or second


def read_system(instruction: Members | None) -> list[Message]:
    """The system instruction as the message before all others; nothing when there is none."""
    if instruction is None:
        return []
    parts: list[AnyPart] = []
    for part in instruction.objects("parts"):
        made: Part = TextPart(text=part.text("text"), path=part.path)
        made.extra = part.rest()
        parts.append(made)  # type: ignore[arg-type]
    instruction.ignore("role")
    return [Message(role="system", parts=parts, path=instruction.path, extra=instruction.rest())] if parts else []
