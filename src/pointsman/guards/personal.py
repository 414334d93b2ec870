"""Personal data, by rows of our own: a narrow pattern, then a check of the number where it has one.

Every pattern is written so that its time grows with the text's length only: repeated pieces are bounded, and neighbours
can't match the same characters in two ways. docs/decisions/0021-guards.md compares this with libraries.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pointsman.guards.checksums import is_address, is_card, is_iban, is_ssn
from pointsman.guards.findings import Detect, by_pattern

# What stands before a finding is looked at behind its first character: so the search can leap to that.
_EMAIL: Final = re.compile(
    r"[A-Za-z0-9_](?<![\w.+%-].)[\w.+%'-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}(?![\w-])",
    re.ASCII,
)
_IBAN: Final = re.compile(r"[A-Z](?<![A-Za-z0-9].)[A-Z]\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_CARD: Final = re.compile(r"\d(?<![\w.+-].)(?<![A-Z]{2}\d\d .)(?:[ -]?\d){12,18}(?![\w-]|\.\d)", re.ASCII)
_SSN: Final = re.compile(r"\d(?<![\w-].)\d{2}-\d{2}-\d{4}(?![\w-])", re.ASCII)
_V4: Final = re.compile(r"\d(?<![\w.-].)\d{0,2}\.(?:\d{1,3}\.){2}\d{1,3}(?![\w-]|\.\d)", re.ASCII)
_V6: Final = re.compile(
    r"[0-9A-Fa-f:](?<![\w:.].)(?:(?<!:)[0-9A-Fa-f]{0,3}:|(?<=:))[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){1,6}(?![\w:])",
    re.ASCII,
)
# With its country's code, or in North America's usual groups.
_ABROAD: Final = re.compile(r"\+(?<![\w+].)[1-9]\d{0,2}(?:[ .-]?\(?\d{1,5}\)?){1,6}(?![\w-])", re.ASCII)
_AMERICAN: Final = re.compile(
    r"[(1-9](?<![\w.+-].)(?:(?<=1)[ .-]\(?[2-9]\d{2}|(?<=\()[2-9]\d{2}|(?<=[2-9])\d{2})\)?[ .-]?[2-9]\d{2}[ .-]\d{4}"
    r"(?![\w-]|\.\d)",
    re.ASCII,
)
PHONE_DIGITS: Final = range(8, 16)  # ITU-T E.164: at most 15, the country's code included


def _is_phone(text: str) -> bool:
    return sum(one.isdigit() for one in text) in PHONE_DIGITS


def _joined(*detectors: Detect) -> Detect:
    return lambda text: [found for detect in detectors for found in detect(text)]


def _if_in(mark: str, detect: Detect) -> Detect:
    """Look only into texts that have what every finding has: most have not."""
    return lambda text: detect(text) if mark in text else ()


PERSONAL: Final[Mapping[str, Detect]] = MappingProxyType(
    {
        "email": _if_in("@", by_pattern(_EMAIL, "EMAIL")),
        "phone": _joined(
            _if_in("+", by_pattern(_ABROAD, "PHONE", _is_phone)), by_pattern(_AMERICAN, "PHONE", _is_phone)
        ),
        "iban": by_pattern(_IBAN, "IBAN", is_iban),
        "credit_card": by_pattern(_CARD, "CREDIT_CARD", is_card),
        "ssn": by_pattern(_SSN, "SSN", is_ssn),
        "ip_address": _joined(
            by_pattern(_V4, "IP_ADDRESS", is_address), _if_in(":", by_pattern(_V6, "IP_ADDRESS", is_address))
        ),
    }
)
