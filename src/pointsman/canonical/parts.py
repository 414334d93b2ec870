"""What messages are made of, in our own words.

A part remembers where it stood in the client's request (``path``), so that the fidelity ledger names the client's own
field. What a client's part held beyond our words is kept in ``extra`` under the client's names: a provider that speaks
the same API gets it back, for any other it is reported as dropped.
"""

from typing import Any, Literal

import msgspec

Json = Any  # whatever msgspec.json.decode gives: dict, list, str, int, float, bool, None
Extra = dict[str, Json]


class CacheMark(msgspec.Struct, frozen=True, gc=False):
    """ "Everything up to here may be cached" (Anthropic's cache_control, Bedrock's cachePoint); None: default time."""

    ttl: Literal["5m", "1h"] | None = None


class Opaque(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """State that only its maker can read, and wants back unchanged.

    ``origin`` is the wire API that made it (see `WIRES`); it is worthless, or an error, anywhere else. ``kind`` says
    what it is: a signature over visible reasoning, reasoning that is hidden altogether, or plain text that has to be
    sent back (DeepSeek). ``id`` is the name of the item that it came in, where items have names; ``form`` what
    OpenRouter calls its format, where that isn't the usual name of the origin's.
    """

    origin: str
    kind: Literal["signature", "redacted", "encrypted", "thought_signature", "reasoning_content"]
    data: str
    id: str | None = None
    form: str | None = None


class Source(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where bytes come from: exactly one of an address, base64 text, or the name of an uploaded file."""

    url: str | None = None
    data: str | None = None
    file_id: str | None = None
    media_type: str | None = None


class Citation(msgspec.Struct, frozen=True, kw_only=True):
    """A source that a text names. Offsets are characters of the part's text, None where the maker gave none.

    ``native`` is the citation as its maker wrote it and ``wire`` the maker's API, for who speaks the same.
    """

    url: str | None = None
    title: str | None = None
    cited_text: str | None = None
    file_id: str | None = None
    start: int | None = None
    end: int | None = None
    wire: str | None = None
    native: Extra | None = None


class Part(msgspec.Struct, kw_only=True):
    """What all parts have. ``item_id``: the part begins an item of this name ("": one without), where an API's messages
    consist of named items (OpenAI Responses). It means nothing to any other API and is never reported.
    """

    path: str = ""
    item_id: str | None = None
    cache: CacheMark | None = None
    opaque: Opaque | None = None
    extra: Extra | None = None


class TextPart(Part):
    """Text."""

    text: str
    citations: list[Citation] | None = None


class ImagePart(Part):
    """A picture; ``detail`` is how closely to look (auto, low, high, original)."""

    source: Source
    detail: str | None = None


class FilePart(Part):
    """A document, mostly PDF. ``text`` instead of ``source`` for one that is given as plain text."""

    source: Source | None = None
    text: str | None = None
    filename: str | None = None
    title: str | None = None
    context: str | None = None
    citations: bool | None = None  # whether the answer shall cite it


class AudioPart(Part):
    """Sound. An assistant's own is named by ``id`` later; ``transcript`` is what it says."""

    source: Source
    format: str | None = None
    id: str | None = None
    transcript: str | None = None
    expires_at: int | None = None


class VideoPart(Part):
    """A film."""

    source: Source


class ToolCallPart(Part):
    """The model asks for a tool. ``arguments`` is the text as it came: JSON for functions, anything for custom tools.

    ``id`` is never empty: where an API has none, it is derived (`pointsman.canonical.identity`).
    """

    id: str
    name: str
    arguments: str = ""
    kind: Literal["function", "custom"] = "function"
    namespace: str | None = None


class ToolResultPart(Part):
    """What a tool gave. ``name`` is the tool's, where the client or its earlier call tells it."""

    call_id: str
    content: list["AnyPart"]
    name: str | None = None
    is_error: bool | None = None
    kind: Literal["function", "custom"] = "function"


class ReasoningPart(Part):
    """What the model thought: whole (``text``), in summaries, or hidden in ``opaque``."""

    text: str = ""
    summary: list[str] | None = None


class RefusalPart(Part):
    """The model's words for not answering."""

    text: str


class NativePart(Part):
    """A part that one API alone has (server tool use and results, executable code, computer calls ...).

    ``wire`` names the API; ``value`` is the whole part as it came. Carried to that API, dropped by name elsewhere.
    """

    wire: str
    type: str
    value: Extra


AnyPart = (
    TextPart | ImagePart | FilePart | AudioPart | VideoPart | ToolCallPart | ToolResultPart | ReasoningPart
    | RefusalPart | NativePart
)  # fmt: skip

# The wire APIs, as `Opaque.origin`, `NativePart.wire`, `Tool.wire`, `Request.wire` and the formats' WIRE name them.
WIRES = (
    "openai.chat", "openai.responses", "openai.completions", "anthropic", "gemini", "ollama", "cohere", "bedrock",
)  # fmt: skip
