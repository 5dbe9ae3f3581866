"""The CSV of cells that were repaired, and the lines of the rows in their file."""

from __future__ import annotations

import csv
from os import PathLike

from .csv_file import CsvRows
from .excel import ExcelRows
from .layout import Change
from .output_files import OutputFile

__all__ = ["ChangesFile", "LineNumbers"]


class LineNumbers:
    """The lines at which the rows of a file begin, asked for in the order of the rows.

    Args:
        leads: the input; only the rows of ``read_csv`` and ``read_excel`` have lines.
    """

    def __init__(self, leads: object) -> None:
        self._lines = leads.lines() if isinstance(leads, CsvRows | ExcelRows) else None
        self._row, self._line = 0, 0

    def of(self, row: int) -> int | None:
        """The line of a row, from 1; None when it has none. Reads the file up to there."""
        while self._lines is not None and self._row < row:
            self._line = next(self._lines, 0)
            self._row += 1
        return self._line or None

    def close(self) -> None:
        """Close the file."""
        if self._lines is not None:
            self._lines.close()
            self._lines = None


class ChangesFile:
    """Writes row number, line in the file, column, kind of repair, and the cell before and after it.

    Args:
        path: the file; one that is there is replaced.
        leads: the input, whose own file must not be overwritten.

    Raises:
        ConfigurationError: the file cannot be written, or is the input.
    """

    def __init__(self, path: str | PathLike[str], leads: object) -> None:
        self._file = OutputFile("changes", path, leads)
        self._writer = csv.writer(self._file.text)
        self._writer.writerow(("row", "line", "column", "kind", "before", "after"))
        self._lines = LineNumbers(leads)

    def add(self, row: int, change: Change) -> None:
        """Write one repaired cell, in the order of the rows; raises ``OSError`` when the disk does not take it."""
        self._writer.writerow((row, self._lines.of(row), *change))

    def advance(self, row: int) -> None:
        """Read the lines up to a row, so that ``add`` has few to read."""
        self._lines.of(row)

    def close(self) -> None:
        """Write out what is buffered; raises ``OSError`` when the disk does not take it."""
        self._lines.close()
        self._file.close()
