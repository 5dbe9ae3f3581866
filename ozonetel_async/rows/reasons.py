"""Reasons of invalid rows, counted by column and by the words that they share."""

from __future__ import annotations

import re
from typing import Final

from ..models import CellCounts

__all__ = ["count_reason", "reason_word"]

# What a reason says of the one cell: its length, how many digits, the place of a character.
_OF_THE_CELL = re.compile(r"^[\d,]+ characters?(?:, |$)|^a whole number of (?:more than )?\d+ digits$")
_OTHER_DIGITS = re.compile(r" of (?:more than )?\d+ digits")
_CHARACTER = re.compile(r"^[\d,]+ characters? with (.+) at position \d+")
_ENDS = re.compile(r"; |: expected |, got ")
_WORDS: Final = {
    "cells": "more or fewer cells than columns",
    "characters with its headers": "too many characters",
}
# Columns and reasons beyond this many, which no file of people has, are counted together.
_MOST_COLUMNS, _MOST_WORDS = 100, 50
_OTHERS = "others"


def reason_word(reason: str) -> str:
    """What a reason shares with those of other cells: no lengths, no places, no remedy unless that is all there is.

    Args:
        reason: as in ``InvalidRow``, such as ``"12 characters with a letter at position 3; expected …"``.
    """
    fault, *rest = _ENDS.split(reason)
    text = _OF_THE_CELL.sub("", _CHARACTER.sub(r"\1 in it", fault))
    text = re.sub(r"^[\d,]+ ", "", _OTHER_DIGITS.sub("", text))
    return _WORDS.get(text, text) or next(iter(rest), fault)


def count_reason(counts: CellCounts, column: str, reason: str) -> tuple[str, str]:
    """Count one invalid row; the column and the words under which it is counted."""
    if column not in counts and len(counts) >= _MOST_COLUMNS:
        column = _OTHERS
    words = counts.setdefault(column, {})
    word = reason_word(reason)
    if word not in words and len(words) >= _MOST_WORDS:
        word = _OTHERS
    words[word] = words.get(word, 0) + 1
    return column, word
