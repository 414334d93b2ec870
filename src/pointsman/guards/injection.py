"""Signs that a text tries to give a model other orders: in plain words, or hidden from filters that read those only.

Heuristics, not proof: they know how such texts look (OWASP's LLM01, its cheat sheet on prompt injection, 2026), in
English. Hidden means: letters apart, the inner letters of words mixed, base64 or hexadecimal.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

from pointsman.guards.findings import Finding

LABEL: Final = "PROMPT_INJECTION"
_FEW: Final = r"(?:[\w']{1,20}\W{1,3}){0,5}?"
_SIGNS: Final = re.compile(
    rf"\b(?:ignore|disregard|forget|override|bypass|neglect|discard)\W{{1,3}}{_FEW}"
    r"(?:instructions?|prompts?|rules|guidelines|directions|directives|safety)\b"
    rf"|\b(?:reveal|show|print|repeat|output|display|leak|tell)\W{{1,3}}{_FEW}(?:system|hidden|initial|secret)\W{{1,3}}"
    r"(?:prompts?|instructions?|messages?)\b"
    r"|\byou\W{1,3}are\W{1,3}now\W{1,3}(?:in\W{1,3})?(?:dan|developer|jailbroken|unrestricted|evil|god)\b"
    r"|\bdo\W{1,3}anything\W{1,3}now\b|\b(?:developer|god|jailbreak)\W{1,3}mode\W{1,3}(?:on|enabled|activated)\b"
    rf"|\b(?:act|pretend|behave)\W{{1,3}}{_FEW}(?:no|without)\W{{1,3}}(?:restrictions|rules|limits|filters|guidelines)\b"
    r"|\bnew\W{1,3}(?:system\W{1,3})?instructions\W{1,3}(?:are|follow|begin)\b"
    r"|<\|(?:im_start|im_end|system|endoftext|start_header_id)\|>|\[/?INST\]|<</?SYS>>",
    re.IGNORECASE,
)
# Each sign has one of these.
_HINTS: Final = (
    "instruction", "prompt", "rules", "guideline", "direction", "directive", "safety", "message", "dan", "developer",
    "jailbr", "unrestricted", "evil", "god", "anything", "restrictions", "limits", "filters", "<|", "inst]", "sys>",
)  # fmt: skip
# The same, letters only.
_SQUEEZED: Final = re.compile(
    r"(?:ignore|disregard|forget|override|bypass)[a-z]{0,24}(?:instruction|prompt|rules|guidelines)"
    r"|(?:reveal|show|print|repeat)[a-z]{0,16}(?:systemprompt|systemmessage|instructions)|doanythingnow"
)
_APART: Final = re.compile(r"(?<!\w)\w(?:[ .\-_*|]{1,2}\w(?!\w)){11,400}")
_WORD: Final = re.compile(r"[A-Za-z]{4,16}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{20,20000}={0,2}")
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2}){12,10000}")
KEYWORDS: Final = (
    "ignore", "disregard", "forget", "override", "bypass", "reveal", "system", "prompt", "prompts", "instructions",
    "instruction", "previous", "rules", "guidelines", "secret", "hidden", "developer", "anything",
)  # fmt: skip


def _shape(word: str) -> tuple[str, str, str]:
    return word[0], "".join(sorted(word[1:-1])), word[-1]


_SHAPES: Final = {_shape(word): word for word in KEYWORDS}


def find_injections(text: str) -> Iterator[Finding]:
    """Every sign in the text, and every hidden one."""
    seen = False
    for match in _signs(text):
        seen = True
        yield Finding(match.start(), match.end(), LABEL, restore=False)
    if not seen and any(map(_is_mixed, set(_WORD.findall(text)))):
        for match in _signs(_WORD.sub(_mended, text)):  # words keep their lengths, so places their meaning
            yield Finding(match.start(), match.end(), LABEL, restore=False)
    for match in _APART.finditer(text):
        if _SQUEEZED.search("".join(filter(str.isalpha, match[0])).lower()):
            yield Finding(match.start(), match.end(), LABEL, restore=False)
    yield from _encoded(text)


def _signs(text: str) -> Iterator[re.Match[str]]:
    """The signs in a text; one that has no word of any sign is not searched."""
    lower = text.lower()
    return _SIGNS.finditer(text) if any(hint in lower for hint in _HINTS) else iter(())


def _is_mixed(word: str) -> bool:
    """Whether a word is one of the keywords with its inner letters mixed."""
    word = word.lower()
    return _SHAPES.get(_shape(word), word) != word


def _mended(match: re.Match[str]) -> str:
    word = match[0].lower()
    return _SHAPES.get(_shape(word), match[0])


def _encoded(text: str) -> Iterator[Finding]:
    for match in _HEX.finditer(text):
        if _says_so(binascii.unhexlify(match[0])):
            yield Finding(match.start(), match.end(), LABEL, restore=False)
    for match in _BASE64.finditer(text):
        word = match[0].rstrip("=").replace("-", "+").replace("_", "/")
        try:
            data = base64.b64decode(word + "=" * (-len(word) % 4))
        except (binascii.Error, ValueError):
            continue
        if _says_so(data):
            yield Finding(match.start(), match.end(), LABEL, restore=False)


def _says_so(data: bytes) -> bool:
    try:
        return _SIGNS.search(data.decode("utf-8")) is not None
    except UnicodeDecodeError:
        return False
