"""Credentials in texts: the formats that vendors give their keys, PEM, JWT, passwords in URLs and assignments, and
words too random for anything else.

The vendors' formats are as their own documentation and their secret-scanning partners publish them (2026-11).
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from pointsman.guards.findings import Finding

LABEL: Final = "SECRET"
_FORMATS: Final = (
    r"sk-[A-Za-z0-9][A-Za-z0-9_-]{30,250}",  # OpenAI, Anthropic (sk-ant-), OpenRouter (sk-or-v1-), ours, many more
    r"gh[opsur]_[A-Za-z0-9]{36,250}",  # GitHub
    r"github_pat_[A-Za-z0-9_]{60,120}",
    r"glpat-[A-Za-z0-9_-]{20,60}",  # GitLab
    r"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}",  # AWS
    r"AIza[A-Za-z0-9_-]{35}",  # Google
    r"ya29\.[A-Za-z0-9_-]{20,400}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,250}",  # Slack
    *(rf"{role}k_(?:live|test)_[A-Za-z0-9]{{16,250}}" for role in "srp"),  # Stripe
    r"whsec_[A-Za-z0-9+/=]{24,80}",
    r"hf_[A-Za-z0-9]{30,60}",  # Hugging Face
    r"gsk_[A-Za-z0-9]{40,60}",  # Groq
    r"xai-[A-Za-z0-9]{60,100}",
    r"r8_[A-Za-z0-9]{37,40}",  # Replicate
    r"pplx-[A-Za-z0-9]{40,60}",  # Perplexity
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-[A-Za-z0-9_-]{50,250}",
    r"dop_v1_[a-f0-9]{64}",  # DigitalOcean
    r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",  # SendGrid
    r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",  # Shopify
    r"EAACEdEose0cBA[A-Za-z0-9]{20,250}",  # Facebook
    *(
        rf"{prefix}_[A-Za-z0-9_-]{{20,120}}" for prefix in ("hmpk", "hxv", "oma", "cc_live", "cc_agent")
    ),  # this gateway's
    r"eyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,16000}\.[A-Za-z0-9_-]{16,2000}",  # JWT
)
_FORMAT: Final = re.compile(rf"(?:{'|'.join(_FORMATS)})(?![A-Za-z0-9_])")
_PEM_BEGIN: Final = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END: Final = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_IN_URL: Final = re.compile(r"://[^\s:/@\"']{1,128}:([^\s/@\"']{3,256})@")
_ASSIGNED: Final = re.compile(r"[:=]>?[ \t]{0,4}[\"']?([^\s\"',;<>(){}=:][^\s\"',;<>(){}]{7,255})")
_NAME: Final = re.compile(
    r"(?:api[_-]?key|access[_-]?key|secret|token|passwd|password|pwd|passphrase|credential)s?[\"']?\s{0,4}:?$",
    re.IGNORECASE,
)
NAME_LENGTH: Final = 24  # characters before an assignment that can hold the end of such a name
_WORD: Final = re.compile(r"[A-Za-z0-9+/_-](?<![A-Za-z0-9+/_=.-].)[A-Za-z0-9+/_-]{31,511}={0,2}(?![A-Za-z0-9+/_=.-])")
ASSIGNED_BITS: Final = 3.0  # per character; English words have about 2.5, made-up passwords more
WORD_BITS: Final = 4.5  # base64 of random bytes has about 4.9 at this length, hexadecimal at most 4


def find_secrets(text: str) -> Iterator[Finding]:
    """Every credential that can be told by its looks."""
    for match in _FORMAT.finditer(text):
        before = text[match.start() - 1 : match.start()]
        if not (before.isascii() and before.isalnum()) and before != "_":
            yield Finding(match.start(), match.end(), LABEL)
    yield from _private_keys(text)
    for match in _IN_URL.finditer(text):
        yield Finding(match.start(1), match.end(1), LABEL)
    for match in _ASSIGNED.finditer(text):
        at = match.start()
        if _NAME.search(text[max(0, at - NAME_LENGTH) : at]) and _is_password(match[1]):
            yield Finding(match.start(1), match.end(1), LABEL)
    for match in _WORD.finditer(text):
        if _is_random(match[0]):
            yield Finding(match.start(), match.end(), LABEL)


def _private_keys(text: str) -> Iterator[Finding]:
    """Keys in PEM; one whose end is missing reaches to the end of the text."""
    at = 0
    while (begin := _PEM_BEGIN.search(text, at)) is not None:
        end = _PEM_END.search(text, begin.end())
        at = end.end() if end is not None else len(text)
        yield Finding(begin.start(), at, LABEL)


def bits_of(text: str) -> float:
    """Shannon's entropy of a text's characters, in bits for each."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def _classes(text: str) -> int:
    """How many of small letters, capitals and digits it has."""
    return sum((any(one.islower() for one in text), any(one.isupper() for one in text), any(map(str.isdigit, text))))


def _is_password(value: str) -> bool:
    """Whether what was assigned to a secret's name looks like one, not like a name, a call or a placeholder."""
    if re.fullmatch(r"[A-Za-z_.$-]+(?:\[.*)?", value) or value[0] in "$[%*":
        return False
    return _classes(value) >= 2 and any(map(str.isdigit, value)) and bits_of(value) >= ASSIGNED_BITS


def _is_random(word: str) -> bool:
    """Whether a long word is no path, no name and no digest, but as random as a key."""
    if _classes(word) < 3 or word.count("/") > 2 or word.count("_") > 4 or word.count("-") > 4:
        return False
    return bits_of(word) >= WORD_BITS
