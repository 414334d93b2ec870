"""Conversations for Gemini: from our parts to Google's contents."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    FilePart,
    ImagePart,
    NativePart,
    Part,
    ReasoningPart,
    RefusalPart,
    Source,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    VideoPart,
)
from pointsman.canonical.request import Message, Request
from pointsman.errors import GatewayError, Kind
from pointsman.providers.gemini.target import Target
from pointsman.wire.gemini import PLACEHOLDER_SIGNATURE, WIRE, object_in, response_of

Json = dict[str, Any]
_LEVELS: Final = {
    "low": "MEDIA_RESOLUTION_LOW",
    "high": "MEDIA_RESOLUTION_HIGH",
    "original": "MEDIA_RESOLUTION_ULTRA_HIGH",
}
_DEFAULT_TYPES: Final = {ImagePart: "image/png", VideoPart: "video/mp4", FilePart: "application/pdf"}
_NAMES_VIDEO: Final = ("https://www.youtube.com/", "https://youtube.com/", "https://youtu.be/")


class ContentsWriter:
    """Writes one conversation. ``system`` and ``contents`` are there after `write`."""

    def __init__(self, request: Request, target: Target, fidelity: Fidelity) -> None:
        self.system: list[Json] = []
        self.contents: list[Json] = []
        self._request = request
        self._target = target
        self._fidelity = fidelity
        self._native = request.wire == WIRE
        self._names: dict[str, str] = {}
        self._beside: list[Json] = []  # media of results, for models that take none in them
        self._signs_from = _current_turn(request.messages) if target.demands_signatures else len(request.messages)

    def write(self) -> None:
        """Fill ``system`` and ``contents``. Raises GatewayError for what can't be meant."""
        in_front = True
        for number, message in enumerate(self._request.messages):
            in_front = in_front and message.role in ("system", "developer")
            self._note_message(message)
            if in_front:
                self.system += [made for part in message.parts for made in self._parts(part)]
            elif message.role == "assistant":
                self._assistant(message, signed=number >= self._signs_from)
            else:
                self._user(message)
        if not self.contents:
            raise GatewayError(
                Kind.INVALID_REQUEST, "'messages' hold nothing but instructions; send at least one user message"
            )

    def _note_message(self, message: Message) -> None:
        if message.name is not None:
            self._fidelity.dropped(f"{message.path}.name", "Gemini's contents have no names")
        for key in message.extra or ():
            self._fidelity.dropped(f"{message.path}.{key}", "Gemini has no such member")

    def _assistant(self, message: Message, *, signed: bool) -> None:
        made: list[Json] = []
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                self._names[part.id] = part.name
            made += self._parts(part)
        if signed:
            self._sign(message, made)
        self._add("model", made)

    def _sign(self, message: Message, made: list[Json]) -> None:
        """The first call of a step of the current turn needs a signature, also when no Gemini model made it."""
        call = next((one for one in made if "functionCall" in one), None)
        if call is not None and "thoughtSignature" not in call:
            call["thoughtSignature"] = PLACEHOLDER_SIGNATURE
            path = next(part.path for part in message.parts if isinstance(part, ToolCallPart))
            self._fidelity.synthesised(f"{path}.thoughtSignature", "Gemini demands one; its placeholder was sent")

    def _user(self, message: Message) -> None:
        """Results of tools make a content of their own: Gemini wants them right after the calls."""
        results = [part for part in message.parts if isinstance(part, ToolResultPart)]
        others = [part for part in message.parts if not isinstance(part, ToolResultPart)]
        if results:
            self._add("user", [made for part in results for made in self._parts(part)], results=True)
            self._add("user", self._beside)
            self._beside = []
        if message.role == "user":
            self._add("user", [made for part in others for made in self._parts(part)])
            return
        self._fidelity.approximated(message.path, "an instruction in mid-conversation was sent as the user's text")
        text = "".join(part.text for part in others if isinstance(part, TextPart))
        for part in others:
            self._note_part(part)
        self._add("user", [{"text": f"<system>\n{text}\n</system>"}])

    def _add(self, role: str, parts: list[Json], *, results: bool = False) -> None:
        """A content of its own, or more of the last one if that has the same speaker and kind."""
        if not parts:
            return
        last = self.contents[-1] if self.contents else None
        if last is not None and last["role"] == role and _holds_results(last["parts"]) == results:
            last["parts"] += parts
        else:
            self.contents.append({"role": role, "parts": list(parts)})

    def _parts(self, part: AnyPart) -> Iterator[Json]:
        self._note_part(part)
        for number, made in enumerate(self._made(part)):
            if self._native and part.extra and number == 0:
                put_all(made, part.extra)
            if part.opaque is not None and part.opaque.origin == WIRE and number == 0:
                made["thoughtSignature"] = part.opaque.data
            yield made

    def _note_part(self, part: Part) -> None:
        if part.cache is not None:
            self._fidelity.dropped(f"{part.path}.cache_control", "Gemini caches prompts by itself")
        if part.opaque is not None and part.opaque.origin != WIRE:
            # A part that holds nothing else is lost as a whole.
            hidden = isinstance(part, ReasoningPart) and not part.text and not part.summary
            path = part.path if hidden else f"{part.path}.{part.opaque.kind}"
            self._fidelity.dropped(path, f"only {part.opaque.origin} can read it")
        for key in part.extra or ():
            if not self._native:
                self._fidelity.dropped(f"{part.path}.{key}", "Gemini has no such member")

    def _made(self, part: AnyPart) -> Iterator[Json]:
        match part:
            case TextPart():
                if part.citations:
                    self._fidelity.dropped(f"{part.path}.citations", "Gemini takes no citations back")
                if part.text or part.opaque is not None:
                    yield {"text": part.text}
            case ReasoningPart():
                text = "\n\n".join(filter(None, (*(part.summary or ()), part.text)))
                if text or (part.opaque is not None and part.opaque.origin == WIRE):
                    yield {"text": text, "thought": True}
            case RefusalPart():
                self._fidelity.approximated(part.path, "a refusal was sent as text")
                yield {"text": part.text}
            case ToolCallPart():
                yield self._call(part)
            case ToolResultPart():
                yield self._result(part)
            case NativePart():
                if part.wire == WIRE:
                    yield dict(part.value)
                else:
                    self._fidelity.dropped(part.path, f"only {part.wire} has parts of type {part.type}")
            case _:
                yield from self._media(part)

    def _call(self, part: ToolCallPart) -> Json:
        if part.namespace is not None:
            self._fidelity.mapped(f"{part.path}.namespace", "it stands before the name")
        if part.kind == "custom":
            self._fidelity.approximated(part.path, "a custom tool's input was sent as a function's argument")
            arguments: Any = {"input": part.arguments}
        elif not part.arguments.strip():
            arguments = {}
        elif object_in(part.arguments) is None:
            raise GatewayError(
                Kind.INVALID_REQUEST, f"the arguments at '{part.path}' are no JSON object", param=part.path
            )
        else:
            arguments = msgspec.Raw(part.arguments.encode())
        return {"functionCall": {"id": part.id, "name": part.name, "args": arguments}}

    def _result(self, part: ToolResultPart) -> Json:
        texts = "".join(inner.text for inner in part.content if isinstance(inner, TextPart))
        others = [inner for inner in part.content if not isinstance(inner, TextPart)]
        for inner in part.content:
            if isinstance(inner, TextPart):
                self._note_part(inner)
        name = part.name or self._names.get(part.call_id) or part.call_id
        response: Json = {"id": part.call_id, "name": name, "response": response_of(texts, part.is_error)}
        media = [made for inner in others for made in self._parts(inner)]
        if media and self._target.older:
            self._fidelity.approximated(f"{part.path}.content", "this model takes no media in results; sent after them")
            self._beside += media
        elif media:
            response["parts"] = media
        return {"functionResponse": response}

    def _media(self, part: AnyPart) -> Iterator[Json]:
        if isinstance(part, FilePart):
            yield from self._file(part)
        elif isinstance(part, AudioPart):
            yield from self._audio(part)
        elif isinstance(part, ImagePart | VideoPart):
            made = self._sourced(part, part.source, _DEFAULT_TYPES[type(part)])
            if isinstance(part, ImagePart) and part.detail is not None:
                self._detail(part, made)
            yield made

    def _detail(self, part: ImagePart, made: Json) -> None:
        level = _LEVELS.get(part.detail or "")
        path = f"{part.path}.detail"
        if level is None:
            self._fidelity.mapped(path, "Gemini's own choice")
        elif self._target.older:
            self._fidelity.dropped(path, "this model takes no resolution for one part")
        else:
            made["mediaResolution"] = {"level": level}

    def _audio(self, part: AudioPart) -> Iterator[Json]:
        if part.source.data is None and part.source.url is None and part.source.file_id is None:
            self._fidelity.approximated(part.path, "only what was said in it was sent")
            yield {"text": part.transcript or ""}
            return
        for name in ("id", "transcript", "expires_at"):
            if getattr(part, name) is not None:
                self._fidelity.dropped(f"{part.path}.{name}", "Gemini takes the sound alone")
        yield self._sourced(part, part.source, f"audio/{part.format or 'wav'}")

    def _file(self, part: FilePart) -> Iterator[Json]:
        for name in ("title", "context", "citations"):
            if getattr(part, name) is not None:
                self._fidelity.dropped(f"{part.path}.{name}", "Gemini's files have no such member")
        if part.source is None:
            if part.filename is not None:
                self._fidelity.dropped(f"{part.path}.filename", "a text has no name in Gemini's contents")
            yield {"text": part.text or ""}
            return
        made = self._sourced(part, part.source, _DEFAULT_TYPES[FilePart])
        if part.filename is not None:
            if self._target.vertex:
                made["inlineData" if "inlineData" in made else "fileData"]["displayName"] = part.filename
            else:
                self._fidelity.dropped(f"{part.path}.filename", "the Gemini API's files have no names")
        yield made

    def _sourced(self, part: Part, source: Source, default_type: str) -> Json:
        media_type = source.media_type
        if source.data is not None:
            return {"inlineData": {"mimeType": media_type or default_type, "data": source.data}}
        if source.url is not None:
            kind: Json = {} if source.url.startswith(_NAMES_VIDEO) else {"mimeType": default_type}
            return {"fileData": {**kind, **({"mimeType": media_type} if media_type else {}), "fileUri": source.url}}
        if not self._native:
            raise GatewayError(
                Kind.UNSUPPORTED,
                f"the file at '{part.path}' was uploaded to another API; send its bytes or its address",
                param=part.path,
            )
        return {"fileData": {**({"mimeType": media_type} if media_type else {}), "fileUri": source.file_id}}


def _holds_results(parts: list[Json]) -> bool:
    return any("functionResponse" in part for part in parts)


def _current_turn(messages: list[Message]) -> int:
    """Where the current turn begins: after the last message that holds anything of the user but tools' results."""
    for position in range(len(messages) - 1, -1, -1):
        message = messages[position]
        if message.role != "assistant" and any(not isinstance(part, ToolResultPart) for part in message.parts):
            return position + 1
    return 0


def put_all(holder: Json, extra: Json) -> None:
    """Put members back to where their paths say (``functionCall.willContinue``); a name with dots that is no path of
    an object stays a name.
    """
    for path, value in extra.items():
        *steps, last = path.split(".")
        inner: Any = holder
        for step in steps:
            inner = inner.setdefault(step, {})
            if not isinstance(inner, dict):
                holder[path] = value
                break
        else:
            inner[last] = value
