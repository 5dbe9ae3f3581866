"""The CSV of rows that were not sent, to be mended and sent again.

The names of the columns that it adds stand in ``headers.py``, which leaves them out when the file is read.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Final, TextIO

from msgspec import Struct, json

from ..models import InvalidRow, Lead, Row
from .batches import Batch
from .columns import PHONE, lead_columns
from .csv_file import CsvRows
from .excel import ExcelRows
from .headers import ESCAPED, REJECTED, own_columns
from .output_files import OutputFile

__all__ = ["OriginalRows", "Rejects", "RejectsFile", "RejectsWriter"]

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_LEAD_COLUMNS: Final = lead_columns("bulk")


class Rejects(Struct, frozen=True):
    """Where ``upload`` writes the rows that were not sent.

    The file has the input's own columns in their order, then the row's number among the rows handed in, its line in the
    file, the columns that are wrong, and why. ``read_csv`` leaves those four out, so that a mended file can be sent as
    it is. A new one can be read by its owner only; it is there once the upload has ended.

    Args:
        path: the file; one that is there is replaced.
        refused: write rows as well that the service refused or that were not sent, such as those behind the place where
            an upload from a file was stopped. Rows of inputs that are no file come as they were to be sent.
        bom: begin with the byte order mark by which Excel knows UTF-8.
        escape: put an apostrophe before cells that spreadsheets would compute: those that begin with ``=``, ``+``,
            ``-`` or ``@``. ``read_csv`` takes it away again.
    """

    path: str | PathLike[str]
    refused: bool = False
    bom: bool = False
    escape: bool = False


class RejectsWriter:
    """Writes rows with their own columns, then what was wrong with them.

    Args:
        file: a file for text, opened with ``newline=""``.
        names: the rows' own columns.
        escape: as for ``Rejects``.
        more: further columns behind those of rejects.
    """

    def __init__(self, file: TextIO, names: Sequence[str], *, escape: bool = False, more: Sequence[str] = ()) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._escape = escape
        self._names = names
        own = (*REJECTED, *more, *([ESCAPED] if escape else []))
        self._writer.writerow((*map(self._safe, names), *own))

    def write(
        self, cells: Sequence[object], row: int | None, line: int | None, column: str, reason: str, *more: object
    ) -> None:
        """Write one row; cells that it lacks are left empty."""
        padded = [*cells, *[""] * (len(self._names) - len(cells))]
        told = (row, line, column, reason, *more, *(["yes"] if self._escape else []))
        self._writer.writerow([*map(self._safe, padded), *told])

    def copy(self, cells: Sequence[str]) -> None:
        """Write a row that another writer has written before."""
        self._writer.writerow(cells)

    def _safe(self, cell: object) -> object:
        text = _text(cell)
        return f"'{text}" if self._escape and isinstance(text, str) and _FORMULA.match(text) else text


class RejectsFile:
    """The file of rejects of one upload.

    Args:
        rejects: the file, or only its path.
        leads: the input, whose own file must not be overwritten.
        columns: the columns of rows that are sequences.

    Raises:
        ConfigurationError: the file cannot be written, or is the input.
    """

    def __init__(self, rejects: Rejects | str | PathLike[str], leads: object, columns: Sequence[str] | None) -> None:
        self._options = rejects if isinstance(rejects, Rejects) else Rejects(rejects)
        self._file = OutputFile("rejects", self._options.path, leads, bom=self._options.bom)
        self._source = leads if isinstance(leads, CsvRows | ExcelRows) else None
        names = self._source.header if self._source is not None else columns or ()
        self._places = own_columns(names)
        self._names = [names[i] for i in self._places]
        self._originals = OriginalRows(self._source)
        self._invalid: set[int] = set()
        self._spans: list[tuple[int, float, str]] = []
        self._writer: RejectsWriter | None = None
        self._written = 0

    def add(self, invalid: InvalidRow, row: Row) -> None:
        """Write one invalid row, in the order of the rows; raises ``OSError`` when the disk does not take it."""
        if self._options.refused:
            self._invalid.add(invalid.row)
        faults = [(invalid.field, invalid.reason), *invalid.further]
        reason = invalid.reason if len(faults) == 1 else "; ".join([f"{column}: {why}" for column, why in faults])
        line, cells = self._originals.of(invalid.row)
        found = self._own(cells) if cells is not None else self._cells(row)
        self._write(found, invalid.row, line, ", ".join([column for column, _ in faults]), reason)

    def add_batch(self, batch: Batch, reason: str) -> None:
        """Note a batch that was refused or not sent; raises ``OSError`` when the disk does not take its rows."""
        if not self._options.refused:
            return
        if self._source is not None:
            self._spans.append((batch.first_row, batch.last_row, reason))
        elif batch.payload:  # one that a journal holds is sent again from there
            sent = json.decode(batch.payload)
            numbers = [row for row in range(batch.first_row, batch.last_row + 1) if row not in self._invalid]
            for number, cells in zip(numbers, sent["data"], strict=False):
                self._write(self._placed(zip(sent["map"], cells, strict=True)), number, None, "", reason)

    def close(self, taken: int, stopped_by: str | None) -> None:
        """Write out the rest; raises ``OSError`` when the disk does not take it.

        Args:
            taken: rows taken from the input.
            stopped_by: why no more were.
        """
        try:
            self._originals.close()
            if stopped_by is not None and self._options.refused and self._source is not None:
                self._spans.append((taken + 1, float("inf"), f"not sent: {stopped_by}"))
            if self._spans:
                self._write_spans()
            if self._writer is None:
                self._writer = self._started()
        except BaseException:
            self._file.discard()
            raise
        self._file.close()

    def _write_spans(self) -> None:
        spans = sorted(self._spans)
        assert self._source is not None
        for number, (line, cells) in enumerate(_rows_of(self._source), 1):
            while spans and spans[0][1] < number:
                spans.pop(0)
            if not spans:
                return
            if spans[0][0] <= number and number not in self._invalid:
                self._write(self._own(cells), number, line, "", spans[0][2])

    def _started(self) -> RejectsWriter:
        return RejectsWriter(self._file.text, self._names or [PHONE], escape=self._options.escape)

    def _write(self, cells: list[object], row: int, line: int | None, column: str, reason: str) -> None:
        if self._writer is None:
            self._writer = self._started()
            self._written = len(self._names)
        elif len(self._names) > self._written:
            self._widen()
        self._writer.write(cells, row, line, column, reason)

    def _widen(self) -> None:
        """Write the file anew with the columns that have come since: leads may have further ones of their own."""
        old = self._written or 1
        rows = self._file.rewritten()
        self._writer = self._started()
        self._written = len(self._names)
        gap = [""] * (self._written - old)
        for cells in rows:
            self._writer.copy([*cells[:old], *gap, *cells[old:]])

    def _own(self, cells: Sequence[object]) -> list[object]:
        """The cells of a row of a file; those behind its header get columns without a name."""
        found = [cells[i] if i < len(cells) else "" for i in self._places]
        assert self._source is not None
        surplus = cells[len(self._source.header) :]
        self._names += [""] * (len(found) + len(surplus) - len(self._names))
        return [*found, *[""] * (len(self._names) - len(found) - len(surplus)), *surplus]

    def _cells(self, row: Row) -> list[object]:
        try:
            if isinstance(row, Lead):
                extra: object = row.extra
                fields = [(column, getattr(row, field)) for field, column in _LEAD_COLUMNS.items()]
                more = extra.items() if isinstance(extra, Mapping) else ()
                return self._placed([*((c, v) for c, v in fields if v is not None or c == PHONE), *more])
            if isinstance(row, Mapping):
                return self._placed(row.items())
            if isinstance(row, list | tuple):
                self._names += [""] * (len(row) - len(self._names))
                return list(row)
        except Exception:
            return [type(row).__name__]  # a mapping that fails when it is looked at
        return [type(row).__name__]

    def _placed(self, cells: Iterable[tuple[Any, object]]) -> list[object]:
        """Cells by the names of their columns; names that are new get columns of their own."""
        given = {str(_text(name)): cell for name, cell in cells}
        self._names += [name for name in given if name not in self._names]
        return [given.get(name, "") for name in self._names]


class OriginalRows:
    """The rows of a file as they stand in it, asked for in the order of the rows; read once more, as far as needed.

    Args:
        source: rows of ``read_csv`` or ``read_excel``, or None when there are none.
    """

    def __init__(self, source: CsvRows | ExcelRows | None) -> None:
        self._source = source
        self._rows: Generator[tuple[int, Sequence[object]]] | None = None
        self._row = 0
        self._last: tuple[int | None, Sequence[object] | None] = (None, None)

    def of(self, row: int) -> tuple[int | None, Sequence[object] | None]:
        """Line and cells of a row; None for those of other inputs."""
        if self._source is None:
            return None, None
        if self._rows is None:
            self._rows = _rows_of(self._source)
        while self._row < row:
            self._last = next(self._rows, (None, None))
            self._row += 1
        return self._last

    def close(self) -> None:
        """Close the file."""
        if self._rows is not None:
            self._rows.close()


def _rows_of(source: CsvRows | ExcelRows) -> Generator[tuple[int, Sequence[object]]]:
    yield from source.cells()


def _text(cell: object) -> object:
    try:
        return cell if cell is None or isinstance(cell, str) else str(cell)
    except Exception:
        # An integer of thousands of digits, or an object that has no text, or does not even tell its class.
        return type(cell).__name__
