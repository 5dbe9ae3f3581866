"""Which of the rows sent each failed row is: by phone number, and by the other cells where several rows bear it.

The service tells failed rows by nothing but their cells, and may have rewritten them. What cannot be told is reported
as such and never guessed: a lead repaired and sent again in another's place would call the wrong person.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from ..callbacks.bodies import fold
from .phones import Rounded, full_number, phone_key, rounded
from .reader import FailedRow

__all__ = ["Match", "PhoneIndex"]

# "Number Already Exist", "Number Already Existed" (Add Campaign Data), and what other pages call it.
_DUPLICATE: Final = re.compile(r"already\s+exist|duplicate", re.IGNORECASE)


class Match(Struct, frozen=True):
    """Which of the rows sent a failed row is.

    Attributes:
        failed: the failed row.
        row: number of the row sent; None when that cannot be told.
        how: ``"exact"`` (the same text), ``"key"`` (the same number, spelled otherwise), ``"rounded"`` (a spreadsheet
            has cut digits off, and only one number sent fits); or, with no row, ``"ambiguous"`` (several different rows
            fit), ``"surplus"`` (more failed rows than rows sent that fit) or ``"unmatched"``.
        candidates: numbers of all rows sent that fit. Several bear the same number, and nothing in the file tells them
            apart: then there is a row when all of them failed, when they differ in nothing, or when the reason is that
            the number was there already, since of equal numbers in one request only the first is added (Bulk V4,
            checkDuplicate).
    """

    failed: FailedRow
    row: int | None
    how: Literal["exact", "key", "rounded", "ambiguous", "surplus", "unmatched"]
    candidates: tuple[int, ...] = ()

    @property
    def certain(self) -> bool:
        """Whether there is a row and no other could have been meant."""
        return self.row is not None and len(self.candidates) == 1


class _Group:
    """Rows sent that share a key: their places in the input, and the different numbers among them."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self.numbers: set[str] = set()


class _Fit(NamedTuple):
    """What a failed row fits: places left by its other cells, those of them with its very spelling, all candidates."""

    places: tuple[int, ...]
    same_text: tuple[int, ...]
    candidates: tuple[int, ...]
    how: Literal["exact", "key", "rounded"]


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
        self._others = [place for place, name in enumerate(columns) if fold(name) != "phonenumber"]
        self._names = [fold(columns[place]) for place in self._others]
        self._cells = [tuple(_plain(row[place]) for place in self._others) for row in cells] or [()] * len(self._sent)
        self._texts: dict[str, _Group] = defaultdict(_Group)
        self._keys: dict[str, _Group] = defaultdict(_Group)
        self._fitting: dict[Rounded, _Group] = {}
        for place, (_, text) in enumerate(self._sent):
            self._add(self._texts[text], place)
            key = phone_key(text, country_code=country_code)
            if key is not None:
                self._add(self._keys[key], place)

    def match(self, failed: Iterable[FailedRow]) -> list[Match]:
        """A ``Match`` for each failed row, in their order; no row sent is given to two of them.

        Rows whose cells leave the least to choose from come first, and equal texts before equal numbers in other
        spellings, so the order of the file does not matter.
        """
        rows = list(failed)
        found = [self._fit_of(row) for row in rows]
        fits = {index: fit for index, fit in enumerate(found) if isinstance(fit, _Fit)}
        matches = {index: match for index, match in enumerate(found) if isinstance(match, Match)}
        taken: set[int] = set()
        for by_text in (True, False):
            wanted = {index: fit.same_text if by_text else fit.places for index, fit in fits.items()}
            claims = Counter(wanted.values())
            for index in sorted(fits, key=lambda index: len(fits[index].places)):
                free = [place for place in wanted[index] if place not in taken]
                if by_text and not free:
                    continue
                match, place = self._choose(rows[index], fits[index], free, claims[wanted[index]])
                claims[wanted[index]] -= 1
                matches[index] = match
                if place is not None:
                    taken.add(place)
                del fits[index]
        return [matches[index] for index in range(len(rows))]

    def _choose(self, row: FailedRow, fit: _Fit, free: list[int], claims: int) -> tuple[Match, int | None]:
        """One of the free places, when it can be told which; ``claims`` failed rows want one of them."""
        if not free:
            return Match(row, None, "surplus", fit.candidates), None
        if _DUPLICATE.search(row.reason or ""):
            place = free[-1]
        elif claims >= len(free) or len({self._cells[place] for place in free}) == 1:
            place = free[0]
        else:
            return Match(row, None, "ambiguous", fit.candidates), None
        return Match(row, self._sent[place][0], "exact" if place in fit.same_text else fit.how, fit.candidates), place

    def _fit_of(self, row: FailedRow) -> _Fit | Match:
        text = row.as_written.strip() or row.phone
        cut = rounded(text)
        group = self._fit(cut) if cut else self._group(text)
        exact = self._texts.get(text)
        if exact is not None and (group is None or not group.places):
            group = exact
        if group is None or not group.places:
            return Match(row, None, "unmatched")
        if len(group.numbers) == 1:
            places = self._narrow(row, group.places)
            candidates = self._rows(places)
        elif exact is not None:
            places, candidates = self._narrow(row, exact.places), self._rows(group.places)
        else:
            return Match(row, None, "ambiguous", self._rows(group.places))
        same_text = tuple(place for place in places if self._sent[place][1] == text)
        return _Fit(places, same_text, candidates, "rounded" if cut else "key")

    def _narrow(self, row: FailedRow, places: Sequence[int]) -> tuple[int, ...]:
        """Those of the places whose other cells are the failed row's; all of them when that leaves none.

        A cell that none of them has was rewritten or is missing, and tells nothing.
        """
        cells: dict[str, str] = {}
        for name, value in row.cells.items() if len(places) > 1 else ():
            cells.setdefault(fold(name), _plain(value))
        left = set(places)
        for column, name in enumerate(self._names):
            same = {place for place in places if cells.get(name) and self._cells[place][column] == cells[name]}
            left &= same or left
        return tuple(place for place in places if place in left) or tuple(places)

    def _add(self, group: _Group, place: int) -> None:
        text = self._sent[place][1]
        group.places.append(place)
        group.numbers.add(full_number(text, country_code=self._code) or text)

    def _group(self, text: str) -> _Group | None:
        return self._keys.get(phone_key(text, country_code=self._code) or "")

    def _fit(self, cut: Rounded) -> _Group:
        if cut not in self._fitting:
            group = self._fitting[cut] = _Group()
            for key, same in self._keys.items():
                if any(cut.fits(number) for number in {key, *same.numbers}):
                    group.places += same.places
                    group.numbers |= same.numbers
        return self._fitting[cut]

    def _rows(self, places: Iterable[int]) -> tuple[int, ...]:
        return tuple(self._sent[place][0] for place in places)


def _plain(value: object) -> str:
    """A cell without what copying it through a file changes."""
    return "" if value is None else " ".join(str(value).split()).casefold()
