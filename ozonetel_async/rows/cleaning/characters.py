"""Characters outside ASCII that people have in phone numbers, and what each stands for.

The table is fixed, since ``unicodedata`` answers differently from one Python release to the next, and a journal
compares what became of a row.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["DIGIT_RUNS", "INVISIBLE", "OTHER_DIGIT", "fold"]

# The zero of every script whose ten digits follow one another.
DIGIT_RUNS: Final = (
    *(0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0DE6, 0x0E50),
    *(0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50),
    *(0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x11066, 0x110F0, 0x11136, 0x111D0),
    # the five sets of mathematical digits
    *range(0x1D7CE, 0x1D800, 10),
)
_MEANINGS: Final = {
    " ": "\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000",
    "-": "\u058a\u1806\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2e3a\u2e3b\ufe31\ufe32\ufe58\ufe63",
    "+": "\ufb29\ufe62",
    "'": "\xb4\u02b9\u02bb\u02bc\u2018\u2019\u201a\u201b\u2032",
    '"': "\xab\xbb\u201c\u201d\u201e\u201f\u2033",
    ".": "\u066b",
    ",": "\u060c\u066c\u3001",
    ";": "\u061b",
    "/": "\u2044\u2215",
    "\n": "\x85\u2028\u2029",
}
# Soft hyphens, joiners, marks of direction, byte order marks, variation selectors.
INVISIBLE: Final = re.compile("[\xad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]+")
OTHER_DIGIT: Final = re.compile("[" + "".join(f"{chr(zero)}-{chr(zero + 9)}" for zero in DIGIT_RUNS) + "]")

_FOLDED: Final[dict[int, str]] = {
    # full-width forms of ASCII
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    **{ord(character): to for to, characters in _MEANINGS.items() for character in characters},
    **{zero + value: str(value) for zero in DIGIT_RUNS for value in range(10)},
}


def fold(text: str) -> str:
    """The text with the characters of the table in ASCII and without invisible marks; others stay."""
    return text if text.isascii() else INVISIBLE.sub("", text).translate(_FOLDED)
