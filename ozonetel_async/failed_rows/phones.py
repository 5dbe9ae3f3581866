"""Phone numbers as keys: the same key for a number whatever a database or a spreadsheet has made of its spelling."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Rounded", "full_number", "phone_key", "rounded"]

# The longest spelling worth reading: 16 digits with separators between all of them.
_TEXT_LIMIT = 64
_NATIONAL = 10

_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\xad]")
# A spreadsheet keeps a number as text by '… or ="…"; exports carry these marks along.
_MARKS = " \t\r\n\xa0='\"`\u2018\u2019"
_SEPARATORS = re.compile("[\\s().\u2010-\u2015\u2212-]+")
_FLOAT = re.compile(r"(\+?\d{3,16})\.0{1,2}", re.ASCII)
_GROUPED = re.compile(r"\d{1,3}(?:,\d{2,3})+", re.ASCII)
_SCIENTIFIC = re.compile(r"\+?(\d)(?:[.,](\d{1,20}))?e\+?(\d{1,2})", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"(\+?)(\d{1,20})", re.ASCII)


class Rounded(NamedTuple):
    """A number in spreadsheet notation that has lost digits: ``9.19812E+11`` is ``("919812", 12)``."""

    digits: str
    length: int

    def fits(self, number: str) -> bool:
        """Whether rounding or cutting ``number`` (digits only) to as many digits may give this one."""
        if len(number) != self.length:
            return False
        unit = int(10 ** (self.length - len(self.digits)))
        distance = int(number) - int(self.digits) * unit
        return -unit <= 2 * distance and distance < unit


def phone_key(text: str, *, country_code: str = "91") -> str | None:
    """The number's digits without what spellings differ in; None when the text holds no whole number.

    Gone are a plus, leading zeros, blanks, dashes, dots, brackets, the marks and the ``.0`` of spreadsheets, and the
    country code in front of ten further digits. ``"+91 98123-45678"``, ``"098123 45678"``, ``"9812345678.0"`` and
    ``"9.19812345678E+11"`` all give ``"9812345678"``.

    Args:
        text: a cell as a file has it.
        country_code: of the platform's own country, whose numbers are written with and without it.
    """
    parsed = _parse(text)
    return _split(parsed[1], country_code)[1] if parsed else None


def full_number(text: str, *, country_code: str = "91") -> str | None:
    """The number's digits with country code, as far as the spelling tells: ten bare digits are a national number.

    Tells numbers apart that share a key: ``"+6591234567"`` and ``"6591234567"``.
    """
    parsed = _parse(text)
    if parsed is None:
        return None
    international, digits = parsed
    code, number = _split(digits, country_code)
    if number is not None and not code and not international and len(number) == _NATIONAL:
        return country_code + number
    return None if number is None else code + number


def rounded(text: str) -> Rounded | None:
    """What is left of a number in spreadsheet notation with fewer digits than the number has; else None."""
    match = _SCIENTIFIC.fullmatch(_bare(text))
    if match is None or match[1] == "0":
        return None
    digits, length = match[1] + (match[2] or ""), int(match[3]) + 1
    return Rounded(digits, length) if len(digits) < length <= 16 else None


def _bare(text: str) -> str:
    if len(text) > _TEXT_LIMIT:
        return ""
    text = _INVISIBLE.sub("", text).strip(_MARKS)
    return "+" + text[3:] if text[:3].lower() == "%2b" else text


def _parse(text: str) -> tuple[bool, str] | None:
    """Whether the country code is certainly there, and the digits."""
    text = _bare(text)
    if match := _SCIENTIFIC.fullmatch(text):
        digits, length = match[1] + (match[2] or ""), int(match[3]) + 1
        whole = len(digits) >= length and not digits[length:].strip("0")
        return (False, digits[:length]) if whole else None
    if match := _FLOAT.fullmatch(text):
        text = match[1]
    elif _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    found = _NUMBER.fullmatch(_SEPARATORS.sub("", text))
    return (bool(found[1]) or found[2].startswith("00"), found[2]) if found else None


def _split(digits: str, country_code: str) -> tuple[str, str | None]:
    """Country code, when it is ours and ten further digits follow, and the rest; None when it is no number."""
    digits = digits.lstrip("0")
    if digits.startswith(country_code):
        # "+91 (0) 98123 45678": the zero of national dialling is often kept behind the code.
        national = digits[len(country_code) :].lstrip("0")
        if len(national) == _NATIONAL:
            return country_code, national
    return "", digits if 3 <= len(digits) <= 16 else None
