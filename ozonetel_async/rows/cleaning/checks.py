"""The checks of columns whose cells may be repaired.

The column check finds the misfits; only these go to the cleaner, and what comes back must pass the strict check.
"""

from __future__ import annotations

from decimal import Decimal

from ...config import Cleaning
from ..checks import BadCell, ColumnCheck, DateLimits, ExtraCheck, Grammar, NameCheck, PhoneCheck, Value
from .cell_text import cell_text
from .cleaners import Cleaner, PhoneCleaner, cleaners_for
from .result import Cleaned, Refused

__all__ = ["CleaningExtraCheck", "CleaningNameCheck", "CleaningPhoneCheck", "cleaning_check"]

_NUMBER = "spreadsheet number"


class CleaningPhoneCheck(PhoneCheck):
    """Phone numbers, those that need it repaired; with a country, all of them are looked at."""

    def __init__(self, plus: str, cleaner: PhoneCleaner) -> None:
        super().__init__(plus)
        self.proof: Grammar = Grammar(cleaner.fits)
        self._cleaner = cleaner

    def repaired(self, cell: object) -> tuple[Value, str]:
        """As for any check."""
        cleaned = _cleaned(self._cleaner, cell)
        kind = cleaned.kind or ("" if isinstance(cell, str | int | Decimal) else _NUMBER)
        return self.one(cleaned.text), kind


class CleaningNameCheck(NameCheck):
    """Names, those that need it repaired or left out."""

    def __init__(self, cleaner: Cleaner) -> None:
        self._cleaner = cleaner

    def repaired(self, cell: object) -> tuple[Value, str]:
        """As for any check."""
        cleaned = _cleaned(self._clean, cell)
        kind = cleaned.kind or ("" if isinstance(cell, str) or not cleaned.text else _NUMBER)
        return self.one(cleaned.text), kind

    def _clean(self, text: str) -> Cleaned | Refused:
        return Cleaned(text, "") if self.grammar.fullmatch(text) else self._cleaner(text)


class CleaningExtraCheck(ExtraCheck):
    """A campaign's own column, whose texts may be repaired."""

    def __init__(self, bounds: DateLimits, cleaner: Cleaner) -> None:
        super().__init__(bounds)
        self._cleaner = cleaner

    def repaired(self, cell: object) -> tuple[Value, str]:
        """As for any check."""
        if not isinstance(cell, str):
            return self.one(cell), ""
        cleaned = _cleaned(self._cleaner, cell)
        return self.one(cleaned.text), cleaned.kind


def _cleaned(cleaner: Cleaner, cell: object) -> Cleaned:
    text = cell if type(cell) is str else cell_text(cell)
    result = text if isinstance(text, Refused) else cleaner(text)
    if isinstance(result, Refused):
        raise BadCell(result.reason)
    return result


def cleaning_check(kind: str, clean: Cleaning, plus: str, bounds: DateLimits) -> ColumnCheck | None:
    """The check of a kind of column; None when nothing in it is to be repaired.

    Args:
        kind: ``"phone"``, ``"name"``, ``"extra"`` for the campaign's own columns, or another.
        clean: what may be repaired.
        plus: as for ``PhoneCheck``.
        bounds: as for ``ExtraCheck``.
    """
    cleaners = cleaners_for(clean)
    if kind == "phone" and cleaners.phone is not None:
        return CleaningPhoneCheck(plus, cleaners.phone)
    if kind == "name" and cleaners.name is not None:
        return CleaningNameCheck(cleaners.name)
    if kind == "extra" and cleaners.extra is not None:
        return CleaningExtraCheck(bounds, cleaners.extra)
    return None
