"""What an upload would do with rows, told without sending any: ``check_leads``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from os import PathLike
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ..config import DEFAULT_TIMEZONE, Cleaning, Dialect, Limits, chosen_cleaning, timezone_named
from ..errors import OzonetelError
from ..models import CellCounts, InvalidRow, Lead, Row, counted
from ..protocol.endpoints import endpoint_table
from ..rows.batches import Chunker
from ..rows.changes import ChangesFile, LineNumbers
from ..rows.checks import UNSENDABLE
from ..rows.cleaning.suspicions import PhoneSuspicions
from ..rows.columns import Layout, lead_columns
from ..rows.intake import Rows, RowSource, prepared
from ..rows.layout import Change
from ..rows.reasons import count_reason
from ..rows.rejects import Rejects, RejectsFile

__all__ = ["COMPARED_NUMBERS", "CheckReport", "InvalidRows", "check_leads"]

COMPARED_NUMBERS: Final = 1_000_000
"""How many phone numbers are compared with each other; about 100 bytes each."""

_CELL_LENGTH = 40


class InvalidRows(Struct, frozen=True, kw_only=True):
    """Rows that would not be sent for one reason.

    Attributes:
        column: the column that is wrong; ``"row"`` for the row as a whole.
        reason: what they share.
        rows: how many.
        first_row: 1-based number of the first among the rows handed in.
        first_line: its line in the file, from 1; None when the rows come from no file.
        cell: the first one's cell with its digits masked, at most 40 characters; None when the reason is of no cell.
        details: why the first is invalid, and what would be right.
    """

    column: str
    reason: str
    rows: int
    first_row: int
    first_line: int | None
    cell: str | None
    details: str


class CheckReport(Struct, frozen=True, kw_only=True):
    """What an upload would do with rows.

    Attributes:
        rows: rows read.
        rows_valid: rows that would be sent.
        rows_invalid: rows that would not.
        rows_repairable: how many of those ``clean=Cleaning()`` would save; 0 when ``clean`` is on.
        invalid: the reasons with an example each, the most frequent first.
        cleaned: cells that ``clean`` would change, counted by column and kind.
        columns: the columns that would be sent.
        duplicates: rows that would be sent with a number that an earlier one has, a leading ``+`` aside.
        numbers_compared: how many numbers were compared for that, at most ``COMPARED_NUMBERS``.
        requests: requests that it takes.
        seconds: the least time that they take under the rate limit.
        warnings: what looks wrong with the phone numbers of the first 10,000 rows as a whole.
        stopped_by: why the input could not be read to its end, else None.
    """

    rows: int
    rows_valid: int
    rows_invalid: int
    rows_repairable: int
    invalid: tuple[InvalidRows, ...]
    cleaned: CellCounts
    columns: tuple[str, ...]
    duplicates: int
    numbers_compared: int
    requests: int
    seconds: float
    warnings: tuple[str, ...]
    stopped_by: str | None

    def __str__(self) -> str:
        saved = f" ({self.rows_repairable:,} of them repairable by clean=Cleaning())" if self.rows_repairable else ""
        least = f" in at least {self.seconds / 60:,.1f} minutes" if self.seconds else ""
        lines = [
            f"{counted(self.rows, 'row')}: {self.rows_valid:,} valid, {self.rows_invalid:,} invalid{saved}",
            f"to send: {counted(self.requests, 'request')}{least}, columns {', '.join(self.columns)}"
            if self.columns
            else "to send: nothing",
            f"duplicates: {self.duplicates:,} among {counted(self.numbers_compared, 'phone number')}",
        ]
        lines += [f"invalid: {_told(reason)}" for reason in self.invalid]
        for column, kinds in self.cleaned.items():
            lines += [f"cleaned: {count:,} x {column}: {kind}" for kind, count in kinds.items()]
        lines += [f"warning: {warning}" for warning in self.warnings]
        if self.stopped_by is not None:
            lines.append(f"not read to the end: {self.stopped_by}")
        return "\n".join(lines)


def _told(invalid: InvalidRows) -> str:
    line = "" if invalid.first_line is None else f", line {invalid.first_line:,}"
    cell = "" if invalid.cell is None else f": {invalid.cell}"
    return f"{invalid.rows:,} x {invalid.column}: {invalid.reason} (first in row {invalid.first_row:,}{line}{cell})"


async def check_leads(
    leads: Rows,
    *,
    columns: Sequence[str] | None = None,
    clean: Cleaning | bool | None = None,
    rejects: str | PathLike[str] | Rejects | None = None,
    changes: str | PathLike[str] | None = None,
    schedule: bool = False,
    timezone: str = DEFAULT_TIMEZONE,
    dialect: Dialect | None = None,
    limits: Limits | None = None,
) -> CheckReport:
    """Check rows as ``upload`` does, or with ``schedule`` as ``schedule_leads`` does, and send nothing.

    No credentials and no network are needed. Rows are read to their end: an iterator is used up.

    Args:
        leads: as for ``upload``.
        columns: as for ``upload``.
        clean: what would be repaired; True is ``Cleaning()``.
        rejects: as for ``upload``: a CSV that receives every invalid row.
        changes: as for ``upload``: a CSV that receives every cell that would be repaired.
        schedule: whether the leads are meant for ``schedule_leads``.
        timezone: IANA name of the zone in which the service reads dates.
        dialect: as for the client.
        limits: as for the client.

    Raises:
        ConfigurationError: an argument is wrong.
        OSError: ``rejects`` or ``changes`` cannot be written to its end.
        Exception: whatever ``leads`` itself raises, other than errors of this library.
    """
    layout: Layout = "schedule" if schedule else "bulk"
    dialect, zone = dialect or Dialect(), timezone_named(timezone)
    leads = prepared(leads, columns)
    names = columns if columns is not None else getattr(leads, "columns", None)
    with ExitStack() as files:
        examined = _Examined(leads, names, layout)
        files.callback(examined.close)
        if changes is not None:
            examined.changes = ChangesFile(changes, leads)
            files.callback(examined.changes.close)
        if rejects is not None:
            examined.rejects = RejectsFile(rejects, leads, columns)
            files.callback(examined.rejects.close, 0, None)
        chunker = Chunker(
            columns=names,
            row_limit=endpoint_table(dialect)[layout].rows,
            dialect=dialect,
            timezone=zone,
            now=datetime.now(zone),
            layout=layout,
            clean=chosen_cleaning(clean, None),
            on_invalid=examined.note_invalid,
            on_change=None if changes is None else examined.note_change,
            on_numbers=examined.note_numbers,
        )
        failure = await _feed(chunker, RowSource(leads, named=names is None), examined)
    limit = (limits or Limits()).schedule if schedule else (limits or Limits()).bulk
    reasons = examined.reasons()
    invalid = sum([reason.rows for reason in reasons])
    return CheckReport(
        rows=chunker.rows_taken,
        rows_valid=chunker.rows_taken - invalid,
        rows_invalid=invalid,
        rows_repairable=chunker.rows_repairable,
        invalid=reasons,
        cleaned=chunker.cleaned,
        columns=tuple(examined.columns),
        duplicates=examined.numbers_compared - len(examined.numbers),
        numbers_compared=examined.numbers_compared,
        requests=examined.requests,
        seconds=max(0, examined.requests - 1) // limit.requests * limit.per,
        warnings=tuple(examined.suspicions.warnings()),
        stopped_by=None if failure is None else f"{type(failure).__name__}: {failure.message}",
    )


async def _feed(chunker: Chunker, source: RowSource, examined: _Examined) -> OzonetelError | None:
    """Feed all rows; what broke the input off, when it is an error of this library."""
    try:
        while rows := await source.take(chunker.stride):
            examined.note_batches(len(chunker.feed(rows)), chunker)
    finally:
        await source.close()
    examined.note_batches(len(chunker.flush()), chunker)
    if source.failure is not None and not isinstance(source.failure, OzonetelError):
        raise source.failure
    return source.failure


class _Examined:
    """What comes to light while rows are read.

    Args:
        leads: the input.
        names: the columns of rows that are sequences.
        layout: which endpoint's columns they have.
    """

    def __init__(self, leads: object, names: Sequence[str] | None, layout: Layout) -> None:
        self.suspicions = PhoneSuspicions()
        self.numbers: set[str] = set()
        self.numbers_compared = 0
        self.requests = 0
        self.columns: dict[str, None] = {}
        self.changes: ChangesFile | None = None
        self.rejects: RejectsFile | None = None
        self._names = names or ()
        self._fields = {column: field for field, column in lead_columns(layout).items()}
        self._counts: CellCounts = {}
        self._first: dict[tuple[str, str], InvalidRows] = {}
        self._lines = LineNumbers(leads)

    def note_invalid(self, invalid: InvalidRow, row: Row) -> None:
        column, reason = count_reason(self._counts, invalid.field, invalid.reason)
        if (column, reason) not in self._first:
            self._first[column, reason] = InvalidRows(
                column=column,
                reason=reason,
                rows=0,
                first_row=invalid.row,
                first_line=self._lines.of(invalid.row),
                cell=_masked(row, invalid.field, self._names, self._fields),
                details=invalid.reason,
            )

        if self.rejects is not None:
            self.rejects.add(invalid, row)

    def note_change(self, row: int, change: Change) -> None:
        if self.changes is not None:
            self.changes.add(row, change)

    def note_numbers(self, numbers: Sequence[str]) -> None:
        self.suspicions.add(numbers)
        compared = numbers[: COMPARED_NUMBERS - self.numbers_compared]
        self.numbers_compared += len(compared)
        self.numbers.update([number.lstrip("+") for number in compared])

    def note_batches(self, count: int, chunker: Chunker) -> None:
        self.requests += count
        if count and chunker.columns is not None:
            self.columns |= dict.fromkeys(chunker.columns)
        self._lines.of(chunker.rows_taken)

    def reasons(self) -> tuple[InvalidRows, ...]:
        found = [replace(first, rows=self._counts[column][word]) for (column, word), first in self._first.items()]
        return tuple(sorted(found, key=lambda invalid: -invalid.rows))

    def close(self) -> None:
        self._lines.close()


def _masked(row: Row, column: str, names: Sequence[str], fields: Mapping[str, str]) -> str | None:
    """A row's cell with its digits masked; None when the column has no cell in it."""
    try:
        cell: object
        if isinstance(row, Lead):
            cell = getattr(row, fields[column]) if column in fields else row.extra[column]
        else:
            cell = row[column] if isinstance(row, Mapping) else row[names.index(column)]
        text = UNSENDABLE.sub("?", str(cell)[:_CELL_LENGTH])
    except Exception:
        return None  # "row", a row of another kind, or an object that has no text
    return "".join(["x" if character.isnumeric() else character for character in text])
