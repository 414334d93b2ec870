"""How the simulator counts a prompt's tokens, and its prompt cache: what a request reads from it and writes to it."""

import hashlib
import time
from typing import Final

import msgspec

from .anthropic_checks import Json
from .anthropic_request import blocks_of, cache_marks, cacheable_blocks

_LIFETIMES_S: Final = {"5m": 300.0, "1h": 3600.0}
_IMAGE_TOKENS: Final = 100
_PDF_TOKENS: Final = 1500
_MESSAGE_TOKENS: Final = 4
# A hit is looked for this many blocks before a mark: docs/en/build-with-claude/prompt-caching.
_LOOK_BACK: Final = 20


class PromptTokens(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt's tokens in buckets that do not overlap; their sum is the whole prompt."""

    uncached: int
    read: int = 0
    written_5m: int = 0
    written_1h: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.uncached + self.read + self.written_5m + self.written_1h


class _Prefix(msgspec.Struct, frozen=True):
    """A prompt up to the end of one block: what identifies it, its tokens, and its mark's lifetime if it has one."""

    key: bytes
    tokens: int
    lifetime: str | None


class PromptCache:
    """Remembers marked prefixes for as long as their marks say, however short (Anthropic: from 1024 tokens on)."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def take(self, request: Json) -> PromptTokens:
        """The buckets of ``request``'s tokens; what it marks can be read by the requests after it."""
        prefixes = _prefixes(request)
        total = prompt_tokens(request)
        marks = [at for at, one in enumerate(prefixes) if one.lifetime and one.tokens]
        if not marks:
            return PromptTokens(uncached=total)
        now = time.monotonic()
        hit = self._longest_hit(prefixes, marks, now)
        read = written = prefixes[hit].tokens if hit is not None else 0
        parts = {"5m": 0, "1h": 0}
        for at in marks:
            one = prefixes[at]
            lifetime = one.lifetime or "5m"
            self._until[one.key] = now + _LIFETIMES_S[lifetime]
            parts[lifetime] += max(0, one.tokens - written)
            written = max(written, one.tokens)
        return PromptTokens(uncached=total - written, read=read, written_5m=parts["5m"], written_1h=parts["1h"])

    def _longest_hit(self, prefixes: list[_Prefix], marks: list[int], now: float) -> int | None:
        for mark in reversed(marks):
            for at in range(mark, max(-1, mark - _LOOK_BACK), -1):
                if self._until.get(prefixes[at].key, 0) > now:
                    return at
        return None


def prompt_tokens(request: Json) -> int:
    """A stable count of the prompt's tokens: one per four characters, a fixed price for images and PDFs."""
    blocks = sum(_tokens(block) for _, block in cacheable_blocks(request))
    return blocks + _MESSAGE_TOKENS * len(request["messages"])


def _prefixes(request: Json) -> list[_Prefix]:
    marked = {path: mark.get("ttl", "5m") for path, mark in cache_marks(request)}
    blocks = list(cacheable_blocks(request))
    if "" in marked and blocks:
        marked.setdefault(blocks[-1][0], marked.pop(""))
    digest = hashlib.sha256(request["model"].encode())
    tokens, found = 0, []
    for path, block in blocks:
        place = path.partition(".")[0].encode()
        digest.update(place + msgspec.json.encode(_unmarked(block), order="deterministic"))
        tokens += _tokens(block)
        found.append(_Prefix(digest.digest(), tokens, marked.get(path)))
    return found


def _unmarked(block: Json) -> Json:
    return {name: value for name, value in block.items() if name != "cache_control"}


def _tokens(block: Json) -> int:
    kind = block.get("type")
    if kind == "text":
        return (len(block["text"]) + 3) // 4
    if kind == "image":
        return _IMAGE_TOKENS
    if kind == "document" and block["source"]["type"] in ("base64", "url", "file"):
        return _PDF_TOKENS
    if kind == "tool_result":
        nested = isinstance(block.get("content"), list)
        # Blocks inside a result are counted on their own.
        return 8 if nested else 8 + sum(_tokens(part) for part in blocks_of(block))
    return len(msgspec.json.encode(_unmarked(block))) // 4
