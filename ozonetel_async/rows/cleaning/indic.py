"""Names in nine Indic scripts, written in Latin letters as their owners mostly do.

The blocks of Devanagari, Bengali, Gurmukhi, Gujarati, Odia, Tamil, Telugu, Kannada and Malayalam share one layout of
128 places, so that one table of offsets serves all of them. On top of it come rules for the vowel "a", which a
consonant holds unless another vowel is written, and which Hindi and its neighbours mostly do not speak at a word's end
and between single consonants; and rules for Tamil, which writes "k" and "g", "t" and "d" with one letter.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["INDIC_RUN", "romanise"]

_FIRST, _LAST = 0x0900, 0x0D7F
INDIC_RUN: Final = re.compile("|".join(f"[{chr(block)}-{chr(block + 0x7F)}]+" for block in range(_FIRST, _LAST, 0x80)))
_DEVANAGARI, _BENGALI, _GURMUKHI, _GUJARATI, _ODIA, _TAMIL, _TELUGU, _KANNADA, _MALAYALAM = range(9)
_SPOKEN_A = frozenset((_TAMIL, _TELUGU, _KANNADA, _MALAYALAM))
"""Scripts whose languages speak every "a"."""
_EASTERN = frozenset((_BENGALI, _ODIA))

_VOWEL_LETTERS = ("a", "a", "a", "i", "i", "u", "u", "ri", "li", "e", "e", "e", "ai", "o", "o", "o", "au")
_VOWEL_SIGNS = ("a", "i", "i", "u", "u", "ri", "ri", "e", "e", "e", "ai", "o", "o", "o", "au")
_VOWELS: Final = dict(enumerate(_VOWEL_LETTERS, 0x04)) | {0x60: "ri", 0x61: "li"}
_SIGNS: Final = dict(enumerate(_VOWEL_SIGNS, 0x3E)) | {0x62: "li", 0x63: "li"}
_CONSONANTS: Final = dict(
    zip(
        range(0x15, 0x3A),
        (
            *("k", "kh", "g", "gh", "n", "ch", "chh", "j", "jh", "n", "t", "th", "d", "dh", "n", "t", "th", "d", "dh"),
            *("n", "n", "p", "ph", "b", "bh", "m", "y", "r", "r", "l", "l", "zh", "v", "sh", "sh", "s", "h"),
        ),
        strict=True,
    )
) | {0x58: "q", 0x59: "kh", 0x5A: "g", 0x5B: "z", 0x5C: "r", 0x5D: "rh", 0x5E: "f", 0x5F: "y"}
_ANUSVARA: Final = frozenset((0x00, 0x01, 0x02))
_VISARGA, _PHA, _YA, _NUKTA, _VIRAMA = 0x03, 0x2B, 0x2F, 0x3C, 0x4D
# The dot below makes another consonant of the one before it.
_DOTTED: Final = {"k": "q", "g": "g", "j": "z", "d": "r", "dh": "rh"}
# A vowel sign in two parts, when they stand one after the other: the second part, and what the two are together.
_SECOND_PART: Final = {0x3E: "o", 0x42: "o", 0x56: "ai", 0x57: "au"}
# Where a script has something else at a place of the layout: its consonant and its vowel.
_OTHERS: Final = {
    **dict.fromkeys("\u0950\u0ad0\u0a74\u0bd0", ("", "om")),
    **dict.fromkeys("\u0d7a\u0d7b", ("n", "")),
    **dict.fromkeys("\u0d7d\u0d7e", ("l", "")),
    **dict.fromkeys("\u09f1\u0b71", ("w", "A")),
    "\u0d7c": ("r", ""),
    "\u0d7f": ("k", ""),
    "\u09ce": ("t", ""),
    "\u09f0": ("r", "A"),
    "\u0972": ("", "a"),
    "\u0a70": ("~", ""),
    "\u0a71": ("\u0a71", ""),
}
# Consonants that a script speaks in another way than its neighbours.
_OWN_CONSONANTS: Final = {
    _TAMIL: {0x1E: "N", 0x24: "th", 0x31: "rr"},
    _ODIA: {0x5C: "d", 0x5D: "dh"},
    _TELUGU: {0x58: "ch", 0x59: "j", 0x5A: "r"},
}
_ADDAK, _AYTHAM = "\u0a71", "\u0b83"
# Carriers of Gurmukhi vowels, a mark of length, one of a dropped "a", one of a shortened word.
_UNSPOKEN: Final = frozenset("\u0a72\u0a73\u0970")
_UNSPOKEN_OFFSETS: Final = frozenset((0x3D, 0x55))
_BLANKS: Final = frozenset((0x64, 0x65))
_DIGITS: Final = range(0x66, 0x70)

# What the vowel of a unit is: none written, the consonant's own, or the consonant's own and not spoken.
_NONE, _OWN, _MUTE = "", "A", "-"
_SILENT: Final = frozenset((_NONE, _MUTE))
_NASAL = "~"
_LABIALS: Final = frozenset("pbm")
# A cluster that ends in one of these is hard to speak without an "a" behind it: Chandra, Mishra, Krishna, Surya.
_NEEDS_A: Final = frozenset("ryvnl")
# Swati, Ishwar, Jwala; at a word's beginning Dwarka, but Advait.
_W_BEHIND: Final = frozenset(("s", "sh", "dh", "j", "g", "k"))


class _Unit:
    """Consonants that stand before one vowel; both may be missing."""

    __slots__ = ("consonant", "vowel")

    def __init__(self, consonant: str, vowel: str) -> None:
        self.consonant = consonant
        self.vowel = vowel

    @property
    def nasal(self) -> bool:
        return self.consonant == _NASAL


def romanise(run: str) -> str | None:
    """A word in one Indic script in letters a to z; None when a character of it is in no table.

    Args:
        run: a text that ``INDIC_RUN`` matches; joiners must be taken out before.
    """
    script = (ord(run[0]) - _FIRST) >> 7
    words: list[str] = []
    units: list[_Unit] = []
    for character in run:
        offset = (ord(character) - _FIRST) & 0x7F
        if offset in _BLANKS or offset in _DIGITS:
            words.append(_word(units, script) + (" " if offset in _BLANKS else str(offset - 0x66)))
            units = []
        elif not _take(units, character, offset, script):
            return None
    return "".join(words) + _word(units, script)


def _take(units: list[_Unit], character: str, offset: int, script: int) -> bool:
    """Adds one character to the units; False when it is in no table."""
    last = units[-1] if units else None
    if (other := _OTHERS.get(character)) is not None:
        units.append(_Unit(*other))
    elif offset in _CONSONANTS:
        units.append(_Unit(_consonant(offset, script, first=last is None), _OWN))
    elif offset in _SIGNS or offset in _SECOND_PART:
        return last is not None and _sign(last, offset)
    elif offset == _VIRAMA:
        if last is not None and last.vowel == _OWN:
            last.vowel = _NONE
    elif offset in _ANUSVARA:
        units.append(_Unit(_NASAL, _NONE))
    elif offset in _VOWELS:
        units.append(_Unit("", _VOWELS[offset]))
    elif offset == _NUKTA:
        if last is not None and script != _ODIA:
            last.consonant = "sh" if last.consonant == "s" else _DOTTED.get(last.consonant, last.consonant)
    elif offset == _VISARGA:
        units.append(_Unit("h" if script != _TAMIL else _AYTHAM, _NONE))
    else:
        return character in _UNSPOKEN or offset in _UNSPOKEN_OFFSETS
    return True


def _sign(unit: _Unit, offset: int) -> bool:
    """Gives a unit its written vowel, or the second part of it."""
    if unit.vowel in ("e", "ai") and offset in _SECOND_PART:
        unit.vowel = _SECOND_PART[offset]
    elif offset in _SIGNS:
        unit.vowel = _SIGNS[offset]
    else:
        return False
    return True


def _consonant(offset: int, script: int, *, first: bool) -> str:
    if first and offset == _YA and script in _EASTERN:
        return "j"
    if offset == _PHA and script not in _SPOKEN_A:
        return "f"  # the dot that tells "f" from "ph" is mostly left out
    return _OWN_CONSONANTS.get(script, _CONSONANTS).get(offset) or _CONSONANTS[offset]


def _word(units: list[_Unit], script: int) -> str:
    if not units:
        return ""
    if script == _TAMIL:
        return _tamil(units)
    if script not in _SPOKEN_A:
        _silence(units, script)
    return _spelled(units, script)


def _silence(units: list[_Unit], script: int) -> None:
    """Takes out the "a" that nobody speaks: that at the end, then those between single consonants."""
    last = units[-1]
    if last.vowel == _OWN and len(units) > 1:
        before = units[-2]
        clustered = before.vowel == _NONE and before.consonant not in (_NASAL, _ADDAK)
        if clustered:
            soft = last.consonant in _NEEDS_A or (last.consonant == "m" and before.consonant != "r")
            spoken = script in _EASTERN or soft
        else:
            spoken = last.consonant == "y" and before.vowel == "i"
        if not spoken:
            last.vowel = _MUTE
    for i in range(len(units) - 2, 0, -1):
        unit, after = units[i], units[i + 1]
        if unit.vowel != _OWN or not unit.consonant or units[i - 1].vowel in _SILENT or not _onset(units, i + 1):
            continue
        ends_word = i + 2 == len(units)
        # Bhagvati, Shrimati, Prajapati; and Bengali Kamala, but Rajkumar.
        kept = ends_word and (
            script in _EASTERN or (unit.consonant in ("v", "m", "p") and after.consonant == "t" and after.vowel == "i")
        )
        if not kept and after.consonant != "y":
            unit.vowel = _MUTE


def _onset(units: list[_Unit], i: int) -> bool:
    """Whether one consonant with its vowel, or one with an "r" behind it, begins here."""
    unit = units[i]
    if not unit.consonant or unit.nasal or unit.consonant == _ADDAK:
        return False
    if unit.vowel not in _SILENT:
        return True
    after = units[i + 1] if i + 1 < len(units) else None
    # Not before "tr": Gayatri.
    if unit.vowel != _NONE or unit.consonant == "t" or after is None:
        return False
    return after.consonant == "r" and after.vowel not in _SILENT


def _spelled(units: list[_Unit], script: int) -> str:
    out: list[str] = []
    south = script in _SPOKEN_A
    for i, (unit, after) in enumerate(zip(units, [*units[1:], None], strict=True)):
        consonant = unit.consonant
        before = units[i - 1] if i else None
        clustered = before is not None and before.vowel == _NONE
        if consonant == _NASAL:
            consonant = _nasal(before, after, south=south)
        elif consonant == _ADDAK:
            consonant = after.consonant[:1] if after is not None and after.consonant not in (_NASAL, _ADDAK) else ""
        elif consonant == "h" and i > 1 and units[i - 1].nasal and units[i - 2].vowel == "i":
            consonant = "gh"  # Singh
        elif consonant == "v" and not south and _is_w(units, i):
            consonant = "w"
        elif clustered and before is not None:
            if consonant == ("b" if script in _EASTERN else "v") and (
                before.consonant in _W_BEHIND or (i == 1 and before.consonant == "d")
            ):
                consonant = "w"
            elif consonant == "n" and before.consonant == "j":
                out.pop()
                consonant = "gn" if south else "gy"
            elif consonant == "r" and south and before.consonant == "sh":
                out[-1] = "s"
        vowel = unit.vowel
        out.append(consonant + ("a" if vowel == _OWN else "" if vowel == _MUTE else vowel))
    return "".join(out)


def _is_w(units: list[_Unit], i: int) -> bool:
    """Whether a "v" is written "w": behind a mute "a" (Bhagwan, Balwant), and in -wal and -wala."""
    unit, rest = units[i], units[i + 1 :]
    if i and units[i - 1].vowel == _MUTE and unit.vowel in (_OWN, "a"):
        return True
    ends = len(rest) == 1 and rest[0].vowel in (_MUTE, "a")
    return i > 0 and unit.vowel == "a" and ends and rest[0].consonant == "l"


def _nasal(before: _Unit | None, after: _Unit | None, *, south: bool) -> str:
    if after is None:
        return "m" if south or (before is not None and before.vowel == _OWN) else "n"
    return "m" if after.consonant[:1] in _LABIALS else "n"


# Tamil: what a consonant is at a word's beginning or end and beside others, behind a nasal, and between vowels.
_TAMIL_STOPS: Final = {
    "k": ("k", "g", "g"),
    "ch": ("s", "j", "s"),
    "t": ("t", "d", "d"),
    "th": ("th", "d", "th"),
    "p": ("p", "b", "b"),
}
_TAMIL_DOUBLED: Final = {"k": "kk", "ch": "ch", "t": "tt", "th": "th", "p": "pp", "rr": "tr"}
# Tamil has no clusters at a word's beginning, and puts an "i" into those that names bring along.
_TAMIL_BEGINNINGS: Final = ((re.compile("^pir(?=[aeiou])"), "pr"), (re.compile("^kiru(?=sh)"), "kri"))


def _tamil(units: list[_Unit]) -> str:
    out: list[str] = []
    i = 0
    while i < len(units):
        unit = units[i]
        before = units[i - 1] if i else None
        after = units[i + 1] if i + 1 < len(units) else None
        consonant = unit.consonant
        if consonant == _AYTHAM:
            consonant = ""
        elif before is not None and before.consonant == _AYTHAM and consonant == "p":
            consonant = "f"
        elif consonant == _NASAL:
            consonant = _nasal(before, after, south=True)
        elif unit.vowel == _NONE and after is not None and after.consonant == consonant and consonant in _TAMIL_DOUBLED:
            consonant, unit = _TAMIL_DOUBLED[consonant], after
            i += 1
        else:
            consonant = _tamil_single(consonant, unit, before)
        out.append(consonant + ("a" if unit.vowel == _OWN else unit.vowel))
        i += 1
    word = "".join(out)
    for pattern, beginning in _TAMIL_BEGINNINGS:
        word = pattern.sub(beginning, word)
    return word


def _tamil_single(consonant: str, unit: _Unit, before: _Unit | None) -> str:
    if consonant == "ch" and before is not None and before.consonant == "t" and before.vowel == _NONE:
        return "ch"  # Minatchi
    behind_nasal = before is not None and before.vowel == _NONE and before.consonant in ("n", "m", "N")
    if consonant == "rr":
        return "dr" if behind_nasal else "r"
    if consonant == "N":
        # A palatal nasal, "gn" where a vowel follows at the beginning: Gnanam.
        return "gn" if before is None and unit.vowel != _NONE else "n"
    stop = _TAMIL_STOPS.get(consonant)
    if stop is None:
        return consonant
    if behind_nasal:
        return stop[1] if unit.vowel != _NONE or consonant != "th" else "th"  # Vasanth
    between = before is not None and before.vowel != _NONE and unit.vowel != _NONE
    soft = before is not None and before.vowel == _NONE and before.consonant in ("r", "l", "y", "zh")
    return stop[2] if between or (soft and consonant != "p") else stop[0]
