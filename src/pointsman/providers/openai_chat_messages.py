"""Writes the messages of our own words as Chat Completions has them."""

from hashlib import blake2s
from typing import Any, Final

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
    VideoPart,
)
from pointsman.canonical.request import Message, Request
from pointsman.providers.hosts import Quirks
from pointsman.wire.openai_chat_parts import (
    AUDIO_TYPES,
    WIRE,
    encode_text,
    overlay,
    write_cache,
    write_details,
    write_source,
    write_thought_signature,
)

Json = dict[str, Any]
_SAID: Final = (TextPart, NativePart)
NO_MARKS: Final = "this host is not known to read cache marks"
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_FORMATS: Final = {media: name for name, media in AUDIO_TYPES.items()} | {"audio/mp3": "mp3", "audio/x-wav": "wav"}


def short_id(identifier: str) -> str:
    """Nine letters and digits that stand for a call's id; itself when it is such already."""
    if len(identifier) == 9 and identifier.isascii() and identifier.isalnum():
        return identifier
    digest = blake2s(identifier.encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:9])


class MessageWriter:
    """Writes a request's messages for one host; what can't go out is noted."""

    def __init__(self, request: Request, quirks: Quirks, fidelity: Fidelity) -> None:
        self._request = request
        self._quirks = quirks
        self._fidelity = fidelity
        self._same = request.wire == WIRE
        self._all: list[Json] = []

    def write(self) -> list[Json]:
        """All messages."""
        for message in self._request.messages:
            if message.role == "assistant":
                self._all.append(self._assistant(message))
            elif message.role == "user":
                self._user(message)
            else:
                self._system(message)
        self._prefill()
        return self._all

    def _system(self, message: Message) -> None:
        role: str = message.role
        if role == "developer" and not self._quirks.developer_role:
            role = "system"
            self._fidelity.mapped(f"{message.path}.role", "developer is system here")
        self._all.append(self._framed(role, self._content(message.parts), message))

    def _user(self, message: Message) -> None:
        moved: list[AnyPart] = []
        others: list[AnyPart] = []
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                moved += self._result(part)
            else:
                others.append(part)
        if moved or others:
            self._all.append(self._framed("user", self._content([*moved, *others]), message))
        elif message.extra:
            self._leftover(message.extra, message.path)

    def _framed(self, role: str, content: str | list[Json], message: Message) -> Json:
        out: Json = {"role": role, "content": content}
        if message.name is not None:
            out["name"] = message.name
        if message.extra:
            out.update(self._leftover(message.extra, message.path))
        return out

    def _leftover(self, extra: Extra | None, path: str) -> Extra:
        """What the client said beyond our words: sent to who speaks the same, else named."""
        if not extra:
            return {}
        if self._same:
            return extra
        for name in extra:
            self._fidelity.dropped(f"{path}.{name}", "not a word of Chat Completions")
        return {}

    def _result(self, part: ToolResultPart) -> list[AnyPart]:
        """A tool message; gives back the parts that only a user may send."""
        texts = [one for one in part.content if isinstance(one, TextPart)]
        moved = [one for one in part.content if not isinstance(one, TextPart)]
        for one in moved:
            self._fidelity.approximated(one.path, "sent as the user's, right after the tool's message")
        out: Json = {"role": "tool", "tool_call_id": self._id(part.call_id, part.path)}
        out["content"] = self._content(texts) if texts else ""
        if part.cache is not None:
            self._mark(out, part)
        if part.is_error:
            self._fidelity.dropped(f"{part.path}.is_error", "a tool message has no such mark")
        out.update(self._leftover(part.extra, part.path))
        self._all.append(out)
        return list(moved)

    def _id(self, identifier: str, path: str) -> str:
        if self._quirks.call_ids == "any":
            return identifier
        short = short_id(identifier)
        if short != identifier:
            self._fidelity.mapped(path, "ids have nine letters and digits here")
        return short

    def _content(self, parts: list[Any]) -> str | list[Json]:
        """One string where that says it all, else parts."""
        if len(parts) == 1 and isinstance(parts[0], TextPart) and self._is_plain(parts[0]):
            return str(parts[0].text)
        written = [one for part in parts if (one := self._part(part)) is not None]
        if not self._quirks.text_as_string:
            return written
        for part in parts:
            if not isinstance(part, TextPart):
                self._fidelity.dropped(part.path, "this host takes text alone")
            elif part.extra and self._same:
                self._fidelity.dropped(part.path, "but for its text: this host takes one string")
        return "\n".join(str(one["text"]) for one in written if one["type"] == "text")

    def _is_plain(self, part: TextPart) -> bool:
        return part.cache is None and part.extra is None and part.opaque is None and not part.citations

    def _part(self, part: AnyPart) -> Json | None:
        out = self._known(part)
        if out is None:
            return None
        if part.cache is not None:
            self._mark(out, part)
        if part.opaque is not None:
            self._fidelity.dropped(f"{part.path}.{part.opaque.kind}", f"state of {part.opaque.origin}")
        return overlay(out, self._leftover(part.extra, part.path)) if part.extra else out

    def _mark(self, out: Json, part: AnyPart) -> None:
        """A cache mark where the host reads them; OpenAI's own is among the part's extra members."""
        if self._quirks.carries_marks(self._same):
            assert part.cache is not None
            out["cache_control"] = write_cache(part.cache)
        elif not (self._same and part.extra and "prompt_cache_breakpoint" in part.extra):
            self._fidelity.dropped(f"{part.path}.cache_control", NO_MARKS)

    def _known(self, part: AnyPart) -> Json | None:
        match part:
            case TextPart():
                for citation in part.citations or ():
                    self._fidelity.dropped(f"{part.path}.citations", citation.url or "a citation")
                return {"type": "text", "text": part.text}
            case ImagePart():
                return self._image(part)
            case FilePart():
                return self._file(part)
            case AudioPart():
                return self._audio(part)
            case VideoPart() if part.source.file_id is None:
                return {"type": "video_url", "video_url": {"url": write_source(part.source, "video/mp4")}}
            case RefusalPart():
                return {"type": "refusal", "refusal": part.text}
            case NativePart() if part.wire == WIRE:
                return dict(part.value)
        self._fidelity.dropped(part.path, "no such part in Chat Completions")
        return None

    def _image(self, part: ImagePart) -> Json | None:
        if part.source.file_id is not None:
            self._fidelity.dropped(part.path, "a picture can't be named by a file's id here")
            return None
        inner: Json = {"url": write_source(part.source, "image/png")}
        if part.detail is not None:
            inner["detail"] = part.detail
        return {"type": "image_url", "image_url": inner}

    def _file(self, part: FilePart) -> Json | None:
        for name in ("title", "context", "citations"):
            if getattr(part, name) is not None:
                self._fidelity.dropped(f"{part.path}.{name}", "no such member here")
        if part.source is None:
            self._fidelity.approximated(part.path, "a document of plain text, sent as text")
            named = f"{part.filename or part.title}\n\n" if part.filename or part.title else ""
            return {"type": "text", "text": f"{named}{part.text or ''}"}
        inner: Json = {}
        if part.filename is not None:
            inner["filename"] = part.filename
        if part.source.file_id is not None:
            inner["file_id"] = part.source.file_id
        else:
            inner["file_data"] = write_source(part.source, "application/pdf")
            if "filename" not in inner and part.source.data is not None:
                inner["filename"] = "document.pdf"
                self._fidelity.synthesised(f"{part.path}.filename", "a file's bytes need a name here")
        return {"type": "file", "file": inner}

    def _audio(self, part: AudioPart) -> Json | None:
        media = part.source.media_type or ""
        name = part.format or _FORMATS.get(media) or media.partition("/")[2]
        if part.source.data is None or not name:
            self._fidelity.dropped(part.path, "sound goes as bytes of a named format here")
            return None
        return {"type": "input_audio", "input_audio": {"data": part.source.data, "format": name}}

    def _assistant(self, message: Message) -> Json:
        texts = [part for part in message.parts if isinstance(part, _SAID)]
        out: Json = {"role": "assistant", "content": None}
        if texts:
            out["content"] = self._content(texts) or None
        if message.name is not None:
            out["name"] = message.name
        if len(texts) < len(message.parts):
            calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
            self._reasoning(message, out, bool(calls))
            for part in message.parts:
                self._beside(part, out)
            if calls:
                out["tool_calls"] = [self._call(call, out) for call in calls]
        if out["content"] is None and len(out) == 2:
            out["content"] = ""
        if message.extra:
            out.update(self._leftover(message.extra, message.path))
        return out

    def _beside(self, part: AnyPart, out: Json) -> None:
        """What an assistant message holds beside its content."""
        match part:
            case RefusalPart():
                out["refusal"] = f"{out.get('refusal', '')}{part.text}"
            case AudioPart() if part.id is not None and self._same:
                out["audio"] = {"id": part.id}
            case AudioPart():
                self._fidelity.dropped(part.path, "sound of another answer; no host takes it back")
            case ImagePart() if self._quirks.reasoning_member == "reasoning_details":
                image = {"type": "image_url", "image_url": {"url": write_source(part.source, "image/png")}}
                out.setdefault("images", []).append(image)
            case ImagePart() | FilePart() | VideoPart() | ToolResultPart():
                self._fidelity.dropped(part.path, "an assistant message has no such part here")

    def _call(self, part: ToolCallPart, message: Json) -> Json:
        out: Json = {"id": self._id(part.id, f"{part.path}.id")}
        if part.kind == "custom" and self._quirks.custom_tools:
            out |= {"type": "custom", "custom": {"name": part.name, "input": part.arguments}}
        else:
            arguments = part.arguments or "{}"
            if part.kind == "custom":
                arguments = encode_text({"input": part.arguments})
                self._fidelity.approximated(f"{part.path}.custom", "a custom tool's call is a function's here")
            out |= {"type": "function", "function": {"name": part.name, "arguments": arguments}}
        if part.namespace is not None:
            self._fidelity.mapped(f"{part.path}.namespace", "it stands before the name")
        if part.opaque is not None:
            self._call_state(part, out, message)
        if part.cache is not None:
            self._mark(out, part)
        return overlay(out, self._leftover(part.extra, part.path)) if part.extra else out

    def _call_state(self, part: ToolCallPart, out: Json, message: Json) -> None:
        opaque = part.opaque
        assert opaque is not None
        if self._quirks.reasoning_member == "reasoning_details":
            details = message.setdefault("reasoning_details", [])
            found = write_details("", None, opaque, len(details))
            details += [{**one, "id": part.id} for one in found]
        elif self._quirks.thought_signatures and opaque.origin == "gemini":
            out["extra_content"] = write_thought_signature(opaque)
        else:
            self._fidelity.dropped(f"{part.path}.{opaque.kind}", f"state of {opaque.origin}")

    def _reasoning(self, message: Message, out: Json, calling: bool) -> None:
        parts = [part for part in message.parts if isinstance(part, ReasoningPart)]
        quirks = self._quirks
        for part in parts:
            for name in part.extra or ():
                self._fidelity.dropped(f"{part.path}.{name}", "no such member of reasoning here")
        if quirks.reasoning_history == "never":
            for part in parts:
                self._fidelity.dropped(part.path, "this host takes no reasoning back")
            return
        if quirks.reasoning_member == "reasoning_details":
            details: list[Extra] = []
            for part in parts:
                opaque = None if part.opaque is not None and part.opaque.kind == "reasoning_content" else part.opaque
                details += write_details(part.text, part.summary, opaque, len(details))
            if details:
                out["reasoning_details"] = details
            return
        texts = [self._visible(part) for part in parts]
        text = "".join(filter(None, texts))
        if quirks.reasoning_history == "required" and calling and not text:
            self._fidelity.synthesised(f"{message.path}.reasoning_content", "must be there beside tool calls, empty")
            out[quirks.reasoning_member] = ""
        elif text and quirks.reasoning_member == "thinking_parts":
            self._thinking_part(out, text)
        elif text:
            out[quirks.reasoning_member] = text

    def _visible(self, part: ReasoningPart) -> str:
        opaque = part.opaque
        if opaque is not None and opaque.kind == "reasoning_content":
            return part.text or opaque.data
        if opaque is not None:
            self._fidelity.dropped(f"{part.path}.{opaque.kind}", f"state of {opaque.origin}")
        if part.text and part.summary:
            self._fidelity.dropped(f"{part.path}.summary", "the reasoning itself is sent")
        return part.text or "\n\n".join(part.summary or ())

    def _thinking_part(self, out: Json, text: str) -> None:
        """Mistral's: reasoning is the first part of the content."""
        content = out["content"] or []
        said = [{"type": "text", "text": content}] if isinstance(content, str) else content
        out["content"] = [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}, *said]

    def _prefill(self) -> None:
        """An answer that the client has begun: marked as the host wants it."""
        last = self._all[-1] if self._all else {}
        if last.get("role") != "assistant" or "tool_calls" in last:
            return
        match self._quirks.prefill:
            case "prefix" | "partial" as mark:
                last.setdefault(mark, True)
            case None:
                path = self._request.messages[-1].path
                self._fidelity.approximated(path, "this host answers anew instead of going on")
