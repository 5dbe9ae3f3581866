"""Spreadsheets as rows: ``read_excel``."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, time
from typing import Any, Final

from msgspec import json

from ..errors import ConfigurationError, InputError
from ..models import Row
from .headers import SAMPLE_ROWS, header_score, read_header
from .layout import UnfitRow

__all__ = ["ExcelRows", "read_excel"]

_log = logging.getLogger("ozonetel_async")

# Excel keeps 15 digits of a number; those behind them are made up.
_MOST: Final = 10**15
_LOST: Final = "a number of more than 15 digits, of which a spreadsheet keeps 15; format the column as text"


def read_excel(
    path: str | os.PathLike[str],
    sheet: str | int | None = None,
    columns: Mapping[str, str | None] | None = None,
    *,
    skip_lines: int = 0,
    only: bool = False,
) -> ExcelRows:
    """Open a sheet of a workbook (.xlsx, .xls, .xlsb or .ods) as leads. Needs the extra ``xlsx``.

    The header is treated as by ``read_csv``, and so are blank rows. Whole numbers come without a decimal point; one of
    more than 15 digits makes its row invalid, since a spreadsheet has lost the last ones. The sheet is held in memory:
    about 100 MB for 200,000 rows of six cells.

    Args:
        path: the file.
        sheet: its name, or its number from 0; None takes the only one that has cells.
        columns, only: as for ``read_csv``.
        skip_lines: rows above the header that are no part of the table, such as a title.

    Raises:
        ConfigurationError: an argument is wrong, or the extra is not installed.
        InputError: the file cannot be read, or its header is wrong.

    Examples:
        ``client.upload("Diwali", read_excel("leads.xlsx", "March", {"Remarks": None}))``
    """
    return ExcelRows(path, sheet, columns, skip_lines=skip_lines, only=only)


class ExcelRows(Iterable[Row]):
    """The rows of a sheet, as often as they are iterated; see ``read_excel``.

    Args:
        path: the file.
        sheet: the name of the sheet.
        columns: the service columns, in the order of the cells of each row.
        header: the sheet's own columns, those left out too.
        left_out: those of ``header`` that are not sent.
        notes: what was taken for what on the ground of names and cells, for the user to see.
        source: what ``reopen`` needs to read the same rows again; a journal keeps it.
    """

    path: str
    sheet: str
    columns: tuple[str, ...]
    header: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    source: dict[str, str]

    def __init__(
        self,
        path: str | os.PathLike[str],
        sheet: str | int | None,
        columns: Mapping[str, str | None] | None,
        *,
        skip_lines: int,
        only: bool,
    ) -> None:
        self.path = os.fspath(path)
        if columns is not None and not isinstance(columns, Mapping):
            raise ConfigurationError(
                f"columns must be a mapping {{header: service column, or None}}, got {type(columns).__name__}"
            )
        self.sheet, self._rows = _load(self.path, sheet)
        first = next((i for i, row in enumerate(self._rows) if i >= skip_lines and not _is_blank(row)), None)
        if first is None:
            raise InputError(f"{self._where} is empty; expected a header with PhoneNumber, then the rows")
        self._first = first + 1
        self.header = tuple([str(cell).strip() for cell in self._rows[first]])
        sample = [row for row in self._rows[self._first : self._first + SAMPLE_ROWS] if not _is_blank(row)]
        try:
            header = read_header(self.header, columns or {}, [list(map(_cell, row)) for row in sample], only=only)
        except (ConfigurationError, InputError) as error:
            hint = self._title_hint(first, columns or {})
            raise type(error)(f"{self._where}: {error.message}{hint}") from None
        self.columns, self.notes = header.columns, header.notes
        self._kept, self._nameless = header.kept, header.nameless
        self.left_out = tuple([name for i, name in enumerate(self.header) if name and i not in header.kept])
        for note in self.notes:
            _log.info("%s: %s", self._where, note)
        self.source = {
            "path": os.path.abspath(self.path),
            "sheet": self.sheet,
            "columns": json.encode(dict(columns or {})).decode(),
            **({"skip_lines": str(skip_lines)} if skip_lines else {}),
            **({"only": "true"} if only else {}),
        }

    @property
    def _where(self) -> str:
        return f"{self.path}, sheet {self.sheet!r}"

    def __repr__(self) -> str:
        return f"ExcelRows({self.path!r}, sheet={self.sheet!r}, columns={self.columns!r})"

    def __iter__(self) -> Iterator[Row]:
        for _, row in self.cells():
            yield self._fitted(row)  # type: ignore[misc]

    def cells(self) -> Generator[tuple[int, list[object]]]:
        """The number of each row in its sheet, from 1, and all its cells, those left out too."""
        for number in range(self._first, len(self._rows)):
            row = self._rows[number]
            if not _is_blank(row):
                yield number + 1, list(map(_cell, row))

    def lines(self) -> Generator[int]:
        """The number of each row in its sheet, from 1, in the order of the rows."""
        for number, _ in self.cells():
            yield number

    def _fitted(self, row: list[object]) -> list[object]:
        for i in self._nameless:
            if row[i] not in ("", None):
                return UnfitRow(
                    row, f"column {i + 1} has a cell here, and no name in the header; expected a name, or no cell"
                )
        kept = [row[i] for i in self._kept]
        for i, cell in enumerate(kept):
            if isinstance(cell, float) and abs(cell) >= _MOST:
                return UnfitRow(row, _LOST, self.columns[i])
        return kept

    def _title_hint(self, first: int, renames: Mapping[str, str | None]) -> str:
        for number in range(first + 1, min(first + 10, len(self._rows))):
            names = [str(cell) for cell in self._rows[number]]
            if any(header_score(names, renames, "")[:2]):
                return f". Row {first + 1} does not look like a header, row {number + 1} does: skip_lines={number}"
        return ""


def _is_blank(row: Sequence[object]) -> bool:
    return not any(cell is not None and str(cell).strip() for cell in row)


def _cell(cell: object) -> object:
    """A cell as Python's own value; calamine gives whole numbers as floats."""
    if type(cell) is float:
        return int(cell) if cell.is_integer() and abs(cell) < _MOST else cell
    if isinstance(cell, datetime) and cell.time() == time():
        return cell.date()
    return cell


def _load(path: str, sheet: str | int | None) -> tuple[str, list[list[object]]]:
    try:
        # calamine reads 20 times as many rows a second as openpyxl, and old and OpenDocument workbooks, too; it has no
        # dependencies of its own. Imported here: few programs read spreadsheets.
        import python_calamine
    except ImportError:
        raise ConfigurationError("read_excel needs an extra: pip install 'ozonetel-async[xlsx]'") from None
    try:
        with python_calamine.CalamineWorkbook.from_path(path) as workbook:
            name = _sheet_name(path, workbook, sheet)
            rows: list[list[Any]] = workbook.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (python_calamine.CalamineError, ValueError) as error:
        raise InputError(f"cannot read {path}: {str(error)[:200]}; expected .xlsx, .xls, .xlsb or .ods") from None
    return name, rows


def _sheet_name(path: str, workbook: Any, sheet: str | int | None) -> str:
    names: list[str] = workbook.sheet_names
    listed = ", ".join(map(repr, names[:40]))
    if sheet is None:
        filled = [name for name in names if workbook.get_sheet_by_name(name).height]
        if len(filled) > 1:
            raise InputError(f"{path} has {len(filled)} sheets with cells; say which one: sheet=, one of {listed}")
        return (filled or names)[0]
    if isinstance(sheet, int) and not isinstance(sheet, bool) and 0 <= sheet < len(names):
        return names[sheet]
    if sheet not in names:
        raise ConfigurationError(f"{path}: no sheet {sheet!r}; expected one of {listed}")
    return str(sheet)
