"""The settings of cleaning as one function per column, ready for the check of a column.

How a column check uses them: it finds the cells that ``fits`` does not match (without a cleaner: those the strict check
refuses), gives only these to the cleaner, and puts the text it gets through the strict check of one cell again. What
comes back with another text is counted under its kind, once the row's length is known to be good.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from ...config import Cleaning
from .countries import PLANS, CountryRule
from .names import clean_name
from .phones import spell
from .result import Cleaned, Refused

__all__ = ["Cleaner", "Cleaners", "PhoneCleaner", "cleaners_for", "diagnose_phone", "one_line"]

Cleaner: TypeAlias = Callable[[str], Cleaned | Refused]

_STRICT: Final = r"\+?+[0-9]{3,16}+"
_is_strict = re.compile(_STRICT).fullmatch
# A run of blanks is tried from its beginning only: long ones cost no more than their length.
_BREAKS = re.compile(r"(?<! ) *+[\t\n\r\v\f][\t\n\r\v\f ]*+")


class PhoneCleaner:
    """Brings phone numbers into the service's spelling and, with a country, into one form of its plan.

    Args:
        cleaning: settings with ``phones="spelling"``.

    Attributes:
        fits: pattern of the cells that come out as they are, possessive and without line feeds; the others may come out
            as they are too.
    """

    def __init__(self, cleaning: Cleaning) -> None:
        self._rule = CountryRule(PLANS[cleaning.country], cleaning.form) if cleaning.country else None
        self.fits: str = self._rule.fits if self._rule else _STRICT

    def __call__(self, cell: str) -> Cleaned | Refused:
        """The number as it is sent and what was changed, or why the cell is no number.

        Args:
            cell: the cell's text; of other cells, what ``cell_text`` makes of them.
        """
        spelled = Cleaned(cell, "") if _is_strict(cell) else spell(cell)
        if self._rule is None or isinstance(spelled, Refused):
            return spelled
        ruled = self._rule(spelled.text)
        return ruled._replace(kind=ruled.kind or spelled.kind) if isinstance(ruled, Cleaned) else ruled


def one_line(cell: str) -> Cleaned:
    """A text with each run of line breaks and tabs, and the blanks around it, as one blank; none at the ends."""
    text = _BREAKS.sub(" ", cell)
    if text == cell:
        return Cleaned(cell, "")
    first, last = cell[:1], cell[-1:]
    return Cleaned(text.strip(" ") if first.isspace() or last.isspace() else text, "line breaks")


class Cleaners(NamedTuple):
    """The cleaner of each kind of column; None where the settings change nothing.

    Attributes:
        phone: of the phone numbers.
        name: of the names.
        extra: of the campaign's own columns.
    """

    phone: PhoneCleaner | None
    name: Cleaner | None
    extra: Cleaner | None


def cleaners_for(cleaning: Cleaning) -> Cleaners:
    """The cleaners that settings ask for."""
    names = cleaning.names
    return Cleaners(
        PhoneCleaner(cleaning) if cleaning.phones == "spelling" else None,
        None if names == "refuse" else lambda cell: clean_name(cell, names),
        one_line if cleaning.text == "one_line" else None,
    )


_REPAIRS: Final = {
    "separators": "blanks, dashes, dots or brackets in the number",
    "invisible characters": "invisible characters in the number",
    "spreadsheet mark": "a spreadsheet's mark of text in front of the number",
    "spreadsheet number": "a number in the notation of a spreadsheet",
    "label": "a label in front of the number",
    "digits of another script": "digits of another script",
}


def diagnose_phone(cell: str) -> str:
    """Why a text that the strict check refuses is no number as it stands; for reports without cleaning.

    Args:
        cell: the cell's text.

    Returns:
        The reason, in words for the person who owns the file; holds no part of the cell.
    """
    spelled = spell(cell)
    return spelled.reason if isinstance(spelled, Refused) else _REPAIRS[spelled.kind]
