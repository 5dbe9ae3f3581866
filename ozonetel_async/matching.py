"""Which of the rows sent each failed row is, by phone number.

The service tells failed rows by nothing but their number, and may have rewritten it. What cannot be told is reported
as such and never guessed: a lead repaired and sent again in another's place would call the wrong person.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from .failed_rows import FailedRow
from .phones import Rounded, full_number, phone_key, rounded

__all__ = ["Match", "PhoneIndex"]


class Match(Struct, frozen=True):
    """Which of the rows sent a failed row is.

    Parameters
    ----------
    failed: the failed row.
    row: number of the row sent; None when that cannot be told.
    how: ``"exact"`` (the same text), ``"key"`` (the same number, spelled otherwise), ``"rounded"`` (a spreadsheet has
        cut digits off, and only one number sent fits); or, with no row, ``"ambiguous"`` (several different numbers
        fit), ``"surplus"`` (more failed rows than rows sent with this number) or ``"unmatched"``.
    candidates: numbers of all rows sent that fit. When several bear the same number, each failed row gets one of its
        own in their order, but the service may have meant another.
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


class _Claims:
    """Rows already given to a failed row, and per group how far the search for a free one has come."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._next: dict[int, int] = {}

    def take(self, group: _Group) -> int | None:
        """The group's first free place, from now on taken; None when there is none."""
        for index in range(self._next.get(id(group), 0), len(group.places)):
            if group.places[index] not in self._taken:
                self._taken.add(group.places[index])
                self._next[id(group)] = index + 1
                return group.places[index]
        self._next[id(group)] = len(group.places)
        return None


class PhoneIndex:
    """The rows of one batch by their phone numbers.

    Parameters
    ----------
    sent: row number and phone number, as sent, of every row.
    country_code: as for ``phone_key``.
    """

    def __init__(self, sent: Iterable[tuple[int, str]], *, country_code: str = "91") -> None:
        self._code = country_code
        self._sent = [(row, text.strip()) for row, text in sent]
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

        Equal texts are paired before equal numbers in other spellings, so the order of the file does not matter.
        """
        rows = list(failed)
        claims = _Claims()
        matches: dict[int, Match] = {}
        for index, row in enumerate(rows):
            text = row.as_written.strip() or row.phone
            place = claims.take(self._texts[text]) if text in self._texts else None
            if place is not None:
                group = self._group(text) or self._texts[text]
                matches[index] = Match(row, self._sent[place][0], "exact", self._rows(group))
        for index, row in enumerate(rows):
            if index not in matches:
                matches[index] = self._by_number(row, claims)
        return [matches[index] for index in range(len(rows))]

    def _by_number(self, row: FailedRow, claims: _Claims) -> Match:
        text = row.as_written or row.phone
        cut = rounded(text)
        group = self._fit(cut) if cut else self._group(text)
        if group is None or not group.places:
            return Match(row, None, "unmatched")
        candidates = self._rows(group)
        if len(group.numbers) > 1:
            return Match(row, None, "ambiguous", candidates)
        place = claims.take(group)
        if place is None:
            return Match(row, None, "surplus", candidates)
        return Match(row, self._sent[place][0], "rounded" if cut else "key", candidates)

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

    def _rows(self, group: _Group) -> tuple[int, ...]:
        return tuple(self._sent[place][0] for place in group.places)
