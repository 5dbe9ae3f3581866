"""Names in the characters that the service takes: punctuation replaced, letters written in A to Z, or left out.

The service's own list of characters is that of ``NameCheck``. A name is never shortened, and never guessed at: where a
script cannot be written in Latin letters by table, the lead goes without its name.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from .characters import DIGIT_RUNS, INVISIBLE
from .indic import INDIC_RUN, romanise
from .latin_letters import LATIN_LETTERS
from .result import Cleaned, Refused

__all__ = ["clean_name"]

_LEFT_OUT: Final = Cleaned("", "left out")
_ENCODING: Final = Refused(
    "the file's encoding was read wrongly, such as cp1252 as latin-1; name the right one (often cp1252)"
)
_CONTROL: Final = Refused("a control character in it")
_LETTERS: Final = Refused("letters or characters other than A to Z; names='latin' writes many of them in A to Z")

_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
_ENCODED = re.compile("[\x80-\x9f\ud800-\udfff]")
# What UTF-8 looks like when it is read as cp1252, and what decoders put where they fail.
_BEHIND = "\xa0-\xbf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122"
_MOJIBAKE = re.compile(
    f"[\xc2-\xc6\xce-\xd1\xd7-\xd9][{_BEHIND}]|[\xe0-\xef][{_BEHIND}]{{2}}|\xf0[{_BEHIND}]{{2}}|\ufffd"
)
_FILLER = re.compile(r"\s*(?:#(?:n/?a|null!|value!|ref!|name\?|num!|div/0!)|n/a)\s*", re.IGNORECASE)

_REPLACED: Final = {
    "": "'\"`\xb4\u02b9-\u02bc\u02ee\u2018-\u201f\u2032-\u2037\u2039\u203a\xab\xbb\u05f3\u05f4",
    " ": ",;|#!?*^=~<>\t\n\r\v\f\xa0\xa1\xa6\xb7\xbf\u1680\u2000-\u200a"
    "\u2020-\u2022\u2028\u2029\u202f\u205f\u3000-\u3002",
    "-": "/\\\xad\u058a\u1806\u2010-\u2015\u2044\u2212\u2215\u2e3a\u2e3b",
    "(": "[{",
    ")": "]}",
    " and ": "&",
    " at ": "@",
    "...": "\u2026",
}
_ENTITIES: Final = {"&amp;": "&", "&#39;": "'", "&apos;": "'", "&quot;": '"', "&nbsp;": " "}
# Accents that stand as characters of their own, behind the letter.
_ACCENTS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")
# Pictures and signs that are no part of a name, with their modifiers.
_SYMBOLS = re.compile(
    "[\xbc-\xbe\xa2-\xa5\xa7-\xa9\xac\xae-\xb1\xb6\xb8\xd7\xf7\u02c2-\u02df\u20a0-\u20cf\u2117\u2120\u2122\u2190-\u245f"
    "\u2469-\u24b5\u24ea-\u2bff\U0001f000-\U0001fbff\U000e0020-\U000e007f]+"
)
_ALLOWED = re.compile(r"[A-Za-z0-9_ ().+$%:\-]*[A-Za-z0-9][A-Za-z0-9_ ().+$%:\-]*")


def _expanded(characters: str) -> list[str]:
    """The characters of a list in which ``x-y`` beyond ASCII is a range."""
    found = re.findall("(.)-([^\x00-\x7f])|(.)", characters, re.DOTALL)
    return [chr(code) for a, b, one in found for code in (range(ord(a), ord(b) + 1) if a else (ord(one),))]


_PUNCTUATION: Final[dict[int, str]] = {
    ord(character): to for to, characters in _REPLACED.items() for character in _expanded(characters)
}
_PUNCTUATION[0xAD] = ""
_LATIN: Final[dict[int, str]] = (
    LATIN_LETTERS
    # full-width forms of ASCII, whose punctuation is replaced in turn
    | {code: _PUNCTUATION.get(code - 0xFEE0, chr(code - 0xFEE0)) for code in range(0xFF01, 0xFF5F)}
    | {zero + i: str(i) for zero in DIGIT_RUNS for i in range(10)}
)


def clean_name(cell: str, policy: Literal["punctuation", "latin", "drop"]) -> Cleaned | Refused:
    """A name in the characters that the service takes.

    Args:
        cell: a text that does not pass the strict check as it is.
        policy: as in ``Cleaning.names``.

    Returns:
        The name, ``""`` where the lead goes without one, and the kind of change; or why the row cannot be sent.
    """
    if not cell.isascii() and _ENCODED.search(cell):
        return _ENCODING
    if _CONTROLS.search(cell):
        return _CONTROL
    if policy == "drop" or _FILLER.fullmatch(cell):
        return _LEFT_OUT
    if not cell.isascii() and _MOJIBAKE.search(cell):
        return _LEFT_OUT if policy == "latin" else _ENCODING
    text, kind = _punctuated(cell), "punctuation"
    if not text.isascii():
        if policy == "punctuation":
            return _LETTERS
        kind = "transliterated" if INDIC_RUN.search(text) else "accents"
        romanised = _romanised(text.translate(_LATIN))
        if romanised is None:
            return _LEFT_OUT
        text = romanised
    text = " ".join(text.split())
    return Cleaned(text, kind) if _ALLOWED.fullmatch(text) else _LEFT_OUT


def _punctuated(cell: str) -> str:
    if "&" in cell and ";" in cell:
        for entity, character in _ENTITIES.items():
            cell = cell.replace(entity, character)
    text = cell.translate(_PUNCTUATION)
    return text if text.isascii() else _SYMBOLS.sub("", INVISIBLE.sub("", text))


def _romanised(text: str) -> str | None:
    """The text with its accents taken off and its Indic words in Latin letters; None when other letters are left."""
    text = _ACCENTS.sub("", text)
    if text.isascii():
        return text
    out: list[str] = []
    end = 0
    for run in INDIC_RUN.finditer(text):
        word = romanise(run[0])
        if word is None:
            return None
        between = text[end : run.start()]
        begins = not (between or "".join(out))[-1:].isalnum()
        out += (between, word[:1].upper() + word[1:] if begins else word)
        end = run.end()
    text = "".join([*out, text[end:]])
    return text if text.isascii() else None
