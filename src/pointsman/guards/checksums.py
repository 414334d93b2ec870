"""Numbers that prove themselves: bank accounts, cards, social security numbers, addresses."""

from ipaddress import ip_address
from typing import Final

# ISO 13616, registry release 99 (2024-12): how long an IBAN is in each country.
IBAN_LENGTHS: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}  # fmt: skip
CARD_LENGTHS: Final = range(13, 20)  # ISO/IEC 7812: up to 19 digits


def is_iban(text: str) -> bool:
    """Whether an IBAN's length and check digits (ISO 7064, mod 97-10) are right; blanks are left out."""
    iban = "".join(text.split()).upper()
    if IBAN_LENGTHS.get(iban[:2]) != len(iban) or not (iban.isalnum() and iban.isascii()):
        return False
    return int("".join(str(int(one, 36)) for one in iban[4:] + iban[:4])) % 97 == 1


def is_card(text: str) -> bool:
    """Whether a payment card's number begins as one (ISO/IEC 7812) and its check digit (Luhn) is right."""
    digits = [int(one) for one in text if one.isdigit()]
    if len(digits) not in CARD_LENGTHS or not 2 <= digits[0] <= 6 or len(set(digits)) < 2:
        return False
    total = sum(digits[-1::-2]) + sum(sum(divmod(2 * one, 10)) for one in digits[-2::-2])
    return total % 10 == 0


def is_ssn(text: str) -> bool:
    """Whether a US social security number can have been given out (no 000, 666, 9xx; no group 00; no serial 0000)."""
    area, group, serial = text[:3], text[4:6], text[7:]
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


def is_address(text: str) -> bool:
    """Whether a text is an IP address that says anything: not unspecified, and no bare ``::``-like piece of code."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return not address.is_unspecified and (address.version == 4 or text.count(":") >= 3)
