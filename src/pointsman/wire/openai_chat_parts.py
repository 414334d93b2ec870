"""What requests, answers and streams of OpenAI Chat Completions share: parts, calls, reasoning, usage, reasons.

Both halves use it: the dialect reads requests and writes answers, the provider format the other way round. Sources:
the types of the official SDK 3.54, OpenRouter's reference for ``reasoning_details``, DeepSeek's for
``reasoning_content``, Google's for ``extra_content``; as of 2026-11.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    CacheMark,
    Citation,
    Extra,
    FilePart,
    ImagePart,
    NativePart,
    Opaque,
    RefusalPart,
    Source,
    TextPart,
    ToolCallPart,
    VideoPart,
)
from pointsman.canonical.response import FinishReason, TokenLogprob
from pointsman.canonical.usage import TokenUsage
from pointsman.wire.members import Members

WIRE: Final = "openai.chat"
MAX_COUNT: Final = 2**40  # tokens; no bill is larger
_DATA_URL: Final = re.compile(r"data:([^;,]*)(?:;[^,]*)?;base64,", re.IGNORECASE)
AUDIO_TYPES: Final = MappingProxyType({"wav": "audio/wav", "mp3": "audio/mpeg", "pcm16": "audio/pcm"})

REASONS: Final[Mapping[str, FinishReason]] = MappingProxyType(
    {
        "stop": FinishReason.STOP,
        "length": FinishReason.LENGTH,
        "tool_calls": FinishReason.TOOL_CALLS,
        "function_call": FinishReason.TOOL_CALLS,
        "content_filter": FinishReason.CONTENT_FILTER,
        "error": FinishReason.ERROR,
        "model_length": FinishReason.CONTEXT_LENGTH,  # Mistral
        "insufficient_system_resource": FinishReason.ERROR,  # DeepSeek
        "sensitive": FinishReason.CONTENT_FILTER,  # Z.AI
        "network_error": FinishReason.ERROR,  # Z.AI
        "max_tokens": FinishReason.LENGTH,
        "tool_use": FinishReason.TOOL_CALLS,
    }
)

# OpenRouter's names for who made a piece of reasoning state, and ours.
ORIGINS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "anthropic-claude-v1": "anthropic",
        "google-gemini-v1": "gemini",
        "openai-responses-v1": "openai.responses",
        "azure-openai-responses-v1": "openai.responses",
        "bedrock-openai-responses-v1": "openai.responses",
        "xai-responses-v1": "openai.responses",
        "meta-responses-v1": "openai.responses",
    }
)
FORMATS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "anthropic": "anthropic-claude-v1",
        "bedrock": "anthropic-claude-v1",
        "gemini": "google-gemini-v1",
        "openai.responses": "openai-responses-v1",
    }
)

# The words of a usage object that `read_usage` knows, and of its two inner objects.
_WHOLES: Final = frozenset(("prompt_tokens", "completion_tokens", "total_tokens"))
_USAGE: Final = _WHOLES | {"prompt_tokens_details", "completion_tokens_details"}
_USAGE_OF_DEEPSEEK: Final = _USAGE | {"prompt_cache_hit_tokens"}
_INPUT: Final = frozenset(("cached_tokens", "cache_write_tokens", "audio_tokens", "text_tokens"))
_OUTPUT: Final = frozenset(("reasoning_tokens", "audio_tokens", "image_tokens", "text_tokens"))


def read_source(url: str) -> Source:
    """Where a picture or file is: bytes of a data URL, or an address."""
    found = _DATA_URL.match(url)
    if found is None:
        return Source(url=url)
    return Source(data=url[found.end() :], media_type=found[1].lower() or None)


def write_source(source: Source, default_type: str) -> str:
    """An address or a data URL; ``default_type`` is the media type of bytes that have none."""
    if source.url is not None:
        return source.url
    return f"data:{source.media_type or default_type};base64,{source.data or ''}"


def read_cache(members: Members) -> CacheMark | None:
    """``cache_control`` (OpenRouter, LiteLLM) or ``prompt_cache_breakpoint`` (OpenAI) of a part, message or tool."""
    if "cache_control" not in members.value and "prompt_cache_breakpoint" not in members.value:
        return None
    mark = members.value.get("cache_control")
    if isinstance(mark, dict) and mark.get("type") == "ephemeral" and set(mark) <= {"type", "ttl"}:
        ttl = mark.get("ttl")
        if ttl in (None, "5m", "1h"):
            members.ignore("cache_control")
            return CacheMark(ttl)
    return CacheMark() if isinstance(members.value.get("prompt_cache_breakpoint"), dict) else None


def write_cache(mark: CacheMark) -> Extra:
    """``cache_control``'s value."""
    return {"type": "ephemeral"} if mark.ttl is None else {"type": "ephemeral", "ttl": mark.ttl}


def read_part(item: Members) -> AnyPart:
    """One content part of a message."""
    kind = item.text("type")
    part = _read_known(item, kind)
    if part is None:
        return NativePart(wire=WIRE, type=kind, value=item.value, path=item.path)
    part.path = item.path
    part.cache = read_cache(item)
    part.extra = _merge(part.extra, item.rest())
    return part


def _read_known(item: Members, kind: str) -> AnyPart | None:
    match kind:
        case "text" | "input_text":
            return TextPart(text=item.text("text"))
        case "refusal":
            return RefusalPart(text=item.text("refusal"))
        case "image_url":
            return _read_image(item)
        case "video_url":
            inner = _inner(item, "video_url")
            return VideoPart(source=read_source(inner.text("url")), extra=_within(inner))
        case "input_audio":
            inner = _inner(item, "input_audio")
            name = inner.string("format")
            source = Source(data=inner.text("data"), media_type=AUDIO_TYPES.get(name or "", name and f"audio/{name}"))
            return AudioPart(source=source, format=name, extra=_within(inner))
        case "file":
            return _read_file(_inner(item, "file"))
    return None


def _read_image(item: Members) -> ImagePart:
    if isinstance(item.value.get("image_url"), str):  # Mistral's clients and others send the address alone
        return ImagePart(source=read_source(item.text("image_url")))
    inner = _inner(item, "image_url")
    return ImagePart(source=read_source(inner.text("url")), detail=inner.string("detail"), extra=_within(inner))


def _read_file(inner: Members) -> FilePart:
    data, name = inner.string("file_data"), inner.string("file_id")
    if (data is None) == (name is None):
        raise inner.wrong("", "needs exactly one of 'file_data' and 'file_id'")
    source = Source(file_id=name) if data is None else read_source(data)
    return FilePart(source=source, filename=inner.string("filename"), extra=_within(inner))


def _inner(item: Members, name: str) -> Members:
    found = item.object(name)
    if found is None:
        raise item.wrong(name, "is missing")
    return found


def _within(inner: Members) -> Extra | None:
    """What is left of an inner object, at its place in the outer one."""
    rest = inner.rest()
    return {inner.path.rpartition(".")[2]: rest} if rest else None


def overlay(first: Extra, second: Extra) -> Extra:
    """Two objects in one: members of members too, the second's where both have one."""
    out = dict(first)
    for name, value in second.items():
        held = out.get(name)
        out[name] = overlay(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return out


def _merge(first: Extra | None, second: Extra | None) -> Extra | None:
    return {**first, **second} if first and second else first or second


def read_call(item: Members, identifier: str) -> ToolCallPart:
    """A tool call of a message; ``identifier`` is its id when it came without."""
    item.ignore("index")
    kind = item.one_of("type", "function", "custom") or "function"
    given = item.string("id") or identifier
    inner = _inner(item, "custom" if kind == "custom" else "function")
    opaque = read_thought_signature(item)
    if kind == "custom":
        part = ToolCallPart(id=given, name=inner.text("name"), arguments=inner.string("input") or "", kind="custom")
    else:
        part = ToolCallPart(id=given, name=inner.text("name"), arguments=_arguments(inner))
    part.path, part.opaque, part.cache = item.path, opaque, read_cache(item)
    part.extra = _merge(_within(inner), item.rest())
    return part


def _arguments(inner: Members) -> str:
    """The arguments' text; some hosts and clients send the object itself."""
    if isinstance(inner.value.get("arguments"), dict):
        return encode_text(inner.raw("arguments"))
    return inner.string("arguments") or ""


def encode_text(value: Any) -> str:
    """JSON as text."""
    return msgspec.json.encode(value).decode()


def read_thought_signature(item: Members) -> Opaque | None:
    """Google's thought signature, where its OpenAI-compatible API has it."""
    extra = item.value.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    if not isinstance(signature, str) or not signature:
        return None
    item.ignore("extra_content")
    return Opaque(origin="gemini", kind="thought_signature", data=signature)


def write_thought_signature(opaque: Opaque) -> Extra:
    """``extra_content``'s value."""
    return {"google": {"thought_signature": opaque.data}}


def read_opaque(detail: Members) -> Opaque | None:
    """The state in one entry of ``reasoning_details``; None when it holds none."""
    form = detail.string("format")
    origin = ORIGINS.get(form or "", WIRE)
    if form in (FORMATS.get(origin), "unknown"):
        form = None
    name = detail.string("id")
    if detail.value.get("type") == "reasoning.encrypted":
        data = detail.string("data")
        kind = {"anthropic": "redacted", "gemini": "thought_signature"}.get(origin, "encrypted")
        return Opaque(origin=origin, kind=kind, data=data, id=name, form=form) if data else None  # type: ignore[arg-type]
    signature = detail.string("signature")
    return Opaque(origin=origin, kind="signature", data=signature, id=name, form=form) if signature else None


def write_details(text: str, summary: list[str] | None, opaque: Opaque | None, index: int) -> list[Extra]:
    """``reasoning_details`` for one stretch of reasoning, the first of them numbered ``index``."""
    form = (opaque.form or FORMATS.get(opaque.origin, "unknown")) if opaque is not None else "unknown"
    common: Extra = {"format": form, "id": opaque.id if opaque is not None else None}
    signature = opaque.data if opaque is not None and opaque.kind == "signature" else None
    found: list[Extra] = [{"type": "reasoning.summary", "summary": one, **common} for one in summary or ()]
    if text or signature:
        found.append({"type": "reasoning.text", "text": text, "signature": signature, **common})
    if opaque is not None and opaque.kind not in ("signature", "reasoning_content"):
        found.append({"type": "reasoning.encrypted", "data": opaque.data, **common})
    return [{**one, "index": index + place} for place, one in enumerate(found)]


def read_annotation(item: Members) -> Citation:
    """One of a message's ``annotations``."""
    inner = item.object("url_citation")
    if inner is None:
        return Citation(wire=WIRE, native=item.value)
    return Citation(
        url=inner.string("url"),
        title=inner.string("title"),
        cited_text=inner.string("content"),
        start=inner.integer("start_index"),
        end=inner.integer("end_index"),
        wire=WIRE,
        native=item.value,
    )


def write_annotation(citation: Citation, length: int) -> Extra | None:
    """An annotation of a text of ``length`` characters; None when the citation names no address."""
    if citation.wire == WIRE and citation.native is not None:
        return citation.native
    if citation.url is None:
        return None
    cited: Extra = {
        "end_index": length if citation.end is None else citation.end,
        "start_index": citation.start or 0,
        "title": citation.title or citation.url,
        "url": citation.url,
    }
    return {"type": "url_citation", "url_citation": cited}


def read_logprobs(logprobs: Members) -> list[TokenLogprob]:
    """The tokens of ``logprobs.content``."""
    return [_read_logprob(item) for item in logprobs.objects("content")]


def _read_logprob(item: Members) -> TokenLogprob:
    top = [_read_logprob(one) for one in item.objects("top_logprobs")] if "top_logprobs" in item.value else None
    return TokenLogprob(item.string("token") or "", item.number("logprob") or 0.0, item.raw("bytes"), top)


def write_logprobs(tokens: list[TokenLogprob]) -> Extra:
    """``logprobs`` of a choice."""
    return {"content": [{**_write_logprob(one), "top_logprobs": _rivals(one)} for one in tokens], "refusal": None}


def _rivals(token: TokenLogprob) -> list[Extra]:
    return [_write_logprob(one) for one in token.top or ()]


def _write_logprob(token: TokenLogprob) -> Extra:
    return {"token": token.token, "bytes": token.bytes, "logprob": token.logprob}


def read_usage(usage: Extra) -> tuple[TokenUsage, Extra | None]:
    """Usage in our words, parts no larger than their whole, and what we have no word for."""
    whole_in, whole_out = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if usage.keys() <= _WHOLES:
        return TokenUsage(input_tokens=whole_in, output_tokens=whole_out), None
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    prompt = prompt if type(prompt) is dict else {}
    completion = completion if type(completion) is dict else {}
    cached = _count(prompt.get("cached_tokens"))
    read = min(cached or _count(usage.get("prompt_cache_hit_tokens")), whole_in)  # the latter: DeepSeek
    reasoning = min(_count(completion.get("reasoning_tokens")), whole_out)
    found = TokenUsage(
        input_tokens=whole_in,
        output_tokens=whole_out,
        cache_read_tokens=read,
        cache_write_tokens=min(_count(prompt.get("cache_write_tokens")), whole_in - read),
        reasoning_tokens=reasoning,
        input_audio_tokens=min(_count(prompt.get("audio_tokens")), whole_in),
        output_audio_tokens=min(_count(completion.get("audio_tokens")), whole_out - reasoning),
        output_image_tokens=min(_count(completion.get("image_tokens")), whole_out - reasoning),
    )
    known = _USAGE if cached else _USAGE_OF_DEEPSEEK
    rest = {name: value for name, value in usage.items() if name not in known and value is not None}
    for name, inner, words in (
        ("prompt_tokens_details", prompt, _INPUT),
        ("completion_tokens_details", completion, _OUTPUT),
    ):
        if left := {key: value for key, value in inner.items() if value and key not in words}:
            rest[name] = left
    return found, rest or None


def _count(value: Any) -> int:
    """The nearest count that makes sense of what hosts send: 10.0, -1, null."""
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    if type(value) not in (int, float) or value != value:
        return 0
    return int(max(0, min(value, MAX_COUNT)))


def write_usage(usage: TokenUsage) -> Extra:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "audio_tokens": usage.input_audio_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.output_audio_tokens,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
