"""Which of the rows sent each failed row is: by phone number, and by the other cells where several rows have it.

The service tells failed rows by nothing but their cells, and may have rewritten them, the number too. So rows whose
numbers are one after normalising are told apart by their other cells, and not by the spelling of the number. What
cannot be told is reported as such and never guessed: a lead repaired and sent again in another's place would call the
wrong person.

Sets of rows are whole numbers here, a bit for each row: a batch may hold one number 500 times.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from ..callbacks.bodies import fold
from .phones import Rounded, full_number, phone_key, rounded
from .reader import FailedRow

__all__ = ["Match", "PhoneIndex"]

# "Number Already Exist", "Number Already Existed" (Add Campaign Data), and what other pages call it.
_DUPLICATE: Final = re.compile(r"already\s+exist|duplicate", re.IGNORECASE)


_Bits: TypeAlias = int  # a set of rows sent, by their places


class Match(Struct, frozen=True):
    """Which of the rows sent a failed row is.

    Attributes:
        failed: the failed row.
        row: number of the row sent; None when that cannot be told.
        how: ``"exact"`` (the same text), ``"key"`` (the same number, spelled otherwise), ``"rounded"`` (a spreadsheet
            has cut digits off, and only one number sent fits); or, with no row, ``"ambiguous"`` (several different rows
            fit), ``"surplus"`` (more failed rows than rows sent that fit) or ``"unmatched"``.
        candidates: numbers of all rows sent that fit. When there are several, there is a row only where all of them
            failed, where they are one number and equal in all other cells, or where they are equal to the letter in
            the number and the reason is that it was there already: of equal numbers in one request only the first is
            added (Bulk V4, checkDuplicate).
    """

    failed: FailedRow
    row: int | None
    how: Literal["exact", "key", "rounded", "ambiguous", "surplus", "unmatched"]
    candidates: tuple[int, ...] = ()


class _Fit(NamedTuple):
    """What a failed row fits: the rows that its other cells leave, those of them with its very spelling, and how."""

    places: _Bits
    same_text: _Bits
    how: Literal["key", "rounded"]


class PhoneIndex:
    """The rows of one batch by their phone numbers.

    Args:
        sent: row number and phone number, as sent, of every row.
        columns: names of the columns sent.
        cells: of every row sent, in the order of ``sent`` and of ``columns``; without them, rows of one number count as
            equal.
        country_code: as for ``phone_key``.
    """

    def __init__(
        self,
        sent: Iterable[tuple[int, str]],
        *,
        columns: Sequence[str] = (),
        cells: Iterable[Sequence[object]] = (),
        country_code: str = "91",
    ) -> None:
        self._code = country_code
        self._sent = [(row, text.strip()) for row, text in sent]
        self._columns = {fold(name): place for place, name in enumerate(columns) if fold(name) != "phonenumber"}
        self._cells = list(cells)
        self._full = [full_number(text, country_code=country_code) or text for _, text in self._sent]
        self._by_number: dict[str, _Bits] = defaultdict(int)
        self._by_text: dict[str, _Bits] = defaultdict(int)
        self._by_cell: dict[tuple[_Bits, int], dict[str, _Bits]] = {}
        self._rounded: dict[Rounded, _Bits] = {}
        for place, (_, text) in enumerate(self._sent):
            self._by_number[phone_key(text, country_code=country_code) or text] |= 1 << place
            self._by_text[text] |= 1 << place

    def match(self, failed: Iterable[FailedRow]) -> list[Match]:
        """A ``Match`` for each failed row, in their order; no row sent is given to two of them.

        Rows whose cells leave the least to choose from come first, so the order of the file does not matter.
        """
        rows = list(failed)
        fits = [self._fit(row) for row in rows]
        claims: dict[_Bits, list[int]] = defaultdict(list)
        for index, fit in enumerate(fits):
            claims[fit.places].append(index)
        places: dict[int, int] = {}
        taken: _Bits = 0
        for wanted in sorted(claims, key=int.bit_count):
            free = wanted & ~taken
            for index, place in self._assign(free, [(index, rows[index], fits[index]) for index in claims[wanted]]):
                places[index] = place
                taken |= 1 << place
        return [
            self._match(row, fit, places.get(index), fit.places & ~taken)
            for index, (row, fit) in enumerate(zip(rows, fits, strict=True))
        ]

    def _match(self, row: FailedRow, fit: _Fit, place: int | None, free: _Bits) -> Match:
        candidates = tuple(self._sent[candidate][0] for candidate in _places(fit.places))
        if place is not None:
            return Match(row, self._sent[place][0], "exact" if fit.same_text >> place & 1 else fit.how, candidates)
        if not candidates:
            return Match(row, None, "unmatched")
        return Match(row, None, "ambiguous" if free else "surplus", candidates)

    def _assign(self, free: _Bits, claims: Sequence[tuple[int, FailedRow, _Fit]]) -> Iterator[tuple[int, int]]:
        """Which of the ``claims``, failed rows that all fit the same rows sent, gets which of those still free."""
        if claims[0][2].how == "rounded" and not self._is_one(claims[0][2].places, self._full.__getitem__):
            return
        duplicates = [claim for claim in claims if _DUPLICATE.search(claim[1].reason or "")]
        others = [claim for claim in claims if claim not in duplicates]
        if free.bit_count() <= len(claims) or self._is_one(free, lambda place: self._sent[place][1]):
            for index, _, fit in duplicates:
                if free:
                    place = (free & fit.same_text or free).bit_length() - 1
                    free ^= 1 << place
                    yield index, place
        elif duplicates:
            return  # it is not documented which spellings of one number the service counts as equal
        if free.bit_count() <= len(others) or self._is_one(free, self._identity):
            # Those in the very spelling first, or another would take their row.
            for index, _, fit in sorted(others, key=lambda claim: not claim[2].same_text):
                if free:
                    place = next(_places(free & fit.same_text or free))
                    free ^= 1 << place
                    yield index, place

    def _is_one(self, free: _Bits, what: Callable[[int], object]) -> bool:
        first, *rest = map(what, _places(free)) if free else (None,)
        return all(other == first for other in rest)

    def _identity(self, place: int) -> object:
        """All that a row sent is, but for the spelling of its number."""
        cells = self._cells[place] if self._cells else ()
        return self._full[place], [_plain(cells[column]) for column in self._columns.values()]

    def _fit(self, row: FailedRow) -> _Fit:
        text = row.as_written.strip() or row.phone
        cut = rounded(text)
        same = self._fitting(cut) if cut else self._by_number.get(phone_key(text, country_code=self._code) or text, 0)
        # Of a number that has lost digits, the other cells are too little to choose between different numbers by.
        certain = not cut or self._is_one(same, self._full.__getitem__)
        places = self._narrow(row, same) if certain else same
        return _Fit(places, places & self._by_text.get(text, 0), "rounded" if cut else "key")

    def _narrow(self, row: FailedRow, places: _Bits) -> _Bits:
        """Those of the places whose other cells are the failed row's; all of them when that leaves none.

        A cell that none of them has was rewritten or is missing, and tells nothing.
        """
        left = places
        if places & (places - 1):
            seen: set[str] = set()
            for name, value in row.cells.items():
                column = self._columns.get(fold(name))
                cell = _plain(value)
                if column is not None and cell and fold(name) not in seen:
                    seen.add(fold(name))
                    same = self._with_cells(places, column).get(cell, 0)
                    left &= same or left
        return left or places

    def _with_cells(self, places: _Bits, column: int) -> dict[str, _Bits]:
        """Those of the places that have a cell in a column, by the cell."""
        table = self._by_cell.get((places, column))
        if table is None:
            table = self._by_cell[places, column] = defaultdict(int)
            for place in _places(places):
                table[_plain(self._cells[place][column])] |= 1 << place
        return table

    def _fitting(self, cut: Rounded) -> _Bits:
        if cut not in self._rounded:
            self._rounded[cut] = sum(
                places
                for number, places in self._by_number.items()
                if any(cut.fits(full) for full in {number, *(self._full[place] for place in _places(places))})
            )
        return self._rounded[cut]


def _places(bits: _Bits) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def _plain(value: object) -> str:
    """A cell without what copying it through a file changes."""
    return "" if value is None else " ".join(str(value).split()).casefold()
