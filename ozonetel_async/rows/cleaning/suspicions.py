"""Whether the first phone numbers of a file look like numbers of people, judged before anything is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

__all__ = ["JUDGED_ROWS", "PhoneSuspicions"]

JUDGED_ROWS: Final = 10_000
"""How many rows of a file or frame are judged."""

# Shorter ones are extensions and short codes at best.
_LEAST_DIGITS = 7
_ZEROS = "00000"
_ROUNDED_DIGITS = 9
_NATIONAL = 10


class PhoneSuspicions:
    """Collects the first phone numbers of an input and says what looks wrong with them as a whole.

    Attributes:
        rows: how many numbers were taken in, at most ``JUDGED_ROWS``.
    """

    def __init__(self) -> None:
        self.rows: int = 0
        self._counts: Counter[str] = Counter()
        self._first_rows: dict[str, int] = {}
        self._short = self._rising = 0
        self._last = ""

    @property
    def full(self) -> bool:
        """Whether further numbers would no longer be taken in."""
        return self.rows >= JUDGED_ROWS

    def add(self, numbers: Iterable[str]) -> None:
        """Takes in numbers in the order of their rows, as they would be sent; those of invalid rows left out."""
        for number in numbers:
            if self.full:
                return
            self.rows += 1
            digits = number.removeprefix("+")
            # With and without country code or trunk zero, a number is one key.
            key = digits[-_NATIONAL:]
            self._counts[key] += 1
            self._first_rows.setdefault(key, self.rows)
            self._short += len(digits) < _LEAST_DIGITS
            self._rising += (len(self._last), self._last) < (len(digits), digits)
            self._last = digits

    def warnings(self) -> list[str]:
        """What looks wrong, one sentence each; empty when nothing does. Holds no phone number."""
        return [text for text in (self._ids(), self._rounded(), self._repeated()) if text]

    def _ids(self) -> str:
        # The first number has none before it, and counts as rising.
        if self.rows < 3 or self._short < 0.8 * self.rows or self._rising < 0.8 * self.rows:
            return ""
        return (
            f"{self._short:,} of the first {self.rows:,} phone numbers have fewer than {_LEAST_DIGITS} digits, and "
            "most rise from row to row: this may be a column of record numbers"
        )

    def _rounded(self) -> str:
        found = sum(1 for key in self._counts if len(key) >= _ROUNDED_DIGITS and key.endswith(_ZEROS))
        if found < 2 or found < 0.01 * self.rows:
            return ""
        return (
            f"{found:,} different numbers among the first {self.rows:,} end in five zeros: a spreadsheet may have lost "
            "their digits; format the column as text and export it again"
        )

    def _repeated(self) -> str:
        if not self._counts:
            return ""
        key, count = self._counts.most_common(1)[0]
        if count < 3 or count < 0.02 * self.rows:
            return ""
        return (
            f"one phone number occurs {count:,} times among the first {self.rows:,} (first as number "
            f"{self._first_rows[key]:,} of them): it may be a placeholder"
        )
